"""Eq. 10 against closed forms and finite differences."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from tensorflow import keras

from attennorm_tf.losses import discriminator_wasserstein_loss, generator_wasserstein_loss, gradient_penalty


def test_values() -> None:
    real, fake = tf.constant([[2.0], [-1.0]]), tf.constant([[0.5], [3.0]])
    np.testing.assert_allclose(discriminator_wasserstein_loss(real, fake), [-1.5, 4.0])
    np.testing.assert_allclose(generator_wasserstein_loss(fake), [-0.5, -3.0])


def test_penalty_of_a_linear_score_is_its_slope() -> None:
    """D(x) = <w, x> has the gradient w everywhere; in the hole only the part of it there."""
    generator = np.random.default_rng(2)
    slope = generator.normal(size=(1, 4, 5, 3)).astype(np.float32)
    images = generator.normal(size=(2, 4, 5, 3)).astype(np.float32)
    masks = np.zeros((2, 4, 5, 1), np.float32)
    masks[0, :2], masks[1, 1:3, 2:] = 1, 1

    def score(pictures: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(pictures * slope, axis=[1, 2, 3], keepdims=False)[:, tf.newaxis]

    expected = (np.linalg.norm(slope) - 1) ** 2
    np.testing.assert_allclose(gradient_penalty(score, tf.constant(images)), [expected] * 2, rtol=1e-5)
    expected = [(np.linalg.norm(slope * mask) - 1) ** 2 for mask in masks]
    np.testing.assert_allclose(gradient_penalty(score, tf.constant(images), masks), expected, rtol=1e-5)


def test_a_flat_score_has_a_finite_gradient() -> None:
    kernel = tf.Variable(tf.zeros([3, 3, 3, 1]))
    with tf.GradientTape() as tape:
        penalty = gradient_penalty(
            lambda x: tf.reduce_mean(tf.nn.conv2d(x, kernel, 1, "SAME"), [1, 2]), tf.ones([2, 4, 4, 3])
        )
    np.testing.assert_allclose(penalty, [1, 1], atol=1e-5)
    assert np.isfinite(tape.gradient(penalty, kernel)).all()


def test_second_derivative_against_finite_differences() -> None:
    keras.backend.set_floatx("float64")
    try:
        network = keras.Sequential(
            [keras.layers.Conv2D(3, 3, 2, activation="tanh"), keras.layers.Flatten(), keras.layers.Dense(1)]
        )
        images = tf.constant(np.random.default_rng(3).normal(size=(2, 7, 6, 2)))
        network(images)
        kernel = network.trainable_variables[0]
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(gradient_penalty(network, images))
        gradient = tape.gradient(total, kernel).numpy()
        start = kernel.numpy()
        for place in [(0, 0, 0, 0), (1, 2, 1, 2), (2, 1, 0, 1)]:
            sides = []
            for change in (1e-2, -1e-2):
                moved = start.copy()
                moved[place] += change
                kernel.assign(moved)
                sides.append(float(tf.reduce_sum(gradient_penalty(network, images))))
            np.testing.assert_allclose(gradient[place], (sides[0] - sides[1]) / 2e-2, rtol=2e-2, atol=1e-3)
    finally:
        keras.backend.set_floatx("float32")
