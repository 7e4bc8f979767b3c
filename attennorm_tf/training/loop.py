"""The training loop: it knows nothing of the networks, and the step functions know nothing of it."""

from __future__ import annotations

import logging
import math
import signal
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from attennorm_tf.config import LoggingConfig
from attennorm_tf.training.checkpointing import CheckpointError, CheckpointStore, Ranking, read_manifest, restore
from attennorm_tf.training.compiled_steps import CompiledSteps, Phase, StepsDone
from attennorm_tf.training.profiling import StepProfile, StepRange
from attennorm_tf.training.progress import Progress
from attennorm_tf.training.run_directory import RunDirectory
from attennorm_tf.training.signals import StopSignals
from attennorm_tf.training.step_means import StepMeans
from attennorm_tf.training.task import MakeBatches, Pace, Task
from attennorm_tf.training.workers import Workers

logger = logging.getLogger(__name__)


class NonFiniteError(RuntimeError):
    """A loss or gradient was NaN or infinite; the message names the step and the first such tensor."""


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
    profile: StepRange | None = None,
    signals: StopSignals | None = None,
) -> Outcome:
    """Trains until `training.steps`, from the newest whole checkpoint if there is one.

    SIGTERM and SIGINT (Ctrl-C) end it after the step in progress, with a checkpoint of that step. What comes while the
    graph is still being made is not caught, unless `signals` does: there is nothing to save yet.

    With several workers every one of them calls this; a signal at one ends all after the same step. All do the same,
    since reading a variable may be a matter of all, but only the chief writes.

    Args:
        task: networks and step functions, made in the strategy's scope.
        run: the work directory.
        strategy: runs the replicas.
        training: steps, batch size, steps per compiled call, what to do with what is not finite.
        logs: what is written, how often.
        make_batches: (input context, batches consumed before) -> data set of per-replica batches; called again after a
            rollback, when `task.rollbacks` has changed.
        metadata: kept in every checkpoint's manifest.
        profile: steps of which a profile is written to `profile/`, see `StepProfile`; None: none.
        signals: what notes the signals, where that has begun before; else it begins when there is something to save.

    Returns:
        The outcome.

    Raises:
        NonFiniteError: a guarded tensor was not finite; nothing is saved after the last good checkpoint. With
            `non_finite` "roll_back", `max_rollbacks` attempts with other seeds have failed.
        CheckpointError: a checkpoint could not be written or read.
        ValueError: steps to profile that this run does not do.
        WorkerLostError: another worker ended or cannot be reached.
    """
    loop = _Loop(task, run, strategy, training, logs, make_batches, metadata, signals or StopSignals())
    loop.resume()
    if profile is not None:
        profile.check(loop.step, training.steps)
        loop.profile = StepProfile(profile, run.path / "profile" if run.writes else None)
    if loop.step >= training.steps:
        return Outcome(loop.step, 0.0, None)
    return loop.train()


class _Loop:
    """One call of `run_training`, whose arguments it takes.

    Attributes:
        step: steps done.
        profile: runs the first steps, or None.
    """

    def __init__(
        self,
        task: Task,
        run: RunDirectory,
        strategy: tf.distribute.Strategy,
        training: Pace,
        logs: LoggingConfig,
        make_batches: MakeBatches,
        metadata: dict[str, Any],
        signals: StopSignals,
    ):
        self._task, self._run, self._strategy = task, run, strategy
        self._training, self._logs = training, logs
        self._make_batches, self._metadata = make_batches, metadata
        ranking = Ranking(logs.keep_best, logs.best_metric, logs.best_mode)
        self._workers = Workers(strategy)
        self._store = CheckpointStore(run.checkpoints, logs.keep_last, ranking, writes=run.writes)
        self._saved_step = -1
        self._counter = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        self._items = {**task.checkpoint_items, "step": self._counter}
        self._signals = signals
        self._means = StepMeans()
        self._newest: dict[str, float] = {}  # the newest value of each name in the log
        self.step = 0
        self.profile: StepProfile | None = None

    def resume(self) -> None:
        """Goes to the newest whole checkpoint, where there is one."""
        latest = self._latest()
        if self._workers.is_chief:
            self._store.tidy(latest)
        if latest is not None:
            self._restore(latest)
            logger.info("resumed from %s", latest)
        self._run.forget_after(self.step)

    def _latest(self) -> Path | None:
        """The newest whole checkpoint; all workers take the one that the chief finds whole."""
        found = self._store.latest() if self._workers.is_chief else None
        name = self._workers.gather(found.name if found else "")[0]
        return self._store.folder / name if name else None

    def _restore(self, checkpoint: Path) -> None:
        restore(checkpoint, self._items)
        manifest = read_manifest(checkpoint)
        self.step = int(self._counter.numpy())
        if manifest["step"] != self.step:
            raise CheckpointError(f"checkpoint {checkpoint}: its manifest and its step counter disagree.")
        self._saved_step = self.step
        held = manifest["metrics"].items()
        self._newest = {name: math.nan if value is None else value for name, value in held}

    def train(self) -> Outcome:
        """Does the steps from here to the end."""
        self._begin()
        images = self._training.batch_size * self._steps.phase.batches_per_step
        self._progress = Progress(self._training.steps, self.step, images, silent=not self._workers.is_chief)
        stopped: signal.Signals | None = None
        try:
            if self.profile is None:
                self._steps.trace(self._iterator)
            with self._signals:
                if self._training.non_finite == "roll_back" and self._saved_step < 0:
                    self._save()  # to have something to go back to
                while self.step < self._training.steps and stopped is None:
                    stopped = self._advance().stopped_by
                self._save()
        finally:
            if self.profile is not None:
                self.profile.close()
            self._progress.close()
            self._run.close()
        return Outcome(self.step, self._progress.images_per_second, stopped or self._signals.received)

    def _begin(self) -> None:
        """Data and graph for the steps after `step`."""
        self._feed()
        self._compile(self._task.phase(self.step))

    def _feed(self) -> None:
        """Data for the steps after `step`."""
        first = self._task.batches_before(self.step)
        batches = self._strategy.distribute_datasets_from_function(lambda context: self._make_batches(context, first))
        self._iterator = iter(batches)

    def _compile(self, phase: Phase) -> None:
        guard = self._training.non_finite != "skip"
        self._steps = CompiledSteps(phase, self._strategy, self._counter, self._signals, guard)

    def _advance(self) -> StepsDone:
        """One compiled call, and what is due after it."""
        phase = self._task.phase(self.step)
        if phase is not self._steps.phase:
            self._compile(phase)
            self._progress.restart(self._training.batch_size * phase.batches_per_step)
        control = self._task.next_control(self.step)
        if self.profile is not None and self.profile.pending(self.step):
            done = self.profile.run(self.step, self._steps, self._iterator)
        else:
            done = self._steps(self._iterator, _steps_to_next_event(self.step, self._training, self._logs, control))
        self.step += done.steps
        if done.not_finite is not None:
            self._roll_back(done.not_finite)
        elif done.steps:
            self._means.add(done.sums)
            self._write(phase, self._task.control(self.step) if self.step == control else {})
        return done

    def _write(self, phase: Phase, values: dict[str, float]) -> None:
        """Log line, pictures and checkpoint, as far as they are due; `values` are the task's own for the log."""
        step, logs = self.step, self._logs
        if _due(step, logs.log_every_steps) or step == self._training.steps:
            values = {**self._means.take(), **self._task.scalars(), **values}
            shown = {label: values.get(name, float("nan")) for name, label in phase.progress_metrics.items()}
            self._progress.update(step, shown)
            values["images_per_second"] = self._progress.images_per_second
        else:
            self._progress.update(step)
        if values:
            self._run.scalars(step, values)
            self._newest.update(values)
            self._task.look(step, values)
        if _due(step, logs.image_every_steps):
            for name, pixels in self._task.pictures().items():
                self._run.image(step, name, pixels)
        if _due(step, logs.checkpoint_every_steps):
            self._save()

    def _save(self) -> None:
        if self._saved_step == self.step:
            return
        self._store.save(self.step, self._items, self._metadata, self._newest)
        self._saved_step = self.step
        logs = self._logs
        if logs.keep_best and logs.best_metric not in self._newest:
            first = (logs.log_every_steps or self._training.steps, logs.image_every_steps, self._task.next_control(0))
            if self._steps.phase.final and self.step >= max(every or 0 for every in first):
                raise ValueError(
                    f"logging.best_metric={logs.best_metric!r} is not a name of metrics.jsonl; by step {self.step} "
                    f"there are {', '.join(sorted(self._newest))}. The checkpoint of this step is saved: give another "
                    "name, and the run goes on."
                )
            logger.warning("step %d: there is no value of %s yet to rank by", self.step, logs.best_metric)

    def _roll_back(self, name: str) -> None:
        """To the last good checkpoint with another seed, as often as is allowed.

        A run that is killed before its next checkpoint does the same again when it goes on: so the count needs no
        checkpoint of its own.
        """
        tried, allowed = int(self._task.rollbacks.numpy()), self._training.max_rollbacks
        good = self._latest()
        if self._training.non_finite != "roll_back" or tried >= allowed or good is None:
            last = f"The last good checkpoint is {good}" if good is not None else "There is no checkpoint yet"
            others = f", after {tried} rollbacks with other seeds (training.max_rollbacks={allowed})"
            raise NonFiniteError(
                f"step {self.step}: the {name} is not finite; training stops"
                f"{others if self._training.non_finite == 'roll_back' else ''}. {last}. "
                "A lower learning rate is the usual cure."
            )
        failed = self.step
        self._restore(good)
        self._task.rollbacks.assign(tried + 1)
        self._run.forget_after(self.step)
        self._means.take()
        self._feed()
        self._progress.restart(self._training.batch_size * self._steps.phase.batches_per_step)
        logger.warning(
            "step %d: the %s is not finite; back to step %d (%s) with another seed, rollback %d of %d",
            failed, name, self.step, good, tried + 1, allowed,
        )  # fmt: skip


def _steps_to_next_event(step: int, training: Pace, logs: LoggingConfig, control: int | None) -> int:
    """Steps of the next compiled call: up to the next log line, picture, checkpoint, control or the end."""
    events = [training.steps] if control is None else [training.steps, control]
    for every in (logs.log_every_steps, logs.image_every_steps, logs.checkpoint_every_steps):
        if every:
            events.append((step // every + 1) * every)
    return min(training.steps_per_call, min(events) - step)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
