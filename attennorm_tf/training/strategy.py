"""tf.distribute strategies by name."""

from __future__ import annotations

import tensorflow as tf

from attennorm_tf.config import STRATEGIES


def make_strategy(name: str = "auto", deterministic: bool = False) -> tf.distribute.Strategy:
    """The strategy that a run is distributed by.

    Args:
        name: "one_device": the first GPU, or the CPU; "mirrored": all GPUs of this machine, or, where there is none,
            all logical CPU devices; "auto": mirrored with more than one GPU, else one_device.
        deterministic: make every TensorFlow operation of this process deterministic (bit-identical runs).

    Returns:
        A strategy.

    Raises:
        ValueError: an unknown name.
    """
    if name not in STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(map(repr, STRATEGIES))}; got {name!r}.")
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    gpus = tf.config.list_logical_devices("GPU")
    if name == "mirrored" or (name == "auto" and len(gpus) > 1):
        return tf.distribute.MirroredStrategy([d.name for d in gpus or tf.config.list_logical_devices("CPU")])
    return tf.distribute.OneDeviceStrategy(gpus[0].name if gpus else "/cpu:0")


def check_global_batch(batch_size: int, strategy: tf.distribute.Strategy) -> None:
    """Refuses a global batch that replicas cannot share equally.

    Raises:
        ValueError: with both numbers.
    """
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise ValueError(f"training.batch_size must be a multiple of the {replicas} replicas, got {batch_size}.")


def num_workers(strategy: tf.distribute.Strategy) -> int:
    """Processes that train together, each with its own copy of the program."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 1
    return sum(len(tasks) for tasks in strategy.cluster_resolver.cluster_spec().as_dict().values())
