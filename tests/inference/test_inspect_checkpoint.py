"""What `attennorm-inspect` finds in a checkpoint, against the networks it was written from."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from attennorm_tf.cli import inspect_checkpoint as command
from attennorm_tf.config import GanConfig, InpaintingConfig, gan_preset_config
from attennorm_tf.inference import draw_latents
from attennorm_tf.inference.inspect_checkpoint import inspect_checkpoint, inspection_json, inspection_text
from attennorm_tf.models import build_gan, build_inpainter
from attennorm_tf.training import CheckpointError, CheckpointStore
from attennorm_tf.training.attention_monitor import attention_layers


def gan_config(preset: str = "attennorm") -> GanConfig:
    config = gan_preset_config(preset, resolution=16, width=0.125, latent_dim=8, num_entities=5, temperature=3.0)
    config.name = "tiny"
    return config


def save_gan(workdir: Path, config: GanConfig) -> dict[str, tf.keras.Model]:
    generator, discriminator = build_gan(config.model, 3, 1)
    average, _ = build_gan(config.model, 3, 1)
    for layer in attention_layers(average).values():
        layer.rho.assign(0.25)
        layer.t.assign(np.linspace(0.1, 0.5, 5).reshape(1, 1, 5))
    items = {"generator": generator, "average": average, "discriminator": discriminator}
    metadata = {"config": config.to_json(), "class_names": ["x", "y", "z"], "channels": 1}
    CheckpointStore(workdir / "checkpoints").save(70, items, metadata)
    return items


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    root = tmp_path / "photographs"
    root.mkdir()
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 255, (40, 36, 3), np.uint8)
        Image.fromarray(pixels).save(root / f"{index}.png")
    return root


def save_inpainter(workdir: Path, network: str = "attentive") -> tf.keras.Model:
    config = InpaintingConfig(name="tiny_inpainting")
    config.model.network = network
    config.model.resolution, config.model.width, config.model.discriminator_width = 32, 0.0625, 0.0625
    config.masks.height = config.masks.width = 16
    config.masks.shrink = 4
    generator = build_inpainter(config.model)
    metadata = {"task": "inpainting", "config": config.to_json()}
    CheckpointStore(workdir / "checkpoints").save(5, {"generator": generator}, metadata)
    return generator


def test_a_gan(tmp_path: Path) -> None:
    networks = save_gan(tmp_path, gan_config())
    inspection = inspect_checkpoint(tmp_path, num_images=10, batch_size=4, seed=2)
    facts = json.loads(inspection_json(inspection.facts))
    assert (facts["config"], facts["step"], facts["weights"]) == ("tiny", 70, "moving average")
    assert facts["task"] == "class-conditional GAN"
    for name in ("generator", "discriminator"):
        network = facts["networks"][name]
        assert network["parameters"] == networks[name].count_params()
        assert list(network["largest_sigmas"].values()) == sorted(network["largest_sigmas"].values(), reverse=True)
    kernel = networks["discriminator"].block1.conv1
    name = max(facts["networks"]["discriminator"]["largest_sigmas"])
    assert name.startswith("discriminator/")
    assert kernel.sigma() <= max(facts["networks"]["discriminator"]["largest_sigmas"].values()) + 1e-5
    generator, discriminator = facts["attention"]
    assert [layer["layer"] for layer in facts["attention"]] == [
        "generator/block2/attention", "discriminator/block2/attention"
    ]  # fmt: skip
    assert generator["rho"] == 0.25
    assert generator["t"] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert discriminator["rho"] == 0.0
    # Against the network itself, all images at once.
    latents, labels = draw_latents(10, 8, seed=2), np.arange(10) % 3
    _, layouts = networks["average"]([tf.constant(latents), tf.constant(labels)], training=False, return_layout=True)
    layouts = layouts.numpy().astype(np.float64)
    assert generator["layout_entropy"] == pytest.approx(-np.mean(np.sum(layouts * np.log(layouts), axis=-1)), rel=1e-4)
    assert generator["largest_layout_entropy"] == pytest.approx(np.log(5))
    shares = np.bincount(layouts.argmax(axis=-1).ravel(), minlength=5) / (10 * 16 * 16)
    assert [row["share"] for row in generator["entities"]] == pytest.approx(shares, abs=2e-3)
    assert inspection.layouts is not None
    assert inspection.layouts.dtype == np.uint8
    text = inspection_text(facts)
    assert max(len(line) for line in text.splitlines() if str(tmp_path) not in line) <= 80
    assert "tiny: class-conditional GAN, step 70, weights: moving average" in text
    assert "rho                   0.2500" in text
    trained = inspect_checkpoint(tmp_path, average=False, num_images=2).facts
    assert trained["weights"] == "as trained"
    assert trained["attention"][0]["rho"] == 0.0


def test_a_gan_without_attentive_normalization(tmp_path: Path) -> None:
    save_gan(tmp_path, gan_config("acgan"))
    inspection = inspect_checkpoint(tmp_path)
    assert inspection.layouts is None
    assert inspection.facts["attention"] == []
    assert inspection_text(inspection.facts).endswith("\nno attentive normalization\n")


def test_an_inpainting_network(tmp_path: Path, photographs: Path) -> None:
    generator = save_inpainter(tmp_path)
    inspection = inspect_checkpoint(tmp_path, images=str(photographs), batch_size=2)
    facts = inspection.facts
    assert (facts["task"], facts["weights"], facts["images"]["count"]) == ("inpainting", "as trained", 3)
    assert list(facts["networks"]) == ["generator", "global_discriminator", "local_discriminator"]
    assert facts["networks"]["generator"]["parameters"] == generator.count_params()
    (layer,) = facts["attention"]
    assert layer["layer"] == "generator/attention"
    assert sum(row["share"] for row in layer["entities"]) == pytest.approx(1)
    assert inspection.layouts is not None
    contextual = tmp_path / "contextual"
    save_inpainter(contextual, "contextual")
    assert inspect_checkpoint(contextual).layouts is None


def test_bad_checkpoints(tmp_path: Path) -> None:
    save_gan(tmp_path / "good", gan_config("sngan_star"))
    folder = tmp_path / "good" / "checkpoints" / "step-00000070"
    data = next(folder.glob("*.data*"))
    data.write_bytes(data.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"step-00000070 is damaged \(.* is not what was written\)"):
        inspect_checkpoint(folder)
    with pytest.raises(CheckpointError, match=r"the only checkpoint is damaged"):
        inspect_checkpoint(tmp_path / "good")
    with pytest.raises(CheckpointError, match=r"does not exist"):
        inspect_checkpoint(tmp_path / "nowhere")
    variable = tf.Variable(1.0)
    for name, metadata, message in (
        ("other", {"task": "segmentation"}, r"is of an unknown task, 'segmentation'"),
        ("config", {"class_names": ["x"], "channels": 1, "config": "{}"}, r"the config in its manifest is not valid"),
    ):
        CheckpointStore(tmp_path / name).save(1, {"x": variable}, metadata)
        with pytest.raises(CheckpointError, match=message):
            inspect_checkpoint(tmp_path / name)
    with pytest.raises(ValueError, match=r"num_images must be at least 1, got 0"):
        inspect_checkpoint(tmp_path, num_images=0)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_gan(tmp_path / "run", gan_config())
    arguments = [f"--checkpoint={tmp_path / 'run'}", "--num_images=3", f"--json={tmp_path / 'x' / 'facts.json'}"]
    values = command._FLAGS
    values([sys.argv[0], *arguments, f"--output={tmp_path / 'sheets'}"])
    assert command.run() == 0
    said = capsys.readouterr().out
    assert "generator/block2/attention" in said
    assert json.loads((tmp_path / "x" / "facts.json").read_text())["step"] == 70
    with Image.open(tmp_path / "sheets" / "layouts.png") as picture:
        assert np.asarray(picture).std() > 0
    values([sys.argv[0], *arguments, f"--output={tmp_path / 'x' / 'facts.json'}"])
    with pytest.raises(ValueError, match=r"--output: .*facts.json is a file, expected a folder"):
        command.run()
