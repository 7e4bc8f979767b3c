"""Layers as they are at inference, with all that is constant then computed once, at export.

A convolution's kernel is already divided by its spectral norm; batch normalization is a product and a sum; attentive
normalization has one projection for layout and values, with the temperature in it, and rho in its scale and offset.
Each is a `tf.Module` of variables, so that a SavedModel holds them as such.
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple

import numpy as np
import tensorflow as tf

from attennorm_tf.layers.regional_normalization import regional_normalization
from attennorm_tf.layers.resampled_convolution import taps_of_two_places
from attennorm_tf.layers.shapes import sizes_of
from attennorm_tf.layers.spectral_normalization import SpectralNormalization

# Channels with |mean| > FAR * std are centred before they are scaled: in x * scale - mean * scale, such a difference
# would be all rounding.
FAR = 16.0


class PlainWeights(NamedTuple):
    """float64 arrays."""

    kernel: np.ndarray
    bias: np.ndarray


def values_of(weight: Any) -> np.ndarray:
    """A weight's values, float64."""
    return np.asarray(tf.convert_to_tensor(weight), np.float64)


def plain_weights(layer: Any) -> PlainWeights:
    """Kernel and bias of a dense or convolution layer; the kernel divided by sigma where the layer is wrapped so."""
    sigma = 1.0
    if isinstance(layer, SpectralNormalization):
        sigma, layer = float(layer.sigma()), layer.layer
    kernel = values_of(layer.kernel) / sigma
    return PlainWeights(kernel, values_of(layer.bias) if layer.use_bias else np.zeros(kernel.shape[-1]))


def variable(name: str, values: Any) -> tf.Variable:
    """float32, not trainable."""
    return tf.Variable(np.asarray(values, np.float32), trainable=False, name=name)


class FoldedConvolution(tf.Module):
    """A "same" convolution, bias, activation.

    Args:
        weights: (h, w, c, filters) and (filters,); with `double`, h = w is odd.
        stride: of both axes.
        dilation: of both axes.
        activation: of the result.
        double: whether the input is upsampled by two before it.
        name: of the variables.
    """

    def __init__(
        self,
        weights: PlainWeights,
        stride: int = 1,
        dilation: int = 1,
        activation: Callable[[tf.Tensor], tf.Tensor] = tf.identity,
        double: bool = False,
        name: str = "convolution",
    ):
        super().__init__(name=name)
        kernel = weights.kernel
        if double:
            # One transposed convolution, its kernel as `layers.resampled_convolution.convolution_of_doubled` makes it.
            kernel = taps_of_two_places(tf.constant(kernel[::-1, ::-1].transpose(0, 1, 3, 2))).numpy()
        self.kernel = variable(f"{name}/kernel", kernel)
        self.bias = variable(f"{name}/bias", weights.bias)
        self._stride, self._dilation, self._activation, self._double = stride, dilation, activation, double

    def __call__(self, inputs: tf.Tensor) -> tf.Tensor:
        if self._double:
            batch, height, width, _ = sizes_of(inputs)
            sizes = [batch, 2 * height, 2 * width, self.bias.shape[0]]
            hidden = tf.nn.conv2d_transpose(inputs, self.kernel, sizes, 2, "SAME")
        else:
            hidden = tf.nn.conv2d(inputs, self.kernel, self._stride, "SAME", dilations=self._dilation)
        return self._activation(tf.nn.bias_add(hidden, self.bias))


class Affine(NamedTuple):
    """(x - mean) * scale + offset of batch normalization at inference, float64, the last axis the channels.

    Attributes:
        mean: (c,), 0 but where it lies far from 0 (see `FAR`).
        scale: (c,) or (classes, c).
        offset: as `scale`, with the rest of the mean in it.
    """

    mean: np.ndarray
    scale: np.ndarray
    offset: np.ndarray


def batch_norm_affine(layer: Any, centred: bool = False) -> Affine:
    """Of `BatchNormalization` or `ConditionalBatchNormalization` with their moving statistics.

    Args:
        layer: built.
        centred: whether the mean is given as it is, for a caller who can subtract it at no cost.
    """
    mean, variance = values_of(layer.moving_mean), values_of(layer.moving_variance)
    deviation = np.sqrt(variance + layer.epsilon)
    scale, offset = values_of(layer.gamma) / deviation, values_of(layer.beta)
    far = mean if centred else np.where(np.abs(mean) > FAR * deviation, mean, 0.0)
    return Affine(far, scale, offset - (mean - far) * scale)


class FoldedAttention(tf.Module):
    """`AttentiveNormalization` at inference: one matrix product for layout and values, then the regions.

    With entities E, value kernel V and bias v, temperature tau, rho, beta and alpha:

        [tau f(X), values] = X [tau E^T, V] + [0, v],    output = X + RN(values, softmax(...); rho beta, rho alpha)

    With moving statistics (normalization="batch"), slope and intercept of the regions are constants as well.

    Args:
        layer: built `AttentiveNormalization`.
    """

    def __init__(self, layer: Any):
        super().__init__(name="attention")
        n, channels = layer.num_entities, layer.channels
        self._entities, self._channels = n, channels
        self._epsilon, self._statistics = layer.epsilon, layer.statistics
        kernel, bias = layer.temperature * values_of(layer.entities).T, np.zeros(n)
        rho = float(values_of(layer.rho))
        beta, alpha = (
            (values_of(layer.beta), values_of(layer.alpha))
            if layer.affine is not None
            else (np.ones(channels), np.zeros(channels))
        )
        value_kernel, value_bias = np.eye(channels), np.zeros(channels)
        self._values = bool(layer.value_projection)
        if layer.value_projection:
            value_kernel, value_bias = values_of(layer.value_kernel), values_of(layer.value_bias)
        self._moving = layer.normalization == "batch"
        if self._moving:
            mean, variance = values_of(layer.moving_mean), values_of(layer.moving_variance)  # (n, c)
            pivot = mean.mean(axis=0)
            per_entity = [part.T if part.ndim == 2 else part[np.newaxis] for part in (rho * beta, rho * alpha)]
            slope = per_entity[0] / (np.sqrt(np.maximum(variance, 0)) + layer.epsilon)
            self.slope = variable("attention/slope", slope)
            self.intercept = variable("attention/intercept", per_entity[1] + (pivot - mean) * slope)
            value_bias = value_bias - pivot
            self.value_bias = variable("attention/value_bias", value_bias)
        else:
            self.scale = variable("attention/scale", rho * beta)
            self.offset = variable("attention/offset", rho * alpha)
        if self._values:
            kernel, bias = np.concatenate([kernel, value_kernel], axis=1), np.concatenate([bias, value_bias])
        self.kernel = variable("attention/kernel", kernel)
        self.bias = variable("attention/bias", bias)

    def __call__(self, features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(b, h, w, c) -> (b, h, w, c) and the layout (b, h, w, n)."""
        batch, height, width, channels = sizes_of(features)
        flat = tf.reshape(features, [-1, channels])
        logits, values = tf.linalg.matmul(flat, self.kernel), flat
        if self._values:
            logits = tf.nn.bias_add(logits, self.bias)
            logits, values = tf.split(logits, [self._entities, channels], axis=1)
        elif self._moving:
            values = tf.nn.bias_add(values, self.value_bias)
        layout = tf.nn.softmax(logits)
        if self._moving:
            normalized = values * tf.matmul(layout, self.slope) + tf.matmul(layout, self.intercept)
            layout = tf.reshape(layout, [batch, height, width, self._entities])
            return tf.reshape(flat + normalized, [batch, height, width, channels]), layout
        layout = tf.reshape(layout, [batch, height, width, self._entities])
        values = tf.reshape(values, [batch, height, width, channels])
        normalized = regional_normalization(
            values, layout, self.scale, self.offset, epsilon=self._epsilon, statistics=self._statistics,
            differentiable=False,
        )  # fmt: skip
        return features + normalized, layout


class FoldedSelfAttention(tf.Module):
    """`SelfAttention` at inference: its three input projections as one product, gamma in its output's.

    Args:
        layer: built `SelfAttention`.
    """

    def __init__(self, layer: Any):
        super().__init__(name="self_attention")
        parts = [plain_weights(part).kernel[0, 0] for part in (layer.theta, layer.phi, layer.g)]
        self._widths = [part.shape[1] for part in parts]
        self._pool = layer.pool_size
        self.kernel = variable("self_attention/kernel", np.concatenate(parts, axis=1))
        gamma = float(values_of(layer.gamma))
        self.output = variable("self_attention/output", gamma * plain_weights(layer.output_projection).kernel[0, 0])

    def __call__(self, features: tf.Tensor) -> tf.Tensor:
        batch, height, width, channels = sizes_of(features)
        keys, values = self._widths[0], self._widths[2]
        projected = tf.linalg.matmul(tf.reshape(features, [-1, channels]), self.kernel)
        theta, rest = tf.split(projected, [keys, keys + values], axis=1)
        theta = tf.reshape(theta, [batch, height * width, keys])
        rest = tf.reshape(rest, [batch, height, width, keys + values])
        if self._pool > 1:
            rest = tf.nn.max_pool2d(rest, self._pool, self._pool, padding="SAME")
        phi, g = tf.split(tf.reshape(rest, [batch, -1, keys + values]), [keys, values], axis=2)
        attention = tf.nn.softmax(tf.linalg.matmul(theta, phi, transpose_b=True))
        attended = tf.linalg.matmul(tf.reshape(tf.linalg.matmul(attention, g), [-1, values]), self.output)
        return features + tf.reshape(attended, [batch, height, width, channels])
