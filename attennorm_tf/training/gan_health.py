"""Whether a GAN is learning: how varied its images are, how real they look, whether one network has won."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from attennorm_tf.metrics import PrecisionRecall
from attennorm_tf.training.health import Condition, Falls, StaysBelow

_SAMPLES = 500
_CHUNK = 100


def gan_conditions() -> list[Condition]:
    """What to warn of."""
    return [
        StaysBelow(
            "discriminator_loss",
            "the discriminator tells all images apart, and the generator learns nothing more from it. Lower "
            "training.discriminator_learning_rate or training.discriminator_steps, or raise "
            "training.generator_learning_rate",
            0.02,
        ),
        StaysBelow(
            "sample_variance_ratio",
            "images of one class hardly differ from each other, those of the data do (mode collapse). Go back to an "
            "earlier checkpoint with another training.seed, lower training.generator_learning_rate, or raise "
            "training.batch_size or training.discriminator_steps",
            0.1,
        ),
        Falls(
            "precision",
            "generated images look less like real ones than before (divergence). Lower both learning rates of "
            "training, set training.gradient_clip_norm, or go back to an earlier checkpoint; "
            "logging.keep_best with logging.best_metric=precision keeps the best",
        ),
        Falls(
            "recall",
            "a smaller part of the real images is generated than before (mode collapse). Lower "
            "training.generator_learning_rate, raise training.batch_size, or go back to an earlier checkpoint; "
            "logging.keep_best with logging.best_metric=recall keeps the best",
        ),
    ]


def within_class_variance(images: np.ndarray, labels: np.ndarray) -> float:
    """The unbiased variance of a pixel between images of one class, mean over pixels and (by their images) classes.

    Args:
        images: (n, R, R, C).
        labels: (n,) class ids.

    Returns:
        The variance; NaN where no class has two images.
    """
    squares, freedom = 0.0, 0
    for label in np.unique(labels):
        members = np.asarray(images[labels == label], np.float64)
        squares += float(np.square(members - members.mean(axis=0)).mean(axis=(1, 2, 3)).sum())
        freedom += len(members) - 1
    return squares / freedom if freedom else float("nan")


class SampleQuality:
    """Precision and recall of generated images, always of the same latents and classes.

    Args:
        generator: that makes the images.
        features: images (n, R, R, C) in [-1, 1] -> (n, d), of a network that knows the data.
        real: (m, R, R, C) in [-1, 1], some of the data.
        seed: of the latents.
    """

    def __init__(self, generator: Any, features: Callable[[np.ndarray], np.ndarray], real: np.ndarray, seed: int):
        self._features = features
        self._reference = features(real)
        self._labels = tf.constant(np.arange(_SAMPLES) % generator.num_classes, tf.int32)
        self._latents = tf.random.stateless_normal([_SAMPLES, generator.latent_dim], [seed, 2], alg="philox")
        self._images = tf.function(lambda latents, labels: generator([latents, labels], training=False))

    def scalars(self) -> dict[str, float]:
        """`precision` and `recall`, in [0, 1], see `PrecisionRecall`."""
        metric = PrecisionRecall(self._reference)
        for start in range(0, _SAMPLES, _CHUNK):
            part = slice(start, start + _CHUNK)
            metric.update_state(self._features(self._images(self._latents[part], self._labels[part]).numpy()))
        result = metric.result()
        return {"precision": result.precision, "recall": result.recall}
