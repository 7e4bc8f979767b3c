"""`python -m train.gan` is killed or runs out of disk: what it leaves, and that it goes on as if nothing had happened.

In deterministic mode the state at the end is the same, bit for bit, however often the command was killed on the way.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from attennorm_tf.training import CheckpointStore
from tests.processes import Process, run_module, start_module

STEPS = 60
KILLS = 20
# The smallest network that has everything: spectral normalization, a moving average, checkpoints of every step.
TINY = (
    "--config=train/configs/digits_attennorm.py:sngan_star",
    "--config.model.width=0.03125",
    "--config.model.latent_dim=4",
    "--config.model.embedding_dim=4",
    "--config.model.hidden_width=thin",
    f"--config.training.steps={STEPS}",
    "--config.training.batch_size=4",
    "--config.training.steps_per_call=1",
    "--config.training.deterministic",
    "--config.logging.log_every_steps=1",
    "--config.logging.checkpoint_every_steps=1",
    "--config.logging.image_every_steps=0",
    "--config.logging.tensorboard=false",
    "--config.evaluation.classifier=",
)


def state(workdir: Path) -> tuple[str, list[str]]:
    """A hash of all that the last checkpoint holds, and the names of it."""
    store = CheckpointStore(workdir / "checkpoints")
    assert store.latest() == store.path(STEPS)
    reader = tf.train.load_checkpoint(str(store.path(STEPS) / "state"))
    names = sorted(name for name in reader.get_variable_to_shape_map() if not name.startswith("_"))
    digest = hashlib.sha256()
    for name in names:
        value = np.asarray(reader.get_tensor(name))
        digest.update(f"{name} {value.dtype} {value.shape}".encode() + value.tobytes())
    return digest.hexdigest(), names


def losses(workdir: Path) -> list[dict[str, float]]:
    """The log without the one value that is of the clock."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "images_per_second"} for line in lines]


def start(workdir: Path) -> Process:
    return start_module("train.gan", *TINY, f"--workdir={workdir}", env={"TF_CPP_MIN_LOG_LEVEL": "3"})


def wait_for(process: Process, reached: Callable[[], bool]) -> bool:
    """Whether it was reached; False where the process ended before."""
    deadline = time.monotonic() + 200
    while not reached():
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return True


def newest(folder: Path) -> int:
    """The newest checkpoint's step; 0: none."""
    return max(CheckpointStore(folder).steps(), default=0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A run that nothing interrupts, and the seconds to its first checkpoint."""
    workdir = tmp_path_factory.mktemp("whole")
    began = time.monotonic()
    with start(workdir) as process:
        assert wait_for(process, (workdir / "checkpoints" / "step-00000001").exists)
        first = time.monotonic() - began
        assert process.wait(200) == 0, process.stderr[-3000:]
    return workdir, first


@pytest.mark.slow
def test_killed_twenty_times_the_end_is_the_same(whole: tuple[Path, float], tmp_path: Path) -> None:
    """Eight times while it starts, seven while it writes a checkpoint, five between; the seed fixes the moments."""
    random = np.random.default_rng(20)
    moments = random.permutation(["start"] * 8 + ["write"] * 7 + ["step"] * 5)
    torn = reached = 0
    folder = tmp_path / "checkpoints"
    for moment in moments:
        before = newest(folder)
        with start(tmp_path) as process:
            if moment == "start":
                seconds = random.uniform(0, whole[1])
            elif moment == "write":
                # Leftovers of the last kill go when the run begins; the next is its own.
                assert wait_for(process, lambda: not list(folder.glob(".partial-*")))
                assert wait_for(process, lambda: bool(list(folder.glob(".partial-*")))), process.stderr[-3000:]
                seconds = random.uniform(0, 0.01)
            else:
                assert wait_for(process, lambda: newest(folder) > before), process.stderr[-3000:]  # noqa: B023
                seconds = random.uniform(0, 0.2)
            # The machine may be faster than before: some steps are left for the other kills.
            until = time.monotonic() + seconds
            assert wait_for(process, lambda: time.monotonic() > until or newest(folder) > before + 1)  # noqa: B023
            process.kill()
            assert process.wait(60) == -9, process.stderr[-3000:]
        torn += bool(list(folder.glob(".partial-*")))
        reached += newest(folder) > before
    assert len(moments) == KILLS
    assert torn >= 3
    assert reached >= 5
    done = run_module("train.gan", *TINY, f"--workdir={tmp_path}")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "resumed from" in done.stderr
    assert state(tmp_path)[0] == state(whole[0])[0]
    assert losses(tmp_path) == losses(whole[0])
    assert not list(folder.glob(".partial-*"))


@pytest.mark.slow
def test_what_is_compared_is_everything(whole: tuple[Path, float]) -> None:
    names = "\n".join(state(whole[0])[1])
    for part in ("generator/", "discriminator/", "average/", "generator_optimizer", "discriminator_optimizer", "step/",
                 "rollbacks/", "Su/"):  # fmt: skip
        assert part in names, part


# A limit on the size of any file, in place of a full disk: a write beyond it fails half way.
_WITH_QUOTA = """
import resource, runpy, sys
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
runpy.run_module("train.gan", run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
def test_a_full_disk_is_said_and_the_last_good_checkpoint_kept(whole: tuple[Path, float], tmp_path: Path) -> None:
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    kept = tmp_path / "checkpoints" / f"step-{STEPS:08d}"
    limit = (kept / "state.data-00000-of-00001").stat().st_size // 2
    (tmp_path / "metrics.jsonl").unlink()
    more = (f"--config.training.steps={STEPS + 2}", "--config.logging.log_every_steps=0", f"--workdir={tmp_path}")
    done = run_module("-c", _WITH_QUOTA, limit, *TINY, *more)
    assert done.returncode == 1, done.stderr[-3000:]
    assert f"error: checkpoint {tmp_path}/checkpoints/step-{STEPS + 1:08d} could not be written (" in done.stderr
    assert f"the last good one is {kept}." in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "checkpoints").glob(".partial-*"))
    assert state(tmp_path) == state(whole[0])
