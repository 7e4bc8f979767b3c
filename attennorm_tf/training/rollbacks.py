"""Seeds of a run that was taken back to a checkpoint: after each time noise and data are drawn anew."""

from __future__ import annotations

import tensorflow as tf

_SEEDS = 2**31  # training.seed is below


def rollback_counter() -> tf.Variable:
    """How often the run was rolled back: int64, the same on all replicas, to be kept in its checkpoints."""
    aggregation = tf.VariableAggregation.ONLY_FIRST_REPLICA
    return tf.Variable(0, dtype=tf.int64, trainable=False, name="rollbacks", aggregation=aggregation)


def noise_seed(seed: int, rollbacks: tf.Variable) -> tf.Tensor:
    """int64 scalar: `seed` until the first rollback, then another that no run begins with; for use in a graph."""
    return tf.constant(seed, tf.int64) + _SEEDS * rollbacks.read_value()


def data_seed(seed: int, rollbacks: tf.Variable) -> int:
    """The same for the order of the data, now."""
    return seed + _SEEDS * int(rollbacks.numpy())
