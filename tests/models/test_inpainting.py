"""The inpainting generators: sizes, the specification's tables as plain formulas, round trips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from attennorm_tf._compat import raw_variable
from attennorm_tf.config import InpaintingModelConfig
from attennorm_tf.layers.contextual_attention import contextual_attention
from attennorm_tf.models import ContextualAttentionInpainter, InpaintingGenerator, build_inpainter

GOLDEN = json.loads((Path(__file__).parent / "inpainting_parameter_counts.json").read_text())
NETWORKS = {
    "paper": lambda **options: InpaintingGenerator("paper", **options),
    "release": lambda **options: InpaintingGenerator("release", **options),
    "paper_concat": lambda **options: InpaintingGenerator("paper", stage2_input="concat", **options),
    "contextual": lambda **options: ContextualAttentionInpainter(**options),
}
TINY = {"width": 0.125}


def inputs(height: int = 32, width: int = 40) -> list[tf.Tensor]:
    """Two images with holes of their own."""
    masks = np.zeros((2, height, width, 1), np.float32)
    masks[0, 8:20, 4:24] = 1
    masks[1, 5:9] = 1
    return [tf.random.uniform([2, height, width, 3], -1, 1), tf.constant(masks)]


def awake(model: keras.Model) -> keras.Model:
    """Built, with the gate of attentive normalization open and biases that are not 0."""
    model.build()
    for weight in model.trainable_weights:
        name = weight.name.split("/")[-1].split(":")[0]
        if name == "rho":
            weight.assign(0.7)
        elif name == "bias":
            weight.assign(tf.random.normal(weight.shape, stddev=0.1))
    return model


def close(actual: Any, expected: Any, tolerance: float = 1e-5) -> None:
    for ours, theirs in zip(actual, expected):
        np.testing.assert_allclose(ours, theirs, atol=tolerance)


@pytest.mark.parametrize("name", NETWORKS)
def test_parameter_counts(name: str) -> None:
    with tf.Graph().as_default():
        model = NETWORKS[name]()
        coarse, fine = model([tf.zeros([2, 256, 256, 3]), tf.zeros([2, 256, 256, 1])])
        assert coarse.shape == fine.shape == (2, 256, 256, 3)
        assert [sum(int(np.prod(w.shape)) for w in model.trainable_weights)] == GOLDEN[name]


def convolutions(*rows: tuple[int, int, int]) -> int:
    """Parameters of convolutions (size, channels in, channels out)."""
    return sum(size * size * inputs * outputs + outputs for size, inputs, outputs in rows)


def test_parameter_counts_by_hand() -> None:
    """The supplement's table and DeepFill v1's, counted without the code."""
    encoder = convolutions((5, 5, 32), (3, 32, 64), (3, 64, 64), (3, 64, 128), (3, 128, 128))
    wide = convolutions((3, 128, 128))
    decoder = convolutions((3, 128, 64), (3, 64, 64), (3, 64, 32), (3, 32, 16), (3, 16, 3))
    n, keys = 16, 128 // 8
    attention = n * 128 + 2 * (128 * keys + keys) + n + (128 * 128 + 128) + 2 * 128 + 1
    decoder2 = convolutions((3, 256, 128), (3, 128, 128)) + decoder
    paper = 3 * encoder + 2 * 4 * wide + decoder + 3 * wide + attention + decoder2
    assert GOLDEN["paper"] == [paper]
    assert GOLDEN["release"] == [paper + (3 + 2) * wide]
    assert GOLDEN["paper_concat"] == [paper + 2 * 5 * 5 * (6 - 5) * 32]
    branch = convolutions((5, 5, 32), (3, 32, 32), (3, 32, 64))
    plain = branch + convolutions((3, 64, 64), (3, 64, 128)) + 5 * wide
    attentive = branch + convolutions((3, 64, 128)) + 4 * wide
    assert GOLDEN["contextual"] == [encoder + 7 * wide + decoder + plain + attentive + decoder2] == [3_601_542]


class Rows:
    """Applies convolutions with the weights of a model, in the order in which the tables list them."""

    def __init__(self, model: keras.Model):
        self.model = model

    def __call__(self, stack: str, x: tf.Tensor, rows: str) -> tf.Tensor:
        """`rows`: "size,channels,stride,dilation[,activation]" or "x2", channels for width 1."""
        layers = iter(getattr(self.model, stack).layers)
        for row in rows.split():
            if row == "x2":
                x = tf.repeat(tf.repeat(x, 2, axis=1), 2, axis=2)
                continue
            size, channels, stride, dilation, *rest = row.split(",")
            layer = next(layers)
            kernel, bias = layer.get_weights()
            filters = 3 if rest == ["linear"] and channels == "3" else max(1, int(channels) // 8)
            assert kernel.shape == (int(size), int(size), x.shape[-1], filters)
            x = tf.nn.conv2d(x, kernel, int(stride), "SAME", dilations=int(dilation)) + bias
            x = {"": tf.nn.elu, "relu": tf.nn.relu, "linear": tf.identity}[rest[0] if rest else ""](x)
        assert next(layers, None) is None
        return x


ENCODER = "5,32,1,1 3,64,2,1 3,64,1,1 3,128,2,1 3,128,1,1 "
BOTTLENECK = "3,128,1,2 3,128,1,4 3,128,1,8 3,128,1,16 "
DECODER = "x2 3,64,1,1 3,64,1,1 x2 3,32,1,1 3,16,1,1 3,3,1,1,linear"
WIDE = "3,128,1,1 "


@pytest.mark.parametrize("name", ["paper", "release", "paper_concat"])
def test_attentive_network_is_its_table(name: str) -> None:
    model = awake(NETWORKS[name](**TINY))
    apply, (images, masks) = Rows(model), inputs()
    more, before = (WIDE, 2 * WIDE) if name == "release" else ("", "")
    known = images * (1 - masks)
    ones = tf.ones_like(masks)
    hidden = apply("encoder1", tf.concat([known, ones, masks], -1), ENCODER + more)
    hidden = apply("bottleneck1", hidden, BOTTLENECK + before)
    coarse = tf.clip_by_value(apply("decoder1", hidden, DECODER), -1, 1)
    second = tf.concat([coarse * masks + known, ones, masks], -1)
    if name == "paper_concat":
        second = tf.concat([coarse, known], -1)
    attended = apply("encoder2_attentive", second, ENCODER + more)
    attended = apply("attentive_in", attended, "3,128,1,1,linear")
    attended = tf.nn.elu(model.attentive_normalization(attended))
    attended = apply("attentive_out", attended, 2 * WIDE)
    plain = apply("bottleneck2", apply("encoder2", second, ENCODER + more), BOTTLENECK)
    fine = apply("decoder2", tf.concat([attended, plain], -1), 2 * WIDE + DECODER)
    assert float(tf.reduce_max(tf.abs(fine))) > 0.05
    close(model([images, masks]), (coarse, tf.clip_by_value(fine, -1, 1)))


def test_contextual_network_is_its_table() -> None:
    model = awake(NETWORKS["contextual"](**TINY))
    apply, (images, masks) = Rows(model), inputs(64, 72)
    # Single pixels: which of them are seen at an eighth of the resolution depends on how the mask is resized.
    masks = tf.cast(tf.random.uniform(masks.shape) < 0.06, tf.float32)
    known = images * (1 - masks)
    ones = tf.ones_like(masks)
    rows = ENCODER + WIDE + BOTTLENECK + 2 * WIDE + DECODER
    coarse = tf.clip_by_value(apply("stage1", tf.concat([known, ones, masks], -1), rows), -1, 1)
    second = tf.concat([coarse * masks + known, ones, masks], -1)
    plain = apply("plain", second, "5,32,1,1 3,32,2,1 3,64,1,1 3,64,2,1 " + 2 * WIDE + BOTTLENECK)
    hidden = apply("attention_in", second, "5,32,1,1 3,32,2,1 3,64,1,1 3,128,2,1 3,128,1,1 3,128,1,1,relu")
    small = tf.raw_ops.ResizeNearestNeighbor(images=masks, size=hidden.shape[1:3], align_corners=True)
    attended, offsets = contextual_attention(hidden, hidden, small)
    assert 0.02 < float(tf.reduce_mean(small)) < 0.1
    fine = apply("decoder2", tf.concat([plain, apply("attention_out", attended, 2 * WIDE)], -1), 2 * WIDE + DECODER)
    close(model([images, masks], return_offsets=True), (coarse, tf.clip_by_value(fine, -1, 1), offsets))


@pytest.mark.parametrize("name", ["paper_concat", "contextual"])
def test_pixels_in_the_hole_do_not_count(name: str) -> None:
    model, (images, masks) = awake(NETWORKS[name](**TINY)), inputs()
    expected = model([images, masks])
    close(model([tf.where(masks > 0, 0.9, images), masks]), expected, 0)
    other = model([tf.where(masks > 0, images, 0.9), masks])
    assert all(float(tf.reduce_max(tf.abs(a - b))) > 1e-3 for a, b in zip(other, expected))


@pytest.mark.parametrize("name", ["paper", "contextual"])
def test_images_of_a_batch_do_not_meet(name: str) -> None:
    model, (images, masks) = awake(NETWORKS[name](**TINY)), inputs()
    together = model([images, masks])
    for index in range(2):
        close(model([images[index : index + 1], masks[index : index + 1]]), [x[index : index + 1] for x in together])


@pytest.mark.parametrize("name", ["paper", "contextual"])
def test_two_sizes_through_one_instance(name: str) -> None:
    model, fresh = awake(NETWORKS[name](**TINY)), NETWORKS[name](**TINY)
    model(inputs())
    fresh.build()
    fresh.set_weights(model.get_weights())
    larger = inputs(48, 24)
    close(model(larger), fresh(larger), 0)


@pytest.mark.parametrize("name", ["paper_concat", "contextual"])
def test_keras_file_and_checkpoint_hold_every_weight(name: str, tmp_path: Path) -> None:
    model, given = awake(NETWORKS[name](**TINY)), inputs()
    expected = model(given)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    close(loaded(given), expected, 0)
    path = tf.train.Checkpoint(model=model).save(str(tmp_path / "checkpoint"))
    restored = NETWORKS[name](**TINY)
    restored.build()
    tf.train.Checkpoint(model=restored).restore(path).assert_consumed()
    for ours, theirs in zip(restored.weights, model.weights):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=theirs.name)
    close(restored(given), expected, 0)


@pytest.mark.parametrize("name", ["paper", "contextual"])
def test_saved_model_takes_any_size(name: str, tmp_path: Path) -> None:
    """A module of variables and a graph, no Keras, as the export writes it."""
    model = awake(NETWORKS[name](**TINY))
    specs = [tf.TensorSpec([None, None, None, channels], tf.float32) for channels in (3, 1)]
    module = tf.Module()
    module.variables_of_the_model = [raw_variable(weight) for weight in model.weights]
    module.infer = tf.function(lambda images, masks: model([images, masks], training=False), input_signature=specs)
    tf.saved_model.save(module, str(tmp_path / "saved"))
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    for given in (inputs(), inputs(24, 32)):
        close(loaded.infer(*given), model(given))


@pytest.mark.parametrize("name", ["paper", "contextual"])
def test_infer_is_the_call(name: str) -> None:
    model, given = awake(NETWORKS[name](**TINY)), inputs(24, 16)
    close(model.infer(*given), model(given))


@pytest.mark.parametrize("name", ["paper", "contextual"])
def test_every_weight_has_a_gradient_from_the_fine_image(name: str) -> None:
    model, given = awake(NETWORKS[name](**TINY)), inputs()
    with tf.GradientTape() as tape:
        coarse, fine = model(given, training=True)
        loss = tf.reduce_mean(tf.abs(fine - given[0])) + tf.reduce_mean(tf.abs(coarse - given[0]))
    gradients = tape.gradient(loss, model.trainable_weights)
    for weight, gradient in zip(model.trainable_weights, gradients):
        assert gradient is not None, weight.name
        assert np.isfinite(gradient).all(), weight.name
    # The layout's softmax over few entities may leave single weights without any; most must have one.
    assert np.mean([np.abs(gradient).max() > 0 for gradient in gradients]) > 0.95


@pytest.mark.parametrize(("name", "policy"), [("paper", "mixed_float16"), ("contextual", "mixed_bfloat16")])
def test_mixed_precision(name: str, policy: str) -> None:
    model, given = awake(NETWORKS[name](**TINY)), inputs()
    keras.mixed_precision.set_global_policy(policy)
    half = NETWORKS[name](**TINY)
    half.build()
    half.set_weights(model.get_weights())
    outputs = half(given)
    assert all(image.dtype == tf.float32 for image in outputs)
    assert {tf.as_dtype(weight.dtype) for weight in half.trainable_weights} == {tf.float32}
    close(outputs, model(given), 0.01 if policy == "mixed_float16" else 0.05)


def test_self_sampling_in_training_only() -> None:
    model, given = awake(NETWORKS["paper"](**TINY)), inputs()
    close(model(given), model(given, training=False), 0)
    ours, theirs = model(given, training=True), model(given, training=True)
    close(ours[:1], theirs[:1], 0)
    assert float(tf.reduce_max(tf.abs(ours[1] - theirs[1]))) > 0


def test_layout() -> None:
    model, given = awake(InpaintingGenerator(**TINY, attention_options={"num_entities": 5})), inputs()
    *images, layout = model(given, return_layout=True)
    assert layout.shape == (2, 8, 10, 5)
    np.testing.assert_allclose(tf.reduce_sum(layout, axis=-1), np.ones((2, 8, 10)), atol=1e-6)
    close(images, model(given), 0)


def test_outputs_are_clipped() -> None:
    for name in ("paper", "contextual"):
        model, given = awake(NETWORKS[name](**TINY)), inputs()
        for weight in model.trainable_weights:
            weight.assign(3 * weight)
        for image in model(given):
            assert np.abs(image).max() == 1


@pytest.mark.parametrize("network", ["attentive", "contextual"])
def test_build_inpainter_takes_the_configuration(network: str) -> None:
    config = InpaintingModelConfig(
        network=network, preset="release", width=0.125, stage2_input="concat", num_entities=5, temperature=0.3,
        orthogonal_weight=0.01, self_sampling=False, sampling_pool_size=4, value_projection=False, affine="",
        statistics="weighted", normalization="batch",
    )  # fmt: skip
    config.validate()
    model = build_inpainter(config, seed=7)
    assert model.built
    assert model.width == 0.125
    if network == "contextual":
        assert model.attentive_normalization is None
        return
    assert (model.preset, model.stage2_input) == ("release", "concat")
    layer = model.attentive_normalization
    for field in ("num_entities", "temperature", "orthogonal_weight", "self_sampling", "sampling_pool_size"):
        assert getattr(layer, field) == getattr(config, field)
    options = (layer.value_projection, layer.affine, layer.statistics, layer.normalization, layer.seed)
    assert options == (False, None, "weighted", "batch", 7)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InpaintingGenerator("paper2"), "preset must be one of 'paper', 'release'; got 'paper2'"),
        (lambda: InpaintingGenerator(stage2_input="x"), "stage2_input must be one of 'composite', 'concat'; got 'x'"),
        (lambda: InpaintingGenerator(width=0), "width must be a finite number > 0, got 0"),
        (lambda: ContextualAttentionInpainter(width="1"), "width must be a finite number > 0, got '1'"),
        (
            lambda: build_inpainter(InpaintingModelConfig(network="gated")),
            "network must be one of 'attentive', 'contextual'; got 'gated'",
        ),
    ],
)
def test_bad_arguments(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("images", "masks", "message"),
    [
        ((1, 32, 32, 1), (1, 32, 32, 1), r"images must be \(batch, height, width, 3\), got shape \(1, 32, 32, 1\)"),
        ((1, 32, 32, 3), (1, 32, 32, 3), r"masks must be \(batch, height, width, 1\), got shape \(1, 32, 32, 3\)"),
        ((1, 32, 32, 3), (1, 32, 40, 1), r"masks must be of the images' .*\(1, 32, 32\); got \(1, 32, 40\)"),
        ((2, 32, 32, 3), (1, 32, 32, 1), r"masks must be of the images' .*\(2, 32, 32\); got \(1, 32, 32\)"),
        ((1, 32, 30, 3), (1, 32, 30, 1), r"divisible by [48], got \(32, 30\)"),
    ],
)
def test_bad_inputs(images: tuple, masks: tuple, message: str) -> None:
    for name in ("paper", "contextual"):
        with pytest.raises(ValueError, match=message):
            NETWORKS[name](**TINY)([tf.zeros(images), tf.zeros(masks)])
