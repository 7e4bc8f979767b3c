"""Hinge losses of the class-conditional GAN (Eq. 7 and 8)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def discriminator_hinge_loss(real_logits: Any, fake_logits: Any) -> tf.Tensor:
    """`relu(1 - D(x, y)) + relu(1 + D(G(z, y), y))`, per example.

    Args:
        real_logits: (B, 1) or (B,), discriminator outputs on real images.
        fake_logits: the same on generated images.

    Returns:
        (B,) float32; the mean over the global batch is the loss, to be minimised.

    Example:
        >>> discriminator_hinge_loss(tf.constant([[2.0]]), tf.constant([[0.5]])).numpy()
        array([1.5], dtype=float32)
    """
    return tf.nn.relu(1.0 - _flat(real_logits)) + tf.nn.relu(1.0 + _flat(fake_logits))


def generator_hinge_loss(fake_logits: Any) -> tf.Tensor:
    """`-D(G(z, y), y)`, per example: Eq. 8 has the sign of a gain, here it is minimised.

    Args:
        fake_logits: (B, 1) or (B,), discriminator outputs on generated images.

    Returns:
        (B,) float32.
    """
    return -_flat(fake_logits)


def _flat(logits: Any) -> tf.Tensor:
    return tf.reshape(tf.cast(logits, tf.float32), [-1])
