"""The profile of some steps: its files, the share of time spent waiting for data, and that it changes no result."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tensorflow as tf

from attennorm_tf.config import LoggingConfig
from attennorm_tf.data import load_dataset
from attennorm_tf.data.host_function import host_function
from attennorm_tf.training import Phase, RunDirectory, make_strategy, run_training
from attennorm_tf.training.profiling import StepRange, parse_step_range
from attennorm_tf.training.rollbacks import rollback_counter
from attennorm_tf.training.updates import StepResult


class Pace(NamedTuple):
    steps: int = 12
    batch_size: int = 8
    steps_per_call: int = 4
    non_finite: str = "stop"
    max_rollbacks: int = 0


class Work:
    """A task that multiplies matrices for some milliseconds and adds up its data."""

    def __init__(self, size: int) -> None:
        self.sum = tf.Variable(0.0)
        self.rollbacks = rollback_counter()
        self.matrix = tf.Variable(tf.eye(size))
        self.only_phase = Phase(self.train_step, 2, ("loss",), {})

    @property
    def checkpoint_items(self) -> dict[str, Any]:
        return {"sum": self.sum, "rollbacks": self.rollbacks}

    def phase(self, step: int) -> Phase:
        return self.only_phase

    def batches_before(self, step: int) -> int:
        return 2 * step

    def next_control(self, step: int) -> None:
        return None

    def scalars(self) -> dict[str, float]:
        return {}

    def look(self, step: int, values: Any) -> None:
        pass

    def pictures(self) -> dict[str, Any]:
        return {}

    def train_step(self, step: tf.Tensor, batches: Sequence[Any]) -> StepResult:
        result = self.matrix.read_value()
        for _ in range(20):
            result = tf.matmul(result, self.matrix)
        added = sum(tf.reduce_sum(tf.cast(batch[0], tf.float32)) for batch in batches)
        self.sum.assign_add(added)
        return StepResult({"added": added}, [added + tf.reduce_sum(result) - result.shape[0]])


def train(
    path: Path, make_batches: Any, profile: StepRange | None, strategy: Any = None, steps: int = 12, size: int = 30
) -> list[float]:
    """The logged sums of the data of every step."""
    run_training(
        Work(size), RunDirectory(path, tensorboard=False), strategy or make_strategy("one_device"), Pace(steps),
        LoggingConfig(log_every_steps=1, image_every_steps=0, checkpoint_every_steps=0), make_batches, {}, profile,
    )  # fmt: skip
    return [json.loads(line)["added"] for line in (path / "metrics.jsonl").read_text().splitlines()]


def digits(context: Any, first: int) -> tf.data.Dataset:
    return load_dataset("digits").batches(
        resolution=16, batch_size=8, seed=0, start_step=first, replicas_per_pipeline=context.num_replicas_in_sync
    )


def slow(context: Any, first: int) -> tf.data.Dataset:
    """The digits, 100 ms a batch, as if from a slow disk."""

    def wait(images: Any) -> Any:
        time.sleep(0.1)
        return images

    def one(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.ensure_shape(host_function(wait, [images], tf.float32), images.shape), labels

    return digits(context, first).map(one).prefetch(tf.data.AUTOTUNE)


def share(text: str, steps: int) -> float:
    found = re.search(rf"profile of {steps} steps: ([0-9.]+)% of their time went by waiting for data", text)
    assert found, text
    return float(found.group(1)) / 100


def test_a_slow_source_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    train(tmp_path, slow, StepRange(2, 4), steps=6)
    assert share(caplog.text, 4) > 0.7
    files = list((tmp_path / "profile").glob("plugins/profile/*/*.xplane.pb"))
    assert len(files) == 1
    assert b"train" in files[0].read_bytes()


def test_the_digits_are_there_in_time_and_nothing_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    profiled = train(tmp_path / "a", digits, StepRange(2, 8), size=500)
    assert share(caplog.text, 8) < 0.3
    assert profiled == train(tmp_path / "b", digits, None, size=500)


def test_replicas(tmp_path: Path, caplog: pytest.LogCaptureFixture, two_cpus: tf.distribute.Strategy) -> None:
    caplog.set_level("INFO")
    profiled = train(tmp_path / "a", digits, StepRange(0, 3), two_cpus, steps=4)
    assert share(caplog.text, 2) < 1  # the step that made the graph is not counted
    assert profiled == train(tmp_path / "b", digits, None, two_cpus, steps=4)


def test_a_single_step_that_makes_the_graph_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(tmp_path, digits, StepRange(0, 1), steps=1)
    assert "the only step made its graph" in caplog.text


@pytest.mark.parametrize("text", ["", "5", "5:", ":5", "5:0", "-1:5", "a:b", "5:5:5", "1.5:2", " 5:5", "５:5"])
def test_a_range_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"profile must be FIRST:COUNT.*got " + re.escape(repr(text))):
        parse_step_range(text)


def test_a_range_that_the_run_does_not_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"profile 8:5: ends after step 13, but training.steps is 12"):
        train(tmp_path, digits, StepRange(8, 5))
    train(tmp_path, digits, None, steps=5)
    with pytest.raises(ValueError, match=r"profile 3:2: this run goes on from step 5"):
        train(tmp_path, digits, StepRange(3, 2))


def test_the_share_is_of_the_steps_counted() -> None:
    from attennorm_tf.training.profiling import StepProfile

    assert math.isnan(StepProfile(StepRange(0, 5), None).share)
