"""Loss and gradients of a replica's batch: whole or part by part, compiled by XLA or not."""

from __future__ import annotations

import concurrent.futures
import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from attennorm_tf.replica_random import batch_part, replica_position
from attennorm_tf.training.local_variables import read_local, write_local
from attennorm_tf.training.strategy import num_workers
from attennorm_tf.training.weight_table import weight_path

logger = logging.getLogger(__name__)

Compute = Callable[..., tuple[tf.Tensor, dict[str, tf.Tensor]]]


class Gradients(NamedTuple):
    """Loss, metrics, and the gradient of each weight (float32, of the loss times the loss scale)."""

    loss: tf.Tensor
    metrics: dict[str, tf.Tensor]
    gradients: list[tf.Tensor]


def loss_and_gradients(
    compute: Compute,
    inputs: Sequence[tf.Tensor],
    variables: Sequence[tf.Variable],
    scale: tf.Tensor,
    *,
    networks: Sequence[Any],
    parts: int = 1,
    jit_compile: bool = False,
    name: str = "network",
) -> Gradients:
    """Runs `compute` on this replica's batch and derives its loss.

    Cut into parts, the batch takes the memory of one part; the graph does not grow with their number, unless batch
    normalization makes replicas meet in each. Batch normalization sees a part at a time and moves its averages with
    each; all random draws are those of the whole batch.

    Args:
        compute: inputs -> (loss, metrics), shares of the global batch's.
        inputs: rows first.
        variables: to derive by.
        scale: of the loss, before it is derived.
        networks: that `compute` runs.
        parts: equal parts that the rows are cut into, in order.
        jit_compile: by XLA, where that is possible; else a warning says why not.
        name: of what is derived, for messages.

    Raises:
        ValueError: the rows cannot be cut into `parts`.
    """
    meets = _replicas_meet(networks)

    def once(scale: tf.Tensor, *rows: tf.Tensor) -> Gradients:
        with tf.GradientTape() as tape:
            loss, metrics = compute(*rows)
            scaled = loss * scale
        # Dense: a table's rows that the batch did not touch have a gradient, 0, and count in Adam's averages.
        return Gradients(loss, metrics, [tf.convert_to_tensor(g) for g in tape.gradient(scaled, variables)])

    def whole(scale: tf.Tensor, *rows: tf.Tensor) -> Gradients:
        if parts == 1:
            return once(scale, *rows)
        return _in_parts(functools.partial(once, scale), rows, parts, networks, unrolled=meets)

    # What a compiled function needs comes in by arguments: it is compiled once on trial.
    run = compiled(whole, [scale, *inputs], name, meets) if jit_compile else whole
    return run(scale, *inputs)


def _in_parts(
    once: Callable[..., Gradients], inputs: Sequence[tf.Tensor], parts: int, networks: Sequence[Any], unrolled: bool
) -> Gradients:
    """Sums over the parts, one after the other."""
    count = inputs[0].shape[0]
    if count is None or count % parts:
        raise ValueError(
            f"training.accumulation_steps={parts} must divide the images of a replica, got {count}: "
            "training.batch_size must be a multiple of replicas * accumulation_steps."
        )
    pieces = [tf.reshape(value, [parts, count // parts, *value.shape[1:]]) for value in inputs]
    # Counters of random draws: every part sees those of the whole batch, and they move as for one.
    weights = [weight for network in networks for weight in network.non_trainable_weights]
    counters = [(w, read_local(w)) for w in weights if tf.as_dtype(w.dtype).is_integer]

    def part(index: Any) -> Gradients:
        for weight, value in counters:
            write_local(weight, value)
        with batch_part(index, parts):
            return once(*(piece[index] for piece in pieces))

    if unrolled:
        total = part(0)
        for index in range(1, parts):
            total = _added(total, part(index))
        return total
    traced = tf.function(part, autograph=False)
    step = traced.get_concrete_function(tf.TensorSpec([], tf.int32))
    _, total = tf.while_loop(
        lambda index, _: index < parts,
        lambda index, total: (index + 1, _added(total, step(index))),
        (tf.constant(1), step(tf.constant(0))),
    )
    return total


def _added(first: Gradients, second: Gradients) -> Gradients:
    return tf.nest.map_structure(tf.add, first, second)


def _replicas_meet(networks: Sequence[Any]) -> bool:
    """Whether replicas exchange statistics while the networks run in training: only outside of nested graphs."""
    if replica_position()[1] == 1:
        return False
    weights = [weight for network in networks for weight in network.non_trainable_weights]
    return any(weight_path(weight).split("/")[-1].startswith("moving_") for weight in weights)


_warned: set[str] = set()
_refused: set[str] = set()  # what the first replica could not compile


@tf.autograph.experimental.do_not_convert
def compiled(function: Callable[..., Any], inputs: Sequence[tf.Tensor], name: str, replicas_meet: bool) -> Any:
    """The function compiled by XLA, or itself where that cannot be, with one warning that says why.

    Args:
        function: of tensors.
        inputs: what it will be called with.
        name: of what it computes, for the warning.
        replicas_meet: whether it has batch normalization over several replicas in it.
    """
    if isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy):
        return function  # all is compiled there
    if replicas_meet:
        _warn_once(
            name,
            f"training.jit_compile: the {name} is trained without XLA: its batch normalization sums over the "
            "replicas in the middle of the network, where XLA cannot follow. Train it on one device (with more "
            "memory or accumulation_steps), or leave jit_compile off.",
        )
        return function
    specs = [tf.TensorSpec(value.shape, value.dtype) for value in inputs]
    traced = tf.function(function, jit_compile=True, autograph=False)
    context = tf.distribute.get_replica_context()
    replica = int(tf.get_static_value(replica_position()[0]))
    # The trial cannot be told on which device: it is the first replica's, which is traced before the others.
    first = replica % (context.num_replicas_in_sync // num_workers(context.strategy)) == 0
    if not first and name in _refused:
        return function
    _refused.discard(name)

    def compile_on_trial() -> Any:
        with tf.distribute.ReplicaContext(context.strategy, replica):
            concrete = traced.get_concrete_function(*specs)
            if first:
                traced.experimental_get_compiler_ir(*specs)(stage="hlo")
            return concrete

    # Here a graph is being built, and tf.init_scope, the way out of it, records no gradients: another thread does.
    try:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            return pool.submit(compile_on_trial).result()
    except Exception as error:  # whatever XLA's bridge raises, training goes on without it
        _refused.add(name)
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        _warn_once(
            name,
            f"training.jit_compile: the {name} is trained without XLA, which cannot compile it here "
            f"({lines[0][:300]}). Leave jit_compile off to silence this.",
        )
        return function


def _warn_once(name: str, message: str) -> None:
    if name not in _warned:  # each replica and each phase of a task comes here
        _warned.add(name)
        logger.warning(message)
