"""A convolution before average pooling, or after nearest-neighbour upsampling, as one convolution of fewer products."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import keras

from attennorm_tf.layers.shapes import sizes_of


def taps_of_two_places(kernel: tf.Tensor) -> tf.Tensor:
    """(k, k, a, b) -> (k + 1, k + 1, a, b): the kernel summed over its two by two positions in a field one wider."""
    for axis in (0, 1):
        wider = [[0, 0] for _ in range(4)]
        wider[axis] = [0, 1]
        kernel = tf.pad(kernel, wider) + tf.pad(kernel, [side[::-1] for side in wider])
    return kernel


def halved_convolution(images: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Average pooling by two of the "same" convolution.

    A pooled place sees (k + 1)^2 places of the image through the mean of four shifted kernels: 16 products for a
    kernel of 3x3, where four convolved places take 36. Blocks of two by two places become channels, since convolutions
    of stride one are the fast ones: on a CPU the gradient of stride two takes longer than what the products save.

    Args:
        images: (B, H, W, C).
        kernel: (k, k, C, D), k odd; summed in its own type, used in that of the images.

    Returns:
        (B, H // 2, W // 2, D).
    """
    size, _, channels, filters = kernel.shape
    margin, half = size // 2, (size + 1) // 2
    images = tf.pad(images, [[0, 0], [margin, margin], [margin, margin], [0, 0]])
    batch, height, width, _ = sizes_of(images)
    # A last row or column too many stays in sight of a kernel larger than one place, and so in a block.
    rows, columns = height // 2, width // 2
    images = tf.reshape(images[:, : 2 * rows, : 2 * columns], [batch, rows, 2, columns, 2, channels])
    images = tf.reshape(tf.transpose(images, [0, 1, 3, 2, 4, 5]), [batch, rows, columns, 4 * channels])
    taps = tf.reshape(0.25 * taps_of_two_places(kernel), [half, 2, half, 2, channels, filters])
    taps = tf.reshape(tf.transpose(taps, [0, 2, 1, 3, 4, 5]), [half, half, 4 * channels, filters])
    return tf.nn.conv2d(images, tf.cast(taps, images.dtype), 1, "VALID")


def convolution_of_doubled(images: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """The "same" convolution of the image upsampled by two, to the nearest neighbour.

    Of the k^2 places under the kernel many are copies of the same one: with 3x3, a place of the result depends on 4
    places of the image, through sums of the kernel. All four such sums together are a transposed convolution.

    Args:
        images: (B, H, W, C).
        kernel: (k, k, C, D), k odd; summed in its own type, used in that of the images.

    Returns:
        (B, 2 H, 2 W, D).
    """
    batch, height, width, _ = sizes_of(images)
    transposed = tf.transpose(tf.reverse(kernel, [0, 1]), [0, 1, 3, 2])  # (k, k, D, C)
    sizes = [batch, 2 * height, 2 * width, kernel.shape[3]]
    kernel = tf.cast(taps_of_two_places(transposed), images.dtype)
    return tf.nn.conv2d_transpose(images, kernel, sizes, 2, "SAME")


class _ResampledConvolution(keras.layers.Conv2D):
    """What the two layers have in common: "same" padding, an odd kernel, no strides of their own."""

    def __init__(self, filters: int, kernel_size: Any, **kwargs: Any) -> None:
        super().__init__(filters, kernel_size, **{"padding": "same", **kwargs})
        height, width = self.kernel_size
        if height != width or height % 2 == 0:
            raise ValueError(f"kernel_size must be an odd number, the same for both axes; got {kernel_size!r}.")
        for name, expected in (
            ("strides", (1, 1)), ("dilation_rate", (1, 1)), ("groups", 1), ("padding", "same"),
            ("data_format", "channels_last"),
        ):  # fmt: skip
            if getattr(self, name) != expected:
                raise ValueError(
                    f"{name} of a resampled convolution must be {expected!r}, got {getattr(self, name)!r}."
                )


@keras.utils.register_keras_serializable(package="attennorm_tf")
class HalvedConvolution(_ResampledConvolution):
    """Average pooling by two of a convolution: `halved_convolution` with bias and activation.

    The activation is applied to the pooled map. Rows and columns too many for two by two are left out.

    Args:
        filters: output channels.
        kernel_size: odd.
        **kwargs: of `keras.layers.Conv2D`; its strides, dilation, groups and padding are 1, 1, 1 and "same".

    Inputs: (B, H, W, C). Output: (B, H // 2, W // 2, filters).

    Raises:
        ValueError: such an argument of another value.

    Example:
        >>> HalvedConvolution(5, 3)(tf.ones((1, 8, 6, 2))).shape
        TensorShape([1, 4, 3, 5])
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> tf.Tensor:
        return halved_convolution(tf.convert_to_tensor(inputs), tf.convert_to_tensor(kernel))

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        batch, height, width, _ = tuple(input_shape)
        return batch, height and height // 2, width and width // 2, self.filters


@keras.utils.register_keras_serializable(package="attennorm_tf")
class ConvolutionOfDoubled(_ResampledConvolution):
    """A convolution after nearest-neighbour upsampling by two: `convolution_of_doubled` with bias and activation.

    Args:
        filters: output channels.
        kernel_size: odd.
        **kwargs: of `keras.layers.Conv2D`; its strides, dilation, groups and padding are 1, 1, 1 and "same".

    Inputs: (B, H, W, C). Output: (B, 2 H, 2 W, filters).

    Raises:
        ValueError: such an argument of another value.

    Example:
        >>> ConvolutionOfDoubled(5, 3)(tf.ones((1, 4, 3, 2))).shape
        TensorShape([1, 8, 6, 5])
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> tf.Tensor:
        return convolution_of_doubled(tf.convert_to_tensor(inputs), tf.convert_to_tensor(kernel))

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        batch, height, width, _ = tuple(input_shape)
        return batch, height and 2 * height, width and 2 * width, self.filters
