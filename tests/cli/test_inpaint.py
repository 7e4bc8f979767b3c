"""The command: flags, what it says, exit codes."""

from __future__ import annotations

import functools
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attennorm_tf.cli import inpaint as command
from attennorm_tf.training import CheckpointError, CheckpointStore
from tests.inference.inpainters import tiny_config, write_checkpoint
from tests.processes import run_module


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, `photos` with their `masks`, and a checkpoint of another task; read only."""
    root = tmp_path_factory.mktemp("place")
    write_checkpoint(root / "run", tiny_config())
    CheckpointStore(root / "gan" / "checkpoints").save(1, {}, {"class_names": ["a"], "config": "{}"})
    for folder in ("photos", "masks"):
        (root / folder).mkdir()
    for index in range(3):
        pixels = np.random.RandomState(index).randint(0, 256, (24, 40, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(root / "photos" / f"{index}.png")
        hole = np.zeros((24, 40), np.uint8)
        hole[4:14, 10 + index : 20] = 255
        Image.fromarray(hole).save(root / "masks" / f"{index}.png")
    return root


@pytest.fixture(scope="module", autouse=True)
def _loaded_once() -> Iterator[None]:
    """A checkpoint's second loading costs a second and shows nothing new."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "load_inpainter", functools.lru_cache(command.load_inpainter))
        yield


def run(place: Path, *arguments: object) -> int:
    """Runs the command in this process."""
    for name in command._FLAGS:
        command._FLAGS[name].unparse()
    command._FLAGS(["attennorm-inpaint", f"--model={place / 'run'}", *map(str, arguments)])
    return command.run()


def test_one_photograph(place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.png"
    arguments = (f"--image={place}/photos/0.png", f"--mask={place}/masks/0.png", f"--output={output}")
    assert run(place, *arguments) == 0
    assert capfd.readouterr().out == f"{output}\n"
    before, hole = (np.asarray(Image.open(place / folder / "0.png")) for folder in ("photos", "masks"))
    after = np.asarray(Image.open(output))
    assert np.array_equal(after[hole == 0], before[hole == 0])
    assert run(place, *arguments) == 1
    assert capfd.readouterr().err == f"error: output '{output}' exists; it is replaced only with overwrite.\n"
    assert run(place, *arguments, "--overwrite", "--invert", "--grow=2", "--feather=1.5", "--tile=64") == 0
    inverted = np.asarray(Image.open(output))
    core = np.asarray(hole) > 0
    core[:6], core[12:], core[:, :13], core[:, 18:] = False, False, False, False
    assert np.array_equal(inverted[core], before[core])
    assert (inverted[~core] != before[~core]).any()


def test_a_folder_with_a_bad_file(place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(3):
        os.symlink(place / "photos" / f"{index}.png", photos / f"{index}.png")
    (photos / "1.png").unlink()
    (photos / "1.png").write_text("no image")
    arguments = (f"--images={photos}", f"--masks={place}/masks", f"--output={tmp_path}/out")
    assert run(place, *arguments) == 1
    said = capfd.readouterr()
    assert said.out.splitlines() == [
        f"[1/3] {tmp_path}/out/0.png",
        f"[3/3] {tmp_path}/out/2.png",
        "tiny_attentive, step 7: 2 of 3 written, 1 failed",
    ]
    assert said.err.startswith(f"error: cannot read image '{photos}/1.png': not a PNG")
    (photos / "1.png").unlink()
    assert run(place, *arguments, "--overwrite", "--format=jpg", "--quality=80") == 0
    said = capfd.readouterr()
    assert said.err.count("note: JPEG changes all pixels a little") == 1
    assert f"note: 1 masks belong to no photograph: {place}/masks/1.png" in said.err
    assert said.out.endswith("2 of 2 written\n")


def test_progress_on_a_terminal(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    arguments = (f"--images={place}/photos", f"--masks={place}/masks", f"--output={tmp_path}/out")
    assert run(place, *arguments) == 0
    assert "/3 [" in terminal.getvalue()
    assert capsys.readouterr().out == "tiny_attentive, step 7: 3 of 3 written\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--image={p}/photos/0.png", "--output={o}/a.png"), r"give either --image and --mask, or --images and --mask"),
        (("--images={p}/photos", "--mask={p}/masks/0.png", "--output={o}"), r"give either --image and --mask, or"),
        (("--image={p}/photos/0.png", "--mask={p}/masks/0.png", "--output={o}"), r"is a folder, expected a file name"),
        (("--image={p}/photos/0.png", "--mask={p}/masks/0.png", "--output={o}/a.gif"), r"must end in one of .png"),
        (("--images={p}/nowhere", "--masks={p}/masks", "--output={o}"), r"images: '.*nowhere' does not exist"),
        (("--images={p}/photos", "--masks={p}/masks", "--output={o}", "--tile=65"), r"tile must be a multiple of 8"),
        (("--images={p}/photos", "--masks={p}/masks", "--output={o}", "--model={p}/gan"), r"no inpainting network"),
        (("--images={p}/photos", "--masks={p}/masks", "--output={o}", "--model={p}/no"), r"no does not exist"),
    ],
)
def test_mistakes_are_one_clear_line(place: Path, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises((ValueError, CheckpointError), match=message):
        run(place, *(argument.format(p=place, o=tmp_path) for argument in arguments))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_as_a_command_of_its_own(place: Path, tmp_path: Path) -> None:
    """What only a process shows: flags, help, one line for an error, the exit code."""
    arguments = [f"--model={place}/gan", f"--image={place}/photos/0.png", f"--mask={place}/masks/0.png",
                 f"--output={tmp_path}/out.png"]  # fmt: skip
    done = run_module("attennorm_tf.cli.inpaint", *arguments)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"error: checkpoint {place}/gan/checkpoints/step-00000001 holds no inpainting network" in done.stderr
    assert list(tmp_path.iterdir()) == []
