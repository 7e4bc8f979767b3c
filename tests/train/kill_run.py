"""A training that is killed again and again, against one that is not: the state at the end is the same, bit for bit.

    python -m tests.train.kill_run --task=inpainting --kills=20 --precision=mixed_float16
    python -m tests.train.kill_run --task=gan --preset=attennorm --jit_compile

Prints what was done and the two hashes; the exit code is 1 where they differ. The suite's own test of this kind
(test_survival.py) is made of the same parts.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from attennorm_tf.training import CheckpointStore
from tests.processes import Process, start_module

_COMMON = (
    "--config.training.batch_size=4",
    "--config.training.steps_per_call=1",
    "--config.training.deterministic",
    "--config.logging.log_every_steps=1",
    "--config.logging.checkpoint_every_steps=1",
    "--config.logging.image_every_steps=0",
    "--config.logging.tensorboard=false",
)


def gan_flags(preset: str, steps: int) -> tuple[str, ...]:
    """The smallest network that has everything: spectral normalization, a moving average, checkpoints of every step."""
    return (
        f"--config=train/configs/digits_attennorm.py:{preset}",
        "--config.model.width=0.03125",
        "--config.model.latent_dim=4",
        "--config.model.embedding_dim=4",
        "--config.model.num_entities=2",
        "--config.model.hidden_width=thin",
        "--config.evaluation.classifier=",
        f"--config.training.steps={steps}",
        *_COMMON,
    )


def inpainting_flags(steps: int) -> tuple[str, ...]:
    """With discriminators from the middle on."""
    return (
        "--config=train/configs/inpainting_photographs.py",
        "--config.model.resolution=16",
        "--config.model.width=0.0625",
        "--config.model.discriminator_width=0.0625",
        "--config.model.num_entities=2",
        "--config.masks.height=12",
        "--config.masks.width=12",
        "--config.masks.shrink=2",
        f"--config.training.phase_two_step={steps // 2}",
        "--config.training.discriminator_steps=1",
        f"--config.training.validate_every_steps={steps}",
        f"--config.training.steps={steps}",
        *_COMMON,
    )


def state(workdir: Path, steps: int) -> tuple[str, list[str]]:
    """A hash of all that the last checkpoint, that of `steps`, holds, and the names of it."""
    store = CheckpointStore(workdir / "checkpoints")
    assert store.latest() == store.path(steps)
    reader = tf.train.load_checkpoint(str(store.path(steps) / "state"))
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


def newest(folder: Path) -> int:
    """The newest checkpoint's step; 0: none."""
    return max(CheckpointStore(folder).steps(), default=0)


def wait_for(process: Process, reached: Callable[[], bool]) -> bool:
    """Whether it was reached; False where the process ended before."""
    deadline = time.monotonic() + 200
    while not reached():
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return True


class Kills(NamedTuple):
    """How many kills left a half-written checkpoint behind, and how many came after a new checkpoint."""

    torn: int
    reached: int


def kill(
    start: Callable[[], Process], workdir: Path, moments: Sequence[str], start_up: float, random: np.random.Generator
) -> Kills:
    """Starts a training and kills it, once for each moment.

    Args:
        start: starts it, to go on in `workdir`.
        workdir: of the training.
        moments: "start" (while it starts), "write" (during the write of a checkpoint), or "step" (between two).
        start_up: seconds that an undisturbed start takes.
        random: draws how long after.
    """
    torn = reached = 0
    folder = workdir / "checkpoints"
    for moment in moments:
        before = newest(folder)
        with start() as process:
            if moment == "start":
                seconds = random.uniform(0, start_up)
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
    return Kills(torn, reached)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=("gan", "inpainting"), default="gan")
    parser.add_argument("--preset", default="sngan_star", help="of the gan")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--jit_compile", action="store_true")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=0, help="default: three for each kill")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    steps = chosen.steps or 3 * chosen.kills
    made = gan_flags(chosen.preset, steps) if chosen.task == "gan" else inpainting_flags(steps)
    flags = (*made, f"--config.training.precision={chosen.precision}")
    flags += ("--config.training.jit_compile",) if chosen.jit_compile else ()
    random = np.random.default_rng(chosen.seed)
    moments = random.choice(["start", "write", "step"], chosen.kills, p=[0.4, 0.35, 0.25]).tolist()
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder, "whole"), Path(folder, "killed")

        def start(workdir: Path = killed) -> Process:
            return start_module(f"train.{chosen.task}", *flags, f"--workdir={workdir}")

        began = time.monotonic()
        with start(whole) as process:
            assert wait_for(process, (whole / "checkpoints" / "step-00000001").exists), process.stderr[-3000:]
            start_up = time.monotonic() - began
            assert process.wait(600) == 0, process.stderr[-3000:]
        seconds = time.monotonic() - began
        done = kill(start, killed, moments, start_up, random)
        before = newest(killed / "checkpoints")
        with start() as process:
            assert process.wait(600) == 0, process.stderr[-3000:]
        one, other = state(whole, steps)[0], state(killed, steps)[0]
        same_log = losses(whole) == losses(killed)
    kinds = ", ".join(f"{moments.count(kind)} at a {kind}" for kind in ("start", "write", "step"))
    sys.stdout.write(
        f"{' '.join(sys.argv[1:])}: {steps} steps, uninterrupted {seconds:.0f} s ({start_up:.0f} s to the first)\n"
        f"{chosen.kills} kills ({kinds}): {done.torn} left half a checkpoint, {done.reached} came after a new one\n"
        f"the last start went on from step {before}\n"
        f"uninterrupted {one}\nkilled        {other}\nlogs {'equal' if same_log else 'DIFFER'}\n"
    )
    return 0 if one == other and same_log else 1


if __name__ == "__main__":
    sys.exit(main())
