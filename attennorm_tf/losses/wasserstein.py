"""Wasserstein losses with gradient penalty of the inpainting networks (Eqs. 9 and 10)."""

from __future__ import annotations

from typing import Any, Callable

import tensorflow as tf

_TINY = 1e-12  # under the root of the norm, whose slope at 0 is infinite


def discriminator_wasserstein_loss(real_scores: Any, fake_scores: Any) -> tf.Tensor:
    """`D(composite) - D(real)` per example: Eq. 10 without its penalty.

    Args:
        real_scores: (B, 1) or (B,), of photographs.
        fake_scores: the same, of composites.

    Returns:
        (B,) float32; the mean over the global batch is to be minimised.

    Example:
        >>> discriminator_wasserstein_loss(tf.constant([[3.0]]), tf.constant([[1.0]])).numpy()
        array([-2.], dtype=float32)
    """
    return _flat(fake_scores) - _flat(real_scores)


def generator_wasserstein_loss(fake_scores: Any) -> tf.Tensor:
    """`-D(composite)` per example: the adversarial term of Eq. 9.

    Args:
        fake_scores: (B, 1) or (B,), of composites.

    Returns:
        (B,) float32.
    """
    return -_flat(fake_scores)


def gradient_penalty(score: Callable[[tf.Tensor], tf.Tensor], images: tf.Tensor, weights: Any = None) -> tf.Tensor:
    """`(|weights * grad D|_2 - 1)^2` per example.

    Args:
        score: images -> (B, 1) scores, differentiable twice.
        images: (B, H, W, C), interpolates between photographs and composites.
        weights: (B, H, W, 1), what each place's gradient counts, or None; DeepFill's is the hole: elsewhere photograph
            and composite are the same.

    Returns:
        (B,) float32, differentiable with respect to the weights that `score` uses.
    """
    with tf.GradientTape() as tape:
        tape.watch(images)
        scores = score(images)
    slopes = tf.cast(tape.gradient(scores, images), tf.float32)
    if weights is not None:
        slopes *= weights
    return tf.square(tf.sqrt(tf.reduce_sum(tf.square(slopes), axis=[1, 2, 3]) + _TINY) - 1.0)


def _flat(scores: Any) -> tf.Tensor:
    return tf.reshape(tf.cast(scores, tf.float32), [-1])
