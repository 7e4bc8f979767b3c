"""`python -m train.inpainting` as a user runs it: both phases, what it leaves, and bad input."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attennorm_tf.config import GanConfig, InpaintingConfig
from attennorm_tf.training import RunDirectory
from tests.processes import run_module

TINY = (
    "--config.data.name=image_folder",
    "--config.data.validation_fraction=0.4",
    "--config.model.resolution=16",
    "--config.model.width=0.0625",
    "--config.model.discriminator_width=0.0625",
    "--config.masks.height=8",
    "--config.masks.width=8",
    "--config.masks.shrink=2",
    "--config.training.batch_size=2",
    "--config.training.steps=2",
    "--config.training.phase_two_step=1",
    "--config.training.discriminator_steps=1",
    "--config.training.validate_every_steps=2",
    "--config.logging.log_every_steps=1",
    "--config.logging.image_every_steps=2",
    "--config.logging.checkpoint_every_steps=2",
)


def train(workdir: Path, *arguments: str) -> subprocess.CompletedProcess:
    config = "--config=train/configs/inpainting_photographs.py"
    return run_module("train.inpainting", config, f"--workdir={workdir}", *arguments)


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for index in range(12):
        Image.fromarray(random.integers(0, 255, (20, 24, 3), np.uint8)).save(root / f"{index}.png")
    return root


@pytest.fixture(scope="session")
def finished(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    workdir = tmp_path_factory.mktemp("runs") / "inpainting"
    done = train(workdir, f"--config.data.root={photographs}", *TINY)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line for line in done.stdout.splitlines() if len(line) > 80 and str(workdir) not in line] == []
    return workdir, done.stdout + done.stderr


@pytest.mark.slow
def test_a_run_leaves_what_it_says(finished: tuple[Path, str]) -> None:
    workdir, said = finished
    for name in ("inpainted.png", "layouts.png", "curves.png"):
        with Image.open(workdir / name) as image:
            assert np.asarray(image).std() > 0
        assert str(workdir / name) in said
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert ["global_penalty" in line for line in lines] == [False, True]
    report = json.loads((workdir / "report.json").read_text())
    assert report["steps"] == 2
    assert report["validation_hole_psnr"] == pytest.approx(lines[1]["validation_hole_psnr"])
    assert f"{report['validation_hole_psnr']:.2f} dB" in said
    assert f"{report['hole_psnr_of_the_mean_colour']:.2f} dB" in said
    train_count, held_out = [int(word) for word in said.split(": ", 1)[1].split() if word.isdigit()][:2]
    assert train_count + held_out == 12
    assert report["validation_photographs"] == held_out


def test_another_experiment_is_refused(finished: tuple[Path, str]) -> None:
    run = RunDirectory(finished[0], tensorboard=False)
    config = InpaintingConfig.from_json((finished[0] / "config.json").read_text())
    config.training.steps = 3
    run.claim(config)
    config.model.width = 0.125
    with pytest.raises(ValueError, match=r"holds another experiment[\s\S]*model.width: 0.0625 -> 0.125"):
        run.claim(config)
    with pytest.raises(ValueError, match=r"config.json is not the config of a run of this kind"):
        run.claim(GanConfig())


@pytest.mark.slow
def test_an_unreadable_photograph_is_named(photographs: Path, tmp_path: Path) -> None:
    for file in photographs.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[: 60 if file.stem == "3" else None])
    flags = (f"--config.data.root={tmp_path}", *TINY, "--config.training.phase_two_step=2")
    stopped = train(tmp_path / "run", *flags)
    assert stopped.returncode == 1
    assert f"{tmp_path / '3.png'}" in stopped.stderr
    assert stopped.stderr.count("\n") < 6, stopped.stderr
