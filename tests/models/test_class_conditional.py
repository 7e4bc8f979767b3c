"""Generator and discriminator: sizes, labels, equivalence with the plain formulas, round trips."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from attennorm_tf.config import GAN_PRESETS
from attennorm_tf.layers import AttentiveNormalization
from attennorm_tf.models import ClassConditionalDiscriminator, ClassConditionalGenerator, gan_preset
from attennorm_tf.models.blocks import DownBlock, UpBlock, double, halve

GOLDEN = json.loads((Path(__file__).parent / "parameter_counts.json").read_text())
TINY = {"resolution": 16, "num_classes": 3, "width": 0.125, "channels": 1}


def counts(model: keras.Model) -> list[int]:
    """[trainable, all] parameters."""
    return [sum(int(np.prod(w.shape)) for w in weights) for weights in (model.trainable_weights, model.weights)]


# Every preset at the paper's size; at all sizes one with each kind of attention, and one with none.
_SIZES = [(name, 128) for name in sorted(GAN_PRESETS)]
_SIZES += [(name, size) for name in ("attennorm", "sagan", "acgan") for size in (16, 32, 64)]


@pytest.mark.parametrize(("name", "resolution"), _SIZES)
def test_parameter_counts_and_shapes(name: str, resolution: int) -> None:
    classes = 1000 if resolution == 128 else 10
    with tf.Graph().as_default():  # no memory is taken for weights of 128x128
        generator, discriminator = gan_preset(name, resolution=resolution, num_classes=classes)
        images = generator([tf.zeros([2, 128]), tf.zeros([2], tf.int32)])
        logits = discriminator([images, tf.zeros([2], tf.int32)])
        assert images.shape == (2, resolution, resolution, 3)
        assert logits.shape == (2, 1)
        assert {"generator": counts(generator), "discriminator": counts(discriminator)} == GOLDEN[name][str(resolution)]


def test_paper_generator_by_hand() -> None:
    """128x128, base width 64, 1000 classes: the supplement's table counted without the code."""

    def conv(size: int, inputs: int, outputs: int) -> int:
        return size * size * inputs * outputs + outputs

    def attentive(c: int, n: int = 16) -> int:
        keys = c // 8
        return n * c + 2 * (c * keys + keys) + n + (c * c + c) + 2 * c + 1

    total = 128 * 4 * 4 * 1024 + 4 * 4 * 1024
    inputs = 1024
    for block, outputs in enumerate((1024, 512, 256, 128, 64)):
        total += 2 * 1000 * inputs + conv(3, inputs, outputs) + conv(3, outputs, outputs) + conv(1, inputs, outputs)
        total += attentive(outputs) if block == 2 else 2 * 1000 * outputs
        inputs = outputs
    total += 2 * 64 + conv(3, 64, 3)
    assert GOLDEN["attennorm"]["128"]["generator"][0] == total


def test_double_and_halve() -> None:
    images = tf.random.normal([2, 3, 5, 4])
    expected = np.repeat(np.repeat(images.numpy(), 2, axis=1), 2, axis=2)
    np.testing.assert_array_equal(double(images).numpy(), expected)
    np.testing.assert_allclose(halve(double(images)).numpy(), images.numpy(), rtol=1e-6)


@pytest.mark.parametrize("attention", ["attentive_normalization", "self_attention", "none"])
def test_soft_labels_equal_hard_ones_and_blend(attention: str) -> None:
    generator = ClassConditionalGenerator(**TINY, attention=attention)
    discriminator = ClassConditionalDiscriminator(**TINY, attention=attention)
    latents, labels = tf.random.normal([3, 128]), tf.constant([2, 0, 1])
    generator.build()
    for weight in generator.weights:
        if weight.name.split(":")[0].split("/")[-1] in ("gamma", "beta"):
            weight.assign(weight + tf.random.normal(weight.shape))
    images = generator([latents, labels])
    np.testing.assert_allclose(generator([latents, tf.one_hot(labels, 3)]), images, atol=1e-5)
    np.testing.assert_allclose(
        discriminator([images, tf.one_hot(labels, 3)]), discriminator([images, labels]), atol=1e-4
    )
    blended = generator([latents, 0.5 * tf.one_hot(labels, 3) + 0.5 * tf.one_hot([0, 1, 2], 3)])
    assert float(tf.reduce_max(tf.abs(blended - images))) > 1e-3


def test_up_block_is_its_formula() -> None:
    """Plain up block, no spectral normalization: the shortcut convolves before it upsamples, which commutes."""
    block = UpBlock(6, num_classes=2, spectral_normalization=False)
    features, labels = tf.random.normal([2, 4, 4, 5]), tf.constant([0, 1])
    outputs = block((features, labels), training=True)

    def normalize(x: tf.Tensor) -> tf.Tensor:
        mean, variance = tf.nn.moments(x, [0, 1, 2])
        return (x - mean) / tf.sqrt(variance + 1e-5)

    def conv(x: tf.Tensor, layer: keras.layers.Layer) -> tf.Tensor:
        return tf.nn.conv2d(x, layer.kernel, 1, "SAME") + layer.bias

    def up(x: tf.Tensor) -> tf.Tensor:
        return tf.repeat(tf.repeat(x, 2, axis=1), 2, axis=2)

    hidden = conv(up(tf.nn.relu(normalize(features))), block.conv1)
    hidden = conv(tf.nn.relu(normalize(hidden)), block.conv2)
    expected = hidden + conv(up(features), block.shortcut)
    np.testing.assert_allclose(outputs, expected, atol=2e-5)


@pytest.mark.parametrize("first", [True, False])
def test_down_block_is_its_formula(first: bool) -> None:
    block = DownBlock(6, 7, first=first, spectral_normalization=False)
    features = tf.random.normal([2, 4, 4, 5])

    def conv(x: tf.Tensor, layer: keras.layers.Layer) -> tf.Tensor:
        return tf.nn.conv2d(x, layer.kernel, 1, "SAME") + layer.bias

    outputs = block(features)
    hidden = conv(features if first else tf.nn.relu(features), block.conv1)
    hidden = conv(tf.nn.relu(hidden), block.conv2)
    expected = tf.nn.avg_pool2d(hidden + conv(features, block.shortcut), 2, 2, "VALID")
    np.testing.assert_allclose(outputs, expected, atol=2e-5)


def test_attention_stands_where_the_paper_puts_it() -> None:
    generator, discriminator = gan_preset("attennorm", resolution=128, num_classes=2, width=0.125)
    holders = [index for index, block in enumerate(generator.blocks) if block.attention_options is not None]
    assert holders == [2]
    _, layout = generator([tf.zeros([1, 128]), tf.zeros([1], tf.int32)], return_layout=True)
    assert layout.shape == (1, 32, 32, 16)
    assert [block.attention_options is not None for block in discriminator.blocks] == [False, True] + [False] * 3
    _, first = gan_preset("attennorm", resolution=128, num_classes=2, width=0.125, attention_block=1)
    assert [block.attention_options is not None for block in first.blocks] == [True] + [False] * 4


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("attennorm_bn", "normalization", "batch"),
        ("attennorm_no_orthogonal", "orthogonal_weight", 0.0),
        ("attennorm_no_ssr", "self_sampling", False),
        ("attennorm_n8", "num_entities", 8),
        ("attennorm_n32", "num_entities", 32),
    ],
)
def test_ablations_reach_both_layers(name: str, field: str, value: object) -> None:
    for model in gan_preset(name, resolution=16, num_classes=2, width=0.125):
        layers = [p for p in tf.train.TrackableView(model).descendants() if isinstance(p, AttentiveNormalization)]
        assert [getattr(layer, field) for layer in layers] == [value]


@pytest.mark.parametrize("name", ["attennorm", "sagan", "sngan", "acgan"])
def test_keras_file_round_trip(name: str, tmp_path: Path) -> None:
    generator, discriminator = gan_preset(name, **TINY)
    latents, labels = tf.random.normal([2, 128]), tf.constant([0, 2])
    images = generator([latents, labels])
    logits = discriminator([images, labels])
    generator.save(tmp_path / "generator.keras")
    discriminator.save(tmp_path / "discriminator.keras")
    loaded = keras.models.load_model(tmp_path / "generator.keras")
    np.testing.assert_allclose(loaded([latents, labels]), images, atol=1e-6)
    loaded = keras.models.load_model(tmp_path / "discriminator.keras")
    np.testing.assert_allclose(loaded([images, labels]), logits, atol=1e-5)


def test_inference_is_deterministic_and_training_is_not() -> None:
    generator, _ = gan_preset("attennorm", **TINY)
    generator.attentive_normalization.rho.assign(1.0)
    inputs = [tf.random.normal([4, 128]), tf.constant([0, 1, 2, 0])]
    np.testing.assert_array_equal(generator(inputs), generator(inputs))
    assert float(tf.reduce_max(tf.abs(generator(inputs, training=True) - generator(inputs, training=True)))) > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resolution": 48}, r"resolution must be one of \[16, 32, 64, 128\], got 48"),
        ({"num_classes": 0}, "num_classes must be an int >= 1, got 0"),
        ({"width": 0.0}, "width must be a number > 0, got 0.0"),
        ({"attention": "none at all"}, "attention must be one of 'none', .* got 'none at all'"),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    for model in (ClassConditionalGenerator, ClassConditionalDiscriminator):
        with pytest.raises(ValueError, match=message):
            model(**{**TINY, **arguments})


def test_auxiliary_classifier_is_two_dense_layers_on_the_pooled_features() -> None:
    """Without spectral normalization; the trunk is the projection discriminator's, weight by weight."""
    _, discriminator = gan_preset("acgan", **TINY, discriminator_spectral_normalization=False)
    _, projection = gan_preset("sngan_star", **TINY, discriminator_spectral_normalization=False)
    images, labels = tf.random.normal([5, 16, 16, 1]), tf.constant([0, 1, 2, 2, 1])
    logits, classes = discriminator([images, labels], return_classes=True)
    hidden = images
    for block, other in zip(discriminator.blocks, projection.blocks):
        assert [weight.shape for weight in block.weights] == [weight.shape for weight in other.weights]
        hidden = block(hidden)
    pooled = np.maximum(hidden.numpy(), 0).sum(axis=(1, 2))
    for answer, layer, width in ((logits, discriminator.dense, 1), (classes, discriminator.classifier, 3)):
        assert answer.shape == (5, width)
        np.testing.assert_allclose(answer, pooled @ layer.kernel.numpy() + layer.bias.numpy(), rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(discriminator([images, labels]), logits)
    # The logit says nothing of the class, so any labels do, soft ones too.
    np.testing.assert_array_equal(discriminator([images, tf.one_hot(2 - labels, 3)]), logits)


def test_no_class_logits_without_a_classifier() -> None:
    _, discriminator = gan_preset("sngan", **TINY)
    message = r"return_classes: this discriminator has no auxiliary classifier, its conditioning is 'projection'"
    with pytest.raises(ValueError, match=message):
        discriminator([tf.zeros([1, 16, 16, 1]), tf.constant([0])], return_classes=True)


def test_bad_attention_places() -> None:
    with pytest.raises(ValueError, match=r"attention_resolution must be one of \[8, 16\], got 32"):
        ClassConditionalGenerator(**TINY, attention_resolution=32)
    with pytest.raises(ValueError, match=r"attention_block must be one of 1, 2; got 3"):
        ClassConditionalDiscriminator(**TINY, attention_block=3)
    with pytest.raises(
        ValueError, match=r"conditioning must be one of 'concat', 'projection', 'auxiliary_classifier'; got 'sum'"
    ):
        ClassConditionalDiscriminator(**TINY, conditioning="sum")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (tf.constant([0, 3]), r"labels must be class ids in \[0, 3\), got 3"),
        (tf.constant([-1, 0]), r"labels must be class ids in \[0, 3\), got -1"),
        (tf.ones([2, 4]), "soft class weights must have 3 columns, got 4"),
        (tf.ones([2]), "labels must be integers of shape"),
        (tf.ones([2, 3], tf.int32), "labels must be integers of shape"),
    ],
)
def test_bad_labels(labels: tf.Tensor, message: str) -> None:
    generator, discriminator = gan_preset("attennorm", **TINY)
    with pytest.raises(ValueError, match=message):
        generator([tf.zeros([2, 128]), labels])
    with pytest.raises(ValueError, match=message):
        discriminator([tf.zeros([2, 16, 16, 1]), labels])


def test_unknown_preset_and_field() -> None:
    with pytest.raises(ValueError, match=r"preset must be one of acgan, .*; got 'biggan'"):
        gan_preset("biggan")
    with pytest.raises(ValueError, match=r"model.heads is not a field; model has resolution"):
        gan_preset("attennorm", heads=4)
    with pytest.raises(ValueError, match=r"model.resolution must be 16, 32, 64 or 128; got 20"):
        gan_preset("attennorm", resolution=20)


def test_no_layout_without_attentive_normalization() -> None:
    generator, _ = gan_preset("sngan", **TINY)
    with pytest.raises(ValueError, match=r"this generator has no layout, its attention is 'none'"):
        generator([tf.zeros([1, 128]), tf.zeros([1], tf.int32)], return_layout=True)
