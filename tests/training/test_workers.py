"""Jobs of two and three processes: they share the data, agree, stop together, and notice when one is gone."""

from __future__ import annotations

import hashlib
import itertools
import json
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest

from attennorm_tf.data import load_dataset
from attennorm_tf.training import CheckpointStore
from tests.cluster_jobs import finish, free_addresses, start_job, tf_config, wait_for
from tests.processes import start_module

WORKER = "tests.training.worker_job"
NOTICED_WITHIN = 10.0  # seconds, on a busy machine; docs/scaling.md says so


def steps_in(folder: Path) -> list[int]:
    return CheckpointStore(folder / "run" / "checkpoints").steps()


def test_three_workers_lose_one_and_go_on_until_one_is_told_to_stop(tmp_path: Path) -> None:
    job = start_job(3, WORKER, tmp_path, 10**7)
    wait_for(lambda: bool(steps_in(tmp_path)), job)
    job[1].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    assert finish(job) == [1, -signal.SIGKILL, 1]
    assert time.monotonic() - killed < NOTICED_WITHIN
    for index in (0, 2):
        assert "worker 1 at 127.0.0.1:" in job[index].stderr
        assert "they go on from the last checkpoint" in job[index].stderr
        assert "Traceback" not in job[index].stderr

    # Every example of an epoch went to one of them, none to two.
    got = [json.loads((tmp_path / f"epoch-{index}.json").read_text()) for index in range(3)]
    images, _ = load_dataset("digits").arrays(8)
    everything = sorted(hashlib.sha256(image.tobytes()).hexdigest() for image in images)
    assert sorted(itertools.chain(*got)) == everything
    assert [len(part) for part in got] == [480, 480, 478]

    before = steps_in(tmp_path)[-1]
    again = start_job(3, WORKER, tmp_path, 10**7)
    wait_for(lambda: steps_in(tmp_path)[-1] > before, again)
    again[2].send_signal(signal.SIGTERM)
    assert finish(again) == [0, 0, 0], again[0].stderr
    last = steps_in(tmp_path)[-1]
    for worker in again:
        # The three shares add up to 1 + 2 + 3 in every step, before the loss and after it.
        assert worker.stdout == f"step {last} sum {6.0 * last} SIGTERM\n"
    assert "resumed from" in again[0].stderr
    assert "SIGTERM: finishing the step and saving" in again[2].stderr
    logged = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in logged] == list(range(20, last + 1, 20))
    assert all(line["added"] == 6.0 for line in logged)
    np.testing.assert_allclose(logged[-1]["moving_mean"], 2.0, rtol=1e-5)  # of all their batches


def test_workers_roll_back_together_and_tell_each_other_why_one_ends(tmp_path: Path) -> None:
    """Twice back from step 8 to the start; later the chief's disk is full, which the other worker says, too."""
    job = start_job(2, WORKER, tmp_path, 10**7, "rolling")
    wait_for(lambda: len(steps_in(tmp_path)) > 1 and steps_in(tmp_path)[-1] >= 20, job)
    log = tmp_path / "run" / "metrics.jsonl"
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    assert all(line["sum"] == 3.0 * line["step"] for line in logged), logged
    for tries in (1, 2):
        assert f"step 8: the gradient of sum is not finite; back to step 0 ({tmp_path}/run/checkpoints/step-00000000)" \
            f" with another seed, rollback {tries} of 2" in job[0].stderr  # fmt: skip
        assert f"rollback {tries} of 2" in job[1].stderr
    (tmp_path / "full").symlink_to("/dev/full")
    (tmp_path / "full").rename(log)
    assert finish(job) == [1, 1]
    said = f"{log} could not be written ([Errno 28] No space left on device)"
    assert f"error: {said}" in job[0].stderr
    assert f"Worker 0 said: {said}" in job[1].stderr


def test_a_work_directory_that_is_not_shared_is_refused_by_all(tmp_path: Path) -> None:
    job = start_job(2, WORKER, tmp_path, 1, "unshared")
    assert finish(job) == [1, 1]
    assert f"error: workdir: {tmp_path}/1/run is not the chief's folder of this name" in job[1].stderr
    assert f"error: worker 1: workdir: {tmp_path}/1/run is not" in job[0].stderr
    assert not list((tmp_path / "0" / "run").iterdir())


def test_workers_with_different_configs_print_the_difference(tmp_path: Path) -> None:
    job = start_job(
        2, "train.gan", "--config=train/configs/digits_attennorm.py", f"--workdir={tmp_path / 'run'}",
        own={1: ("--config.training.seed=7", "--config.model.width=0.5")},
    )  # fmt: skip
    assert finish(job) == [1, 1]
    for worker in job:
        assert "the workers of a job must have the same config and programs" in worker.stderr
        assert "worker 1: training.seed: 0 -> 7" in worker.stderr
        assert "worker 1: model.width:" in worker.stderr
        assert "Traceback" not in worker.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_start_loses_nothing(tmp_path: Path, name: signal.Signals) -> None:
    """The second worker never comes; the first still waits for it."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # not listening; nothing else gets this port
        addresses = [*free_addresses(1), f"127.0.0.1:{nobody.getsockname()[1]}"]
        flags = ("--config=train/configs/digits_attennorm.py", f"--workdir={tmp_path / 'run'}")
        job = [start_module("train.gan", *flags, env={"TF_CONFIG": tf_config(addresses, 0)})]
        wait_for(lambda: "worker 0 of 2" in job[0].stderr, job)
        job[0].send_signal(name)
        assert finish(job, 20) == [0 if name == signal.SIGTERM else 130]
    assert f"stopped by {name.name} outside the training steps: nothing is lost" in job[0].stdout
