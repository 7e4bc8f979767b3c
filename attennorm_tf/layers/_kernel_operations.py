"""What `Dense`, `Conv2D`, `Conv2DTranspose` and `Embedding` compute, on a kernel other than the stored one.

A Keras layer's own call reads its variable, and only private names could swap it. Its public attributes say
all that is needed to compute the same here, one function per type.
"""

from __future__ import annotations

from typing import Any, Callable

import tensorflow as tf
from tensorflow import keras

from attennorm_tf.layers.resampled_convolution import (
    ConvolutionOfDoubled,
    HalvedConvolution,
    convolution_of_doubled,
    halved_convolution,
)
from attennorm_tf.layers.shapes import sizes_of


def kernel_matrix(layer: keras.layers.Layer) -> tf.Tensor:
    """The stored kernel as (everything else, output channels), float32 (float64 if stored so)."""
    if isinstance(layer, keras.layers.Embedding):
        kernel = tf.convert_to_tensor(layer.embeddings)  # (K, d)
    else:
        kernel = tf.convert_to_tensor(layer.kernel)
    if isinstance(layer, keras.layers.Conv2DTranspose):
        kernel = tf.transpose(kernel, (0, 1, 3, 2))  # (h, w, out, in) -> (h, w, in, out)
    kernel = tf.cast(kernel, tf.float64 if kernel.dtype == tf.float64 else tf.float32)
    return tf.reshape(kernel, (-1, kernel.shape[-1]))


def _normalized(layer: keras.layers.Layer, weight: Any, sigma: tf.Tensor) -> tf.Tensor:
    """`weight / sigma` in the compute type of the layer, divided before it is rounded."""
    return tf.cast(tf.cast(tf.convert_to_tensor(weight), sigma.dtype) / sigma, layer.compute_dtype)


def _add_bias_and_activate(layer: keras.layers.Layer, outputs: tf.Tensor) -> tf.Tensor:
    if layer.use_bias:
        bias = tf.cast(tf.convert_to_tensor(layer.bias), outputs.dtype)
        if getattr(layer, "data_format", "channels_last") == "channels_first":
            bias = tf.reshape(bias, (-1, 1, 1))
        outputs = outputs + bias
    return outputs if layer.activation is None else layer.activation(outputs)


def _dense(layer: keras.layers.Layer, inputs: Any, sigma: tf.Tensor) -> tf.Tensor:
    inputs = tf.cast(inputs, layer.compute_dtype)
    outputs = tf.tensordot(inputs, _normalized(layer, layer.kernel, sigma), 1)
    return _add_bias_and_activate(layer, outputs)


def _conv2d(layer: keras.layers.Layer, inputs: Any, sigma: tf.Tensor) -> tf.Tensor:
    channel_axis = -1 if layer.data_format == "channels_last" else -3
    # One convolution a group: TensorFlow has no gradient of a grouped convolution on CPU.
    outputs = [
        tf.nn.convolution(
            features,
            kernel,
            strides=list(layer.strides),
            padding=layer.padding.upper(),
            data_format=_TF_DATA_FORMATS[layer.data_format],
            dilations=list(layer.dilation_rate),
        )
        for features, kernel in zip(
            tf.split(tf.cast(inputs, layer.compute_dtype), layer.groups, axis=channel_axis),
            tf.split(_normalized(layer, layer.kernel, sigma), layer.groups, axis=-1),
        )
    ]
    return _add_bias_and_activate(layer, tf.concat(outputs, axis=channel_axis))


def _halved_conv2d(layer: keras.layers.Layer, inputs: Any, sigma: tf.Tensor) -> tf.Tensor:
    return _resampled(halved_convolution, layer, inputs, sigma)


def _conv2d_of_doubled(layer: keras.layers.Layer, inputs: Any, sigma: tf.Tensor) -> tf.Tensor:
    return _resampled(convolution_of_doubled, layer, inputs, sigma)


def _resampled(
    operation: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], layer: keras.layers.Layer, inputs: Any, sigma: tf.Tensor
) -> tf.Tensor:
    kernel = tf.cast(tf.convert_to_tensor(layer.kernel), sigma.dtype) / sigma
    return _add_bias_and_activate(layer, operation(tf.cast(inputs, layer.compute_dtype), kernel))


def _conv2d_transpose(layer: keras.layers.Layer, inputs: Any, sigma: tf.Tensor) -> tf.Tensor:
    inputs = tf.cast(inputs, layer.compute_dtype)
    given = sizes_of(inputs)
    first = 1 if layer.data_format == "channels_last" else 2  # first spatial axis
    sizes: list[Any] = []
    for axis in range(2):
        sizes.append(
            _transposed_length(
                given[first + axis],
                layer.kernel_size[axis],
                layer.strides[axis],
                layer.dilation_rate[axis],
                layer.padding,
                None if layer.output_padding is None else layer.output_padding[axis],
            )
        )
    outputs = tf.nn.conv2d_transpose(
        inputs,
        _normalized(layer, layer.kernel, sigma),
        [given[0], *sizes, layer.filters] if first == 1 else [given[0], layer.filters, *sizes],
        strides=list(layer.strides),
        padding=layer.padding.upper(),
        data_format=_TF_DATA_FORMATS[layer.data_format],
        dilations=list(layer.dilation_rate),
    )
    return _add_bias_and_activate(layer, outputs)


def _transposed_length(
    length: Any, kernel_size: int, stride: int, dilation: int, padding: str, output_padding: int | None
) -> Any:
    """Output size along one axis of a transposed convolution, as Keras defines it; int or scalar tensor."""
    extent = (kernel_size - 1) * dilation + 1
    if output_padding is None:
        return length * stride + (max(extent - stride, 0) if padding == "valid" else 0)
    margin = 0 if padding == "valid" else 2 * (extent // 2)
    return (length - 1) * stride + extent - margin + output_padding


def _embedding(layer: keras.layers.Layer, inputs: Any, sigma: tf.Tensor) -> tf.Tensor:
    inputs = tf.convert_to_tensor(inputs)
    if inputs.dtype not in (tf.int32, tf.int64):
        inputs = tf.cast(inputs, tf.int32)
    # Rows first: W / sigma is never formed for the classes that the batch does not hold.
    return _normalized(layer, tf.gather(layer.embeddings, inputs), sigma)


_TF_DATA_FORMATS = {"channels_last": "NHWC", "channels_first": "NCHW"}

# A Conv2DTranspose is a Conv2D to Keras 2, the resampled convolutions are to both: the more special type comes first.
_OPERATIONS: tuple[tuple[type, Callable[..., tf.Tensor]], ...] = (
    (keras.layers.Dense, _dense),
    (keras.layers.Conv2DTranspose, _conv2d_transpose),
    (HalvedConvolution, _halved_conv2d),
    (ConvolutionOfDoubled, _conv2d_of_doubled),
    (keras.layers.Conv2D, _conv2d),
    (keras.layers.Embedding, _embedding),
)


def operation_with_sigma(layer: keras.layers.Layer, inputs: Any, sigma: tf.Tensor) -> tf.Tensor:
    """What the built layer computes on `inputs`, with its kernel divided by the scalar `sigma`."""
    operation = next(operation for kind, operation in _OPERATIONS if isinstance(layer, kind))
    return operation(layer, inputs, sigma)


def check_layer(layer: Any) -> None:
    """Raises ValueError unless `operation_with_sigma` computes what the layer's own call would."""
    kind = next((kind for kind, _ in _OPERATIONS if isinstance(layer, kind)), None)
    allowed = "Dense, Conv2D, Conv2DTranspose and Embedding"
    if kind is None:
        raise ValueError(f"layer of type {type(layer).__name__} cannot be normalized: allowed are {allowed}.")
    for name in ("call", "__call__", "convolution_op"):
        own = getattr(getattr(layer, name, None), "__func__", None)
        if own is not getattr(kind, name, None):
            raise ValueError(
                f"layer of type {type(layer).__name__} overrides {kind.__name__}.{name}, which the "
                f"wrapper would not run: allowed are {allowed}, and subclasses that compute as they do."
            )
    if getattr(layer, "quantization_mode", None) is not None or getattr(layer, "sparse", False):
        raise ValueError(f"layer {layer.name} is quantized or sparse; only plain {allowed} can be normalized.")
