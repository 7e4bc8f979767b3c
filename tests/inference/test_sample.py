"""Latents, blending and batching of samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from attennorm_tf.export import ExportError, export_generator
from attennorm_tf.inference import draw_latents, interpolate_classes, sample
from attennorm_tf.inference.results import draw_pictures
from attennorm_tf.models import ClassConditionalGenerator, gan_preset
from attennorm_tf.visualization.interpolation import followed_entity


@pytest.fixture
def generator() -> ClassConditionalGenerator:
    made, _ = gan_preset("attennorm", resolution=16, num_classes=5, width=0.125, channels=1, latent_dim=8)
    for weight in made.weights:
        if len(weight.shape) == 2 and weight.shape[0] == 5:  # tables of the conditional batch normalization
            weight.assign(weight + tf.random.normal(weight.shape))
    return made


def test_latents_are_normal_and_independent_of_their_number() -> None:
    latents = draw_latents(400, 16, seed=3)
    assert latents.dtype == np.float32
    assert abs(latents.mean()) < 0.05
    assert abs(latents.std() - 1) < 0.05
    np.testing.assert_array_equal(draw_latents(7, 16, seed=3), latents[:7])
    assert not np.array_equal(draw_latents(7, 16, seed=4), latents[:7])


def test_truncation_is_a_truncated_normal() -> None:
    latents = draw_latents(500, 16, seed=0, truncation=0.5)
    assert np.abs(latents).max() <= 0.5
    # Variance of a standard normal cut at +-a: 1 - 2 a phi(a) / (2 Phi(a) - 1), a = 0.5.
    assert abs(latents.var() - 0.08058) < 0.004
    with pytest.raises(ValueError, match=r"truncation must be a number >= 0.01, got 0.0"):
        draw_latents(1, 4, seed=0, truncation=0.0)


def test_batches_do_not_change_the_images(generator: ClassConditionalGenerator) -> None:
    latents, labels = draw_latents(7, 8, seed=0), np.array([0, 1, 2, 3, 4, 0, 1])
    whole = sample(generator, latents, labels, batch_size=7, with_layouts=True)
    parts = sample(generator, latents, labels, batch_size=3, with_layouts=True)
    np.testing.assert_allclose(parts.images, whole.images, atol=1e-5)
    np.testing.assert_allclose(parts.layouts, whole.layouts, atol=1e-5)
    assert whole.images.shape == (7, 16, 16, 1)
    np.testing.assert_allclose(whole.layouts.sum(axis=-1), 1, atol=1e-5)


def test_interpolation_meets_the_classes_and_keeps_z(generator: ClassConditionalGenerator) -> None:
    latent = draw_latents(1, 8, seed=0)[0]
    images = interpolate_classes(generator, latent, [4, 0, 2], steps=3).images
    assert len(images) == 7
    corners = sample(generator, np.stack([latent] * 3), np.array([4, 0, 2])).images
    np.testing.assert_allclose(images[[0, 3, 6]], corners, atol=1e-5)
    steps = np.abs(np.diff(images, axis=0)).max(axis=(1, 2, 3))
    assert (steps > 0).all()
    assert steps.max() < np.abs(corners[0] - corners[1]).max() + np.abs(corners[1] - corners[2]).max()


@pytest.mark.parametrize("ids", [[1], [0, 5], [-1, 2]])
def test_bad_classes(generator: ClassConditionalGenerator, ids: list[int]) -> None:
    with pytest.raises(ValueError, match=r"class"):
        interpolate_classes(generator, draw_latents(1, 8, seed=0)[0], ids)
    with pytest.raises(ValueError, match=r"classes must be in \[0, 5\), got 5"):
        sample(generator, draw_latents(2, 8, seed=0), np.array([0, 5]))


def test_followed_entity_is_the_one_that_varies_over_space() -> None:
    layouts = np.full((2, 4, 4, 3), 0.2)
    layouts[:, :2, :, 1] = 0.6
    layouts[1, :, :, 2] = 0.9  # differs between images, not over space
    assert followed_entity(layouts) == 1


@pytest.mark.parametrize("preset", ["attennorm", "sngan"])
def test_pictures_and_export_of_any_preset(tmp_path: Path, preset: str) -> None:
    made, _ = gan_preset(preset, resolution=16, num_classes=2, width=0.125, latent_dim=8)
    names = [path.name for path in draw_pictures(made, tmp_path / "pictures")]
    assert names == ["samples.png", *(["layouts.png"] if preset == "attennorm" else []), "interpolation.png"]
    path = export_generator(made, tmp_path / "saved_model")
    outputs = tf.saved_model.load(str(path)).signatures["latents"](latents=tf.zeros([1, 8]), class_ids=tf.constant([1]))
    assert sorted(outputs) == (["images", "layout"] if preset == "attennorm" else ["images"])
    assert export_generator(made, path) == path  # replaces
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


def test_an_export_that_differs_is_not_left_behind(tmp_path: Path, generator: ClassConditionalGenerator) -> None:
    with pytest.raises(ExportError, match=r"differ from the checkpoint's"):
        export_generator(generator, tmp_path / "saved_model", tolerance=-1.0)
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_cannot_be_written(tmp_path: Path, generator: ClassConditionalGenerator) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((ExportError, OSError), match=r"file"):
        export_generator(generator, tmp_path / "file" / "saved_model")
