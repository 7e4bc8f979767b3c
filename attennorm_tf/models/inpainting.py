"""The attentive inpainting generator (supplement, section 2)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import keras

from attennorm_tf.layers.attentive_normalization import AttentiveNormalization
from attennorm_tf.models.blocks import build_named
from attennorm_tf.models.convolution_stack import Convolution, ConvolutionStack

PRESETS = ("paper", "release")
STAGE2_INPUT = ("composite", "concat")
STRIDE = 4  # of the encoders


def channels_at(channels: int, width: float) -> int:
    """Channels for a width multiplier, at least 1."""
    return max(1, round(channels * width))


def check_width(width: Any) -> None:
    """Raises ValueError for a width multiplier that is not a number above 0."""
    if isinstance(width, bool) or not isinstance(width, (int, float)) or not 0 < width < float("inf"):
        raise ValueError(f"width must be a finite number > 0, got {width!r}.")


def check_images_and_masks(images: tf.Tensor, masks: tf.Tensor, multiple: int = 1) -> None:
    """Raises ValueError, as far as the shapes are known, for images and masks that do not fit.

    Args:
        images: should be (B, H, W, 3).
        masks: should be (B, H, W, 1).
        multiple: H and W must be multiples of it.
    """
    for name, value, channels in (("images", images, 3), ("masks", masks, 1)):
        shape = tuple(value.shape)
        if len(shape) != 4 or shape[-1] != channels:
            raise ValueError(f"{name} must be (batch, height, width, {channels}), got shape {shape}.")
    if not images.shape[:3].is_compatible_with(masks.shape[:3]):
        raise ValueError(
            f"masks must be of the images' batch size, height and width, {tuple(images.shape[:3])}; "
            f"got {tuple(masks.shape[:3])}."
        )
    if any(size is not None and size % multiple for size in images.shape[1:3]):
        raise ValueError(f"images must have height and width divisible by {multiple}, got {tuple(images.shape[1:3])}.")


def masked_input(images: tf.Tensor, masks: tf.Tensor) -> tf.Tensor:
    """(images, 1, masks), (B, H, W, 5): what every encoder sees."""
    return tf.concat([images, tf.ones_like(masks), masks], axis=-1)


def clipped(images: tf.Tensor) -> tf.Tensor:
    """float32 in [-1, 1]."""
    return tf.clip_by_value(tf.cast(images, tf.float32), -1.0, 1.0)


def bottleneck(channels: int) -> list[Convolution]:
    """Conv(3, c, 1, d) for d = 2, 4, 8, 16."""
    return [Convolution(channels, dilation=dilation) for dilation in (2, 4, 8, 16)]


def decoder(width: float) -> list[Convolution]:
    """x2, Conv(3, 64), Conv(3, 64), x2, Conv(3, 32), Conv(3, 16), Conv(3, 3) linear: the supplement's Decoder1."""
    c64, c32, c16 = (channels_at(channels, width) for channels in (64, 32, 16))
    row = [Convolution(c64, doubled=True), Convolution(c64), Convolution(c32, doubled=True), Convolution(c16)]
    return [*row, Convolution(3, activation="linear")]


@keras.utils.register_keras_serializable(package="attennorm_tf")
class InpaintingGenerator(keras.Model):
    """Images and masks -> a coarse and a fine completion, attentive normalization in the second stage.

    With C the images without the hole's pixels, M the masks and three separate encoders:

        stage 1: (C, 1, M) -> encoder -> bottleneck -> decoder1 -> coarse
        stage 2: input2 -> encoder -> attentive branch;  input2 -> encoder -> bottleneck;  both -> decoder2 -> fine

    Attentive normalization uses self-sampling in training and runs at inference without it.

    Deviations: the supplement lists no activation after AN; section 4 of the paper puts AN between a convolution and
    its activation, and the authors' release does so: ELU follows AN here. The supplement feeds stage 2 with
    concat(coarse, C), the release with the coarse image pasted into the hole, ones and the mask:
    `stage2_input="composite"`, the default.

    Args:
        preset: "paper" (the supplement's table) or "release" (one more 3x3 convolution to 128 channels in each encoder,
            two more before the first stage's decoder).
        width: multiplier of all channel counts.
        stage2_input: "composite", (coarse * M + C * (1 - M), 1, M), or "concat", (coarse, C).
        attention_options: constructor arguments of `AttentiveNormalization`.
        **kwargs: of any Keras model.

    Inputs: [images (B, H, W, 3) in [-1, 1], masks (B, H, W, 1), 1 = missing, 0 = known], H and W any multiples of 4.
    What the images hold where the mask is 1 has no influence. Outputs: (coarse, fine), float32 (B, H, W, 3) in
    [-1, 1], neither composed with the known pixels; with `return_layout=True` also the layout (B, H / 4, W / 4, n).

    Raises:
        ValueError: an argument not offered; images and masks that do not fit.

    Example:
        >>> generator = InpaintingGenerator(width=0.125)
        >>> coarse, fine = generator([tf.zeros([1, 16, 24, 3]), tf.ones([1, 16, 24, 1])])
        >>> fine.shape.as_list()
        [1, 16, 24, 3]
    """

    def __init__(
        self,
        preset: str = "paper",
        width: float = 1.0,
        stage2_input: str = "composite",
        attention_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if preset not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(map(repr, PRESETS))}; got {preset!r}.")
        if stage2_input not in STAGE2_INPUT:
            raise ValueError(f"stage2_input must be one of {', '.join(map(repr, STAGE2_INPUT))}; got {stage2_input!r}.")
        check_width(width)
        self.preset = preset
        self.width = width
        self.stage2_input = stage2_input
        self.attention_options = attention_options
        self._parts_built = False
        c32, c64, c128 = (channels_at(channels, width) for channels in (32, 64, 128))
        encoder = [Convolution(c32, 5), Convolution(c64, stride=2), Convolution(c64), Convolution(c128, stride=2)]
        encoder += [Convolution(c128)] * (2 if preset == "release" else 1)
        before_decoder = [Convolution(c128)] * (2 if preset == "release" else 0)
        self.encoder1 = ConvolutionStack(encoder, name="encoder1")
        self.bottleneck1 = ConvolutionStack(bottleneck(c128) + before_decoder, name="bottleneck1")
        self.decoder1 = ConvolutionStack(decoder(width), name="decoder1")
        self.encoder2_attentive = ConvolutionStack(encoder, name="encoder2_attentive")
        self.attentive_in = ConvolutionStack([Convolution(c128, activation="linear")], name="attentive_in")
        self.attention = AttentiveNormalization(name="attention", **(attention_options or {}))
        self.attentive_out = ConvolutionStack([Convolution(c128)] * 2, name="attentive_out")
        self.encoder2 = ConvolutionStack(encoder, name="encoder2")
        self.bottleneck2 = ConvolutionStack(bottleneck(c128), name="bottleneck2")
        self.decoder2 = ConvolutionStack([Convolution(c128)] * 2 + decoder(width), name="decoder2")

    def build(self, input_shape: Any = None) -> None:
        if not self._parts_built:
            with tf.name_scope(self.name):
                self._build_parts()
            self._parts_built = True
        self.built = True

    def _build_parts(self) -> None:
        def build(layer: keras.layers.Layer, channels: int) -> None:
            build_named(layer, (None, None, None, channels))

        hidden = self.encoder1.filters
        second = 5 if self.stage2_input == "composite" else 6
        for layer, channels in (
            (self.encoder1, 5), (self.bottleneck1, hidden), (self.decoder1, hidden),
            (self.encoder2_attentive, second), (self.attentive_in, hidden), (self.attention, hidden),
            (self.attentive_out, hidden), (self.encoder2, second), (self.bottleneck2, hidden),
            (self.decoder2, 2 * hidden),
        ):  # fmt: skip
            build(layer, channels)

    def call(self, inputs: Any, training: bool | None = None, return_layout: bool = False) -> Any:
        images, masks = inputs
        check_images_and_masks(images, masks, STRIDE)
        masks = tf.cast(masks, images.dtype)
        known = images * (1.0 - masks)
        hidden = self.bottleneck1(self.encoder1(masked_input(known, masks)))
        coarse = clipped(self.decoder1(hidden))
        second = self._second_input(tf.cast(coarse, known.dtype), known, masks)
        attended, layout = self.attention(
            self.attentive_in(self.encoder2_attentive(second)), training=training, return_layout=True
        )
        attended = self.attentive_out(tf.nn.elu(attended))
        plain = self.bottleneck2(self.encoder2(second))
        fine = clipped(self.decoder2(tf.concat([attended, plain], axis=-1)))
        return (coarse, fine, layout) if return_layout else (coarse, fine)

    def _second_input(self, coarse: tf.Tensor, known: tf.Tensor, masks: tf.Tensor) -> tf.Tensor:
        if self.stage2_input == "concat":
            return tf.concat([coarse, known], axis=-1)
        return masked_input(coarse * masks + known * (1.0 - masks), masks)

    @tf.function
    def infer(self, images: Any, masks: Any, return_layout: bool = False) -> Any:
        """`call` at inference as one graph, traced once per shape."""
        return self([images, masks], training=False, return_layout=return_layout)

    @property
    def attentive_normalization(self) -> AttentiveNormalization:
        """The generator's `AttentiveNormalization` layer."""
        return self.attention

    def get_config(self) -> dict[str, Any]:
        names = ("preset", "width", "stage2_input", "attention_options")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> InpaintingGenerator:
        return cls(**config)

    def get_build_config(self) -> dict[str, Any]:
        return {"preset": self.preset}  # all is known; an empty dict would mean "not built"

    def build_from_config(self, config: dict[str, Any]) -> None:
        self.build()
