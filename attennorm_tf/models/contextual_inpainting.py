"""The inpainting network with contextual attention (DeepFill v1), the baseline of the attentive one."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import keras

from attennorm_tf.layers.contextual_attention import ContextualAttention, resize_nearest_aligned
from attennorm_tf.models.blocks import build_named
from attennorm_tf.models.convolution_stack import Convolution, ConvolutionStack
from attennorm_tf.models.inpainting import (
    bottleneck,
    channels_at,
    check_images_and_masks,
    check_width,
    clipped,
    decoder,
    masked_input,
)

STRIDE = 8  # of the encoders, 4, and of the contextual attention


@keras.utils.register_keras_serializable(package="attennorm_tf")
class ContextualAttentionInpainter(keras.Model):
    """Images and masks -> a coarse and a fine completion, contextual attention in the second stage.

    The network of Yu et al. 2018, "Generative Image Inpainting with Contextual Attention"
    (https://arxiv.org/abs/1801.07892), as in its authors' code: 3,601,542 parameters at width 1. Its memory grows with
    the square of the number of pixels (see `ContextualAttention`).

    Deviation from the authors' code: each image has its own mask.

    Args:
        width: multiplier of all channel counts.
        **kwargs: of any Keras model.

    Inputs: [images (B, H, W, 3) in [-1, 1], masks (B, H, W, 1), 1 = missing, 0 = known], H and W any multiples of 8.
    What the images hold where the mask is 1 has no influence. Outputs: (coarse, fine), float32 (B, H, W, 3) in
    [-1, 1], neither composed with the known pixels; with `return_offsets=True` also the offsets
    (B, H / 8, W / 8, 2) int32: where each place looks, (dy, dx).

    Raises:
        ValueError: an argument not offered; images and masks that do not fit.

    Example:
        >>> inpainter = ContextualAttentionInpainter(width=0.125)
        >>> coarse, fine = inpainter([tf.zeros([1, 16, 24, 3]), tf.ones([1, 16, 24, 1])])
        >>> fine.shape.as_list()
        [1, 16, 24, 3]
    """

    def __init__(self, width: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        check_width(width)
        self.width = width
        self._parts_built = False
        c32, c64, c128 = (channels_at(channels, width) for channels in (32, 64, 128))
        two = [Convolution(c128)] * 2
        first = [Convolution(c32, 5), Convolution(c64, stride=2), Convolution(c64), Convolution(c128, stride=2), *two]
        branch = [Convolution(c32, 5), Convolution(c32, stride=2), Convolution(c64)]
        attention = [*branch, Convolution(c128, stride=2), Convolution(c128), Convolution(c128, activation="relu")]
        self.stage1 = ConvolutionStack([*first, *bottleneck(c128), *two, *decoder(width)], name="stage1")
        self.plain = ConvolutionStack([*branch, Convolution(c64, stride=2), *two, *bottleneck(c128)], name="plain")
        self.attention_in = ConvolutionStack(attention, name="attention_in")
        self.attention = ContextualAttention(name="attention")
        self.attention_out = ConvolutionStack(two, name="attention_out")
        self.decoder2 = ConvolutionStack([*two, *decoder(width)], name="decoder2")

    def build(self, input_shape: Any = None) -> None:
        if not self._parts_built:
            with tf.name_scope(self.name):
                self._build_parts()
            self._parts_built = True
        self.built = True

    def _build_parts(self) -> None:
        hidden = self.attention_in.filters
        for layer, channels in (
            (self.stage1, 5), (self.plain, 5), (self.attention_in, 5), (self.attention_out, hidden),
            (self.decoder2, 2 * hidden),
        ):  # fmt: skip
            build_named(layer, (None, None, None, channels))
        build_named(self.attention, ((None, None, None, hidden), (None, None, None, hidden), (None, None, None, 1)))

    def call(self, inputs: Any, training: bool | None = None, return_offsets: bool = False) -> Any:
        images, masks = inputs
        check_images_and_masks(images, masks, STRIDE)
        masks = tf.cast(masks, images.dtype)
        known = images * (1.0 - masks)
        coarse = clipped(self.stage1(masked_input(known, masks)))
        second = masked_input(tf.cast(coarse, known.dtype) * masks + known * (1.0 - masks), masks)
        plain = self.plain(second)
        hidden = self.attention_in(second)
        size = tf.shape(hidden)
        small = resize_nearest_aligned(masks, size[1], size[2])
        small.set_shape((*hidden.shape[:3], 1))
        attended, offsets = self.attention((hidden, hidden, small), training=training, return_offsets=True)
        fine = clipped(self.decoder2(tf.concat([plain, self.attention_out(attended)], axis=-1)))
        return (coarse, fine, offsets) if return_offsets else (coarse, fine)

    @tf.function
    def infer(self, images: Any, masks: Any, return_offsets: bool = False) -> Any:
        """`call` at inference as one graph, traced once per shape."""
        return self([images, masks], training=False, return_offsets=return_offsets)

    @property
    def attentive_normalization(self) -> None:
        """None: this network has no `AttentiveNormalization` layer."""
        return None

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "width": self.width}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> ContextualAttentionInpainter:
        return cls(**config)

    def get_build_config(self) -> dict[str, Any]:
        return {"width": self.width}  # all is known; an empty dict would mean "not built"

    def build_from_config(self, config: dict[str, Any]) -> None:
        self.build()
