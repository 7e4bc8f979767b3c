"""attennorm-evaluate-gan: what it reads and writes, and one line for every mistake."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from attennorm_tf.cli import evaluate_gan as command
from attennorm_tf.cli import evaluation_inputs
from attennorm_tf.cli.command import class_ids
from attennorm_tf.metrics import digits_classifier
from attennorm_tf.training import CheckpointError, CheckpointStore
from attennorm_tf.visualization import save_png
from tests.inference.gan_runs import TinyExtractor, write_images, write_run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`run`, a checkpoint of three classes; `real` and `fake`, images of them. Read only."""
    root = tmp_path_factory.mktemp("place")
    write_run(root / "run")
    write_run(root / "nan", damaged=True)
    write_images(root / "real")
    write_images(root / "fake", count=12, seed=1)
    (root / "empty").mkdir()
    CheckpointStore(root / "inpainting" / "checkpoints").save(1, {}, {"task": "inpainting", "config": "{}"})
    shutil.copytree(root / "run", root / "cut")
    data = next((root / "cut").rglob("state.data*"))
    data.write_bytes(data.read_bytes()[:-100])
    return root


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A feature extractor without training; the specifications that were asked for."""
    asked: list[str] = []

    def load(spec: str, strategy: Any) -> TinyExtractor:
        asked.append(spec)
        return TinyExtractor()

    monkeypatch.setattr(evaluation_inputs, "load_extractor", load)
    return asked


def evaluate(output: Path, *arguments: str) -> dict[str, Any]:
    """Runs the command in this process; its results."""
    for name in command._FLAGS:
        command._FLAGS[name].unparse()
    command._FLAGS(["command", f"--output={output}", f"--cache_dir={output.parent / 'cache'}", *arguments])
    assert command.run() == 0
    return json.loads((output / "results.json").read_text())


def _load_once(load: Any) -> Any:
    made: dict[str, Any] = {}

    def loaded(spec: str, strategy: Any) -> Any:
        if spec not in made:
            made[spec] = load(spec)
        return made[spec]

    return loaded


def test_a_checkpoint_of_digits_by_the_digits_classifier(tmp_path, capsys, monkeypatch):
    # Trained once for both evaluations, and briefly: the scores are compared, not judged.
    monkeypatch.setattr(digits_classifier, "_STEPS", 60)
    monkeypatch.setattr(evaluation_inputs, "load_extractor", _load_once(evaluation_inputs.load_extractor))
    names = [str(digit) for digit in range(10)]
    write_run(tmp_path / "run", names)
    arguments = (f"--checkpoint={tmp_path / 'run'}", "--num_samples=40", "--metrics=fid,is,kid,pr,intra_fid")
    result = evaluate(tmp_path / "out", *arguments, "--save_images")
    assert result["subject"]["name"] == "tiny"
    assert result["subject"]["step"] == 7
    assert result["protocol"]["extractor"]["name"] == "digits_classifier_16x16_seed0"
    assert result["protocol"]["reference"]["name"] == "digits"
    assert result["protocol"]["reference"]["split"] == "train"
    assert result["protocol"]["reference"]["count"] == 1438
    assert len(result["scores"]["intra_fid"]) == 10
    printed = capsys.readouterr().out
    assert (tmp_path / "out" / "table.txt").read_text() in printed
    assert "FD (digits_classifier_16x16_seed0)" in printed
    assert max(map(len, (tmp_path / "out" / "table.txt").read_text().splitlines())) <= 80
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".npz"]
    # The pictures it wrote score as the checkpoint did.
    images = tmp_path / "out" / "images"
    assert len(list(images.iterdir())) == 40
    again = evaluate(tmp_path / "again", f"--fake_dir={images}", "--data=digits")
    assert again["protocol"]["extractor"] == result["protocol"]["extractor"]
    assert again["scores"] == {name: result["scores"][name] for name in again["scores"]}
    assert len(again["scores"]) == 9


def test_folders_of_mixed_sizes_are_resized_and_counted(place, tmp_path, tiny):
    fake = shutil.copytree(place / "fake", tmp_path / "fake")
    save_png(fake / "0" / "large.png", np.zeros((40, 24), np.uint8))
    result = evaluate(tmp_path / "out", f"--fake_dir={fake}", f"--real_dir={place / 'real'}", "--name=theirs")
    assert tiny == ["tfgan_inception"]
    assert result["protocol"]["resolution"] == 16  # of most images
    assert result["subject"]["images"]["resized"] == 1
    assert result["subject"]["name"] == "theirs"
    assert "resized to 16 x 16: 1 of 13 images to score" in (tmp_path / "out" / "table.txt").read_text()
    classes = ("--class_folders", "--metrics=intra_fid", "--resolution=8", "--classes=0,2")
    result = evaluate(tmp_path / "two", f"--fake_dir={fake}", f"--real_dir={place / 'real'}", *classes)
    assert list(result["scores"]["intra_fid"]) == ["0", "2"]
    assert result["subject"]["images"]["resized"] == 13


def test_a_checkpoint_against_a_folder_with_options(place, tmp_path, tiny):
    arguments = (f"--checkpoint={place / 'run'}", f"--real_dir={place / 'real'}", "--extractor=saved_model:x:y")
    options = ("--noaverage", "--bn_mode=standing", "--standing_batches=2", "--truncation=0.5", "--seed=3",
               "--metrics=fid,intra_fid", "--classes=1", "--samples_per_class=4", "--num_samples=6",
               "--batch_size=4")  # fmt: skip
    result = evaluate(tmp_path / "out", *arguments, *options)
    assert tiny == ["saved_model:x:y"]
    assert result["protocol"]["samples"] == {
        "count": 6, "seed": 3, "truncation": 0.5, "classes": "each once a round, in an order drawn by the seed",
        "weights": "as trained", "bn_mode": "standing", "bn_batch_size": 4, "standing_batches": 2,
    }  # fmt: skip
    assert list(result["scores"]["intra_fid"]) == ["1"]


def test_a_classifier_that_is_not_there_is_trained(tmp_path, capsys):
    real = evaluation_inputs.RealImages(lambda split="train", channels=None: data[split])
    data = {split: evaluation_inputs.load_dataset("digits", split=split) for split in ("train", "test")}
    spec = f"classifier:{tmp_path / 'new'}"
    one = tf.distribute.get_strategy()
    with pytest.MonkeyPatch.context() as patch:
        train = evaluation_inputs.train_image_classifier
        patch.setattr(
            evaluation_inputs, "train_image_classifier",
            lambda *arguments, **options: train(*arguments, epochs=0.4, batch_size=64, width=0.25, **options),
        )  # fmt: skip
        made = evaluation_inputs.open_extractor(spec, real, 8, "test", one)
    printed = capsys.readouterr().out
    assert "training a classifier of 1438 images of digits" in printed
    assert re.search(r"image_classifier_8x8: \d+\.\d% of 359 test images right", printed)
    again = evaluation_inputs.open_extractor(spec, real, 8, "test", one)  # read, not trained
    assert again.content_hash == made.content_hash
    assert capsys.readouterr().out == ""
    with pytest.raises(ValueError, match="training a classifier needs --data"):
        evaluation_inputs.open_extractor(f"{spec}2", evaluation_inputs.RealImages(folder="x"), 8, "test", one)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--checkpoint or --fake_dir: one of them"),
        (["--checkpoint={}/run", "--fake_dir={}/fake"], "--checkpoint or --fake_dir: one of them"),
        (["--fake_dir={}/fake"], "--fake_dir: needs --real_dir or --data"),
        (["--checkpoint={}/run", "--data=digits", "--real_dir={}/real"], "--data and --real_dir exclude each other"),
        (["--checkpoint={}/run", "--real_dir={}/real", "--split=test"], "--split goes with --data"),
        (["--checkpoint={}/run", "--resolution=8"], "--resolution and --checkpoint exclude each other"),
        (["--fake_dir={}/fake", "--real_dir={}/real", "--seed=1"], "--seed and --fake_dir exclude each other"),
        (["--fake_dir={}/fake", "--real_dir={}/real", "--num_samples=9"], "--num_samples and --fake_dir exclude"),
        (["--checkpoint={}/run", "--standing_batches=3"], "--standing_batches goes with --bn_mode=standing"),
        (["--checkpoint={}/run", "--metrics=fid,psnr"], "metrics must be of fid, is, kid, pr, intra_fid; got 'psnr'"),
        (["--checkpoint={}/run", "--classes=1"], "--classes: for the metric intra_fid, which is not asked for"),
        (["--checkpoint={}/run", "--truncation=0"], "truncation must be a number >= 0.01, got 0"),
        (["--checkpoint={}/run", "--data=ponies"], "unknown data set 'ponies'"),
        (["--checkpoint={}/run", "--metrics=intra_fid"], "--data: intra_fid needs the 3 classes of the checkpoint"),
        (
            ["--checkpoint={}/run", "--real_dir={}/real", "--metrics=intra_fid", "--classes=7"],
            "--classes: '7' is neither an id in [0, 3) nor one of 0, 1, 2",
        ),
        (["--checkpoint={}/run", "--num_samples=1", "--metrics=fid"], "num_samples: 'fid' needs at least 2 images"),
        (["--checkpoint={}/nan", "--num_samples=4", "--metrics=fid"], "sample 0 (class "),
        (["--fake_dir={}/empty", "--real_dir={}/real"], "holds no images"),
        (["--fake_dir={}/none", "--real_dir={}/real"], "none' does not exist"),
        (["--fake_dir={}/fake", "--real_dir={}/empty"], "holds no images"),
        (["--fake_dir={}/fake", "--real_dir={}/none"], "--real_dir: {}/none is no folder"),
        (["--fake_dir={}/fake", "--real_dir={}/real", "--metrics=intra_fid"], "needs images with labels"),
        (["--checkpoint={}/run", "--output={}/real/0/000.png"], "000.png is in the way"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(place, tmp_path, tiny, arguments, message):
    arguments = [argument.replace("{}", str(place)) for argument in arguments]
    with pytest.raises(ValueError, match=re.escape(message.replace("{}", str(place)))):
        evaluate(tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_checkpoints_that_cannot_be_used(place, tmp_path, tiny):
    for name, message in (
        ("inpainting", "holds no class-conditional generator but a model for 'inpainting'"),
        ("cut", "the only checkpoint is damaged"),
        ("empty", "holds no whole checkpoint"),
        ("nowhere", "does not exist"),
    ):
        with pytest.raises(CheckpointError, match=message):
            evaluate(tmp_path / "out", f"--checkpoint={place / name}")
    assert not (tmp_path / "out").exists()


def test_images_of_an_interrupted_run_do_not_stay(place, tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(command.GeneratedImages, "facts", lambda self, batch_size: 1 / 0)
    arguments = (f"--checkpoint={place / 'run'}", "--num_samples=8", "--save_images", "--metrics=fid")
    with pytest.raises(ZeroDivisionError):
        evaluate(tmp_path / "out", *arguments)
    assert list((tmp_path / "out").iterdir()) == []


def test_class_ids_by_name_and_number():
    assert class_ids("classes", ["b", "0", "2"], ["a", "b", "2"]) == [1, 0, 2]
    with pytest.raises(ValueError, match=r"--classes: '3' is neither an id in \[0, 3\) nor one of a, b, 2"):
        class_ids("classes", ["3"], ["a", "b", "2"])


def test_results_lie_with_the_run_and_data_may_be_a_folder(place, tmp_path, tiny, monkeypatch):
    shutil.copytree(place / "run", tmp_path / "run")
    real = place / "real"
    checkpoint, data, samples = f"--checkpoint={tmp_path / 'run'}", f"--data={real}", "--num_samples=12"
    named = evaluate(tmp_path / "out", checkpoint, "--data=image_folder", f"--data_root={real}", samples)
    for name in command._FLAGS:
        command._FLAGS[name].unparse()
    command._FLAGS(["command", checkpoint, data, samples, "--cache_dir="])
    assert command.run() == 0
    assert json.loads((tmp_path / "run" / "evaluation" / "results.json").read_text()) == named
    with pytest.raises(ValueError, match="--data_root: the folder is --data="):
        evaluate(tmp_path / "out", checkpoint, data, samples, f"--data_root={real}")
    monkeypatch.chdir(tmp_path)
    for name in command._FLAGS:
        command._FLAGS[name].unparse()
    command._FLAGS(["command", f"--fake_dir={place / 'fake'}", f"--real_dir={real}", "--cache_dir="])
    assert command.run() == 0
    assert (tmp_path / "evaluation" / "table.md").exists()
