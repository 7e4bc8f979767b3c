"""`python -m train.gan` and `attennorm-sample` as a user runs them: results, resume, and every kind of bad input.

What happens before training or to its process is marked `once`: the same on both stacks.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from attennorm_tf.training import CheckpointStore
from tests.processes import run_module, start_module

TINY = (
    "--config.model.width=0.0625",
    "--config.training.steps=4",
    "--config.training.batch_size=8",
    "--config.training.steps_per_call=2",
    "--config.logging.log_every_steps=2",
    "--config.logging.checkpoint_every_steps=2",
    "--config.logging.image_every_steps=4",
    "--config.evaluation.num_samples=20",
)


CONFIG = "--config=train/configs/digits_attennorm.py"
PLAIN = f"{CONFIG}:sngan_star"  # without attention it starts sooner


def train(workdir: Path, *arguments: str, config: str = CONFIG) -> subprocess.CompletedProcess:
    return run_module("train.gan", config, f"--workdir={workdir}", *arguments)


def folder(root: Path, classes: int = 2, images: int = 5) -> Path:
    """Class folders of random 20x24 PNG files."""
    random = np.random.default_rng(0)
    for name in range(classes):
        (root / f"class{name}").mkdir(parents=True)
        for index in range(images):
            Image.fromarray(random.integers(0, 255, (20, 24, 3), np.uint8)).save(root / f"class{name}" / f"{index}.png")
    return root


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    workdir = tmp_path_factory.mktemp("runs") / "digits"
    done = train(workdir, *TINY)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line for line in done.stdout.splitlines() if len(line) > 80 and str(workdir) not in line] == []
    return workdir, done.stdout + done.stderr


@pytest.mark.slow
def test_a_run_leaves_what_it_says(finished: tuple[Path, str]) -> None:
    workdir, said = finished
    for name in ("samples.png", "layouts.png", "interpolation.png", "curves.png", "metrics.jsonl", "report.json"):
        assert (workdir / name).stat().st_size > 0
        assert str(workdir / name) in said
    for name in ("samples.png", "layouts.png", "interpolation.png"):
        with Image.open(workdir / name) as image:
            assert np.asarray(image).std() > 0
    assert [json.loads(line)["step"] for line in (workdir / "metrics.jsonl").read_text().splitlines()] == [2, 4]
    report = json.loads((workdir / "report.json").read_text())
    assert report["steps"] == 4
    assert 0 <= report["class_accuracy"] <= 1
    assert report["classifier_accuracy_on_real_test_digits"] > 0.97
    environment = json.loads((workdir / "environment.json").read_text())
    assert environment["packages"]["tensorflow"] == tf.__version__
    assert list((workdir / "tensorboard").glob("events*"))
    assert sorted(path.name for path in (workdir / "images").iterdir()) == [
        "interpolation-00000004.png",
        "layouts-00000004.png",
        "samples-00000004.png",
        "statistics-00000004.png",
    ]
    assert "step 4/4 100%" in said


@pytest.mark.slow
def test_the_saved_model_loads_without_the_package(finished: tuple[Path, str], tmp_path: Path) -> None:
    """In a process where importing attennorm_tf fails; the images are those of the checkpoint's average."""
    from attennorm_tf.inference import draw_latents, load_generator

    latents = draw_latents(3, 64, seed=0)
    np.save(tmp_path / "latents.npy", latents)
    code = (
        "import sys, numpy as np, tensorflow as tf\n"
        "sys.modules['attennorm_tf'] = None\n"
        "model = tf.saved_model.load(sys.argv[1])\n"
        "latents = tf.constant(np.load(sys.argv[2] + '/latents.npy'))\n"
        "hard = model.signatures['latents'](latents=latents, class_ids=tf.constant([1, 5, 9]))\n"
        "soft = model.signatures['blend'](latents=latents, class_weights=tf.one_hot([1, 5, 9], 10))\n"
        "np.savez(sys.argv[2] + '/out.npz', hard=hard['images'], soft=soft['images'], layout=hard['layout'])\n"
    )
    done = run_module("-c", code, finished[0] / "saved_model", tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    generator = load_generator(finished[0]).generator
    images, layout = generator([tf.constant(latents), tf.constant([1, 5, 9])], return_layout=True)
    with np.load(tmp_path / "out.npz") as out:
        np.testing.assert_allclose(out["hard"], images, atol=1e-5)
        np.testing.assert_allclose(out["soft"], images, atol=1e-5)
        np.testing.assert_allclose(out["layout"], layout, atol=1e-5)
    operations = {
        node.op
        for signature in tf.saved_model.load(str(finished[0] / "saved_model")).signatures.values()
        for node in signature.graph.as_graph_def().node
    }
    assert not [name for name in operations if "Random" in name or "Stateless" in name.replace("StatelessIf", "")]


@pytest.mark.slow
@pytest.mark.once
def test_sampling(finished: tuple[Path, str], tmp_path: Path) -> None:
    done = run_module(
        "attennorm_tf.cli.sample", f"--checkpoint={finished[0]}", "--classes=3,7", "--count=6", "--interpolate=1,7",
        "--steps=3", "--truncation=0.7", "--seed=5", f"--output={tmp_path / 'a'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    names = sorted(path.name for path in (tmp_path / "a" / "images").iterdir())
    assert names == [f"{i:05d}-class{3 if i % 2 == 0 else 7}.png" for i in range(6)]
    with Image.open(tmp_path / "a" / "images" / names[0]) as image:
        assert image.size == (16, 16)
    for name in ("grid.png", "layouts.png", "interpolation.png"):
        assert str(tmp_path / "a" / name) in done.stdout
    again = run_module(
        "attennorm_tf.cli.sample", f"--checkpoint={finished[0] / 'checkpoints'}", "--classes=3,7", "--count=2",
        "--truncation=0.7", "--seed=5", f"--output={tmp_path / 'b'}",
    )  # fmt: skip
    assert again.returncode == 0
    for name in names[:2]:
        first, second = (np.asarray(Image.open(tmp_path / part / "images" / name), int) for part in "ab")
        assert np.abs(first - second).max() <= 1
    refused = run_module(
        "attennorm_tf.cli.sample", f"--checkpoint={finished[0]}", f"--output={tmp_path / 'c'}", "--classes=12"
    )
    assert refused.returncode == 1
    assert "'12' is neither an id in [0, 10) nor one of 0, 1, 2" in refused.stderr


@pytest.mark.slow
def test_another_experiment_is_refused_with_the_difference(finished: tuple[Path, str]) -> None:
    before = sorted(path.name for path in (finished[0] / "checkpoints").iterdir())
    done = train(finished[0], *TINY, "--config.model.width=0.25", "--config.training.seed=1")
    assert done.returncode == 1
    assert "holds another experiment" in done.stderr
    assert "model.width: 0.0625 -> 0.25" in done.stderr
    assert "training.seed: 0 -> 1" in done.stderr
    assert sorted(path.name for path in (finished[0] / "checkpoints").iterdir()) == before


@pytest.mark.slow
@pytest.mark.once
def test_ctrl_c_saves(tmp_path: Path) -> None:
    arguments = [*TINY, "--config.training.steps=100000", "--config.evaluation.classifier="]
    with start_module("train.gan", PLAIN, f"--workdir={tmp_path}", *arguments) as process:
        deadline = time.monotonic() + 200
        while not (tmp_path / "metrics.jsonl").exists():
            assert process.poll() is None, process.stderr
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        process.wait(120)
    said = process.stdout + process.stderr
    assert process.returncode == 130
    assert "stopped by SIGINT, saved at step" in said
    assert "Traceback" not in said
    step = int(said.split("saved at step ")[1].split(";")[0])
    assert CheckpointStore(tmp_path / "checkpoints").steps()[-1] == step


@pytest.mark.slow
@pytest.mark.once
def test_a_folder_of_colour_images_trains(tmp_path: Path) -> None:
    root = folder(tmp_path / "images")
    (root / "class0" / "broken.jpg").write_bytes(b"\xff\xd8\xff not a photograph")
    arguments = (
        *TINY,
        "--config.evaluation.classifier=",
        "--config.data.name=image_folder",
        f"--config.data.root={root}",
    )
    done = train(tmp_path / "run", *arguments, config=PLAIN)
    assert done.returncode == 1
    assert f"{root}/class0/broken.jpg" in done.stderr
    assert "Traceback" not in done.stderr
    shutil.rmtree(tmp_path / "run")
    done = train(tmp_path / "run", *arguments, "--config.data.skip_corrupt")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "10 images, 2 classes" in done.stdout
    assert "broken.jpg" in done.stderr


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--config.training.stpes=3",), "stpes is not a field; did you mean --config.training.steps?"),
        (("--config.model.resolution=20",), "error: model.resolution must be 16, 32, 64 or 128; got 20"),
        (("--config=train/configs/digits_attennorm.py:biggan",), "got 'biggan'"),
    ],
)
def test_bad_settings_are_one_clear_line(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = train(tmp_path / "run", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.slow
@pytest.mark.once
def test_a_folder_of_one_class(tmp_path: Path) -> None:
    root = folder(tmp_path / "single", classes=1)
    done = train(tmp_path / "run", "--config.data.name=image_folder", f"--config.data.root={root}")
    assert done.returncode == 1
    assert str(root) in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
