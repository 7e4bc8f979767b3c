"""The self-attention layer of SAGAN, a baseline for attentive normalization."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import keras

from attennorm_tf._compat import add_weight
from attennorm_tf.layers.spectral_normalization import SpectralNormalization


@keras.utils.register_keras_serializable(package="attennorm_tf")
class SelfAttention(keras.layers.Layer):
    """Every position of a feature map attends to all positions: `x + gamma * o`, gamma from 0.

    Zhang et al. 2019 (https://arxiv.org/abs/1805.08318), section 3. With theta, phi, g and the output
    projection 1x1 convolutions without bias, as in the authors' code,

        attention = softmax(theta(x) phi(x)^T)    (B, HW, M), over the M pooled positions
        o = output(attention g(x))                (B, H, W, C)

    phi and g are max-pooled, which divides M, and with it time and memory, by `pool_size` squared. Pooling
    pads at the border (SAME, where the authors' code drops the rest): maps of odd size lose no pixel, and a
    1x1 map still has one position to attend to. For even sizes the two are the same.

    Memory: the attention map holds B * HW * M float32 values, HW^2 / 4 per image by default: 16 MiB per image
    at 64x64, 4 GiB at 256x256. `AttentiveNormalization` is linear in HW.

    Under a float16 or bfloat16 policy everything between input and output is float32: logits grow with the
    square of the features, and a float16 overflow of the branch would reach the output even while gamma is 0.

    Args:
        key_channels: channels of theta and phi; None for max(C // 8, 1).
        value_channels: channels of g; None for max(C // 2, 1).
        pool_size: window and stride of the max-pooling of phi and g; 1 for none.
        spectral_normalization: whether the four convolutions are wrapped in `SpectralNormalization`, with
            `update_on_call=False`: the training step calls `update_spectral_norms`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: (B, H, W, C), C known.
        training: not used, the layer computes the same in both.

    Raises:
        ValueError: an argument is out of range, or the input is not of rank 4 or changes its channels.

    Example:
        >>> layer = SelfAttention()
        >>> layer(tf.ones((1, 5, 7, 16))).shape
        TensorShape([1, 5, 7, 16])
    """

    def __init__(
        self,
        key_channels: int | None = None,
        value_channels: int | None = None,
        pool_size: int = 2,
        spectral_normalization: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for name, value in (("key_channels", key_channels), ("value_channels", value_channels)):
            if value is not None and not _is_positive_integer(value):
                raise ValueError(f"{name} must be an integer of at least 1 or None, got {value!r}.")
        if not _is_positive_integer(pool_size):
            raise ValueError(f"pool_size must be an integer of at least 1, got {pool_size!r}.")
        self.key_channels = key_channels
        self.value_channels = value_channels
        self.pool_size = pool_size
        self.spectral_normalization = spectral_normalization

    def build(self, input_shape: Any) -> None:
        shape = tuple(input_shape)
        if len(shape) != 4 or shape[-1] is None:
            raise ValueError(f"inputs must have shape (batch, height, width, known channels), got {shape}.")
        channels = int(shape[-1])
        key_channels = max(channels // 8, 1) if self.key_channels is None else self.key_channels
        value_channels = max(channels // 2, 1) if self.value_channels is None else self.value_channels
        self.theta = self._projection(key_channels, "theta")
        self.phi = self._projection(key_channels, "phi")
        self.g = self._projection(value_channels, "g")
        self.output_projection = self._projection(channels, "output_projection")
        for projection in (self.theta, self.phi, self.g, self.output_projection):
            depth = value_channels if projection is self.output_projection else channels
            with tf.name_scope(projection.name):  # weights get their full path on Keras 2 too
                projection.build((None, None, None, depth))
        self.gamma = add_weight(self, "gamma", (), "zeros", autocast=False)
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={-1: channels})
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: Any = None) -> tf.Tensor:
        wide = self._wide_dtype()
        features = tf.cast(inputs, wide)  # (B, H, W, C)
        theta = self._flatten(self.theta(features))  # (B, HW, K)
        phi = self._flatten(self._pool(self.phi(features)))  # (B, M, K)
        g = self._flatten(self._pool(self.g(features)))  # (B, M, V)
        attention = tf.nn.softmax(tf.matmul(theta, phi, transpose_b=True))  # (B, HW, M)
        attended = tf.matmul(attention, g)  # (B, HW, V)
        size = tf.shape(features)
        attended = tf.reshape(attended, (size[0], size[1], size[2], attended.shape[-1]))
        attended = self.output_projection(attended)
        outputs = tf.cast(features + tf.cast(self.gamma, wide) * attended, self.compute_dtype)
        outputs.set_shape(inputs.shape)
        return outputs

    def _projection(self, filters: int, name: str) -> keras.layers.Layer:
        convolution = keras.layers.Conv2D(filters, 1, use_bias=False, dtype=self._wide_dtype(), name=name)
        if self.spectral_normalization:
            return SpectralNormalization(convolution, update_on_call=False, name=name)
        return convolution

    def _pool(self, features: tf.Tensor) -> tf.Tensor:
        if self.pool_size == 1:
            return features
        return tf.nn.max_pool2d(features, self.pool_size, self.pool_size, padding="SAME")

    def _flatten(self, features: tf.Tensor) -> tf.Tensor:
        size = tf.shape(features)
        return tf.reshape(features, (size[0], size[1] * size[2], features.shape[-1]))

    def _wide_dtype(self) -> str:
        return "float64" if self.compute_dtype == "float64" else "float32"

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.update(
            key_channels=self.key_channels,
            value_channels=self.value_channels,
            pool_size=self.pool_size,
            spectral_normalization=self.spectral_normalization,
        )
        return config


def _is_positive_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
