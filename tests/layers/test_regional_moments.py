"""The moments of regional normalization, and the layer's formula applied with them: NumPy loops, replicas, mistakes."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from attennorm_tf.layers.regional_normalization import (
    apply_regional_moments,
    regional_moments,
    regional_normalization_reference,
)
from tests.layers.regional_inputs import (
    EPSILON,
    STATISTICS,
    assert_close,
    inputs,
    parameter,
    values_and_gradients,
)


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("across_batch", [False, True])
def test_moments_equal_a_numpy_loop(statistics, across_batch):
    features, layout = inputs()
    mean, variance = regional_moments(
        features, layout, epsilon=EPSILON, statistics=statistics, across_batch=across_batch
    )
    groups = [(features, layout)] if across_batch else [(features[i], layout[i]) for i in range(2)]
    for image, (x, s) in enumerate(groups):
        for k, c in np.ndindex(4, 3):
            count = s[..., k].sum() + EPSILON
            m = (x[..., c] * s[..., k]).sum() / count
            deviation = (
                (x[..., c] * s[..., k] - m) ** 2 if statistics == "algorithm1" else s[..., k] * (x[..., c] - m) ** 2
            )
            np.testing.assert_allclose(mean[image, k, c], m, rtol=1e-10)
            np.testing.assert_allclose(variance[image, k, c], deviation.sum() / count, rtol=1e-10)


def test_derived_gradient_of_moments_has_no_branch():
    """TensorFlow's memory optimizer names temporary variables in a branch's gradient alike for two calls in a step."""

    @tf.function
    def gradient(features, layout):
        with tf.GradientTape() as tape:
            tape.watch(features)
            mean, variance = regional_moments(features, layout, across_batch=True)
            total = tf.reduce_sum(mean) + tf.reduce_sum(variance)
        return tape.gradient(total, features)

    graph = gradient.get_concrete_function(*inputs()).graph
    assert not [operation.name for operation in graph.get_operations() if operation.type in ("If", "StatelessIf")]


@pytest.mark.parametrize("statistics", STATISTICS)
def test_applying_the_moments_is_regional_normalization(statistics):
    features, layout = inputs()
    arguments = (features, layout, parameter("shared", 3, 4, 1), parameter("per_entity", 3, 4, 2))

    def in_two_steps(features, layout, scale, offset, *, epsilon, statistics):
        mean, variance = regional_moments(features, layout, epsilon=epsilon, statistics=statistics)
        return apply_regional_moments(features, layout, mean, variance, scale, offset, epsilon=epsilon)

    expected = values_and_gradients(regional_normalization_reference, tf.float64, arguments, statistics)
    assert_close(values_and_gradients(in_two_steps, tf.float64, arguments, statistics), expected, 1e-9)


@pytest.mark.parametrize("statistics", STATISTICS)
def test_moments_across_two_replicas_equal_one(two_cpus, statistics):
    features, layout = inputs(size=(4, 3, 5))
    weights = np.random.default_rng(9).normal(size=(2, 1, 4, 3))

    def moments_and_gradient(x, s):
        with tf.GradientTape() as tape:
            tape.watch(x)
            mean, variance = regional_moments(x, s, statistics=statistics, across_batch=True)
            loss = tf.reduce_sum(mean * weights[0] + variance * weights[1])
        return mean, variance, tape.gradient(loss, x)

    def halves(array):
        return two_cpus.experimental_distribute_values_from_function(
            lambda context: tf.constant(array[2 * context.replica_id_in_sync_group :][:2])
        )

    @tf.function
    def distributed(x, s):
        return two_cpus.run(moments_and_gradient, (x, s))

    expected = moments_and_gradient(tf.constant(features), tf.constant(layout))
    mean, variance, gradient = distributed(halves(features), halves(layout))
    for value, wanted in ((mean, expected[0]), (variance, expected[1])):
        for local in two_cpus.experimental_local_results(value):
            np.testing.assert_allclose(local, wanted, rtol=1e-10)
    joined = np.concatenate(two_cpus.experimental_local_results(gradient))
    # Each replica holds the same loss; all_reduce passes back the sum of both.
    np.testing.assert_allclose(joined, 2 * expected[2].numpy(), rtol=1e-8, atol=1e-12)


def test_bad_moments_are_named():
    features, layout = inputs()
    with pytest.raises(ValueError, match="mean must have shape"):
        apply_regional_moments(features, layout, np.zeros((2, 3, 3)), np.ones((2, 4, 3)))
