"""Self-attention against a NumPy loop in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from attennorm_tf.layers.self_attention import SelfAttention
from attennorm_tf.layers.spectral_normalization import SpectralNormalization, update_spectral_norms


def kernel_of(part: keras.layers.Layer) -> np.ndarray:
    """(in, out) of a 1x1 convolution, divided by its spectral norm estimate where it is wrapped."""
    if isinstance(part, SpectralNormalization):
        matrix = part.layer.kernel.numpy()[0, 0].astype(np.float64)
        return matrix / np.linalg.norm(matrix @ part.u.numpy())
    return part.kernel.numpy()[0, 0].astype(np.float64)


def attend(layer: SelfAttention, features: np.ndarray) -> np.ndarray:
    """The definition, position by position."""
    features = features.astype(np.float64)
    batch, height, width, _ = features.shape
    pool = layer.pool_size
    theta, phi, g = (features @ kernel_of(part) for part in (layer.theta, layer.phi, layer.g))
    outputs = np.empty_like(features)
    for b in range(batch):
        keys, values = [], []
        # SAME: windows begin at multiples of the stride, less half of what is missing at the border.
        top = (-height % pool) // 2
        left = (-width % pool) // 2
        for i in range(-top, height, pool):
            for j in range(-left, width, pool):
                window = (b, slice(max(i, 0), i + pool), slice(max(j, 0), j + pool))
                keys.append(phi[window].max(axis=(0, 1)))
                values.append(g[window].max(axis=(0, 1)))
        for i in range(height):
            for j in range(width):
                logits = np.array([theta[b, i, j] @ key for key in keys])
                weights = np.exp(logits - logits.max())
                weights /= weights.sum()
                attended = sum(weight * value for weight, value in zip(weights, values))
                outputs[b, i, j] = attended @ kernel_of(layer.output_projection)
    return features + float(layer.gamma.numpy()) * outputs


def built(shape: tuple[int, ...], **options: Any) -> tuple[SelfAttention, np.ndarray]:
    layer = SelfAttention(**options)
    features = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    layer(tf.constant(features))
    layer.gamma.assign(0.7)
    return layer, features


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((2, 6, 4, 16), {}),
        ((2, 5, 7, 8), {}),  # odd: the border is padded, no pixel lost
        ((1, 1, 1, 8), {}),
        ((1, 1, 6, 3), {"key_channels": 5, "value_channels": 2}),
        ((2, 7, 8, 4), {"pool_size": 3}),
        ((2, 4, 5, 8), {"pool_size": 1}),
        ((2, 6, 5, 16), {"spectral_normalization": True}),
    ],
)
def test_equals_the_definition(shape: tuple[int, ...], options: dict[str, Any]) -> None:
    layer, features = built(shape, **options)
    expected = attend(layer, features)
    np.testing.assert_allclose(layer(tf.constant(features)), expected, rtol=1e-4, atol=1e-5)
    wide = SelfAttention(dtype="float64", **options)
    wide(tf.constant(features, tf.float64))
    wide.set_weights(layer.get_weights())
    np.testing.assert_allclose(wide(tf.constant(features, tf.float64)), expected, rtol=1e-9, atol=1e-9)


def test_channels_by_default_and_by_option() -> None:
    shapes = {part: kernel_of(getattr(built((1, 4, 4, 32))[0], part)).shape for part in ("theta", "phi", "g")}
    assert shapes == {"theta": (32, 4), "phi": (32, 4), "g": (32, 16)}
    layer, _ = built((1, 4, 4, 4))  # C // 8 would be no channel
    assert kernel_of(layer.theta).shape == (4, 1)
    layer, _ = built((1, 4, 4, 32), key_channels=3, value_channels=7)
    assert kernel_of(layer.phi).shape == (32, 3)
    assert kernel_of(layer.output_projection).shape == (7, 32)


def test_is_the_identity_at_first_and_gamma_learns() -> None:
    layer = SelfAttention()
    features = tf.random.normal((2, 5, 5, 8))
    with tf.GradientTape() as tape:
        outputs = layer(features)
        loss = tf.reduce_sum(outputs**2)
    np.testing.assert_array_equal(outputs, features)
    assert abs(float(tape.gradient(loss, layer.gamma))) > 0


def test_permuted_positions_permute_the_output_without_pooling() -> None:
    layer, features = built((1, 4, 4, 8), pool_size=1)
    order = np.random.default_rng(0).permutation(16)
    flat = features.reshape(1, 16, 8)
    permuted = layer(tf.constant(flat[:, order].reshape(1, 4, 4, 8))).numpy().reshape(1, 16, 8)
    np.testing.assert_allclose(permuted, layer(features).numpy().reshape(1, 16, 8)[:, order], atol=1e-5)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_keeps_the_attention_in_float32(dtype: str) -> None:
    layer, features = built((2, 5, 6, 16))
    half = SelfAttention(dtype=dtype)
    half(tf.constant(features))
    half.set_weights(layer.get_weights())
    rounded = tf.cast(features, half.compute_dtype)
    outputs = half(rounded)
    assert outputs.dtype == half.compute_dtype
    expected = tf.cast(layer(tf.cast(rounded, tf.float32)), half.compute_dtype)
    np.testing.assert_array_equal(tf.cast(outputs, tf.float32), tf.cast(expected, tf.float32))
    # Logits of 1e9 and more: softmax in float16 would be NaN.
    assert np.isfinite(tf.cast(half(rounded * 1e4), tf.float32).numpy()).all()


def test_spectral_vectors_move_only_by_the_training_step() -> None:
    layer, features = built((1, 4, 4, 16), spectral_normalization=True)
    before = layer.theta.u.numpy(), layer.output_projection.u.numpy()
    layer(features, training=True)
    np.testing.assert_array_equal(layer.output_projection.u.numpy(), before[1])
    update_spectral_norms(layer)
    assert np.abs(layer.output_projection.u.numpy() - before[1]).max() > 0
    assert sum(isinstance(part, SpectralNormalization) for part in vars(layer).values()) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key_channels": 0}, "key_channels must be an integer of at least 1 or None, got 0"),
        ({"value_channels": 2.0}, "value_channels must be an integer of at least 1 or None, got 2.0"),
        ({"pool_size": True}, "pool_size must be an integer of at least 1, got True"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SelfAttention(**options)


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 5, 6)])
def test_bad_rank(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="batch, height, width, known channels"):
        SelfAttention()(tf.ones(shape))


def test_unknown_and_changed_channels() -> None:
    with pytest.raises(ValueError, match="known channels"):
        SelfAttention()(keras.Input((4, 4, None)))
    layer, _ = built((1, 4, 4, 8))
    with pytest.raises(ValueError, match="8"):
        layer(tf.ones((1, 4, 4, 6)))
