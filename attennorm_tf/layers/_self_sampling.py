"""Self-sampling regularization (Eq. 2): which places are drawn, and the keys there."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from attennorm_tf.layers.shapes import sizes_of
from attennorm_tf.replica_random import replica_uniform


def sample_positions(shape: Any, count: int, seed: Any) -> tf.Tensor:
    """Draws `count` of `positions` places per image, uniformly.

    Without replacement where there are enough places, with replacement where there are fewer than `count`.

    Args:
        shape: (batch, positions), ints or int32 scalars.
        count: places wanted per image.
        seed: (2,) integer seed, equal on all replicas; the draw of an image depends on its place in the global batch.

    Returns:
        (batch, count) int32 in [0, positions).
    """
    batch, positions = shape

    def without_replacement() -> tf.Tensor:
        # Sorted: the order decides which entity gets which place, and XLA's unsorted order is another one.
        return tf.math.top_k(replica_uniform([batch, positions], seed), count).indices

    def with_replacement() -> tf.Tensor:
        places = tf.cast(positions, tf.float32)
        drawn = tf.cast(replica_uniform([batch, count], seed) * places, tf.int32)
        return tf.minimum(drawn, positions - 1)

    if isinstance(positions, int):
        return without_replacement() if positions >= count else with_replacement()
    return tf.cond(positions >= count, without_replacement, with_replacement)


def sampled_keys(
    features: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, count: int, pool: int, seed: tf.Tensor
) -> tf.Tensor:
    """k(X), max-pooled, at the places drawn. Only the pixels under these places are projected.

    Args:
        features: X, (b, h, w, c).
        kernel: of k, (c, ck).
        bias: of k, (ck,).
        count: n, places of an image.
        pool: size and stride of the max-pooling, with "SAME" padding: a map smaller than that still has a place.
        seed: of `sample_positions`.

    Returns:
        (b, n, ck).
    """
    batch, height, width, channels = sizes_of(features)
    pooled_width = -(-width // pool)
    positions = sample_positions((batch, -(-height // pool) * pooled_width), count, seed)
    rows = _window(positions // pooled_width, pool, height)  # (b, n, pool)
    columns = _window(positions % pooled_width, pool, width)
    pixels = rows[..., tf.newaxis] * width + columns[..., tf.newaxis, :]  # (b, n, pool, pool)
    flat = tf.reshape(features, [batch, height * width, channels])
    chosen = tf.gather(flat, tf.reshape(pixels, [batch, count * pool * pool]), batch_dims=1)
    keys = tf.nn.bias_add(tf.linalg.matmul(tf.reshape(chosen, [-1, channels]), kernel), bias)
    return tf.reduce_max(tf.reshape(keys, [batch, count, pool * pool, kernel.shape[1]]), axis=2)


def _window(places: tf.Tensor, pool: int, length: Any) -> tf.Tensor:
    """Indices of the `pool` elements under each place of an axis pooled with "SAME" padding, clipped to the axis.

    What lies outside repeats the border, which is inside the same window: the maximum is that of the window.
    """
    missing = -(-length // pool) * pool - length
    indices = places[..., tf.newaxis] * pool - missing // 2 + tf.range(pool)
    return tf.clip_by_value(indices, 0, length - 1)
