"""The layers of the battery (test_battery.py), each with the options and inputs it is tested with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow import keras

from attennorm_tf.layers import (
    AttentiveNormalization,
    ConditionalBatchNormalization,
    ContextualAttention,
    SelfAttention,
    SpectralNormalization,
)

CHANNELS = 8
CLASSES = 5


class Input(NamedTuple):
    """One input: its static shape without the batch, and "features", "masks", "ids" or "weights" (of classes)."""

    shape: tuple[int | None, ...]
    kind: str = "features"

    def draw(self, sizes: tuple[int, int, int], seed: int = 0) -> tf.Tensor:
        generator = np.random.default_rng(seed)
        batch, *spatial = sizes
        missing = iter(spatial)
        shape = (batch, *(next(missing) if size is None else size for size in self.shape))
        if self.kind == "ids":
            return tf.constant(generator.integers(0, CLASSES, shape), tf.int32)
        if self.kind == "weights":
            return tf.constant(generator.dirichlet(np.ones(shape[-1]), shape[:-1]), tf.float32)
        if self.kind == "masks":
            return tf.constant(generator.random(shape) < 0.1, tf.float32)
        return tf.constant(generator.normal(size=shape), tf.float32)

    @property
    def dtype(self) -> tf.DType:
        return tf.int32 if self.kind == "ids" else tf.float32


IMAGES = Input((None, None, CHANNELS))


class Case(NamedTuple):
    make: Callable[..., keras.layers.Layer]  # takes dtype
    inputs: tuple[Input, ...] = (IMAGES,)


def attentive(**options: Any) -> Case:
    return Case(lambda **dtype: AttentiveNormalization(**{"num_entities": 3, "seed": 11, **options}, **dtype))


def spectral(kind: type, *arguments: Any, inputs: Input = IMAGES, **options: Any) -> Case:
    return Case(lambda **dtype: SpectralNormalization(kind(*arguments, **options, **dtype)), (inputs,))


def class_conditional(labels: Input) -> Case:
    return Case(lambda **dtype: ConditionalBatchNormalization(CLASSES, **dtype), (IMAGES, labels))


CASES = {
    "attentive": attentive(),
    "attentive_one_entity": attentive(num_entities=1, self_sampling=False, orthogonal_weight=0.0),
    "attentive_per_entity_weighted": attentive(affine="per_entity", statistics="weighted", key_channels=3),
    "attentive_batch": attentive(normalization="batch", sampling_pool_size=1),
    "attentive_batch_weighted_plain": attentive(
        normalization="batch", statistics="weighted", affine=None, value_projection=False
    ),
    "spectral_dense": spectral(keras.layers.Dense, 4, activation="relu"),
    "spectral_conv2d": spectral(keras.layers.Conv2D, 4, 3, strides=2, padding="same"),
    "spectral_conv2d_transpose": spectral(keras.layers.Conv2DTranspose, 4, 4, strides=2, padding="same"),
    "spectral_embedding": spectral(keras.layers.Embedding, CLASSES, 4, inputs=Input((None,), "ids")),
    "self_attention": Case(lambda **dtype: SelfAttention(**dtype)),
    "self_attention_spectral": Case(lambda **dtype: SelfAttention(spectral_normalization=True, **dtype)),
    "contextual_attention": Case(
        lambda **dtype: ContextualAttention(**dtype), (IMAGES, IMAGES, Input((None, None, 1), "masks"))
    ),
    "class_ids": class_conditional(Input((), "ids")),
    "class_weights": class_conditional(Input((CLASSES,), "weights")),
}


def inputs_of(name: str, sizes: tuple[int, int, int] = (4, 6, 5), scale: float = 1.0) -> Any:
    drawn = []
    for seed, spec in enumerate(CASES[name].inputs):
        values = spec.draw(sizes, seed)
        if spec.kind == "features" and scale != 1.0:
            values = values / tf.reduce_max(tf.abs(values)) * scale
        drawn.append(values)
    return tuple(drawn) if len(drawn) > 1 else drawn[0]


def built(name: str, **dtype: Any) -> keras.layers.Layer:
    """The case's layer, all its weights the same at every call and the trainable ones not at zero or one."""
    layer = CASES[name].make(**dtype)
    layer(inputs_of(name))
    generator = np.random.default_rng(6)
    for weight in sorted(layer.trainable_weights, key=lambda weight: (plain_name(weight), tuple(weight.shape))):
        weight.assign(0.4 * generator.normal(size=tuple(weight.shape)))
    for weight in layer.non_trainable_weights:
        if plain_name(weight) == "u":  # drawn anew by every layer
            weight.assign(np.arange(1, 1 + len(weight.numpy())) / np.linalg.norm(np.arange(1, 1 + weight.shape[0])))
    return layer


def plain_name(weight: Any) -> str:
    return weight.name.split("/")[-1].split(":")[0]


def symbolic_inputs(name: str) -> list[Any]:
    return [keras.Input(spec.shape, dtype=spec.dtype.name) for spec in CASES[name].inputs]


def functional(name: str, layer: keras.layers.Layer) -> keras.Model:
    symbolic = symbolic_inputs(name)
    return keras.Model(symbolic, layer(tuple(symbolic) if len(symbolic) > 1 else symbolic[0]))


def assert_close(actual: Any, expected: Any, tolerance: float = 1e-5, message: str = "") -> None:
    actual, expected = (tf.cast(value, tf.float32).numpy() for value in (actual, expected))
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance, err_msg=message)


@keras.utils.register_keras_serializable(package="attennorm_tf_tests")
class Holder(keras.Model):
    """A subclassed model around one layer."""

    def __init__(self, layer: keras.layers.Layer, **kwargs: Any):
        super().__init__(**kwargs)
        self.layer = layer

    def build(self, input_shape: Any) -> None:
        if not self.layer.built:
            self.layer.build(input_shape)
        self.built = True

    def call(self, inputs: Any, training: Any = None) -> Any:
        return self.layer(inputs, training=training)

    def get_config(self) -> dict[str, Any]:
        return {"layer": keras.layers.serialize(self.layer)}

    def get_build_config(self) -> dict[str, Any]:
        shapes = [[None, *spec.shape] for spec in self.input_specs]
        return {"input_shape": shapes if len(shapes) > 1 else shapes[0]}

    def build_from_config(self, config: dict[str, Any]) -> None:
        self.build(config["input_shape"])

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Holder:
        return cls(keras.layers.deserialize(config["layer"]))
