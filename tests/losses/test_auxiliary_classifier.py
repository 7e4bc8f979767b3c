"""The auxiliary classifier's cross entropy against its formula."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from attennorm_tf.losses import auxiliary_classifier_loss


def test_cross_entropy() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(6, 4)) * 5
    labels = np.array([0, 3, 1, 1, 2, 0])
    likelihood = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = [-np.log(row[label]) for row, label in zip(likelihood, labels)]
    np.testing.assert_allclose(auxiliary_classifier_loss(tf.constant(logits), tf.constant(labels)), expected, rtol=1e-5)
    hard = auxiliary_classifier_loss(tf.constant(logits, tf.float32), tf.one_hot(labels, 4))
    np.testing.assert_allclose(hard, expected, rtol=1e-5)


def test_soft_labels() -> None:
    logits = np.array([[1.0, 0.0, -2.0]])
    weights = np.array([[0.5, 0.25, 0.25]])
    likelihood = np.exp(logits) / np.exp(logits).sum()
    expected = -(weights * np.log(likelihood)).sum(axis=1)
    np.testing.assert_allclose(auxiliary_classifier_loss(logits, tf.constant(weights, tf.float32)), expected, rtol=1e-5)


def test_half_precision_is_computed_in_float32() -> None:
    loss = auxiliary_classifier_loss(tf.constant([[60000.0, -60000.0]], tf.float16), tf.constant([1]))
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, [119936.0], rtol=1e-3)
