"""Convolutions of stride two against the plain order of operations, in float64 NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from attennorm_tf.layers import SpectralNormalization
from attennorm_tf.layers.resampled_convolution import (
    ConvolutionOfDoubled,
    HalvedConvolution,
    convolution_of_doubled,
    halved_convolution,
)

OPERATIONS = {"halved": halved_convolution, "doubled": convolution_of_doubled}


def convolve(images: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """ "Same" convolution, tap by tap."""
    size, margin = kernel.shape[0], kernel.shape[0] // 2
    padded = np.pad(images, [(0, 0), (margin, margin), (margin, margin), (0, 0)])
    height, width = images.shape[1:3]
    taps = [(row, column) for row in range(size) for column in range(size)]
    return sum(padded[:, r : r + height, c : c + width] @ kernel[r, c] for r, c in taps)


def plainly(name: str, images: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    if name == "doubled":
        return convolve(images.repeat(2, axis=1).repeat(2, axis=2), kernel)
    whole = convolve(images, kernel)
    height, width = whole.shape[1] // 2, whole.shape[2] // 2
    blocks = whole[:, : 2 * height, : 2 * width].reshape(-1, height, 2, width, 2, whole.shape[-1])
    return blocks.mean(axis=(2, 4))


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize(
    ("size", "shape"), [(3, (2, 6, 4)), (3, (1, 5, 9)), (3, (3, 4, 4)), (5, (1, 8, 6)), (1, (2, 2, 3))]
)
def test_one_convolution_is_the_two_operations(name: str, size: int, shape: tuple[int, int, int]) -> None:
    generator = np.random.default_rng(0)
    images, kernel = generator.normal(size=(*shape, 3)), generator.normal(size=(size, size, 3, 4))
    actual = OPERATIONS[name](tf.constant(images), tf.constant(kernel))
    np.testing.assert_allclose(actual, plainly(name, images, kernel), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", OPERATIONS)
def test_gradients_are_those_of_the_two_operations(name: str) -> None:
    """The operation is linear in each argument: its gradient by finite differences is exact but for rounding."""
    generator = np.random.default_rng(1)
    images, kernel = generator.normal(size=(2, 4, 6, 2)), generator.normal(size=(3, 3, 2, 3))
    direction = generator.normal(size=plainly(name, images, kernel).shape)
    arguments = [tf.constant(images), tf.constant(kernel)]
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        loss = tf.reduce_sum(OPERATIONS[name](*arguments) * direction)
    for index, gradient in enumerate(tape.gradient(loss, arguments)):
        moved = generator.normal(size=gradient.shape)
        both = [images, kernel]
        both[index] = moved
        expected = np.sum(plainly(name, *both) * direction)
        np.testing.assert_allclose(np.sum(gradient.numpy() * moved), expected, rtol=1e-10)


@pytest.mark.parametrize("kind", [HalvedConvolution, ConvolutionOfDoubled])
def test_layers_with_bias_activation_and_spectral_norm(kind: Any) -> None:
    generator = np.random.default_rng(2)
    images = generator.normal(size=(2, 6, 8, 3))
    layer = kind(4, 3, activation="relu", bias_initializer="normal", dtype="float64")
    model = keras.Sequential([keras.Input((None, None, 3), dtype="float64"), layer])
    name = "halved" if kind is HalvedConvolution else "doubled"
    kernel, bias = (np.asarray(weight) for weight in layer.get_weights())
    expected = plainly(name, images, kernel) + bias
    np.testing.assert_allclose(model(images), np.maximum(expected, 0.0), atol=1e-12)
    assert layer.compute_output_shape((2, 6, 8, 3)) == expected.shape
    assert tuple(model.output_shape) == (None, None, None, 4)

    wrapped = SpectralNormalization(layer)
    wrapped.build((None, None, None, 3))
    for _ in range(300):
        wrapped.update_spectral_vector()
    sigma = np.linalg.norm(kernel.reshape(-1, 4), 2)
    expected = np.maximum(plainly(name, images, kernel / sigma) + bias, 0.0)
    np.testing.assert_allclose(wrapped(tf.constant(images)), expected, atol=1e-6)
    clone = keras.layers.deserialize(keras.layers.serialize(wrapped))
    assert type(clone.layer) is kind
    assert clone.layer.get_config() == layer.get_config()


@pytest.mark.parametrize("name", OPERATIONS)
def test_bfloat16_rounds_the_summed_kernel_once(name: str) -> None:
    """Where each tap has its own rounding, four of them sum to a kernel of another one."""
    kernel = tf.constant(np.random.default_rng(3).normal(size=(3, 3, 4, 5)), tf.float32)
    images = np.zeros((1, 6, 6, 4), np.float32)
    images[0, 3, 3, 0] = 1.0
    images = tf.constant(images)
    exact = OPERATIONS[name](images, kernel)
    rounded = OPERATIONS[name](tf.cast(images, tf.bfloat16), kernel)
    np.testing.assert_array_equal(tf.cast(rounded, tf.float32), tf.cast(tf.cast(exact, tf.bfloat16), tf.float32))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"kernel_size": 4}, "kernel_size must be an odd number"),
        ({"kernel_size": (3, 5)}, "kernel_size must be an odd number"),
        ({"strides": 2}, "strides of a resampled convolution must be .1, 1., got .2, 2."),
        ({"dilation_rate": 2}, "dilation_rate of a resampled"),
        ({"groups": 2}, "groups of a resampled convolution must be 1, got 2"),
        ({"padding": "valid"}, "padding of a resampled convolution must be 'same', got 'valid'"),
        ({"data_format": "channels_first"}, "data_format of a resampled"),
    ],
)
def test_what_has_no_such_form_is_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        HalvedConvolution(**{"filters": 4, "kernel_size": 3, **options})
