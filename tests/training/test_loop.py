"""The loop with a task of known outputs: exact metrics, events, resume, guards, signals."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from attennorm_tf.config import LoggingConfig
from attennorm_tf.training import (
    CheckpointError,
    CheckpointStore,
    NonFiniteError,
    Outcome,
    Phase,
    RunDirectory,
    make_strategy,
    run_training,
)
from attennorm_tf.training.checkpointing import read_manifest
from attennorm_tf.training.rollbacks import rollback_counter


class Pace(NamedTuple):
    steps: int
    batch_size: int
    steps_per_call: int
    non_finite: str = "stop"
    max_rollbacks: int = 2


class Result(NamedTuple):
    metrics: dict[str, tf.Tensor]
    guarded: list[tf.Tensor]


class AddingTask:
    """Adds every batch's sum to one variable.

    Args:
        bad_step: not finite in the step after this one,
        bad_rollbacks: as long as it was not rolled back more often.
        batches_per_step: that it reads.
    """

    def __init__(self, bad_step: int = -1, batches_per_step: int = 1, bad_rollbacks: int = 100) -> None:
        self.sum = tf.Variable(0.0)
        self.rollbacks = rollback_counter()
        self.bad_step, self.bad_rollbacks = bad_step, bad_rollbacks
        self.only_phase = Phase(self.train_step, batches_per_step, ("loss", "gradient of sum"), {"added": "added"})
        self.drawn = 0

    @property
    def checkpoint_items(self) -> dict[str, Any]:
        return {"sum": self.sum, "rollbacks": self.rollbacks}

    def phase(self, step: int) -> Phase:
        return self.only_phase

    def batches_before(self, step: int) -> int:
        return step * self.only_phase.batches_per_step

    def next_control(self, step: int) -> int | None:
        return None

    def control(self, step: int) -> dict[str, float]:
        raise AssertionError

    def train_step(self, step: tf.Tensor, batches: Sequence[tf.Tensor]) -> Result:
        added = tf.add_n([tf.reduce_sum(batch) for batch in batches])
        self.sum.assign_add(added)
        bad = (step == self.bad_step) & (self.rollbacks.read_value() <= self.bad_rollbacks)
        gradient = tf.where(bad, float("nan"), added)
        return Result({"added": added, "number": tf.cast(step, tf.float32)}, [added, gradient])

    def scalars(self) -> dict[str, float]:
        return {"sum": float(self.sum.numpy())}

    def look(self, step: int, values: Any) -> None:
        pass

    def pictures(self) -> dict[str, Any]:
        self.drawn += 1
        return {}


def batches(_: Any, first: int) -> tf.data.Dataset:
    """Batch k holds (k, k)."""
    return tf.data.Dataset.range(first, 10**6).map(lambda k: tf.cast([k, k], tf.float32))


def endless(first: int) -> tf.data.Dataset:
    """Batches of (1, 1)."""
    return tf.data.Dataset.from_tensors([1.0, 1.0]).repeat()


def train(
    path: Path,
    steps: int,
    task: AddingTask | None = None,
    make_batches: Any = batches,
    pace: dict[str, Any] | None = None,
    **logs: int,
) -> tuple[Outcome, AddingTask]:
    task = task or AddingTask()
    settings = {"log_every_steps": 4, "image_every_steps": 6, "checkpoint_every_steps": 5, **logs}
    outcome = run_training(
        task,
        RunDirectory(path, tensorboard=False),
        make_strategy("one_device"),
        Pace(**{"steps": steps, "batch_size": 2, "steps_per_call": 3, **(pace or {})}),
        LoggingConfig(**settings),
        make_batches,
        {"kind": "test"},
    )
    return outcome, task


def lines(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_metrics_are_means_over_the_steps_since_the_last_line(tmp_path: Path) -> None:
    outcome, task = train(tmp_path, 10)
    assert outcome.step == 10
    assert outcome.stopped_by is None
    assert [line["step"] for line in lines(tmp_path)] == [4, 8, 10]
    assert [line["added"] for line in lines(tmp_path)] == [3.0, 11.0, 17.0]  # 2 k for k of the steps before
    assert [line["sum"] for line in lines(tmp_path)] == [12.0, 56.0, 90.0]
    assert task.drawn == 1
    assert CheckpointStore(tmp_path / "checkpoints").steps() == [5, 10]


def test_several_batches_a_step(tmp_path: Path) -> None:
    _, task = train(tmp_path, 3, AddingTask(batches_per_step=2))
    assert float(task.sum) == 2 * sum(range(6))
    _, task = train(tmp_path, 5, AddingTask(batches_per_step=2))
    assert float(task.sum) == 2 * sum(range(10))


def test_resume_goes_on_where_the_data_and_the_log_were(tmp_path: Path) -> None:
    train(tmp_path, 7)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 9, "added": 1}\n{"step": 1')  # what a killed run wrote after its last checkpoint
    outcome, task = train(tmp_path, 12)
    assert float(task.sum) == 2 * sum(range(12))
    assert [line["step"] for line in lines(tmp_path)] == [4, 7, 8, 12]
    assert outcome.step == 12
    again, task = train(tmp_path, 12)
    assert again.step == 12
    assert float(task.sum) == 2 * sum(range(12))


def test_a_damaged_checkpoint_is_named_and_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(tmp_path, 10)
    data = next((tmp_path / "checkpoints" / "step-00000010").glob("state.data*"))
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(bytes(content))
    outcome, task = train(tmp_path, 11)
    assert "step-00000010 is damaged (state.data-00000-of-00001 is not what was written)" in caplog.text
    assert float(task.sum) == 2 * sum(range(11))
    assert outcome.step == 11


def test_non_finite_stops_names_the_tensor_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match=r"step 8: the gradient of sum is not finite.*step-00000005"):
        train(tmp_path, 20, AddingTask(bad_step=7))
    assert CheckpointStore(tmp_path / "checkpoints").steps() == [5]


def test_skipping_goes_on_and_counts(tmp_path: Path) -> None:
    class Skipping(AddingTask):
        """Says at steps 1, 5 and 6 that it skipped its update; what it adds then is not a number."""

        def train_step(self, step: tf.Tensor, batches: Sequence[tf.Tensor]) -> Result:
            skipped = tf.reduce_any(step == [1, 5, 6])
            added = tf.where(skipped, float("nan"), tf.reduce_sum(batches[0]))
            return Result({"added": added, "skipped_updates": tf.cast(skipped, tf.float32)}, [added, added])

    outcome, _ = train(tmp_path, 8, Skipping(), pace={"non_finite": "skip"})
    assert outcome.step == 8
    assert [line["skipped_updates"] for line in lines(tmp_path)] == [1.0, 2.0]
    assert [line["added"] for line in lines(tmp_path)] == [(0 + 4 + 6) / 3, (8 + 14) / 2]  # of the other steps


def rolling(task: AddingTask) -> Any:
    """Batch k holds (k, k), or after r rollbacks (k + 1000 r, ...)."""

    def make_batches(context: Any, first: int) -> tf.data.Dataset:
        more = 1000.0 * int(task.rollbacks)
        return batches(context, first).map(lambda batch: batch + more)

    return make_batches


def test_roll_back_goes_on_from_the_last_checkpoint_with_another_seed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Steps 6 to 8 were done, their lines written, and are done again with other data."""
    task = AddingTask(bad_step=7, bad_rollbacks=1)
    pace = {"non_finite": "roll_back", "steps_per_call": 1}
    train(tmp_path, 12, task, rolling(task), pace=pace, log_every_steps=1)
    assert "step 8: the gradient of sum is not finite; back to step 5" in caplog.text
    assert "with another seed, rollback 1 of 2" in caplog.text
    assert "with another seed, rollback 2 of 2" in caplog.text
    assert [line["step"] for line in lines(tmp_path)] == list(range(1, 13))
    assert [line["added"] for line in lines(tmp_path)] == [2.0 * k + (4000.0 if k >= 5 else 0.0) for k in range(12)]
    assert float(task.sum) == 2 * sum(range(12)) + 7 * 4000
    resumed = AddingTask()  # the count is in the checkpoint
    train(tmp_path, 13, resumed, rolling(resumed), pace=pace)
    assert float(resumed.sum) == 2 * sum(range(13)) + 8 * 4000


def test_roll_back_before_the_first_checkpoint_is_to_the_start(tmp_path: Path) -> None:
    task = AddingTask(bad_step=2, bad_rollbacks=0)
    train(tmp_path, 4, task, rolling(task), pace={"non_finite": "roll_back"})
    assert float(task.sum) == 2 * sum(range(4)) + 4 * 2000


@pytest.mark.parametrize("allowed", [0, 2])
def test_roll_back_gives_up(tmp_path: Path, allowed: int) -> None:
    message = rf"step 8: the gradient .* stops, after {allowed} rollbacks with other seeds .*step-00000005"
    with pytest.raises(NonFiniteError, match=message):
        train(tmp_path, 20, AddingTask(bad_step=7), pace={"non_finite": "roll_back", "max_rollbacks": allowed})
    assert CheckpointStore(tmp_path / "checkpoints").steps() == [0, 5]


def test_a_rolled_back_run_that_is_killed_equals_itself_uninterrupted(tmp_path: Path) -> None:
    """Killed after the second rollback and before the next checkpoint: the count there is still 0."""
    pace = {"non_finite": "roll_back", "steps_per_call": 1}

    class Killed(AddingTask):
        def scalars(self) -> dict[str, float]:
            if int(self.rollbacks) == 2 and float(self.sum) > 4000 * 2 + 20:
                raise KeyboardInterrupt
            return super().scalars()

    killed, again, whole = (kind(bad_step=7, bad_rollbacks=1) for kind in (Killed, AddingTask, AddingTask))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "a", 12, killed, rolling(killed), pace=pace, log_every_steps=1)
    assert CheckpointStore(tmp_path / "a" / "checkpoints").steps()[-1] == 5
    train(tmp_path / "a", 12, again, rolling(again), pace=pace, log_every_steps=1)
    train(tmp_path / "b", 12, whole, rolling(whole), pace=pace, log_every_steps=1)
    assert float(again.sum) == float(whole.sum) == 2 * sum(range(12)) + 7 * 4000
    assert [line["added"] for line in lines(tmp_path / "a")] == [line["added"] for line in lines(tmp_path / "b")]


def test_the_best_by_a_name_of_the_log_are_kept_also_over_a_resume(tmp_path: Path) -> None:
    """`added` falls and rises: 2 |k - 7| for batch k."""

    def valley(_: Any, first: int) -> tf.data.Dataset:
        return batches(_, first).map(lambda batch: tf.abs(batch - 7.0))

    best = {"keep_last": 1, "keep_best": 2, "best_metric": "added", "best_mode": "min"}
    logs = {"log_every_steps": 1, "checkpoint_every_steps": 1, "image_every_steps": 0, **best}
    train(tmp_path, 9, make_batches=valley, **logs)
    assert CheckpointStore(tmp_path / "checkpoints").steps() == [8, 9]
    train(tmp_path, 20, make_batches=valley, **logs)
    assert CheckpointStore(tmp_path / "checkpoints").steps() == [8, 9, 20]
    assert read_manifest(tmp_path / "checkpoints" / "step-00000008")["metrics"]["added"] == 0.0


def test_a_checkpoint_before_the_first_line_of_a_resumed_run_has_the_values_of_the_last(tmp_path: Path) -> None:
    logs = {"log_every_steps": 10, "checkpoint_every_steps": 1, "keep_last": 9, "image_every_steps": 0}
    train(tmp_path, 5, **logs)
    train(tmp_path, 8, **logs)
    store = CheckpointStore(tmp_path / "checkpoints")
    sums = [read_manifest(store.path(step))["metrics"].get("sum") for step in (4, 5, 6, 7, 8)]
    assert sums == [None, 20.0, 20.0, 20.0, 56.0]


def test_a_ranking_by_an_unknown_name_is_refused_with_those_there_are(tmp_path: Path) -> None:
    """Not before everything that is written to the log was; the work until then is kept."""
    logs = {"checkpoint_every_steps": 2, "keep_best": 1, "best_metric": "psnr"}
    with pytest.raises(ValueError, match=r"logging.best_metric='psnr' is not a name .* step 6 there are added, images"):
        train(tmp_path, 20, **logs)
    assert CheckpointStore(tmp_path / "checkpoints").steps() == [2, 4, 6]
    outcome, _ = train(tmp_path, 8, **{**logs, "best_metric": "number"})
    assert outcome.step == 8


def test_a_damaged_last_checkpoint_is_written_again(tmp_path: Path) -> None:
    train(tmp_path, 10)
    (tmp_path / "checkpoints" / "step-00000010" / "state.index").write_bytes(b"torn")
    (tmp_path / "checkpoints" / ".partial-00000015").mkdir()
    outcome, task = train(tmp_path, 10)
    assert outcome.step == 10
    assert CheckpointStore(tmp_path / "checkpoints").latest() == tmp_path / "checkpoints" / "step-00000010"
    assert float(task.sum) == 2 * sum(range(10))
    assert not list((tmp_path / "checkpoints").glob(".partial-*"))
    assert (tmp_path / "checkpoints" / "damaged-step-00000010").is_dir()


def test_a_run_whose_checkpoints_are_all_damaged_does_not_begin_anew(tmp_path: Path) -> None:
    train(tmp_path, 10)
    before = lines(tmp_path)
    for path in (tmp_path / "checkpoints").glob("step-*"):
        (path / "manifest.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"all 2 checkpoints are damaged .* delete this folder to begin anew"):
        train(tmp_path, 20)
    assert lines(tmp_path) == before


def test_a_log_that_cannot_be_written_says_which_and_what_next(tmp_path: Path) -> None:
    """/dev/full is always full."""
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    run = RunDirectory(tmp_path, tensorboard=False)
    with pytest.raises(
        OSError, match=rf"{tmp_path}/metrics.jsonl could not be written \(.*No space left.*same command"
    ):
        run.scalars(3, {"loss": 1.0})
    (tmp_path / "images").write_text("in the way")
    with pytest.raises(OSError, match=rf"{tmp_path}/images/samples-00000003.png could not be written"):
        run.image(3, "samples", np.zeros((4, 4, 3), np.uint8))


def test_a_line_torn_by_a_full_disk_or_a_kill_is_dropped(tmp_path: Path) -> None:
    train(tmp_path, 10)
    log = tmp_path / "metrics.jsonl"
    whole = log.read_bytes()
    for cut in (1, 5, len(whole.splitlines()[-1])):
        log.write_bytes(whole[:-cut])
        RunDirectory(tmp_path, tensorboard=False).forget_after(10)
        assert [line["step"] for line in lines(tmp_path)] == ([4, 8, 10] if cut == 1 else [4, 8])


def test_replicas_share_a_step(tmp_path: Path, two_cpus: tf.distribute.Strategy) -> None:
    with two_cpus.scope():
        task = AddingTask()
        task.sum = tf.Variable(0.0, aggregation=tf.VariableAggregation.SUM)
    run_training(
        task,
        RunDirectory(tmp_path, tensorboard=False),
        two_cpus,
        Pace(steps=3, batch_size=4, steps_per_call=2),
        LoggingConfig(log_every_steps=1, image_every_steps=0, checkpoint_every_steps=0),
        batches,
        {},
    )
    assert [line["added"] for line in lines(tmp_path)] == [2.0, 10.0, 18.0]  # two consecutive batches a step


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops(tmp_path: Path, name: signal.Signals) -> None:
    class Interrupting(AddingTask):
        def scalars(self) -> dict[str, float]:
            os.kill(os.getpid(), name)
            return super().scalars()

    before = signal.getsignal(name)
    outcome, task = train(tmp_path, 1000, Interrupting())
    assert outcome.stopped_by == name
    assert outcome.step == 4
    assert CheckpointStore(tmp_path / "checkpoints").steps() == [4]
    assert signal.getsignal(name) == before
    outcome, task = train(tmp_path, 10)
    assert float(task.sum) == 2 * sum(range(10))


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_compiled_call_of_many_steps(tmp_path: Path, name: signal.Signals) -> None:
    """One call of 10^7 steps takes many minutes; Python's own handlers would not run before its end."""
    steps = 10**7

    class Announcing(AddingTask):
        started = threading.Event()

        def train_step(self, step: tf.Tensor, batches: Sequence[tf.Tensor]) -> Result:
            result = super().train_step(step, batches)
            with tf.control_dependencies(result.metrics.values()):
                tf.cond(step == 20, lambda: tf.numpy_function(self.started.set, [], []), tf.no_op)
            return result

    def interrupt() -> None:
        assert task.started.wait(60)
        os.kill(os.getpid(), name)

    task = Announcing()
    thread = threading.Thread(target=interrupt)
    thread.start()
    unlogged = {"log_every_steps": 0, "image_every_steps": 0, "checkpoint_every_steps": 0}
    many = {"steps_per_call": steps}
    outcome, _ = train(tmp_path, steps, task, lambda _, first: endless(first), pace=many, **unlogged)
    thread.join()
    assert outcome.stopped_by == name
    assert 20 < outcome.step < steps
    assert CheckpointStore(tmp_path / "checkpoints").steps() == [outcome.step]
    assert float(task.sum) == 2 * outcome.step
