"""Feature extractors small enough for tests: one of plain arithmetic, and SavedModels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from attennorm_tf.metrics import FeatureExtractor, Features

FEATURES, CLASSES = 6, 4


class LinearExtractor(FeatureExtractor):
    """features = pixels W, logits = features V: `expected` computes the same in float64."""

    def __init__(self, resolution: int = 3, channels: int = 3, logits: bool = True, seed: int = 0) -> None:
        super().__init__(
            f"linear_{resolution}",
            content_hash=f"{seed:064d}",
            resolution=resolution,
            channels=channels,
            feature_size=FEATURES,
            num_classes=CLASSES if logits else None,
        )
        random = np.random.RandomState(seed)
        self.weights = random.normal(size=(resolution * resolution * channels, FEATURES)).astype(np.float32)
        self.head = random.normal(size=(FEATURES, CLASSES)).astype(np.float32)
        self.traces = 0

    def _forward(self, images: tf.Tensor) -> Features:
        self.traces += 1
        features = tf.reshape(images, (-1, len(self.weights))) @ self.weights
        return Features(features, features @ self.head if self.num_classes else None)

    def expected(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of uint8 (n, resolution, resolution, channels)."""
        pixels = images.reshape(len(images), -1) / 127.5 - 1
        features = pixels @ self.weights.astype(np.float64)
        return features, features @ self.head.astype(np.float64)


def pooled(images: Any, kernel: np.ndarray) -> Any:
    """What the SavedModels below compute: the mean over the image times a kernel (channels, size)."""
    return tf.reduce_mean(images, axis=(1, 2)) @ kernel


def kernels(channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.RandomState(7)
    return tuple(random.normal(size=(channels, size)).astype(np.float32) for size in (FEATURES, CLASSES))


def save_model(
    folder: Path,
    *,
    shape: tuple = (None, 299, 299, 3),
    dtype: tf.DType = tf.float32,
    names: tuple[str, str] | None = ("pool_3", "logits"),
    signature: bool = True,
    call: bool = True,
    tail: tuple[int, ...] = (),
    scale: float = 1.0,
) -> str:
    """Writes a SavedModel; `names` None: it returns a list. `tail` is put before the size of the features."""
    model = tf.Module()
    model.kernels = [tf.Variable(scale * kernel) for kernel in kernels(shape[-1] or 3)]

    def compute(images):
        images = tf.cast(images, tf.float32)
        features, logits = (pooled(images, kernel) for kernel in model.kernels)
        features = tf.reshape(features, (-1, *tail, FEATURES // max(1, int(np.prod(tail)))))
        return [features, logits] if names is None else dict(zip(names, (features, logits)))

    function = tf.function(compute, input_signature=[tf.TensorSpec(shape, dtype)])
    if call:
        model.__call__ = function
    signatures = {"serving_default": function} if signature and names is not None else None
    tf.saved_model.save(model, str(folder), signatures=signatures)
    return str(folder)
