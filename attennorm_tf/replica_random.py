"""Random tensors that do not depend on how a global batch is divided over replicas.

Every replica draws the tensor of the *global* batch from the same stateless seed and keeps its own rows, so that one
replica with 2 B images and two replicas with B images compute with the same numbers. Philox gives the same values with
and without XLA and on both stacks.
"""

from __future__ import annotations

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
    return _rows_of_replica(
        lambda full: tf.random.stateless_uniform(full, seed, dtype=dtype, alg="philox"), shape
    )


def replica_normal(shape: Any, seed: Any, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Standard normal numbers for this replica's rows; arguments as in `replica_uniform`."""
    return _rows_of_replica(
        lambda full: tf.random.stateless_normal(full, seed, dtype=dtype, alg="philox"), shape
    )


def replica_integers(shape: Any, seed: Any, maximum: int) -> tf.Tensor:
    """Integers (int32), uniform in [0, maximum), for this replica's rows; arguments as in `replica_uniform`."""
    return _rows_of_replica(
        lambda full: tf.random.stateless_uniform(full, seed, 0, maximum, dtype=tf.int32, alg="philox"), shape
    )
