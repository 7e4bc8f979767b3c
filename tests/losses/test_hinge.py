"""Hinge losses against the formulas of specification 2."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from attennorm_tf.losses import discriminator_hinge_loss, generator_hinge_loss


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_values(shape: tuple[int, ...], dtype: tf.DType) -> None:
    real, fake = np.array([-2, -1, 0, 0.5, 1, 3.0]), np.array([3, 1, 0, -0.5, -1, -2.0])
    losses = discriminator_hinge_loss(tf.cast(real.reshape(shape), dtype), tf.cast(fake.reshape(shape), dtype))
    assert losses.dtype == tf.float32
    np.testing.assert_allclose(losses, [3 + 4, 2 + 2, 1 + 1, 0.5 + 0.5, 0, 0])
    np.testing.assert_allclose(generator_hinge_loss(tf.cast(fake.reshape(shape), dtype)), -fake)


def test_gradients_vanish_beyond_the_margin() -> None:
    real, fake = tf.Variable([0.0, 2.0]), tf.Variable([0.0, -2.0])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(discriminator_hinge_loss(real, fake))
    gradients = tape.gradient(loss, [real, fake])
    np.testing.assert_array_equal(gradients[0], [-1, 0])
    np.testing.assert_array_equal(gradients[1], [1, 0])
