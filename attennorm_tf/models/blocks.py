"""Residual blocks of the class-conditional networks (supplement, Figures 1 and 2)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import keras

from attennorm_tf.layers.attentive_normalization import AttentiveNormalization
from attennorm_tf.layers.conditional_batch_normalization import ConditionalBatchNormalization
from attennorm_tf.layers.resampled_convolution import ConvolutionOfDoubled, HalvedConvolution
from attennorm_tf.layers.shapes import sizes_of
from attennorm_tf.layers.spectral_normalization import SpectralNormalization


def convolution(
    filters: int,
    size: int,
    spectral_normalization: bool,
    name: str,
    kind: type[keras.layers.Conv2D] = keras.layers.Conv2D,
) -> keras.layers.Layer:
    """A "same" convolution with bias and Glorot initialisation, spectrally normalised where asked.

    `kind` may be one of the resampled convolutions, which pool or upsample as well. The networks update their spectral
    vectors once per optimisation step (`update_spectral_norms`), not per call.
    """
    layer = kind(filters, size, padding="same", name=name)
    return SpectralNormalization(layer, update_on_call=False, name=name) if spectral_normalization else layer


def build_named(layer: keras.layers.Layer, shape: Any) -> None:
    """`layer.build` under its name, as calling it would do: weights get their full path on Keras 2 too."""
    with tf.name_scope(layer.name):
        layer.build(shape)


def double(images: Any) -> tf.Tensor:
    """Nearest-neighbour upsampling by two: (B, H, W, C) -> (B, 2 H, 2 W, C).

    Its gradient, the sum over two by two places, is written as a pooling: XLA has none for resizing on a CPU.
    """

    @tf.custom_gradient
    def doubled(images: tf.Tensor) -> tuple[tf.Tensor, Any]:
        _, height, width, _ = sizes_of(images)
        larger = tf.image.resize(images, [2 * height, 2 * width], method="nearest")
        return larger, lambda upstream: 4.0 * halve(upstream)

    return doubled(images)


def halve(images: Any) -> tf.Tensor:
    """Average pooling by two: (B, H, W, C) -> (B, H / 2, W / 2, C)."""
    return tf.nn.avg_pool2d(images, 2, 2, "VALID")


@keras.utils.register_keras_serializable(package="attennorm_tf")
class UpBlock(keras.layers.Layer):
    """CBN - ReLU - x2 - conv3 - (CBN | AN) - ReLU - conv3, plus the shortcut x2 - conv1.

    With `attention_options` the attentive normalization stands in place of the second conditional batch
    normalization, between convolution and activation (supplement Figure 2, paper Figure 6).

    Args:
        filters: output channels.
        num_classes: classes of the conditional batch normalization.
        spectral_normalization: whether the convolutions are spectrally normalised.
        synchronized: batch normalization over all replicas.
        attention_options: constructor arguments of `AttentiveNormalization`, or None for a second CBN.
        **kwargs: of any Keras layer.

    Inputs: ((B, H, W, C), labels). Output: (B, 2 H, 2 W, filters); with `return_layout=True` also the layout.
    """

    def __init__(
        self,
        filters: int,
        num_classes: int,
        spectral_normalization: bool = True,
        synchronized: bool = True,
        attention_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.num_classes = num_classes
        self.spectral_normalization = spectral_normalization
        self.synchronized = synchronized
        self.attention_options = attention_options
        self.norm1 = ConditionalBatchNormalization(num_classes, synchronized=synchronized, name="norm1")
        self.conv1 = convolution(filters, 3, spectral_normalization, "conv1", ConvolutionOfDoubled)
        if attention_options is None:
            self.norm2 = ConditionalBatchNormalization(num_classes, synchronized=synchronized, name="norm2")
        else:
            self.norm2 = AttentiveNormalization(name="attention", **attention_options)
        self.conv2 = convolution(filters, 3, spectral_normalization, "conv2")
        self.shortcut = convolution(filters, 1, spectral_normalization, "shortcut")

    def build(self, input_shape: Any) -> None:
        features, labels = (tuple(shape) for shape in input_shape)
        batch, height, width, _ = features
        larger = (batch, height and 2 * height, width and 2 * width)
        build_named(self.norm1, (features, labels))
        build_named(self.conv1, features)
        hidden = (*larger, self.filters)
        build_named(self.norm2, (hidden, labels) if self.attention_options is None else hidden)
        build_named(self.conv2, hidden)
        build_named(self.shortcut, features)
        super().build(input_shape)

    def call(self, inputs: Any, training: bool | None = None, return_layout: bool = False) -> Any:
        features, labels = inputs
        layout = None
        hidden = tf.nn.relu(self.norm1((features, labels), training=training))
        hidden = self.conv1(hidden)
        if self.attention_options is None:
            hidden = self.norm2((hidden, labels), training=training)
        else:
            hidden, layout = self.norm2(hidden, training=training, return_layout=True)
        hidden = self.conv2(tf.nn.relu(hidden))
        # A 1x1 convolution commutes with nearest upsampling, at a quarter of the cost.
        outputs = hidden + double(self.shortcut(features))
        return (outputs, layout) if return_layout else outputs

    def get_config(self) -> dict[str, Any]:
        config = {
            "filters": self.filters,
            "num_classes": self.num_classes,
            "spectral_normalization": self.spectral_normalization,
            "synchronized": self.synchronized,
            "attention_options": self.attention_options,
        }
        return {**super().get_config(), **config}


@keras.utils.register_keras_serializable(package="attennorm_tf")
class DownBlock(keras.layers.Layer):
    """[ReLU -] conv3 - [AN -] ReLU - conv3 - average pool, plus the shortcut conv1 - average pool.

    Args:
        filters: output channels.
        hidden_filters: channels between the convolutions.
        first: the block sees the image: no ReLU before it.
        downsample: whether the block halves the resolution.
        learned_shortcut: whether the shortcut has a convolution; needed where channels or resolution change.
        spectral_normalization: whether the convolutions are spectrally normalised.
        attention_options: constructor arguments of `AttentiveNormalization` between the first convolution and its
            activation, or None.
        **kwargs: of any Keras layer.

    Inputs: (B, H, W, C). Output: (B, H / 2, W / 2, filters), or (B, H, W, filters) without downsampling.
    """

    def __init__(
        self,
        filters: int,
        hidden_filters: int,
        first: bool = False,
        downsample: bool = True,
        learned_shortcut: bool = True,
        spectral_normalization: bool = True,
        attention_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.hidden_filters = hidden_filters
        self.first = first
        self.downsample = downsample
        self.learned_shortcut = learned_shortcut
        self.spectral_normalization = spectral_normalization
        self.attention_options = attention_options
        self.conv1 = convolution(hidden_filters, 3, spectral_normalization, "conv1")
        if attention_options is not None:
            self.attention = AttentiveNormalization(name="attention", **attention_options)
        kind = HalvedConvolution if downsample else keras.layers.Conv2D
        self.conv2 = convolution(filters, 3, spectral_normalization, "conv2", kind)
        if learned_shortcut:
            self.shortcut = convolution(filters, 1, spectral_normalization, "shortcut")

    def build(self, input_shape: Any) -> None:
        shape = tuple(input_shape)
        hidden = (*shape[:-1], self.hidden_filters)
        build_named(self.conv1, shape)
        if self.attention_options is not None:
            build_named(self.attention, hidden)
        build_named(self.conv2, hidden)
        if self.learned_shortcut:
            build_named(self.shortcut, shape)
        super().build(input_shape)

    def call(self, inputs: Any, training: bool | None = None) -> tf.Tensor:
        hidden = inputs if self.first else tf.nn.relu(inputs)
        hidden = self.conv1(hidden)
        if self.attention_options is not None:
            hidden = self.attention(hidden, training=training)
        hidden = self.conv2(tf.nn.relu(hidden))
        residual = inputs
        if self.downsample:
            # A 1x1 convolution commutes with average pooling, at a quarter of the cost.
            residual = halve(residual)
        if self.learned_shortcut:
            residual = self.shortcut(residual)
        return hidden + residual

    def get_config(self) -> dict[str, Any]:
        config = {
            "filters": self.filters,
            "hidden_filters": self.hidden_filters,
            "first": self.first,
            "downsample": self.downsample,
            "learned_shortcut": self.learned_shortcut,
            "spectral_normalization": self.spectral_normalization,
            "attention_options": self.attention_options,
        }
        return {**super().get_config(), **config}
