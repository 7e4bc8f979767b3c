"""The evaluation command: flags, what it writes, and one line for every mistake."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attennorm_tf.cli import evaluate_inpainting as command
from attennorm_tf.training import CheckpointError, CheckpointStore
from attennorm_tf.training.checkpointing import read_manifest, write_manifest
from tests.inference.inpainters import tiny_config, write_checkpoint
from tests.processes import run_module


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`photos`, `masks` with one hole each, and runs of two networks; read only."""
    root = tmp_path_factory.mktemp("place")
    random = np.random.RandomState(0)
    for name in ("photos", "masks"):
        (root / name).mkdir()
    for index in range(6):
        small = Image.fromarray(random.randint(0, 256, (6, 7, 3)).astype(np.uint8))
        small.resize((56, 48)).save(root / "photos" / f"{index}.png")
        mask = np.zeros((48, 56), np.uint8)
        mask[10 + index : 30, 12:40] = 255
        Image.fromarray(mask).save(root / "masks" / f"{index}.png")
    for network in ("attentive", "contextual"):
        write_checkpoint(root / network, tiny_config(network))
    larger = tiny_config(resolution=48)
    larger.name = "larger"
    write_checkpoint(root / "larger", larger)
    CheckpointStore(root / "gan" / "checkpoints").save(1, {}, {"class_names": ["a"], "config": "{}"})
    return root


def _parse(*arguments: str) -> None:
    flags = command._FLAGS
    for name in flags:
        flags[name].unparse()
    flags(["command", *arguments])


def evaluate(place: Path, output: Path, *arguments: str) -> dict:
    """Runs the command in this process; its results."""
    _parse(f"--images={place / 'photos'}", f"--output={output}", *arguments)
    assert command.run() == 0
    return json.loads((output / "results.json").read_text())


def test_a_network_beside_the_floors_and_finished_images(place, tmp_path, capsys):
    model = f"--model={place / 'attentive'}"
    first = evaluate(place, tmp_path / "out", model, "--seed=3", "--save_images")
    assert list(first["methods"]) == ["mean of known", "Telea", "Navier-Stokes", "tiny_attentive"]
    protocol = first["protocol"]
    assert protocol["resolution"] == 32  # the models' own
    assert protocol["masks"] == {"kind": "rectangle", "height": 16, "width": 16, "shrink": 4, "seed": 3}
    assert protocol["images"]["count"] == 6
    network = protocol["methods"]["tiny_attentive"]
    assert (network["network"], network["step"], network["trained_at"]) == ("attentive", 7, 32)
    data = hashlib.sha256((Path(network["checkpoint"]) / "state.data-00000-of-00001").read_bytes()).hexdigest()
    assert network["sha256"]["state.data-00000-of-00001"] == data
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["completed", "images", "masks", "results.json", "sheet.png", "table.md", "table.txt"]
    printed = capsys.readouterr().out
    assert (tmp_path / "out" / "table.txt").read_text() in printed
    assert "tiny_attentive" in printed
    assert max(map(len, (tmp_path / "out" / "table.txt").read_text().splitlines())) <= 80
    # Another process comes to the same numbers, and what the network made scores as the network.
    finished = f"--finished=again:{tmp_path / 'out' / 'completed' / 'tiny_attentive'}"
    arguments = [f"--images={place / 'photos'}", f"--output={tmp_path / 'two'}", model, "--seed=3", finished]
    done = run_module("attennorm_tf.cli.evaluate_inpainting", *arguments, env={"CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 0, done.stderr[-2000:]
    second = json.loads((tmp_path / "two" / "results.json").read_text())
    assert second["protocol"]["sha256_as_evaluated"] == protocol["sha256_as_evaluated"]
    for name in first["methods"]:
        assert second["methods"][name] == first["methods"][name]
    assert second["methods"]["again"] == first["methods"]["tiny_attentive"]


def test_masks_by_name_at_the_images_own_size(place, tmp_path):
    results = evaluate(place, tmp_path / "out", f"--masks={place / 'masks'}", "--num_images=4", "--sheet_rows=2")
    shares = [image["hole_share"] for image in results["images"]]
    assert shares == [(20 - index) * 28 / (48 * 56) for index in range(4)]
    assert results["protocol"]["masks"] == {"kind": "mask files, matched by name", "folder": str(place / "masks")}
    assert results["protocol"]["resolution"] == "own"


@pytest.mark.parametrize(
    ("arguments", "facts", "share"),
    [
        (["--mask_kind=center"], {"height": 16, "width": 16}, 0.25),
        (["--mask_kind=center", "--mask_height=8"], {"height": 8, "width": 16}, 0.125),
        (["--mask_height=8", "--mask_width=8", "--mask_shrink=0"], {"height": 8, "width": 8, "shrink": 0}, 0.0625),
        (["--mask_kind=free_form", "--mask_max_strokes=1"], {"max_strokes": 1, "max_vertices": 12}, None),
        (["--mask_kind=thick"], {}, None),
        (["--mask_kind=folder", "--masks={}"], {"root": "{}"}, None),
    ],
)
def test_drawn_masks(place, tmp_path, arguments, facts, share):
    masks = str(place / "masks")
    arguments = [argument.format(masks) for argument in arguments]
    results = evaluate(place, tmp_path / "out", "--resolution=32", "--num_images=2", "--sheet_rows=1", *arguments)
    found = results["protocol"]["masks"]
    assert {name: found[name] for name in facts} == {
        name: masks if value == "{}" else value for name, value in facts.items()
    }
    if share:
        assert [image["hole_share"] for image in results["images"]] == [share] * 2


def test_embedded_photographs(tmp_path, place):
    arguments = ("--part=validation", "--resolution=32", "--sheet_rows=1", "--images=photographs")
    results = evaluate(place, tmp_path / "out", *arguments)
    names = [image["name"] for image in results["images"]]
    assert "skimage/chelsea.png" in names
    assert results["protocol"]["images"]["part"] == "validation"


def test_names_of_models(place, tmp_path):
    arguments = (f"--model={place / 'attentive'},{place / 'contextual'}", "--num_images=1", "--sheet_rows=1")
    found = evaluate(place, tmp_path / "a", *arguments, "--name=ours,theirs")["protocol"]["methods"]
    assert (found["ours"]["network"], found["theirs"]["network"]) == ("attentive", "contextual")


def test_checkpoints_of_one_run_are_told_apart(place, tmp_path):
    first = place / "attentive" / "checkpoints" / "step-00000007"
    second = shutil.copytree(first, tmp_path / "step-00000009")
    write_manifest(second, {**read_manifest(first), "step": 9})
    _parse(f"--model={first},{second}", "--images=x", "--output=x")
    assert list(command._inpainters()) == ["tiny_attentive@7", "tiny_attentive@9"]
    _parse(f"--model={first},{first}", "--images=x", "--output=x")
    with pytest.raises(ValueError, match="several models are called 'tiny_attentive@7'"):
        command._inpainters()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model={}/attentive,{}/larger"], "--resolution: must be given for models trained at different ones"),
        (["--model={}/attentive", "--name=a,b"], "--name: expected one for each of 1 models, got 2"),
        (["--finished=folder"], "--finished: expected name:folder, got 'folder'"),
        (["--finished=x:{}/none"], "none' does not exist"),
        (
            ["--masks={}/masks", "--mask_kind=thin"],
            "--masks: a folder of masks and --mask_kind=thin exclude each other",
        ),
        (["--mask_kind=folder"], "--masks: a folder of masks and --mask_kind=folder need each other"),
        (["--images={}/none"], "none' does not exist; expected a folder of images"),
        (["--output={}/photos/0.png"], "--output: {}/photos/0.png is a file, expected a folder"),
        (["--resolution=8"], "resolution must be at least 11, got 8"),
        (["--max_pixels=100", "--resolution=32"], "photos/0.png': 56 x 48 pixels, more than max_pixels=100"),
        (["--mask_kind=center", "--mask_height=99"], "image '0.png': masks of kind 'center' with height=99"),
        (["--part=validation", "--validation_fraction=2"], "validation_fraction must be in (0, 1), got 2.0"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(place, tmp_path, arguments, message):
    arguments = [argument.replace("{}", str(place)) for argument in arguments]
    with pytest.raises(ValueError, match=re.escape(message.replace("{}", str(place)))):
        evaluate(place, tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_checkpoints_that_are_no_inpainting_network(place, tmp_path):
    for path, message in (
        (place / "gan", "holds no inpainting network but a class-conditional generator"),
        (place / "photos", "holds no whole checkpoint"),
        (place / "nowhere", "does not exist"),
    ):
        with pytest.raises(CheckpointError, match=message):
            evaluate(place, tmp_path / "out", f"--model={path}")
    assert not (tmp_path / "out").exists()


def test_a_damaged_image_in_the_end_leaves_nothing(place, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(3):
        (photos / f"{index}.png").write_bytes(
            (place / "photos" / f"{index}.png").read_bytes()[: 200 if index == 2 else None]
        )
    with pytest.raises(ValueError, match=r"cannot read image '.*2\.png'"):
        evaluate(place, tmp_path / "out", f"--images={photos}", "--resolution=32", "--batch_size=1")
    assert not (tmp_path / "out").exists()
