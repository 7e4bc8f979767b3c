"""The class-conditional generator (supplement, section 2)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import keras

from attennorm_tf.layers.self_attention import SelfAttention
from attennorm_tf.layers.spectral_normalization import SpectralNormalization
from attennorm_tf.models.blocks import UpBlock, build_named, convolution

BASE_WIDTH = 64
ATTENTION = ("none", "attentive_normalization", "self_attention")

# Per resolution: channels of the 4x4 map, then of each up block, in units of the base width.
# 128 is the paper's; 64 leaves out its last but one halving, 32 and 16 follow SN-GAN's CIFAR networks.
GENERATOR_CHANNELS = {
    16: (4, (4, 4)),
    32: (4, (4, 4, 4)),
    64: (16, (8, 4, 2, 1)),
    128: (16, (16, 8, 4, 2, 1)),
}


def scaled(channels: int, width: float) -> int:
    """Channels for a width multiplier, never less than 8 and a multiple of 8."""
    return max(8, round(channels * BASE_WIDTH * width / 8) * 8)


def check_resolution(resolution: int) -> None:
    """Raises ValueError for a resolution that no table has."""
    if resolution not in GENERATOR_CHANNELS:
        raise ValueError(f"resolution must be one of {sorted(GENERATOR_CHANNELS)}, got {resolution!r}.")


def check_network_arguments(resolution: int, num_classes: int, width: float, attention: str) -> None:
    """Raises ValueError for the first argument, common to both networks, that is out of range."""
    check_resolution(resolution)
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(f"num_classes must be an int >= 1, got {num_classes!r}.")
    if not width > 0:
        raise ValueError(f"width must be a number > 0, got {width!r}.")
    if attention not in ATTENTION:
        raise ValueError(f"attention must be one of {', '.join(map(repr, ATTENTION))}; got {attention!r}.")


def check_labels(labels: Any, num_classes: int) -> None:
    """Refuses labels out of range where their values are known at once (a graph's gather does it silently on a GPU).

    Args:
        labels: (B,) integers or (B, num_classes) soft class weights.
        num_classes: K.

    Raises:
        ValueError: wrong shape, or a class id outside [0, K).
    """
    soft = labels.dtype.is_floating
    rank = labels.shape.rank
    if rank is not None and rank != (2 if soft else 1):
        raise ValueError(
            "labels must be integers of shape (batch,) or soft class weights, float, of shape (batch, num_classes); "
            f"got {labels.dtype.name} of shape {tuple(labels.shape)}."
        )
    if soft:
        if labels.shape[-1] not in (None, num_classes):
            raise ValueError(f"labels: soft class weights must have {num_classes} columns, got {labels.shape[-1]}.")
    elif tf.executing_eagerly() and tf.size(labels) > 0:
        lowest, highest = int(tf.reduce_min(labels)), int(tf.reduce_max(labels))
        if lowest < 0 or highest >= num_classes:
            wrong = lowest if lowest < 0 else highest
            raise ValueError(f"labels must be class ids in [0, {num_classes}), got {wrong}.")


@keras.utils.register_keras_serializable(package="attennorm_tf")
class ClassConditionalGenerator(keras.Model):
    """z, labels -> images: dense 4x4, up blocks, BN, ReLU, conv 3x3, tanh.

    The block whose output is `attention_resolution` wide holds the attentive normalization (in place of its second
    normaliser), or is followed by self-attention. AN is a normaliser and, like the tables of the conditional batch
    normalization, not spectrally normalised; SAGAN's attention is, as in its authors' code.

    Args:
        resolution: 16, 32, 64 or 128 (the paper's).
        num_classes: K >= 1.
        width: multiplier of all channel counts; 1 is the paper's base width of 64.
        channels: of the images, 1 or 3.
        latent_dim: length of z.
        attention: "attentive_normalization", "self_attention" or "none".
        attention_resolution: output size of the block with attention; None takes 32, or `resolution` where smaller.
        attention_options: constructor arguments of `AttentiveNormalization`.
        spectral_normalization: of convolutions and the dense layer.
        synchronized: batch normalization over all replicas.
        **kwargs: of any Keras model.

    Inputs: [z (B, latent_dim) float, labels (B,) int or soft class weights (B, K) float], so that classes can be
    blended with z fixed (Figure 8). Output: (B, resolution, resolution, channels) in [-1, 1], float32;
    with `return_layout=True` a pair of it and the layout (B, h, w, n).

    Raises:
        ValueError: an argument not offered; labels out of range (checked when run eagerly).

    Example:
        >>> generator = ClassConditionalGenerator(resolution=16, num_classes=10, width=0.125, channels=1)
        >>> generator([tf.zeros([2, 128]), tf.constant([3, 7])]).shape.as_list()
        [2, 16, 16, 1]
    """

    def __init__(
        self,
        resolution: int = 128,
        num_classes: int = 1000,
        width: float = 1.0,
        channels: int = 3,
        latent_dim: int = 128,
        attention: str = "attentive_normalization",
        attention_resolution: int | None = None,
        attention_options: dict[str, Any] | None = None,
        spectral_normalization: bool = True,
        synchronized: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_network_arguments(resolution, num_classes, width, attention)
        self.resolution = resolution
        self.num_classes = num_classes
        self.width = width
        self.channels = channels
        self.latent_dim = latent_dim
        self.attention = attention
        self.attention_resolution = attention_resolution
        self.attention_options = attention_options
        self.spectral_normalization = spectral_normalization
        self.synchronized = synchronized

        first, blocks = GENERATOR_CHANNELS[resolution]
        sizes = [8 * 2**i for i in range(len(blocks))]
        attention_size = min(32, resolution) if attention_resolution is None else attention_resolution
        if attention_size not in sizes:
            raise ValueError(f"attention_resolution must be one of {sizes}, got {attention_size!r}.")
        self._first_channels = scaled(first, width)
        dense = keras.layers.Dense(4 * 4 * self._first_channels, name="dense")
        if spectral_normalization:
            dense = SpectralNormalization(dense, update_on_call=False, name="dense")
        self.dense = dense
        self._parts_built = False
        self._num_blocks = len(blocks)
        self.self_attention = None
        self._attention_index = sizes.index(attention_size)
        for index, multiple in enumerate(blocks):
            here = index == self._attention_index and attention == "attentive_normalization"
            name = f"block{index + 1}"
            options = dict(attention_options or {}) if here else None
            block = UpBlock(
                scaled(multiple, width), num_classes, spectral_normalization, synchronized, options, name=name
            )
            setattr(self, name, block)
        if attention == "self_attention":
            self.self_attention = SelfAttention(spectral_normalization=spectral_normalization, name="self_attention")
        self.norm = keras.layers.BatchNormalization(epsilon=1e-5, synchronized=synchronized, name="norm")
        self.to_image = convolution(channels, 3, spectral_normalization, "to_image")

    def build(self, input_shape: Any = None) -> None:
        if not self._parts_built:
            with tf.name_scope(self.name):
                self._build_parts()
            self._parts_built = True
        self.built = True

    def _build_parts(self) -> None:
        build_named(self.dense, (None, self.latent_dim))
        size, channels = 4, self._first_channels
        for index, block in enumerate(self.blocks):
            build_named(block, ((None, size, size, channels), (None,)))
            size, channels = 2 * size, block.filters
            if index == self._attention_index and self.self_attention is not None:
                build_named(self.self_attention, (None, size, size, channels))
        build_named(self.norm, (None, size, size, channels))
        build_named(self.to_image, (None, size, size, channels))

    def call(self, inputs: Any, training: bool | None = None, return_layout: bool = False) -> Any:
        if return_layout and self.attention != "attentive_normalization":
            raise ValueError(f"return_layout: this generator has no layout, its attention is {self.attention!r}.")
        latents, labels = inputs
        labels = tf.convert_to_tensor(labels)
        check_labels(labels, self.num_classes)
        layout = None
        hidden = self.dense(latents)
        hidden = tf.reshape(hidden, [-1, 4, 4, self._first_channels])
        for index, block in enumerate(self.blocks):
            if index == self._attention_index and return_layout:
                hidden, layout = block((hidden, labels), training=training, return_layout=True)
            else:
                hidden = block((hidden, labels), training=training)
            if index == self._attention_index and self.self_attention is not None:
                hidden = self.self_attention(hidden, training=training)
        hidden = tf.nn.relu(self.norm(hidden, training=training))
        images = tf.tanh(tf.cast(self.to_image(hidden), tf.float32))
        return (images, layout) if return_layout else images

    @tf.function
    def infer(self, latents: Any, labels: Any, return_layout: bool = False) -> Any:
        """`call` at inference as one graph, traced once per shape."""
        return self([latents, labels], training=False, return_layout=return_layout)

    @property
    def blocks(self) -> list[UpBlock]:
        """The up blocks in order. Each is an attribute of its own: Keras 3 hides lists from tf.train.Checkpoint."""
        return [getattr(self, f"block{index + 1}") for index in range(self._num_blocks)]

    @property
    def attentive_normalization(self) -> Any:
        """The generator's `AttentiveNormalization` layer, or None."""
        block = self.blocks[self._attention_index]
        return block.norm2 if block.attention_options is not None else None

    def get_config(self) -> dict[str, Any]:
        names = (
            "resolution", "num_classes", "width", "channels", "latent_dim", "attention", "attention_resolution",
            "attention_options", "spectral_normalization", "synchronized",
        )  # fmt: skip
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> ClassConditionalGenerator:
        return cls(**config)

    def get_build_config(self) -> dict[str, Any]:
        return {"resolution": self.resolution}  # all is known; an empty dict would mean "not built"

    def build_from_config(self, config: dict[str, Any]) -> None:
        self.build()
