"""The training loop: it knows nothing of the networks, and the step functions know nothing of it."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Mapping, Sequence
from types import FrameType, TracebackType
from typing import Any, Callable, NamedTuple, Protocol

import tensorflow as tf

from attennorm_tf.config import LoggingConfig
from attennorm_tf.training.checkpointing import CheckpointStore, read_manifest, restore
from attennorm_tf.training.progress import Progress
from attennorm_tf.training.run_directory import RunDirectory

logger = logging.getLogger(__name__)

MakeBatches = Callable[[tf.distribute.InputContext, int], tf.data.Dataset]


class Phase(NamedTuple):
    """How a task is trained over a stretch of steps.

    Attributes:
        train_step: (steps done, batches) -> a result with `metrics` (to be summed over replicas) and `guarded` (tensors
            that must be finite); called in a replica context.
        batches_per_step: global batches that one step consumes.
        guarded: names of the guarded tensors, in order.
        progress_metrics: metrics shown in the progress line -> how they are called there.
    """

    train_step: Callable[[tf.Tensor, Sequence[Any]], Any]
    batches_per_step: int
    guarded: Sequence[str]
    progress_metrics: Mapping[str, str]


class Task(Protocol):
    """What the loop trains."""

    @property
    def checkpoint_items(self) -> dict[str, Any]:
        """Name -> trackable, built."""

    def phase(self, step: int) -> Phase:
        """How the step after `step` is done; the same object while nothing changes."""

    def batches_before(self, step: int) -> int:
        """Global batches consumed by the first `step` steps."""

    def next_control(self, step: int) -> int | None:
        """The first step after `step` at which `control` is due, or None."""

    def control(self, step: int) -> dict[str, float]:
        """Measures, decides (what it decides is kept in `checkpoint_items`); returns values for the log."""

    def scalars(self) -> dict[str, float]:
        """Further values for the log."""

    def pictures(self) -> dict[str, Any]:
        """Name -> (H, W, 3) uint8."""


class NonFiniteError(RuntimeError):
    """A loss or gradient was NaN or infinite; the message names the step and the first such tensor."""


class Pace(Protocol):
    """The fields of a config's training section that the loop reads."""

    steps: int
    batch_size: int
    steps_per_call: int


class Outcome(NamedTuple):
    """How a run ended: steps done, real images per second, and the signal that stopped it early (or None)."""

    step: int
    images_per_second: float
    stopped_by: signal.Signals | None


def run_training(
    task: Task,
    run: RunDirectory,
    strategy: tf.distribute.Strategy,
    training: Pace,
    logs: LoggingConfig,
    make_batches: MakeBatches,
    metadata: dict[str, Any],
) -> Outcome:
    """Trains until `training.steps`, from the newest whole checkpoint if there is one.

    SIGTERM and SIGINT (Ctrl-C) end it after the compiled call in progress, with a checkpoint of that step.

    Args:
        task: networks and step functions, made in the strategy's scope.
        run: the work directory.
        strategy: runs the replicas.
        training: steps, batch size, steps per compiled call.
        logs: what is written, how often.
        make_batches: (input context, batches consumed before) -> data set of per-replica batches.
        metadata: kept in every checkpoint's manifest.

    Returns:
        The outcome.

    Raises:
        NonFiniteError: a guarded tensor was not finite; nothing is saved after the last good checkpoint.
        CheckpointError: a checkpoint could not be written or read.
    """
    store = CheckpointStore(run.checkpoints, logs.keep_last)
    counter = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
    items = {**task.checkpoint_items, "step": counter}
    latest = store.latest()
    if latest is not None:
        restore(latest, items)
        logger.info("resumed from %s", latest)
    step = int(counter.numpy())
    if latest is not None and read_manifest(latest)["step"] != step:
        raise RuntimeError(f"{latest}: its manifest and its step counter disagree.")
    run.forget_after(step)
    if step >= training.steps:
        return Outcome(step, 0.0, None)

    batches = strategy.distribute_datasets_from_function(
        lambda context: make_batches(context, task.batches_before(step))
    )
    iterator = iter(batches)
    phase = task.phase(step)
    run_steps = _compiled_steps(phase, strategy, counter)
    progress = Progress(training.steps, step, training.batch_size * phase.batches_per_step)
    means = _Means()

    def save() -> None:
        if store.steps()[-1:] != [step]:
            store.save(step, items, metadata)

    try:
        with _Signals() as signals:
            while step < training.steps and signals.received is None:
                if task.phase(step) is not phase:
                    phase = task.phase(step)
                    run_steps = _compiled_steps(phase, strategy, counter)
                    progress.restart(training.batch_size * phase.batches_per_step)
                control = task.next_control(step)
                count = _steps_to_next_event(step, training, logs, control)
                totals, bad = run_steps(iterator, tf.constant(count, tf.int64))
                if int(bad) >= 0:
                    _raise_non_finite(int(counter.numpy()), phase.guarded[int(bad)], store)
                step += count
                means.add(totals, count)
                values = task.control(step) if step == control else {}
                if _due(step, logs.log_every_steps) or step == training.steps:
                    values = {**means.take(), **task.scalars(), **values}
                    progress.update(step, {label: values[name] for name, label in phase.progress_metrics.items()})
                    values["images_per_second"] = progress.images_per_second
                else:
                    progress.update(step)
                if values:
                    run.scalars(step, values)
                if _due(step, logs.image_every_steps):
                    for name, pixels in task.pictures().items():
                        run.image(step, name, pixels)
                if _due(step, logs.checkpoint_every_steps):
                    save()
            save()
    finally:
        progress.close()
        run.close()
    return Outcome(step, progress.images_per_second, signals.received)


class _Means:
    """Means of metrics over the steps since they were last taken."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, totals: Mapping[str, tf.Tensor], count: int) -> None:
        """Adds sums over `count` steps."""
        for name, total in totals.items():
            before, steps = self._sums.get(name, (0.0, 0))
            self._sums[name] = before + float(total), steps + count

    def take(self) -> dict[str, float]:
        means = {name: total / steps for name, (total, steps) in self._sums.items()}
        self._sums = {}
        return means


def _compiled_steps(phase: Phase, strategy: tf.distribute.Strategy, counter: tf.Variable) -> Any:
    """A graph that runs several steps, ends at the first that is not finite, and sums the metrics."""

    def replica_step(step: tf.Tensor, batches: Sequence[Any]) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        result = phase.train_step(step, batches)
        finite = tf.stack([tf.reduce_all(tf.math.is_finite(t)) for t in result.guarded])
        return result.metrics, tf.cast(tf.logical_not(finite), tf.int32)

    @tf.function
    def one_step(iterator: Any) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        batches = [next(iterator) for _ in range(phase.batches_per_step)]
        metrics, flags = strategy.run(replica_step, args=(counter.read_value(), batches))
        total = tf.distribute.ReduceOp.SUM
        metrics = {name: strategy.reduce(total, value, axis=None) for name, value in metrics.items()}
        flags = strategy.reduce(total, flags, axis=None)
        bad = tf.where(tf.reduce_any(flags > 0), tf.argmax(flags > 0, output_type=tf.int32), -1)
        counter.assign_add(1)
        return metrics, bad

    @tf.function
    def run_steps(iterator: Any, count: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        # The step is traced and optimised once: here for the names of its metrics, in the loop to run.
        metrics, _ = one_step.get_concrete_function(iterator).structured_outputs
        totals = {name: tf.zeros(value.shape, value.dtype) for name, value in metrics.items()}
        bad, done = tf.constant(-1), tf.constant(0, tf.int64)
        while done < count and bad < 0:
            metrics, bad = one_step(iterator)
            totals = {name: totals[name] + metrics[name] for name in metrics}
            done += 1
        return totals, bad

    return run_steps


def _steps_to_next_event(step: int, training: Pace, logs: LoggingConfig, control: int | None) -> int:
    """Steps of the next compiled call: up to the next log line, picture, checkpoint, control or the end."""
    events = [training.steps] if control is None else [training.steps, control]
    for every in (logs.log_every_steps, logs.image_every_steps, logs.checkpoint_every_steps):
        if every:
            events.append((step // every + 1) * every)
    return min(training.steps_per_call, min(events) - step)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _raise_non_finite(step: int, name: str, store: CheckpointStore) -> None:
    kept = store.steps()
    last = f"The last good checkpoint is {store.path(kept[-1])}" if kept else "There is no checkpoint yet"
    raise NonFiniteError(
        f"step {step}: the {name} is not finite; training stops. {last}. A lower learning rate is the usual cure."
    )


class _Signals:
    """Notes SIGINT and SIGTERM instead of dying in the middle of a step; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> _Signals:
        if threading.current_thread() is threading.main_thread():
            for name in (signal.SIGINT, signal.SIGTERM):
                self._before[name] = signal.signal(name, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
        logger.warning("%s: finishing the current steps and saving", self.received.name)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, handler in self._before.items():
            signal.signal(name, handler)
