"""NumPy batches through a function on every replica, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable

import numpy as np
import tensorflow as tf


def run_on_replicas(strategy: tf.distribute.Strategy, function: Callable[..., Any], batch: Sequence[np.ndarray]) -> Any:
    """One `strategy.run` for a global batch whose rows are shared out over the replicas in order.

    Args:
        strategy: its number of replicas divides the rows.
        function: a `tf.function` of tensors with as many rows each; its results have one row per row.
        batch: its arguments, of one length.

    Returns:
        What the function returns (a tensor, or a dict of tensors), as NumPy arrays of all rows in order.

    Raises:
        ValueError: the rows cannot be shared out equally.
    """
    replicas = strategy.num_replicas_in_sync
    rows = len(batch[0])
    if rows % replicas:
        raise ValueError(f"batch_size must be a multiple of the {replicas} replicas, got {rows}.")
    share = rows // replicas

    def values(array: np.ndarray) -> Any:
        def of_replica(context: Any) -> tf.Tensor:
            first = context.replica_id_in_sync_group * share
            return tf.convert_to_tensor(array[first : first + share])

        return strategy.experimental_distribute_values_from_function(of_replica)

    results = strategy.run(function, args=tuple(values(array) for array in batch))
    if isinstance(results, dict):
        return {name: _joined(strategy, value) for name, value in results.items()}
    return _joined(strategy, results)


def _joined(strategy: tf.distribute.Strategy, value: Any) -> np.ndarray:
    return np.concatenate([part.numpy() for part in strategy.experimental_local_results(value)])
