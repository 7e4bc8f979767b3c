"""The class-conditional discriminator (supplement, section 2, the projection discriminator, and AC-GAN's)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import keras

from attennorm_tf.layers.self_attention import SelfAttention
from attennorm_tf.layers.spectral_normalization import SpectralNormalization
from attennorm_tf.models.blocks import DownBlock, build_named
from attennorm_tf.models.class_conditional import check_labels, check_network_arguments, scaled

CONDITIONING = ("concat", "projection", "auxiliary_classifier")
HIDDEN_WIDTH = ("wide", "thin")

# Per resolution: (channels in units of the base width, whether the block halves the resolution).
# "concat": the label map joins before the blocks after `CONCAT_AFTER`. 128 is the paper's.
CONCAT_BLOCKS = {
    16: ((2, True), (2, True), (2, False)),
    32: ((2, True), (2, True), (2, False), (2, False)),
    64: ((1, True), (2, True), (4, True), (8, True)),
    128: ((1, True), (2, True), (4, True), (8, True), (16, True)),
}
CONCAT_AFTER = {16: 2, 32: 2, 64: 3, 128: 3}
PROJECTION_BLOCKS = {
    16: ((2, True), (2, True), (2, False)),
    32: ((2, True), (2, True), (2, False), (2, False)),
    64: ((1, True), (2, True), (4, True), (8, True), (16, False)),
    128: ((1, True), (2, True), (4, True), (8, True), (16, True), (16, False)),
}


@keras.utils.register_keras_serializable(package="attennorm_tf")
class ClassConditionalDiscriminator(keras.Model):
    """images, labels -> logits: down blocks, ReLU, global sum pool, dense 1, conditioned on the class.

    `conditioning="concat"` (the paper's): the embedded label, tiled over space, joins the feature map before the last
    blocks. `"projection"`: the inner product of the embedded label with the pooled features is added to the logit.
    `"auxiliary_classifier"` (AC-GAN, Odena et al. 2017): the projection discriminator's blocks; the logit does not
    depend on the label, a second dense layer on the pooled features gives the logits of the classes.

    The supplement puts AN in the second block, the paper's text in the first: `attention_block`. It stands between the
    block's first convolution and its activation. Deviation: Figure 1's block begins with a ReLU; the first block here
    does not, since it sees the image itself, half of whose range a ReLU would erase (SN-GAN's first block).

    Args:
        resolution: 16, 32, 64 or 128 (the paper's).
        num_classes: K >= 1.
        width: multiplier of all channel counts.
        channels: of the images, 1 or 3.
        attention: "attentive_normalization", "self_attention" (after the block) or "none".
        attention_block: 1 or 2.
        attention_options: constructor arguments of `AttentiveNormalization`.
        conditioning: "concat", "projection" or "auxiliary_classifier".
        hidden_width: channels inside a block: "wide", as its output, or "thin", as its input (the first block is wide).
        embedding_dim: length of the label embedding with "concat".
        spectral_normalization: of all convolutions, the dense layers and the embedding.
        **kwargs: of any Keras model.

    Inputs: [images (B, resolution, resolution, channels) in [-1, 1], labels (B,) int or soft class weights (B, K)].
    Output: logits (B, 1), float32; with `return_classes=True` a pair of them and the logits of the classes (B, K).

    Raises:
        ValueError: an argument not offered; labels out of range (checked when run eagerly); class logits asked of a
            discriminator without an auxiliary classifier.
    """

    def __init__(
        self,
        resolution: int = 128,
        num_classes: int = 1000,
        width: float = 1.0,
        channels: int = 3,
        attention: str = "attentive_normalization",
        attention_block: int = 2,
        attention_options: dict[str, Any] | None = None,
        conditioning: str = "concat",
        hidden_width: str = "wide",
        embedding_dim: int = 128,
        spectral_normalization: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_network_arguments(resolution, num_classes, width, attention)
        for name, value, options in (
            ("attention_block", attention_block, (1, 2)),
            ("conditioning", conditioning, CONDITIONING),
            ("hidden_width", hidden_width, HIDDEN_WIDTH),
        ):
            if value not in options:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}; got {value!r}.")
        self.resolution = resolution
        self.num_classes = num_classes
        self.width = width
        self.channels = channels
        self.attention = attention
        self.attention_block = attention_block
        self.attention_options = attention_options
        self.conditioning = conditioning
        self.hidden_width = hidden_width
        self.embedding_dim = embedding_dim
        self.spectral_normalization = spectral_normalization

        table = CONCAT_BLOCKS if conditioning == "concat" else PROJECTION_BLOCKS
        self._concat_after = CONCAT_AFTER[resolution] if conditioning == "concat" else None
        self._parts_built = False
        self._num_blocks = len(table[resolution])
        inputs = channels
        for index, (multiple, downsample) in enumerate(table[resolution]):
            if index == self._concat_after:
                inputs += embedding_dim
            filters = scaled(multiple, width)
            here = index == attention_block - 1 and attention == "attentive_normalization"
            name = f"block{index + 1}"
            block = DownBlock(
                filters,
                filters if hidden_width == "wide" or index == 0 else inputs,
                first=index == 0,
                downsample=downsample,
                learned_shortcut=downsample or inputs != filters,
                spectral_normalization=spectral_normalization,
                attention_options=dict(attention_options or {}) if here else None,
                name=name,
            )
            setattr(self, name, block)
            inputs = filters
        self.self_attention = None
        if attention == "self_attention":
            self.self_attention = SelfAttention(spectral_normalization=spectral_normalization, name="self_attention")
        if conditioning == "auxiliary_classifier":
            self.classifier = self._normalized(keras.layers.Dense(num_classes, name="classifier"))
        else:
            embedding_dim = embedding_dim if conditioning == "concat" else inputs
            # Glorot, as all other kernels: Keras' own default of +-0.05 would start the label branch nearly mute.
            self.embedding = self._normalized(
                keras.layers.Embedding(
                    num_classes, embedding_dim, embeddings_initializer="glorot_uniform", name="embedding"
                )
            )
        self.dense = self._normalized(keras.layers.Dense(1, name="dense"))

    def _normalized(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        if not self.spectral_normalization:
            return layer
        return SpectralNormalization(layer, update_on_call=False, name=layer.name)

    def build(self, input_shape: Any = None) -> None:
        if not self._parts_built:
            with tf.name_scope(self.name):
                self._build_parts()
            self._parts_built = True
        self.built = True

    def _build_parts(self) -> None:
        size, channels = self.resolution, self.channels
        if self.conditioning != "auxiliary_classifier":
            build_named(self.embedding, (None,))
        for index, block in enumerate(self.blocks):
            if index == self._concat_after:
                channels += self.embedding_dim
            build_named(block, (None, size, size, channels))
            size, channels = size // 2 if block.downsample else size, block.filters
            if index == self.attention_block - 1 and self.self_attention is not None:
                build_named(self.self_attention, (None, size, size, channels))
        build_named(self.dense, (None, channels))
        if self.conditioning == "auxiliary_classifier":
            build_named(self.classifier, (None, channels))

    def call(self, inputs: Any, training: bool | None = None, return_classes: bool = False) -> Any:
        if return_classes and self.conditioning != "auxiliary_classifier":
            raise ValueError(
                f"return_classes: this discriminator has no auxiliary classifier, its conditioning is "
                f"{self.conditioning!r}."
            )
        images, labels = inputs
        labels = tf.convert_to_tensor(labels)
        check_labels(labels, self.num_classes)
        hidden = images
        for index, block in enumerate(self.blocks):
            if index == self._concat_after:
                hidden = self._with_label_map(hidden, labels)
            hidden = block(hidden, training=training)
            if index == self.attention_block - 1 and self.self_attention is not None:
                hidden = self.self_attention(hidden, training=training)
        pooled = tf.reduce_sum(tf.nn.relu(hidden), axis=[1, 2])
        logits = self.dense(pooled)
        if self.conditioning == "projection":
            logits += tf.reduce_sum(pooled * self._embed(labels), axis=1, keepdims=True)
        logits = tf.cast(logits, tf.float32)
        return (logits, tf.cast(self.classifier(pooled), tf.float32)) if return_classes else logits

    @property
    def blocks(self) -> list[DownBlock]:
        """The down blocks in order. Each is an attribute of its own: Keras 3 hides lists from tf.train.Checkpoint."""
        return [getattr(self, f"block{index + 1}") for index in range(self._num_blocks)]

    def _embed(self, labels: tf.Tensor) -> tf.Tensor:
        """(B, embedding_dim); soft class weights blend the rows of the table."""
        if labels.dtype.is_floating:
            table = self.embedding(tf.range(self.num_classes))
            return tf.linalg.matmul(tf.cast(labels, table.dtype), table)
        return self.embedding(labels)

    def _with_label_map(self, hidden: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        embedded = self._embed(labels)[:, tf.newaxis, tf.newaxis, :]
        size = tf.shape(hidden)
        tiled = tf.broadcast_to(embedded, [size[0], size[1], size[2], self.embedding_dim])
        return tf.concat([hidden, tf.cast(tiled, hidden.dtype)], axis=-1)

    def get_config(self) -> dict[str, Any]:
        names = (
            "resolution", "num_classes", "width", "channels", "attention", "attention_block", "attention_options",
            "conditioning", "hidden_width", "embedding_dim", "spectral_normalization",
        )  # fmt: skip
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> ClassConditionalDiscriminator:
        return cls(**config)

    def get_build_config(self) -> dict[str, Any]:
        return {"resolution": self.resolution}  # all is known; an empty dict would mean "not built"

    def build_from_config(self, config: dict[str, Any]) -> None:
        self.build()
