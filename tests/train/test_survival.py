"""`python -m train.gan` is killed or runs out of disk: what it leaves, and that it goes on as if nothing had happened.

In deterministic mode the state at the end is the same, bit for bit, however often the command was killed on the way.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from tests.processes import Process, run_module, start_module
from tests.train.kill_run import gan_flags, kill, losses, state, wait_for

STEPS = 40
KILLS = 20
TINY = (*gan_flags("sngan", STEPS), "--config.training.discriminator_steps=1")


def start(workdir: Path, *more: str) -> Process:
    return start_module("train.gan", *TINY, *more, f"--workdir={workdir}", env={"TF_CPP_MIN_LOG_LEVEL": "3"})


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
    done = kill(lambda: start(tmp_path), tmp_path, moments.tolist(), whole[1], random)
    assert len(moments) == KILLS
    assert done.torn >= 3
    assert done.reached >= 5
    last = run_module("train.gan", *TINY, f"--workdir={tmp_path}")
    assert last.returncode == 0, last.stderr[-3000:]
    assert "resumed from" in last.stderr
    assert state(tmp_path, STEPS)[0] == state(whole[0], STEPS)[0]
    assert losses(tmp_path) == losses(whole[0])
    assert not list((tmp_path / "checkpoints").glob(".partial-*"))


@pytest.mark.slow
def test_what_is_compared_is_everything(whole: tuple[Path, float]) -> None:
    names = "\n".join(state(whole[0], STEPS)[1])
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
    assert state(tmp_path, STEPS) == state(whole[0], STEPS)
