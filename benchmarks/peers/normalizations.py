"""What a user could put where attentive normalization stands: small, plain implementations, or Keras' own layers.

All take and return (b, h, w, c). None is tuned, and none is made slower than its formula: instance normalization is
TensorFlow's `tf.nn.moments` and `tf.nn.batch_normalization`, which is faster than Keras' GroupNormalization(groups=-1).
"""

from __future__ import annotations

from typing import Any, Callable

import tensorflow as tf
from tensorflow import keras

from attennorm_tf import AttentiveNormalization
from attennorm_tf.layers import SelfAttention

ENTITIES = 16


class InstanceNormalization(keras.layers.Layer):
    """Per image and channel, with a scale and an offset per channel."""

    def build(self, input_shape: Any) -> None:
        channels = (input_shape[-1],)
        self.scale = self.add_weight(name="scale", shape=channels, initializer="ones")
        self.offset = self.add_weight(name="offset", shape=channels, initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: Any, training: Any = None) -> Any:
        mean, variance = tf.nn.moments(inputs, axes=[1, 2], keepdims=True)
        offset, scale = (tf.convert_to_tensor(weight) for weight in (self.offset, self.scale))
        return tf.nn.batch_normalization(inputs, mean, variance, offset, scale, 1e-5)


class InstanceNormalizationAndConvolution(keras.layers.Layer):
    """A 1x1 convolution of as many channels, then instance normalization."""

    def build(self, input_shape: Any) -> None:
        self.convolution = keras.layers.Conv2D(input_shape[-1], 1)
        self.normalization = InstanceNormalization()
        for layer in (self.convolution, self.normalization):
            layer.build(input_shape)
        super().build(input_shape)

    def call(self, inputs: Any, training: Any = None) -> Any:
        return self.normalization(self.convolution(inputs))


class SpatiallyAdaptiveNormalization(keras.layers.Layer):
    """Like SPADE (Park et al. 2019): a normalization without weights, scaled and shifted by maps.

    Two 3x3 convolutions of a map of `ENTITIES` channels predict them. The map, SPADE's segmentation, is random and
    fixed here; SPADE's hidden convolution before these two is left out, which makes it cheaper.
    """

    def build(self, input_shape: Any) -> None:
        channels = input_shape[-1]
        self.scale = keras.layers.Conv2D(channels, 3, padding="same")
        self.offset = keras.layers.Conv2D(channels, 3, padding="same")
        for layer in (self.scale, self.offset):
            layer.build((*input_shape[:-1], ENTITIES))
        self.map = tf.random.stateless_uniform((*input_shape[:-1], ENTITIES), [1, 2])
        super().build(input_shape)

    def call(self, inputs: Any, training: Any = None) -> Any:
        mean, variance = tf.nn.moments(inputs, axes=[1, 2], keepdims=True)
        normalized = tf.nn.batch_normalization(inputs, mean, variance, None, None, 1e-5)
        return normalized * (1.0 + self.scale(self.map)) + self.offset(self.map)


class LinearAttention(keras.layers.Layer):
    """Efficient attention (Shen et al. 2021): softmax(q) (softmax(k)^T v), linear in the number of pixels.

    Keys of c / 8 channels, values of c / 2 and a projection back, as SAGAN's attention has them, with a residual.
    """

    def build(self, input_shape: Any) -> None:
        channels = input_shape[-1]
        self.query, self.key = (keras.layers.Conv2D(max(channels // 8, 1), 1, use_bias=False) for _ in range(2))
        self.value = keras.layers.Conv2D(max(channels // 2, 1), 1, use_bias=False)
        self.projection = keras.layers.Conv2D(channels, 1, use_bias=False)
        for layer in (self.query, self.key, self.value):
            layer.build(input_shape)
        self.projection.build((*input_shape[:-1], max(channels // 2, 1)))
        super().build(input_shape)

    def call(self, inputs: Any, training: Any = None) -> Any:
        batch, height, width, _ = inputs.shape
        query, key, value = (
            tf.reshape(layer(inputs), [batch, height * width, -1]) for layer in (self.query, self.key, self.value)
        )
        context = tf.linalg.matmul(tf.nn.softmax(key, axis=1), value, transpose_a=True)
        attended = tf.linalg.matmul(tf.nn.softmax(query), context)
        return inputs + self.projection(tf.reshape(attended, [batch, height, width, value.shape[2]]))


MAKERS: dict[str, Callable[[int], Any]] = {
    "attentive normalization": lambda channels: AttentiveNormalization(num_entities=ENTITIES, seed=1),
    "self-attention": lambda channels: SelfAttention(),
    "instance normalization": lambda channels: InstanceNormalization(),
    "instance normalization + 1x1 convolution": lambda channels: InstanceNormalizationAndConvolution(),
    "group normalization (Keras)": lambda channels: keras.layers.GroupNormalization(groups=min(32, channels // 4)),
    "batch normalization (Keras)": lambda channels: keras.layers.BatchNormalization(),
    "layer normalization (Keras)": lambda channels: keras.layers.LayerNormalization(),
    "SPADE-like modulation": lambda channels: SpatiallyAdaptiveNormalization(),
    "linear attention": lambda channels: LinearAttention(),
}


def make(name: str, shape: tuple[int, ...]) -> Any:
    """The built layer of that name for maps of `shape`, its gate open where it has one, so that nothing of it is idle.

    Raises:
        ValueError: there is no such layer.
    """
    if name not in MAKERS:
        raise ValueError(f"name must be one of {', '.join(MAKERS)}; got {name!r}")
    layer = MAKERS[name](shape[-1])
    layer.build(shape)
    for gate in ("rho", "gamma"):
        weight = getattr(layer, gate, None)
        if weight is not None and tuple(weight.shape) == ():
            weight.assign(1.0)
    return layer
