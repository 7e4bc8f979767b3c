"""Random tensors that do not depend on how a global batch is divided over replicas.

Every replica draws the tensor of the *global* batch from the same stateless seed and keeps its own rows, so that one
replica with 2 B images and two replicas with B images compute with the same numbers. So does a replica that computes
its batch part after part.

Philox gives the same bits with and without XLA and on both stacks; the floats that TensorFlow and XLA make of them are
not the same (TF 2.15 and 2.21), so they are made of the bits here.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator
from typing import Any, Callable

import tensorflow as tf


class _Part(threading.local):
    """Which part of the replica's batch is computed; of the thread, since each replica is traced in one of its own."""

    index: Any = 0
    count: int = 1


_part = _Part()


@contextlib.contextmanager
def batch_part(index: Any, count: int) -> Iterator[None]:
    """Within it, only one of `count` equal parts of the replica's batch is computed (gradient accumulation).

    Args:
        index: of the part, in the order of the rows; an int or an int32 scalar.
        count: of parts.
    """
    before = _part.index, _part.count
    _part.index, _part.count = index, count
    try:
        yield
    finally:
        _part.index, _part.count = before


def replica_position() -> tuple[Any, int]:
    """Index of this replica (int or scalar tensor) and the number of replicas; (0, 1) outside a replica context."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return 0, 1
    return context.replica_id_in_sync_group, context.num_replicas_in_sync


def share_position() -> tuple[Any, int]:
    """Index of what is computed here among equal shares of the global batch, in the order of rows, and their number.

    A share is a replica's batch, or a part of it within `batch_part`.
    """
    replica, replicas = replica_position()
    return replica * _part.count + _part.index, replicas * _part.count


def _rows_of_share(draw: Callable[[Any], tf.Tensor], shape: Any) -> tf.Tensor:
    share, shares = share_position()
    if shares == 1:
        return draw(shape)
    return draw(tf.concat([[shares], shape], axis=0))[share]


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
    return _rows_of_share(lambda full: _uniform(full, seed, dtype), shape)


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
    return _rows_of_share(draw, shape)


def replica_integers(shape: Any, seed: Any, maximum: int) -> tf.Tensor:
    """Integers (int32), uniform in [0, maximum), for this replica's rows; arguments as in `replica_uniform`."""
    return _rows_of_share(
        lambda full: tf.random.stateless_uniform(full, seed, 0, maximum, dtype=tf.int32, alg="philox"), shape
    )
