"""A row of convolutions, the part that the inpainting networks are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow import keras

from attennorm_tf.layers.resampled_convolution import ConvolutionOfDoubled
from attennorm_tf.models.blocks import build_named


def leaky_relu(features: Any) -> tf.Tensor:
    """Leaky ReLU with DeepFill's slope of 0.2."""
    return tf.nn.leaky_relu(features, 0.2)


ACTIVATIONS = {"elu": tf.nn.elu, "relu": tf.nn.relu, "leaky_relu": leaky_relu, "linear": tf.identity}


class Convolution(NamedTuple):
    """One convolution: "same" padding, bias, Glorot initialisation; an activation of `ACTIVATIONS`."""

    filters: int
    size: int = 3
    stride: int = 1
    dilation: int = 1
    activation: str = "elu"
    doubled: bool = False  # nearest-neighbour upsampling by two before it


@keras.utils.register_keras_serializable(package="attennorm_tf")
class ConvolutionStack(keras.layers.Layer):
    """Convolutions in a row, named conv1, conv2, ...

    Args:
        convolutions: the row, `Convolution` tuples.
        **kwargs: of any Keras layer.

    Inputs: (B, H, W, C). Output: (B, H', W', filters of the last one).
    """

    def __init__(self, convolutions: Sequence[Sequence[Any]], **kwargs: Any):
        super().__init__(**kwargs)
        self.convolutions = convolutions
        # Each is an attribute of its own: Keras 3 hides lists of layers from tf.train.Checkpoint.
        for index, one in enumerate(Convolution(*values) for values in convolutions):
            kind = ConvolutionOfDoubled if one.doubled else keras.layers.Conv2D
            layer = kind(
                one.filters, one.size, strides=one.stride, dilation_rate=one.dilation, padding="same",
                name=f"conv{index + 1}",
            )  # fmt: skip
            setattr(self, layer.name, layer)

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """The convolutions in order."""
        return [getattr(self, f"conv{index + 1}") for index in range(len(self.convolutions))]

    @property
    def filters(self) -> int:
        """Channels of the output."""
        return Convolution(*self.convolutions[-1]).filters

    def build(self, input_shape: Any) -> None:
        channels = tuple(input_shape)[-1]
        for layer in self.layers:
            build_named(layer, (None, None, None, channels))
            channels = layer.filters
        super().build(input_shape)

    def call(self, inputs: Any) -> tf.Tensor:
        hidden = inputs
        for values, layer in zip(self.convolutions, self.layers):
            one = Convolution(*values)
            hidden = ACTIVATIONS[one.activation](layer(hidden))
        return hidden

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "convolutions": [list(values) for values in self.convolutions]}
