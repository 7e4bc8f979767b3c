"""Warnings of the health watch: each when it should, once, and not when all is well."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from attennorm_tf.config import InpaintingTrainingConfig, gan_preset_config
from attennorm_tf.data import load_dataset
from attennorm_tf.training import GanTask
from attennorm_tf.training.gan_health import SampleQuality, gan_conditions, within_class_variance
from attennorm_tf.training.health import Condition, Explodes, Falls, HealthWatch, Rises, Stalls, StaysBelow
from attennorm_tf.training.inpainting_health import inpainting_conditions


def warned(
    caplog: pytest.LogCaptureFixture, condition: Condition, values: Sequence[float], every: int = 100
) -> list[int]:
    """Steps at which a watch warns of values at steps `every`, 2 `every`, ..."""
    watch, steps = HealthWatch([condition]), []
    for number, value in enumerate(values, 1):
        caplog.clear()
        watch.look(number * every, {"other": 0.0, condition.metric: value})
        if caplog.records:
            assert f"step {number * every}: value " in caplog.text
            assert caplog.text.rstrip().endswith("do this")
            steps.append(number * every)
    return steps


@pytest.mark.parametrize(
    ("condition", "values", "expected"),
    [
        (StaysBelow("value", "do this", 0.1), [1, 0.01, 0.01, 1, 0.01, 0.0, 0.05, 0, 0], [700]),
        (StaysBelow("value", "do this", 0.1), [0, 0, 0, 0, 0.2, 0, 0, 0], [300, 800]),
        (StaysBelow("value", "do this", 0.1), [0, math.nan, 0, math.nan, 0], [500]),
        (StaysBelow("value", "do this", 0.1), [0.1] * 9, []),
        (Explodes("value", "do this"), [1, 2, -3, 2, 1, 41, 50, 2, -90, 1, 39], [600, 900]),
        (Explodes("value", "do this"), [1, 1, 1, 1, 1000, 1], []),
        (Explodes("value", "do this"), [0.001] * 9 + [15, math.inf], [1100]),
        (Falls("value", "do this"), [0.1, 0.6, 0.8, 0.3, 0.7, 0.3, 0.39, 0.2, 0.5, 0.1, 0.1], [700, 1100]),
        (Falls("value", "do this"), [0.1, 0.29, 0.01, 0.01, 0.01], []),
        (Stalls("value", "do this", 3), [5, 4, 4, 4.1, 4, 4, 3.9, 4, 4, 4], [500, 1000]),
        (Stalls("value", "do this", 3), [5, 4.99, 4.98, 4.97, 4.96], []),
        (Rises("value", "do this", 1.5), [2, 1, 1.4, 1.6, 1.7, 1.2, 1.51], [400, 700]),
    ],
)
def test_conditions(
    caplog: pytest.LogCaptureFixture, condition: Condition, values: list[float], expected: list[int]
) -> None:
    assert warned(caplog, condition, values) == expected


def test_many_lines_of_few_steps_are_not_long(caplog: pytest.LogCaptureFixture) -> None:
    assert warned(caplog, StaysBelow("value", "do this", 0.1, lines=3, steps=50), [0.0] * 20, every=5) == [55]


def test_variance_is_within_the_classes() -> None:
    random = np.random.default_rng(0)
    labels = np.array([0, 1, 1, 0, 0, 2])
    images = random.normal(size=(6, 4, 4, 2)) + 10 * labels[:, None, None, None]
    zeros, ones = images[labels == 0], images[labels == 1]
    expected = np.mean((2 * zeros.var(axis=0, ddof=1) + ones.var(axis=0, ddof=1)) / 3)
    assert within_class_variance(images, labels) == pytest.approx(expected, rel=1e-12)
    assert math.isnan(within_class_variance(images[:2], labels[:2]))


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    return load_dataset("digits").arrays(16, 300)


def gan(weight: float) -> GanTask:
    """A generator of strong contrasts; `weight` scales what it makes of its latents."""
    settings = gan_preset_config("sngan", resolution=16, width=0.125, latent_dim=8)
    settings.logging.image_every_steps = 0
    task = GanTask(settings, 10, 1)
    for weights in task.average.trainable_weights:
        kernel = tf.convert_to_tensor(weights)
        if kernel.shape.rank == 2 and kernel.shape[0] == 8:
            weights.assign(weight * kernel)
        elif kernel.shape.rank == 4 and kernel.shape[-1] == 1:
            weights.assign(10.0 * kernel)
    return task


def test_a_generator_that_ignores_its_latents_has_collapsed(
    caplog: pytest.LogCaptureFixture, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    ratios = []
    for weight in (0.0, 1.0):
        task = gan(weight)
        task.compare_with(*digits)
        caplog.clear()
        for step in (100, 200, 300, 400):
            values = task.scalars()
            task.look(step, {"discriminator_loss": 1.0, **values})
        ratios.append(values["sample_variance_ratio"])
        assert ("step 300: sample_variance_ratio has been below 0.1" in caplog.text) == (weight == 0)
        assert ("(mode collapse)" in caplog.text) == (weight == 0)
    assert ratios[0] < 1e-6
    assert ratios[1] > 0.1


def test_a_discriminator_that_has_won(caplog: pytest.LogCaptureFixture) -> None:
    watch = HealthWatch(gan_conditions())
    for step in range(100, 1000, 100):
        watch.look(step, {"discriminator_loss": 0.001})
    assert len(caplog.records) == 1
    assert "training.discriminator_learning_rate" in caplog.text


def test_precision_and_recall_of_what_is_generated(digits: tuple[np.ndarray, np.ndarray]) -> None:
    """Of real digits both are high, of one digit only precision is, of noise neither."""
    images, _ = digits

    class Copying:
        """Draws real digits, the first `kinds` of them."""

        num_classes, latent_dim = 10, 4

        def __init__(self, kinds: int, noise: float = 0.0) -> None:
            self.pool, self.noise = tf.constant(images[:kinds]), noise

        def __call__(self, inputs: Any, training: bool) -> tf.Tensor:
            chosen = tf.cast(tf.abs(inputs[0][:, 0]) * 1e4, tf.int32) % len(self.pool)
            noise = self.noise * tf.random.stateless_normal([len(inputs[0]), 16, 16, 1], [1, 2])
            return tf.gather(self.pool, chosen) + noise

    def features(pictures: np.ndarray) -> np.ndarray:
        return pictures.reshape(len(pictures), -1)

    measured = [SampleQuality(Copying(*made), features, images, 0).scalars() for made in ((300,), (8,), (300, 3.0))]
    assert [set(values) for values in measured] == [{"precision", "recall"}] * 3
    whole, few, noise = measured
    assert min(whole.values()) > 0.7
    assert few["precision"] == 1.0
    assert few["recall"] < 0.3
    assert max(noise.values()) < 0.1 or noise["precision"] < 0.1


def test_inpainting_conditions_are_those_of_its_schedule() -> None:
    automatic = inpainting_conditions(InpaintingTrainingConfig())
    fixed = inpainting_conditions(InpaintingTrainingConfig(phase_two_step=100))
    assert [type(condition) for condition in fixed[len(automatic) :]] == [Stalls]
