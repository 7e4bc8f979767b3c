"""Several training steps as one graph, and what they tell the loop."""

from __future__ import annotations

import math
import signal
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple

import tensorflow as tf

from attennorm_tf.training.signals import StopSignals, stopped_by
from attennorm_tf.training.strategy import num_workers


class Phase(NamedTuple):
    """How a task is trained over a stretch of steps.

    Attributes:
        train_step: (steps done, batches) -> a result with `metrics` (to be summed over replicas) and `guarded` (tensors
            that must be finite); called in a replica context.
        batches_per_step: global batches that one step consumes.
        guarded: names of the guarded tensors, in order.
        progress_metrics: metrics shown in the progress line -> how they are called there.
        final: whether no other phase, with further metrics, can follow.
    """

    train_step: Callable[[tf.Tensor, Sequence[Any]], Any]
    batches_per_step: int
    guarded: Sequence[str]
    progress_metrics: Mapping[str, str]
    final: bool = True


class StepsDone(NamedTuple):
    """What a compiled call did.

    Attributes:
        steps: how many.
        sums: metric -> its sum over the steps in which it was finite, and how many these are.
        not_finite: name of the guarded tensor that ended the call, or None.
        stopped_by: the signal that ended it, here or at another worker, or None.
    """

    steps: int
    sums: dict[str, tuple[float, int]]
    not_finite: str | None
    stopped_by: signal.Signals | None


class CompiledSteps:
    """A graph that runs several steps, and ends early at a step that is not finite or when a signal has come.

    All workers leave it after the same step: the flags of both are summed over them.

    Args:
        phase: what a step is.
        strategy: runs the replicas.
        counter: the steps done, int64; counted up by each.
        signals: tell that the job is to stop.
        guard: whether a guarded tensor that is not finite ends the call.
    """

    def __init__(
        self,
        phase: Phase,
        strategy: tf.distribute.Strategy,
        counter: tf.Variable,
        signals: StopSignals,
        guard: bool = True,
    ):
        self.phase = phase
        self._strategy, self._counter, self._signals, self._guard = strategy, counter, signals, guard
        self._names: list[str] = []  # of the metrics, known once a step is traced
        # No Python `if` or `while` on a tensor: AutoGraph, a third of the time to trace a step, has nothing to rewrite.
        self._step = tf.function(self._one_step, autograph=False)
        self._steps = tf.function(self._several_steps, autograph=False)
        self._apart = tf.function(self._step_on, autograph=False)

    def trace(self, iterator: Any) -> None:
        """Makes the graph, which takes seconds to minutes."""
        self._steps.get_concrete_function(iterator, tf.TensorSpec([], tf.int64))

    def __call__(self, iterator: Any, count: int) -> StepsDone:
        """Runs at most `count` steps."""
        self._signals.request()
        # The only place where Python waits for the devices.
        totals, status, requests = (part.numpy() for part in self._steps(iterator, tf.constant(count, tf.int64)))
        sums = {name: (float(total), int(finite)) for name, (total, finite) in zip(self._names, totals)}
        done, bad = (int(value) for value in status)
        return StepsDone(done, sums, self.phase.guarded[bad] if bad >= 0 else None, stopped_by(requests.tolist()))

    @property
    def made_apart(self) -> bool:
        """Whether `apart` has its graph."""
        return self._apart.experimental_get_tracing_count() > 0

    def fetch(self, iterator: Any) -> list[Any]:
        """The batches of a step; waits for them."""
        return [next(iterator) for _ in range(self.phase.batches_per_step)]

    def apart(self, batches: list[Any]) -> StepsDone:
        """One step on batches of `fetch`: what a call of one step does. Its graph is another one."""
        self._signals.request()
        values, requests = (part.numpy() for part in self._apart(batches))
        metrics, flags = values[: len(self._names)], values[len(self._names) :]
        sums = {n: (float(m), 1) if math.isfinite(m) else (0.0, 0) for n, m in zip(self._names, metrics)}
        bad = next((name for name, flag in zip(self.phase.guarded, flags) if flag > 0), None) if self._guard else None
        return StepsDone(1, sums, bad, stopped_by(requests.tolist()))

    def _replica_step(self, step: tf.Tensor, batches: Sequence[Any]) -> tf.Tensor:
        """(metrics + guarded tensors,): the metrics, then 1 for each guarded tensor that is not finite."""
        result = self.phase.train_step(step, batches)
        self._names = list(result.metrics)
        finite = tf.stack([tf.reduce_all(tf.math.is_finite(tensor)) for tensor in result.guarded])
        metrics = [tf.cast(value, tf.float32) for value in result.metrics.values()]
        return tf.concat([tf.stack(metrics), tf.cast(tf.logical_not(finite), tf.float32)], axis=0)

    def _one_step(self, iterator: Any) -> tuple[tf.Tensor, tf.Tensor]:
        return self._step_on(self.fetch(iterator))

    def _step_on(self, batches: list[Any]) -> tuple[tf.Tensor, tf.Tensor]:
        """Sums over all replicas: of what `_replica_step` returns, and of the stop requests."""
        # Reduced as one vector: with several workers each reduction is a round trip over the network.
        values = self._strategy.run(self._replica_step, args=(self._counter.read_value(), batches))
        values = self._strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None)
        with tf.control_dependencies([values]):  # asked when the step is over, not when it begins
            requests = self._requests()
        self._counter.assign_add(1)
        return values, requests

    def _requests(self) -> tf.Tensor:
        requests = self._signals.requested.read_value()
        if num_workers(self._strategy) == 1:
            return requests
        requests = self._strategy.run(tf.identity, args=(requests,))
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, requests, axis=None)

    def _several_steps(self, iterator: Any, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        # The step is traced and optimised once: here for the number of its metrics, in the loop to run.
        self._step.get_concrete_function(iterator)
        size = len(self._names)

        def going_on(done: tf.Tensor, bad: tf.Tensor, requests: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
            return tf.reduce_all([done < count, bad < 0, tf.reduce_all(requests == 0)])

        def one_more(done: tf.Tensor, bad: tf.Tensor, _: tf.Tensor, totals: tf.Tensor) -> tuple[tf.Tensor, ...]:
            values, requests = self._step(iterator)
            metrics, flags = values[:size], values[size:]
            finite = tf.math.is_finite(metrics)
            counted = tf.stack([tf.where(finite, metrics, 0.0), tf.cast(finite, tf.float32)], axis=1)
            if self._guard:
                bad = tf.where(tf.reduce_any(flags > 0), tf.argmax(flags > 0), -1)
            return done + 1, bad, requests, totals + counted

        start = (tf.constant(0, tf.int64), tf.constant(-1, tf.int64), self._requests(), tf.zeros([size, 2]))
        done, bad, requests, totals = tf.while_loop(going_on, one_more, start)
        return totals, tf.stack([done, bad]), requests
