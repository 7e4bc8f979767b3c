"""The discriminators of inpainting: of the whole image, of the crop around the hole, of patches of a free-form hole."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import keras

from attennorm_tf.models.blocks import build_named
from attennorm_tf.models.convolution_stack import Convolution, ConvolutionStack
from attennorm_tf.models.inpainting import channels_at, check_images_and_masks, check_width

GLOBAL_CHANNELS = (64, 128, 256, 256)
LOCAL_CHANNELS = (64, 128, 256, 512)
STRIDE = 16  # of the four convolutions


def crop_around_holes(images: tf.Tensor, masks: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Cuts a window out of each image, its centre that of the hole's bounding box, but wholly inside the image.

    Args:
        images: (B, H, W, C).
        masks: (B, H, W, 1), 1 = missing; where an image has no hole, its window is its middle.
        height: of the window, <= H.
        width: of the window, <= W.

    Returns:
        (B, height, width, C). Two gathers, so that second derivatives exist.
    """
    rows = _window(tf.reduce_max(masks, axis=[2, 3]), height)  # (b, height)
    columns = _window(tf.reduce_max(masks, axis=[1, 3]), width)  # (b, width)
    crops = tf.gather(tf.gather(images, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)
    return tf.ensure_shape(crops, (images.shape[0], height, width, images.shape[-1]))


def _window(holes: tf.Tensor, length: int) -> tf.Tensor:
    """Places of the window along one axis, (b, length) int32; `holes` (b, size): whether a hole is there."""
    holes = tf.cast(holes > 0, tf.int32)
    size = tf.shape(holes)[1]
    first = tf.argmax(holes, axis=1, output_type=tf.int32)
    end = size - tf.argmax(tf.reverse(holes, [1]), axis=1, output_type=tf.int32)
    start = tf.clip_by_value((first + end - length) // 2, 0, size - length)
    return start[:, tf.newaxis] + tf.range(length)


class _Discriminator(keras.Model):
    """What the three have in common: k5 s2 convolutions with leaky ReLU, here, and a last layer, in the subclass."""

    def __init__(self, channels: tuple[int, ...], width: float, **kwargs: Any):
        super().__init__(**kwargs)
        check_width(width)
        self.width = width
        row = [Convolution(channels_at(c, width), 5, stride=2, activation="leaky_relu") for c in channels]
        self.convolutions = ConvolutionStack(row, name="convolutions")
        self._parts_built = False

    def build(self, input_shape: Any = None) -> None:
        if not self._parts_built:
            with tf.name_scope(self.name):
                self._build_parts()
            self._parts_built = True
        self.built = True

    def _build_parts(self) -> None:
        raise NotImplementedError

    def _build_dense(self, height: int, width: int) -> None:
        build_named(self.convolutions, (None, height, width, 3))
        places = -(-height // STRIDE) * -(-width // STRIDE)
        build_named(self.dense, (None, places * self.convolutions.filters))

    def _dense_scores(self, images: tf.Tensor) -> tf.Tensor:
        hidden = self.convolutions(images)
        flat = tf.reshape(hidden, [tf.shape(hidden)[0], self.dense.input_spec.axes[-1]])
        return tf.cast(self.dense(flat), tf.float32)

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        return cls(**config)

    def get_build_config(self) -> dict[str, Any]:
        return {"width": self.width}  # all is known; an empty dict would mean "not built"

    def build_from_config(self, config: dict[str, Any]) -> None:
        self.build()


@keras.utils.register_keras_serializable(package="attennorm_tf")
class GlobalDiscriminator(_Discriminator):
    """The whole image -> a score: k5 s2 convolutions 64-128-256-256, leaky ReLU 0.2, flatten, dense 1 (DeepFill v1).

    Args:
        resolution: of the images, square.
        width: multiplier of all channel counts.
        **kwargs: of any Keras model.

    Inputs: [images (B, resolution, resolution, 3) in [-1, 1], masks (B, resolution, resolution, 1)]; the masks are not
    looked at. Output: scores (B, 1) float32, without bound.

    Raises:
        ValueError: an argument out of range; images and masks that do not fit.

    Example:
        >>> discriminator = GlobalDiscriminator(resolution=32, width=0.125)
        >>> discriminator([tf.zeros([2, 32, 32, 3]), tf.ones([2, 32, 32, 1])]).shape.as_list()
        [2, 1]
    """

    def __init__(self, resolution: int = 256, width: float = 1.0, **kwargs: Any):
        super().__init__(GLOBAL_CHANNELS, width, **kwargs)
        check_length("resolution", resolution)
        self.resolution = resolution
        self.dense = keras.layers.Dense(1, name="dense")

    def _build_parts(self) -> None:
        self._build_dense(self.resolution, self.resolution)

    def call(self, inputs: Any, training: bool | None = None) -> tf.Tensor:
        images, masks = inputs
        check_images_and_masks(images, masks)
        if not images.shape[1:3].is_compatible_with((self.resolution, self.resolution)):
            raise ValueError(f"images must be {self.resolution} pixels high and wide, got {tuple(images.shape[1:3])}.")
        return self._dense_scores(images)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "resolution": self.resolution, "width": self.width}


@keras.utils.register_keras_serializable(package="attennorm_tf")
class LocalDiscriminator(_Discriminator):
    """The crop around the hole -> a score: k5 s2 convolutions 64-128-256-512, leaky ReLU 0.2, flatten, dense 1.

    As in DeepFill v1, but it finds the crop itself: see `crop_around_holes`.

    Args:
        crop: (height, width) of the crop; the images must be as large.
        width: multiplier of all channel counts.
        **kwargs: of any Keras model.

    Inputs: [images (B, H, W, 3) in [-1, 1], masks (B, H, W, 1), 1 = missing]. Output: scores (B, 1) float32.

    Raises:
        ValueError: an argument out of range; images and masks that do not fit, or smaller than the crop.

    Example:
        >>> discriminator = LocalDiscriminator(crop=(32, 16), width=0.125)
        >>> discriminator([tf.zeros([2, 48, 48, 3]), tf.ones([2, 48, 48, 1])]).shape.as_list()
        [2, 1]
    """

    def __init__(self, crop: tuple[int, int] = (128, 128), width: float = 1.0, **kwargs: Any):
        super().__init__(LOCAL_CHANNELS, width, **kwargs)
        if not isinstance(crop, (tuple, list)) or len(crop) != 2:
            raise ValueError(f"crop must be (height, width), got {crop!r}.")
        for length in crop:
            check_length("crop", length)
        self.crop = tuple(crop)
        self.dense = keras.layers.Dense(1, name="dense")

    def _build_parts(self) -> None:
        self._build_dense(*self.crop)

    def call(self, inputs: Any, training: bool | None = None) -> tf.Tensor:
        images, masks = inputs
        check_images_and_masks(images, masks)
        if any(size is not None and size < least for size, least in zip(images.shape[1:3], self.crop)):
            raise ValueError(f"images must hold the crop of {self.crop} pixels, got {tuple(images.shape[1:3])}.")
        return self._dense_scores(crop_around_holes(images, masks, *self.crop))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "crop": list(self.crop), "width": self.width}


@keras.utils.register_keras_serializable(package="attennorm_tf")
class MaskedPatchDiscriminator(_Discriminator):
    """Image and mask -> a score, the mean over patches in the hole: for free-form holes, around which no crop exists.

    k5 s2 convolutions 64-128-256-256 with leaky ReLU 0.2 over concat(image, mask), then one k5 convolution to one
    channel: a map of patch scores, each for a place of 16 x 16 pixels. There is no flatten, any size goes. The score
    of an image is the mean of its patch scores weighted by how much of each patch's place is hole (the mask,
    average-pooled to the map's size); that of an image without a hole is 0.

    Args:
        width: multiplier of all channel counts.
        **kwargs: of any Keras model.

    Inputs: [images (B, H, W, 3) in [-1, 1], masks (B, H, W, 1), 1 = missing]. Output: scores (B, 1) float32.

    Raises:
        ValueError: an argument out of range; images and masks that do not fit.

    Example:
        >>> discriminator = MaskedPatchDiscriminator(width=0.125)
        >>> discriminator([tf.zeros([2, 48, 32, 3]), tf.ones([2, 48, 32, 1])]).shape.as_list()
        [2, 1]
    """

    def __init__(self, width: float = 1.0, **kwargs: Any):
        super().__init__(GLOBAL_CHANNELS, width, **kwargs)
        self.to_scores = ConvolutionStack([Convolution(1, 5, activation="linear")], name="to_scores")

    def _build_parts(self) -> None:
        build_named(self.convolutions, (None, None, None, 4))
        build_named(self.to_scores, (None, None, None, self.convolutions.filters))

    def call(self, inputs: Any, training: bool | None = None) -> tf.Tensor:
        images, masks = inputs
        check_images_and_masks(images, masks)
        features = self.convolutions(tf.concat([images, tf.cast(masks, images.dtype)], axis=-1))
        patches = tf.cast(self.to_scores(features), tf.float32)  # (b, h, w, 1)
        shares = tf.nn.avg_pool2d(tf.cast(masks, tf.float32), STRIDE, STRIDE, "SAME")
        return tf.math.divide_no_nan(tf.reduce_sum(patches * shares, axis=[1, 2]), tf.reduce_sum(shares, axis=[1, 2]))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "width": self.width}


def check_length(name: str, value: Any) -> None:
    """Raises ValueError for a number of pixels that is not an int >= 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be an int >= 1, got {value!r}.")
