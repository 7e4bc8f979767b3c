"""Completions by a network, and its way out of a checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from attennorm_tf.inference import load_generator
from attennorm_tf.inference.inpainter import LoadedInpainter, load_inpainter
from attennorm_tf.models import gan_preset
from attennorm_tf.training import CheckpointError, CheckpointStore
from attennorm_tf.training.checkpointing import read_manifest, write_manifest
from tests.inference.inpainters import tiny_config, tiny_inpainter, write_checkpoint


@pytest.fixture(scope="module")
def inpainters() -> dict[str, LoadedInpainter]:
    return {network: tiny_inpainter(network) for network in ("attentive", "contextual")}


@pytest.fixture
def inpainter(inpainters: dict[str, LoadedInpainter]) -> LoadedInpainter:
    return inpainters["attentive"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with one checkpoint; read only."""
    workdir = tmp_path_factory.mktemp("run")
    config = tiny_config()
    config.training.ema_decay = 0.9
    write_checkpoint(workdir, config)
    return workdir


def described_as(written: Path, folder: Path, config: str) -> Path:
    """A copy of the checkpoint whose manifest holds another config."""
    path = Path(shutil.copytree(written / "checkpoints" / "step-00000007", folder / "step-00000007"))
    manifest = read_manifest(path)
    manifest["metadata"]["config"] = config
    write_manifest(path, manifest)
    return path


def images_and_masks(height: int = 24, width: int = 32, count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.RandomState(0)
    images = random.uniform(-1, 1, (count, height, width, 3)).astype(np.float32)
    return images, (random.rand(count, height, width, 1) < 0.4).astype(np.float32)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (7, 8), (8, 8), (23, 41)])
def test_known_pixels_are_the_inputs_own(inpainter: LoadedInpainter, height: int, width: int) -> None:
    images, masks = images_and_masks(height, width)
    completed = inpainter.complete(images, masks)
    known = np.broadcast_to(masks == 0, images.shape)
    assert completed.dtype == np.float32
    assert np.array_equal(completed[known], images[known])
    assert np.abs(completed).max() <= 1
    assert inpainter._fine.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("network", ["attentive", "contextual"])
def test_the_hole_holds_the_networks_fine_output(inpainters: dict[str, LoadedInpainter], network: str) -> None:
    images, masks = images_and_masks()
    fine = inpainters[network].model([tf.constant(images), tf.constant(masks)], training=False)[1].numpy()
    hole = np.broadcast_to(masks == 1, images.shape)
    np.testing.assert_allclose(inpainters[network].complete(images, masks)[hole], fine[hole], atol=1e-5)


def test_batches_and_the_holes_content_do_not_change_the_result(inpainter: LoadedInpainter) -> None:
    images, masks = images_and_masks(count=5)
    whole = inpainter.complete(images, masks, batch_size=5)
    np.testing.assert_allclose(inpainter.complete(images, masks, batch_size=2), whole, atol=1e-5)
    hidden = np.where(masks == 1, 1 - images, images)
    np.testing.assert_array_equal(inpainter.complete(hidden, masks, batch_size=5), whole)
    first = inpainter.complete(images, masks[:1], batch_size=2)
    np.testing.assert_allclose(first, inpainter.complete(images, np.repeat(masks[:1], 5, axis=0)), atol=1e-5)


@pytest.mark.parametrize(
    ("images", "masks", "message"),
    [
        (np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 8, 8, 1)), r"images must be floats .* got uint8"),
        (np.zeros((8, 8, 3)), np.zeros((1, 8, 8, 1)), r"got float64 \(8, 8, 3\)"),
        (np.zeros((2, 8, 8, 3)), np.zeros((2, 8, 9, 1)), r"masks must have shape \(2, 8, 8, 1\).* got \(2, 8, 9, 1\)"),
        (np.zeros((1, 8, 8, 3)), np.full((1, 8, 8, 1), 0.5), r"masks must be 1 \(missing\) or 0"),
        (np.zeros((1, 8, 8, 3)), np.full((1, 8, 8, 1), np.nan), r"masks must be 1 \(missing\) or 0"),
    ],
)
def test_what_does_not_fit(inpainter: LoadedInpainter, images: np.ndarray, masks: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        inpainter.complete(images, masks)


def test_a_checkpoint_comes_back_as_the_network_that_was_saved(written: Path) -> None:
    path = written / "checkpoints" / "step-00000007"
    average, plain = load_inpainter(written), load_inpainter(path, average=False)
    assert (average.path, average.step, average.name, average.resolution) == (path, 7, "tiny_attentive", 32)
    assert average.config.training.ema_decay == 0.9
    reader = tf.train.load_checkpoint(str(path / "state"))
    for loaded, item in ((average, "average"), (plain, "generator")):
        saved = [reader.get_tensor(name) for name in reader.get_variable_to_shape_map() if name.startswith(item)]
        assert sorted(float(np.sum(v)) for v in saved) == sorted(float(np.sum(w)) for w in loaded.model.get_weights())
    assert not np.allclose(average.model.get_weights()[0], plain.model.get_weights()[0])


def test_without_a_moving_average_the_weights_as_trained(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, tiny_config("contextual"))
    assert load_inpainter(tmp_path, average=True).name == "tiny_contextual"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 0.125}, "does not fit the network that its config describes"),
        ({"network": "contextual"}, "does not fit the network that its config describes"),
        ({"preset": "release"}, "does not fit the network that its config describes"),
        (
            {"value_projection": False},
            r"\d+ weights of \d+ numbers expected, \d+ weights of \d+ numbers found",
        ),  # a part of what is there
        ({"network": "diffusion"}, "config in its manifest is not valid: model.network must be one of"),
        ({"resolution": 0}, "config in its manifest is not valid: model.resolution must be"),
    ],
)
def test_a_checkpoint_of_another_network(written: Path, tmp_path: Path, fields: dict, message: str) -> None:
    path = described_as(written, tmp_path, tiny_config(**fields).to_json())
    with pytest.raises(CheckpointError, match=message) as caught:
        load_inpainter(tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("config", ['{"name": "x", "model": {"depth": 3}}', "{}", "[]", "{"])
def test_a_config_that_is_none(written: Path, tmp_path: Path, config: str) -> None:
    with pytest.raises(CheckpointError, match=r"config in its manifest is not valid"):
        load_inpainter(described_as(written, tmp_path, config))


def test_checkpoints_of_the_other_task(written: Path, tmp_path: Path) -> None:
    generator, _ = gan_preset("sngan", resolution=16, num_classes=2, width=0.125, latent_dim=8)
    facts = {"config": "{}", "class_names": ["a", "b"], "channels": 3}
    gan = CheckpointStore(tmp_path / "gan").save(1, {"generator": generator}, facts)
    with pytest.raises(CheckpointError, match=f"{gan} holds no inpainting network but a class-conditional generator"):
        load_inpainter(gan)
    with pytest.raises(CheckpointError, match=r"holds no class-conditional generator but a model for 'inpainting'"):
        load_generator(written)


def test_absent_and_damaged_checkpoints(written: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere does not exist"):
        load_inpainter(tmp_path / "nowhere")
    path = described_as(written, tmp_path, tiny_config().to_json())
    file = path / "state.data-00000-of-00001"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"is damaged \(state.data-00000-of-00001 is not what was written\)"):
        load_inpainter(path)
