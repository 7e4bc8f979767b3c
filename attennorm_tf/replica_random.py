"""Random tensors that do not depend on how a global batch is divided over replicas.

Every replica draws the tensor of the *global* batch from the same stateless seed and keeps its own rows, so that one
replica with 2 B images and two replicas with B images compute with the same numbers.

Philox gives the same bits with and without XLA and on both stacks; the floats that TensorFlow and XLA make of them are
not the same (TF 2.15 and 2.21), so they are made of the bits here.
"""

from __future__ import annotations

import math
from typing import Any, Callable

import tensorflow as tf


def replica_position() -> tuple[Any, int]:
    """Index of this replica (int or scalar tensor) and the number of replicas; (0, 1) outside a replica context."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return 0, 1
    return context.replica_id_in_sync_group, context.num_replicas_in_sync


def _rows_of_replica(draw: Callable[[Any], tf.Tensor], shape: Any) -> tf.Tensor:
    replica, replicas = replica_position()
    if replicas == 1:
        return draw(shape)
    return draw(tf.concat([[replicas], shape], axis=0))[replica]


def replica_uniform(shape: Any, seed: Any, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Uniform numbers in [0, 1) for this replica's rows.

    Args:
        shape: shape on this replica, rows first; a list of ints or an int32 tensor.
        seed: (2,) integer tensor, equal on all replicas.
        dtype: a floating type.

    Returns:
        A tensor of that shape.

    Example:
        >>> replica_uniform([2, 3], seed=[1, 2]).shape.as_list()
        [2, 3]
    """
    return _rows_of_replica(lambda full: _uniform(full, seed, dtype), shape)


def _uniform(shape: Any, seed: Any, dtype: tf.DType) -> tf.Tensor:
    wide = dtype == tf.float64
    word, digits = (tf.uint64, 53) if wide else (tf.uint32, 24)
    bits = tf.random.stateless_uniform(shape, seed, None, None, word, alg="philox")
    # The digits of the fraction, as integers that the type holds exactly.
    leading = tf.bitwise.right_shift(bits, tf.constant(word.size * 8 - digits, word))
    return tf.cast(tf.cast(leading, tf.float64 if wide else tf.float32) * 2.0**-digits, dtype)


def replica_normal(shape: Any, seed: Any, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Standard normal numbers for this replica's rows; arguments as in `replica_uniform`."""

    def draw(full: Any) -> tf.Tensor:
        # Box-Muller; with and without XLA equal up to the rounding of log and cos.
        first, second = tf.unstack(_uniform(tf.concat([full, [2]], axis=0), seed, wide), axis=-1)
        return tf.cast(tf.sqrt(-2.0 * tf.math.log1p(-first)) * tf.cos(2.0 * math.pi * second), dtype)

    wide = tf.float64 if dtype == tf.float64 else tf.float32
    return _rows_of_replica(draw, shape)


def replica_integers(shape: Any, seed: Any, maximum: int) -> tf.Tensor:
    """Integers (int32), uniform in [0, maximum), for this replica's rows; arguments as in `replica_uniform`."""
    return _rows_of_replica(
        lambda full: tf.random.stateless_uniform(full, seed, 0, maximum, dtype=tf.int32, alg="philox"), shape
    )
