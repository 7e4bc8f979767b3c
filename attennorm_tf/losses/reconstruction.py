"""Reconstruction loss of the inpainting networks (first term of Eq. 9)."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

_NEGLIGIBLE = 1e-3  # weights below this are not told apart


def reconstruction_loss(outputs: Any, images: Any, weights: Any) -> tf.Tensor:
    """`|weights * (G(C, M) - Y)|_1` per example, as a mean over pixels and channels.

    Args:
        outputs: (B, H, W, 3) coarse or fine output of the generator.
        images: (B, H, W, 3) the truth.
        weights: (B, H, W, 1), of `reconstruction_weights`.

    Returns:
        (B,) float32.

    Example:
        >>> ones = tf.ones([1, 2, 2, 3])
        >>> reconstruction_loss(0.5 * ones, ones, ones[..., :1]).numpy()
        array([0.5], dtype=float32)
    """
    difference = tf.abs(tf.cast(outputs, tf.float32) - tf.cast(images, tf.float32))
    return tf.reduce_mean(difference * weights, axis=[1, 2, 3])


def reconstruction_weights(masks: Any, hole_weight: float = 1.0, discount: float = 0.0) -> tf.Tensor:
    """What an error counts at each place: 1 where the pixel is known, `hole_weight` in the hole.

    With `discount` = gamma > 0 a place of the hole counts gamma^d times that, d its distance to the nearest known
    pixel (DeepFill's spatial discount: what is far from all evidence is guesswork, and many guesses are right). d is
    counted in steps to the eight neighbours, 1 at the rim; weights below 0.001 are not told apart.

    Args:
        masks: (B, H, W, 1), 1 in the hole.
        hole_weight: >= 0.
        discount: gamma in [0, 1); 0 turns the discount off.

    Returns:
        (B, H, W, 1) float32.
    """
    masks = tf.cast(masks, tf.float32)
    hole = hole_weight * masks
    if discount > 0:
        # gamma^d = 1 - (1 - gamma) * sum of gamma^k over the k < d, and place p has d > k where it survives k erosions.
        depth = max(1, math.ceil(math.log(_NEGLIGIBLE) / math.log(discount)))
        left, factor, decay = masks, 1.0 - (1.0 - discount) * masks, discount
        for _ in range(1, depth):
            left = -tf.nn.max_pool2d(-left, 3, 1, "SAME")
            factor -= (1.0 - discount) * decay * left
            decay *= discount
        hole *= factor
    return 1.0 - masks + hole
