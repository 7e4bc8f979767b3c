"""Loss of the auxiliary classifier (AC-GAN: Odena, Olah and Shlens, ICML 2017)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def auxiliary_classifier_loss(class_logits: Any, labels: Any) -> tf.Tensor:
    """`-log P(C = y | x)` per example, P the softmax of the class logits.

    Odena et al. maximise L_S + L_C in the discriminator and L_C - L_S in the generator, where L_C sums the log
    likelihood of the right class over real and generated images: both networks minimise this cross entropy, the
    discriminator on real and generated images, the generator on its own.

    Args:
        class_logits: (B, K).
        labels: (B,) integers in [0, K), or (B, K) soft class weights that sum to 1.

    Returns:
        (B,) float32, >= 0.

    Example:
        >>> auxiliary_classifier_loss(tf.zeros([1, 4]), tf.constant([2])).numpy().round(4)  # ln 4
        array([1.3863], dtype=float32)
    """
    class_logits = tf.cast(class_logits, tf.float32)
    labels = tf.convert_to_tensor(labels)
    if labels.dtype.is_floating:
        return tf.nn.softmax_cross_entropy_with_logits(tf.cast(labels, tf.float32), class_logits)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, class_logits)
