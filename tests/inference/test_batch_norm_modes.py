"""Batch normalization's modes at evaluation, against a generator written in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from attennorm_tf.inference import GeneratedImages, draw_latents, sample
from attennorm_tf.inference.batch_norm_modes import EvaluationGenerator
from attennorm_tf.inference.generated_images import draw_labels
from tests.inference.gan_runs import tiny_generator

ONE = tf.distribute.get_strategy()


def noise(count: int, first_row: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return draw_latents(count, 8, seed=0, first_row=first_row), draw_labels(first_row, count, range(3), seed=0)


def convolve(inputs: np.ndarray, layer: Any) -> np.ndarray:
    kernel, bias = (weight.astype(np.float64) for weight in layer.get_weights())
    reach = kernel.shape[0] // 2
    padded = np.pad(inputs, [(0, 0), (reach, reach), (reach, reach), (0, 0)])
    height, width = inputs.shape[1:3]
    outputs = np.zeros((*inputs.shape[:3], kernel.shape[-1])) + bias
    for row in range(kernel.shape[0]):
        for column in range(kernel.shape[1]):
            outputs += padded[:, row : row + height, column : column + width] @ kernel[row, column]
    return outputs


def double(inputs: np.ndarray) -> np.ndarray:
    return inputs.repeat(2, axis=1).repeat(2, axis=2)


class NumpyGenerator:
    """The plain generator in float64; normalizes by `given` statistics, or by the batch's, which it notes."""

    def __init__(self, generator: Any, given: list[tuple[np.ndarray, np.ndarray]] | None = None):
        self.generator = generator
        self.given = given
        self.noted: list[tuple[np.ndarray, np.ndarray]] = []

    def normalize(self, hidden: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> np.ndarray:
        found = (hidden.mean(axis=(0, 1, 2)), hidden.var(axis=(0, 1, 2)))
        mean, variance = self.given[len(self.noted)] if self.given else found
        self.noted.append(found)
        return (hidden - mean) / np.sqrt(variance + 1e-5) * gamma + beta

    def conditional(self, hidden: np.ndarray, layer: Any, labels: np.ndarray) -> np.ndarray:
        gamma, beta = (
            tf.convert_to_tensor(table).numpy()[labels][:, None, None, :] for table in (layer.gamma, layer.beta)
        )
        return np.maximum(self.normalize(hidden, gamma, beta), 0)

    def __call__(self, latents: np.ndarray, labels: np.ndarray) -> np.ndarray:
        generator = self.generator
        kernel, bias = generator.dense.get_weights()
        hidden = (latents.astype(np.float64) @ kernel + bias).reshape(len(latents), 4, 4, -1)
        for block in generator.blocks:
            inner = convolve(double(self.conditional(hidden, block.norm1, labels)), block.conv1)
            inner = convolve(self.conditional(inner, block.norm2, labels), block.conv2)
            hidden = inner + double(convolve(hidden, block.shortcut))
        gamma, beta = generator.norm.get_weights()[:2]
        return np.tanh(convolve(np.maximum(self.normalize(hidden, gamma, beta), 0), generator.to_image))


def test_batch_and_standing_statistics_are_numpys() -> None:
    generator = tiny_generator(preset="sngan")  # without attention and spectral normalization
    latents, labels = noise(6)
    images = EvaluationGenerator(generator, "batch", ONE).network([latents, labels], training=True).numpy()
    expected = NumpyGenerator(generator)(latents, labels)
    np.testing.assert_allclose(images, expected, atol=2e-4)
    assert np.abs(expected - sample(generator, latents, labels).images).max() > 0.1  # what moving averages give

    batches = [noise(6, 100 * number) for number in range(3)]
    standing = EvaluationGenerator(generator, "standing", ONE)
    standing.take_standing_statistics(batches)
    noted = []
    for batch in batches:
        reference = NumpyGenerator(generator)
        reference(*batch)
        noted.append(reference.noted)
    mean = [tuple(np.mean(values, axis=0) for values in zip(*layer)) for layer in zip(*noted)]
    images = standing.network([latents, labels], training=standing.training).numpy()
    np.testing.assert_allclose(images, NumpyGenerator(generator, mean)(latents, labels), atol=2e-4)


def test_no_mode_samples_or_changes_the_generator() -> None:
    generator = tiny_generator(preset="attennorm_bn")
    before = [np.array(weight) for weight in generator.get_weights()]
    for mode in ("batch", "standing"):
        images = GeneratedImages(generator, 6, bn_mode=mode, standing_batches=2)
        # One network twice: a draw of self-sampling would move its counter, and the next draw differ.
        first, second = (np.concatenate([batch.images for batch in images.batches(4)]) for _ in range(2))
        np.testing.assert_array_equal(first, second)
        for old, new in zip(before, generator.get_weights()):
            np.testing.assert_array_equal(old, new)


def test_batch_mode_uses_the_batch_in_attentive_normalization_too() -> None:
    generator = tiny_generator(preset="attennorm_bn")
    network = EvaluationGenerator(generator, "batch", ONE).network
    moving = [np.array(weight) for weight in network.get_weights()]
    latents, labels = noise(8)
    images = network([latents, labels], training=True).numpy()
    attention = generator.attentive_normalization
    attention.moving_mean.assign(attention.moving_mean + 1.0)
    again = EvaluationGenerator(generator, "batch", ONE).network([latents, labels], training=True).numpy()
    np.testing.assert_array_equal(images, again)
    for old, new in zip(moving, network.get_weights()):
        np.testing.assert_array_equal(old, new)  # nothing was assigned


@pytest.mark.parametrize("mode", ["batch", "standing"])
def test_two_replicas_make_what_one_makes(mode: str, two_cpus: tf.distribute.Strategy) -> None:
    generator = tiny_generator(preset="attennorm_bn")
    images = GeneratedImages(generator, 10, bn_mode=mode, standing_batches=2)
    one, two = (np.concatenate([batch.images for batch in images.batches(4, strategy)]) for strategy in (ONE, two_cpus))
    assert one.shape == (10, 16, 16, 1)
    assert np.abs(one.astype(int) - two.astype(int)).max() <= 1  # rounded to 8 bits
    assert (one != two).mean() < 0.01


def test_bad_modes() -> None:
    with pytest.raises(ValueError, match="bn_mode must be one of 'moving', 'batch', 'standing'; got 'running'"):
        GeneratedImages(tiny_generator(), 4, bn_mode="running")
    with pytest.raises(ValueError, match="standing statistics need at least one batch"):
        EvaluationGenerator(tiny_generator(), "standing", ONE).take_standing_statistics([])
