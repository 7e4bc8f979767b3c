"""Random tensors: the same with and without XLA, of the right distribution, and cut from the global batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from attennorm_tf.replica_random import replica_integers, replica_normal, replica_uniform


def draw_integers(shape: Any, seed: Any) -> tf.Tensor:
    return replica_integers(shape, seed, 10)


@pytest.mark.parametrize("draw", [replica_uniform, replica_normal, draw_integers])
def test_xla_draws_the_same(draw: Any) -> None:
    for seed in ([1, 2], [2**31 - 1, 7]):

        def call(seed: tf.Tensor) -> tf.Tensor:
            return draw([5, 33], seed)

        graph, compiled = (tf.function(call, jit_compile=jit)(tf.constant(seed)) for jit in (False, True))
        np.testing.assert_allclose(graph, compiled, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(draw([5, 33], seed), graph)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float32, tf.float64])
def test_distributions(dtype: tf.DType) -> None:
    count = 200_000
    uniform = tf.cast(replica_uniform([count], [3, 4], dtype), tf.float64).numpy()
    normal = tf.cast(replica_normal([count], [3, 4], dtype), tf.float64).numpy()
    assert uniform.min() >= 0
    assert uniform.max() < 1 or dtype in (tf.float16, tf.bfloat16)
    histogram = np.histogram(uniform, 16, (0, 1))[0] / count
    np.testing.assert_allclose(histogram, 1 / 16, atol=5e-3)
    assert np.isfinite(normal).all()
    moments = [np.mean(normal**power) for power in (1, 2, 3, 4)]
    np.testing.assert_allclose(moments, [0, 1, 0, 3], atol=0.06)
    assert abs(np.corrcoef(normal[:-1], normal[1:])[0, 1]) < 0.01
    below = [np.mean(normal < bound) for bound in (-2, -1, 0, 1, 2)]
    np.testing.assert_allclose(below, [0.02275, 0.15866, 0.5, 0.84134, 0.97725], atol=5e-3)


@pytest.mark.parametrize("draw", [replica_uniform, replica_normal, draw_integers])
def test_replicas_take_their_rows(draw: Any, two_cpus: tf.distribute.Strategy) -> None:
    def replica_draw() -> tf.Tensor:
        return draw([3, 4], [5, 6])

    @tf.function
    def both() -> Any:
        return two_cpus.run(replica_draw)

    rows = tf.concat(two_cpus.experimental_local_results(both()), axis=0)
    np.testing.assert_allclose(rows, draw([6, 4], [5, 6]), rtol=1e-6, atol=1e-6)
