"""`attennorm-visualize`: the pictures of a checkpoint, against the networks it was written from."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from attennorm_tf.cli import visualize as command
from attennorm_tf.inference import draw_latents, interpolate_classes
from attennorm_tf.inference.visualize import KINDS, visualize_checkpoint
from attennorm_tf.training import CheckpointError
from attennorm_tf.visualization import (
    binarized_sheet,
    interpolation_strip,
    layout_sheet,
    region_statistics,
    statistics_sheet,
)
from attennorm_tf.visualization.interpolation import blend_headings, followed_entity
from tests.inference.gan_runs import tiny_generator, write_run
from tests.inference.inpainters import tiny_config, write_checkpoint

NAMES = ["nought", "one", "two"]


@pytest.fixture(scope="module")
def gan_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = write_run(tmp_path_factory.mktemp("runs") / "gan", NAMES)
    (workdir / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n')
    return workdir


@pytest.fixture(scope="module")
def inpainting_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("runs") / "inpainting"
    config = tiny_config()
    config.training.ema_decay = 0.0
    write_checkpoint(workdir, config)
    return workdir


def _assert_equal_pictures(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(found) == list(expected)
    for name, picture in expected.items():
        assert found[name].shape == picture.shape
        # A batch of another size may round a colour differently.
        assert np.abs(found[name].astype(int) - picture).mean() < 0.05, name


def test_a_gan(gan_run: Path) -> None:
    made = visualize_checkpoint(gan_run, num_images=4, batch_size=3, seed=5, classes=lambda names: [2, 0], steps=2)
    assert (made.name, made.step) == ("tiny", 7)
    generator = tiny_generator(2, 3)  # the moving average
    seen: list[Any] = []
    layer = generator.attentive_normalization
    call = layer.call
    layer.__dict__["call"] = lambda inputs, **options: (seen.append(inputs), call(inputs, **options))[1]
    latents, labels = draw_latents(4, 8, seed=5), np.array([2, 0, 2, 0], np.int32)
    images, layouts = (
        part.numpy()
        for part in generator([tf.constant(latents), tf.constant(labels)], training=False, return_layout=True)
    )
    del layer.__dict__["call"]
    statistics = region_statistics(seen[0].numpy(), layouts)
    blended = interpolate_classes(generator, draw_latents(1, 8, seed=5)[0], [0, 1, 2], steps=2)
    headings = blend_headings([0, 1, 2], NAMES, 2)
    curves = made.pictures.pop("curves")
    assert curves.shape == (260, 420, 3)
    _assert_equal_pictures(
        made.pictures,
        {
            "layouts": binarized_sheet(images, layouts, ["two", "nought", "two", "nought"]),
            "entities": layout_sheet(images, layouts, over_images=True),
            "statistics": statistics_sheet(images, layouts, statistics),
            "interpolation": interpolation_strip(*blended, followed_entity(blended.layouts), headings),
        },
    )
    assert made.statistics is not None
    for row, facts in enumerate(made.statistics):
        assert facts["image"] == ["two", "nought"][row % 2]
        assert facts["map_std"] == pytest.approx(statistics.map_std[row], rel=1e-4)
        for region in facts["regions"]:
            entity = region["entity"]
            assert region["share"] == pytest.approx(statistics.shares[row, entity], abs=0.01)
            assert region["std"] == pytest.approx(statistics.std[row, entity], rel=0.05)
            assert region["std_ratio"] == pytest.approx(region["std"] / facts["map_std"])


def test_an_inpainting_network_on_given_holes(inpainting_run: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for index, side in enumerate((40, 32)):
        photograph = Image.fromarray(random.integers(0, 255, (side, side, 3), np.uint8))
        (tmp_path / "photos").mkdir(exist_ok=True)
        (tmp_path / "masks").mkdir(exist_ok=True)
        photograph.save(tmp_path / "photos" / f"{index}.png")
        mask = np.zeros((side, side), np.uint8)
        mask[:8] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / f"{index}.png")
    given = {"images": str(tmp_path / "photos"), "batch_size": 1}
    drawn, matched, shared = (
        visualize_checkpoint(inpainting_run, **given, masks=masks)
        for masks in (None, str(tmp_path / "masks"), str(tmp_path / "masks" / "1.png"))
    )
    assert list(drawn.pictures) == ["layouts", "entities", "statistics"]
    assert drawn.statistics is not None
    assert [facts["image"] for facts in drawn.statistics] == ["0", "1"]
    differ = [
        [(one.pictures["layouts"] != other.pictures["layouts"]).any() for other in (drawn, matched)]
        for one in (matched, shared)
    ]
    assert differ == [[True, False], [True, True]]  # the first mask, made smaller, is not the second
    # The second photograph, whose mask both name, is completed alike: known pixels are the photograph's own.
    known = np.asarray(Image.open(tmp_path / "photos" / "1.png"))[8:]
    for made in (matched, shared):
        tile = made.pictures["layouts"][20:, 72 + 102 :][:96, :96][1::3, 1::3]
        np.testing.assert_array_equal(tile[8:], known)
    (tmp_path / "masks" / "1.png").unlink()
    with pytest.raises(ValueError, match=r"image '1\.png' has no mask '1\.\*'"):
        visualize_checkpoint(inpainting_run, **given, masks=str(tmp_path / "masks"))


def test_what_cannot_be_drawn(gan_run: Path, inpainting_run: Path, tmp_path: Path) -> None:
    for checkpoint, options, message in (
        (gan_run, {"kinds": ["maps"]}, f"kind must be one of {', '.join(KINDS)}; got 'maps'"),
        (gan_run, {"num_images": 0}, "num_images must be at least 1, got 0"),
        (gan_run, {"masks": "x"}, "masks are for inpainting networks"),
        (gan_run, {"kinds": ["interpolation"], "entity": 9}, r"entity must be in \[0, 4\), got 9"),
        (gan_run, {"classes": lambda names: [3]}, r"classes must be in \[0, 3\), got 3"),
        (inpainting_run, {"kinds": ["interpolation"]}, "'interpolation' cannot be drawn: the run .* has no classes"),
        (inpainting_run, {"kinds": ["layouts", "curves"]}, r"'curves' cannot be drawn: .* has no '.*metrics\.jsonl'"),
        (inpainting_run, {"images": str(tmp_path / "none")}, "none"),
    ):
        with pytest.raises(ValueError, match=message):
            visualize_checkpoint(checkpoint, **options)
    with pytest.raises(CheckpointError, match="does not exist"):
        visualize_checkpoint(tmp_path / "nowhere")


def test_a_generator_without_attentive_normalization(tmp_path: Path) -> None:
    run = write_run(tmp_path / "plain", preset="sngan")
    assert list(visualize_checkpoint(run, steps=1).pictures) == ["interpolation"]
    with pytest.raises(ValueError, match="'layouts' cannot be drawn: the run 'tiny' has no attentive normalization"):
        visualize_checkpoint(run, ["layouts"])


def test_the_command(gan_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [f"--checkpoint={gan_run}", "--kind=statistics,curves", "--num_images=2", "--classes=one"]
    values = command._FLAGS
    values([sys.argv[0], *arguments, f"--output={tmp_path / 'new' / 'pictures'}"])
    assert command.run() == 0
    written = sorted(path.name for path in (tmp_path / "new" / "pictures").iterdir())
    assert written == ["curves.png", "statistics.json", "statistics.png"]
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "tiny, step 7:"
    assert sorted(Path(line.strip()).name for line in said[1:]) == written
    facts = json.loads((tmp_path / "new" / "pictures" / "statistics.json").read_text())
    assert [image["image"] for image in facts["images"]] == ["one", "one"]
    (tmp_path / "file").write_text("")
    values([sys.argv[0], *arguments, f"--output={tmp_path / 'file'}"])
    with pytest.raises(ValueError, match=r"--output: .*file is a file, expected a folder"):
        command.run()
    values([sys.argv[0], *arguments, "--classes=three", f"--output={tmp_path}"])
    with pytest.raises(
        ValueError, match=r"--classes: 'three' is neither an id in \[0, 3\) nor one of nought, one, two"
    ):
        command.run()
