"""Layers of the four kinds that spectral normalization wraps, with inputs, and its power iteration in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from attennorm_tf.layers.spectral_normalization import SpectralNormalization

layers = keras.layers

# name: (layer type, options, input shape)
CASES: dict[str, tuple[type, dict[str, Any], tuple[int, ...]]] = {
    "dense": (layers.Dense, {"units": 5, "activation": "tanh"}, (3, 7)),
    "dense_of_a_map": (layers.Dense, {"units": 4, "use_bias": False}, (2, 3, 2, 6)),
    "conv2d": (layers.Conv2D, {"filters": 5, "kernel_size": 3, "padding": "same"}, (2, 6, 5, 4)),
    "conv2d_strided": (layers.Conv2D, {"filters": 6, "kernel_size": (4, 3), "strides": 2}, (2, 9, 8, 4)),
    "conv2d_dilated_groups": (
        layers.Conv2D,
        {"filters": 6, "kernel_size": 3, "dilation_rate": 2, "groups": 2, "activation": "relu"},
        (2, 7, 8, 4),
    ),
    "transpose": (layers.Conv2DTranspose, {"filters": 3, "kernel_size": 3, "padding": "same"}, (2, 4, 5, 6)),
    "transpose_strided": (
        layers.Conv2DTranspose,
        {"filters": 3, "kernel_size": 4, "strides": 2, "padding": "same"},
        (2, 4, 5, 6),
    ),
    "transpose_valid": (
        layers.Conv2DTranspose,
        {"filters": 7, "kernel_size": 2, "strides": (3, 2), "activation": "relu", "use_bias": False},
        (2, 4, 5, 3),
    ),
    "transpose_output_padding": (
        layers.Conv2DTranspose,
        {"filters": 4, "kernel_size": 5, "strides": 2, "padding": "same", "output_padding": 1},
        (2, 4, 5, 3),
    ),
    "transpose_dilated": (
        layers.Conv2DTranspose,
        {"filters": 4, "kernel_size": 3, "dilation_rate": 2},
        (2, 4, 5, 3),
    ),
    "embedding": (layers.Embedding, {"input_dim": 9, "output_dim": 5}, (2, 4)),
}


def plain_layer(case: str, **options: Any) -> keras.layers.Layer:
    kind, own, _ = CASES[case]
    return kind(**{**own, **options})


def wrapped(case: str, **options: Any) -> tuple[SpectralNormalization, tf.Tensor]:
    """A built wrapper whose kernel is not the initializer's (its bias not zero), and inputs for it."""
    layer = SpectralNormalization(plain_layer(case, **options))
    inputs = inputs_of(case)
    layer(inputs)
    generator = np.random.default_rng(7)
    for weight in layer.layer.weights:
        weight.assign(0.3 * generator.normal(size=tuple(weight.shape)))
    return layer, inputs


def inputs_of(case: str) -> tf.Tensor:
    generator = np.random.default_rng(3)
    shape = CASES[case][2]
    if case == "embedding":
        return tf.constant(generator.integers(0, 9, shape), tf.int32)
    return tf.constant(generator.normal(size=shape), tf.float32)


def kernel_of(layer: keras.layers.Layer) -> Any:
    return layer.embeddings if isinstance(layer, keras.layers.Embedding) else layer.kernel


def as_matrix(layer: keras.layers.Layer) -> np.ndarray:
    """(output channels, everything else), float64, written without the code under test."""
    kernel = np.asarray(kernel_of(layer).numpy(), np.float64)
    axis = 2 if isinstance(layer, keras.layers.Conv2DTranspose) else kernel.ndim - 1
    return np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1)


def power_iteration(matrix: np.ndarray, u: np.ndarray, count: int = 1) -> np.ndarray:
    for _ in range(count):
        v = matrix.T @ u
        v /= np.linalg.norm(v)
        u = matrix @ v
        u /= np.linalg.norm(u)
    return u
