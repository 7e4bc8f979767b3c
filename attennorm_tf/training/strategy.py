"""tf.distribute strategies by name."""

from __future__ import annotations

import logging

import tensorflow as tf

from attennorm_tf.config import STRATEGIES
from attennorm_tf.training.cluster import check_own_address, read_cluster
from attennorm_tf.training.peer_watch import PeerWatch

logger = logging.getLogger(__name__)


def make_strategy(name: str = "auto", deterministic: bool = False) -> tf.distribute.Strategy:
    """The strategy that a run is distributed by.

    Args:
        name: "one_device": the first GPU, or the CPU; "mirrored": all GPUs of this machine, or, where there is none,
            all logical CPU devices; "multi_worker": the same on each of the machines that TF_CONFIG or SLURM names,
            before anything else that needs TensorFlow's devices; "tpu": all cores of a TPU; "auto": mirrored with more
            than one GPU, else one_device.
        deterministic: make every TensorFlow operation of this process deterministic (bit-identical runs).

    Returns:
        A strategy.

    Raises:
        ValueError: an unknown name, or one that this machine or TF_CONFIG does not allow.
        WorkerLostError: another worker did not come.
    """
    if name not in STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(map(repr, STRATEGIES))}; got {name!r}.")
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    if name == "multi_worker":
        return _multi_worker()
    if name == "tpu":
        return _tpu()
    gpus = tf.config.list_logical_devices("GPU")
    if name == "mirrored" or (name == "auto" and len(gpus) > 1):
        devices = [device.name for device in gpus or tf.config.list_logical_devices("CPU")]
        if len(devices) == 1:
            logger.warning("training.strategy='mirrored': this machine has one device, %s; it trains alone", devices[0])
        return tf.distribute.MirroredStrategy(devices)
    return tf.distribute.OneDeviceStrategy(gpus[0].name if gpus else "/cpu:0")


def check_global_batch(batch_size: int, strategy: tf.distribute.Strategy, accumulation_steps: int = 1) -> None:
    """Refuses a global batch that replicas, and the parts of each one's batch, cannot share equally.

    Raises:
        ValueError: with the numbers.
    """
    replicas = strategy.num_replicas_in_sync
    if accumulation_steps > 1 and batch_size % (replicas * accumulation_steps):
        raise ValueError(
            f"training.batch_size must be a multiple of {replicas * accumulation_steps}, {replicas} replicas times "
            f"training.accumulation_steps={accumulation_steps}; got {batch_size}."
        )
    if batch_size % replicas:
        raise ValueError(f"training.batch_size must be a multiple of the {replicas} replicas, got {batch_size}.")


def num_workers(strategy: tf.distribute.Strategy) -> int:
    """Processes that train together, each with its own copy of the program."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 1
    return sum(len(tasks) for tasks in strategy.cluster_resolver.cluster_spec().as_dict().values())


def worker_index(strategy: tf.distribute.Strategy) -> int:
    """Which of them is this process; 0 is the chief, which alone writes the work directory."""
    return int(strategy.cluster_resolver.task_id) if num_workers(strategy) > 1 else 0


def _multi_worker() -> tf.distribute.Strategy:
    cluster = read_cluster()
    check_own_address(cluster)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": cluster.addresses}), task_type="worker", task_id=cluster.own, rpc_layer="grpc"
    )
    logger.info("worker %d of %d, at %s", cluster.own, len(cluster.addresses), cluster.address)
    watch = PeerWatch(cluster)
    watch.wait_for_all()
    try:
        # The default options take NCCL between GPUs and TensorFlow's own rings between CPUs.
        strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    except RuntimeError as error:
        raise ValueError(f"training.strategy='multi_worker' cannot begin here: {error}") from error
    watch.start()  # now that all listen again
    return strategy


def _tpu() -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, tf.errors.OpError, OSError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"training.strategy='tpu': this machine has no TPU that TensorFlow can reach ({reason}). On a TPU VM "
            "install TensorFlow's TPU build; for a TPU elsewhere set TPU_NAME."
        ) from error
    return tf.distribute.TPUStrategy(resolver)
