"""Tiny generators, checkpoints of them, images on disk and a feature extractor without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from attennorm_tf.config import gan_preset_config
from attennorm_tf.data import folder_source
from attennorm_tf.metrics import FeatureExtractor, Features
from attennorm_tf.models import ClassConditionalGenerator, build_gan
from attennorm_tf.training import CheckpointStore
from attennorm_tf.visualization import save_png

CLASSES = ["0", "1", "2"]
_NAMES = {"preset": "attennorm", "resolution": 16, "width": 0.125, "latent_dim": 8}


def tiny_config(**model: Any) -> Any:
    options = {**_NAMES, **model}
    config = gan_preset_config(options.pop("preset"), **options)
    config.name = "tiny"
    if config.model.attention == "attentive_normalization":
        config.model.num_entities = 4
    config.training.ema_decay = 0.9
    return config


def tiny_generator(seed: int = 0, num_classes: int = len(CLASSES), **model: Any) -> ClassConditionalGenerator:
    """With every weight away from its start, so that each one shows in the images."""
    keras.utils.set_random_seed(seed)
    generator, _ = build_gan(tiny_config(**model).model, num_classes, 1)
    random = np.random.RandomState(seed)
    weights = []
    for weight, values in zip(generator.weights, generator.get_weights()):
        if "variance" in weight.name:
            weights.append(random.uniform(0.5, 2.0, values.shape))
        elif np.issubdtype(values.dtype, np.integer):
            weights.append(values)
        else:
            weights.append(values + 0.2 * random.standard_normal(values.shape))
    generator.set_weights([new.astype(old.dtype) for new, old in zip(weights, generator.get_weights())])
    return generator


def write_run(workdir: Path, names: list[str] | None = None, damaged: bool = False, **model: Any) -> Path:
    """A work directory whose moving average is another generator than the trained one."""
    names = names or CLASSES
    networks = {name: tiny_generator(seed, len(names), **model) for name, seed in (("generator", 1), ("average", 2))}
    if damaged:
        networks["average"].set_weights(
            [w * (np.nan if w.dtype.kind == "f" else 1) for w in networks["average"].get_weights()]
        )
    config = tiny_config(**model)
    config.data.name = "digits"
    facts = {"config": config.to_json(), "class_names": names, "channels": 1}
    CheckpointStore(workdir / "checkpoints").save(7, networks, facts)
    return workdir


class TinyExtractor(FeatureExtractor):
    """A fixed random projection of 8x8 pixels."""

    def __init__(self, seed: int = 0, channels: int = 1, with_logits: bool = True):
        super().__init__(
            f"tiny{seed}", content_hash=f"{seed:064d}", resolution=8, channels=channels, feature_size=5,
            num_classes=4 if with_logits else None,
        )  # fmt: skip
        random = np.random.RandomState(seed)
        self._kernels = [tf.constant(random.standard_normal((64 * channels, n)), tf.float32) for n in (5, 4)]

    def _forward(self, images: tf.Tensor) -> Features:
        flat = tf.reshape(images, [-1, 64 * self.channels])
        features, logits = (tf.tanh(flat @ kernel / 4) for kernel in self._kernels)
        return Features(features, 5 * logits if self.num_classes else None)


def write_images(folder: Path, count: int = 30, side: int = 16, seed: int = 0) -> Path:
    """Grey noise in class folders; image i is of class i modulo 3."""
    random = np.random.RandomState(seed)
    for index in range(count):
        image = random.randint(0, 256, (side, side)).astype(np.uint8)
        save_png(folder / CLASSES[index % 3] / f"{index:03d}.png", image)
    return folder


def real_source(folder: Path, resolution: int = 16) -> Any:
    return folder_source(folder, resolution, 1, class_folders=True)
