"""The discriminators of inpainting: sizes, plain formulas, the crop, and derivatives of derivatives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from attennorm_tf.config import InpaintingModelConfig
from attennorm_tf.models import (
    GlobalDiscriminator,
    LocalDiscriminator,
    MaskedPatchDiscriminator,
    build_inpainting_discriminators,
)
from attennorm_tf.models.inpainting_discriminators import crop_around_holes

GOLDEN = json.loads((Path(__file__).parent / "inpainting_parameter_counts.json").read_text())
SMALL = {
    "global": lambda **options: GlobalDiscriminator(resolution=32, width=0.125, **options),
    "local": lambda **options: LocalDiscriminator(crop=(16, 24), width=0.125, **options),
    "patch": lambda **options: MaskedPatchDiscriminator(width=0.125, **options),
}
LAST = {"global": "dense", "local": "dense", "patch": "to_scores"}


def inputs(dtype: str = "float32") -> list[tf.Tensor]:
    """Three images: a hole in the middle, one at the corner, none."""
    masks = np.zeros((3, 32, 32, 1))
    masks[0, 9:20, 12:22] = 1
    masks[1, 22:32, :5] = 1
    return [tf.random.uniform([3, 32, 32, 3], -1, 1, dtype), tf.constant(masks, dtype)]


def awake(model: keras.Model) -> keras.Model:
    """Built, its biases not 0."""
    model.build()
    for weight in model.weights:
        if len(weight.shape) == 1:
            weight.assign(tf.random.normal(weight.shape, stddev=0.1, dtype=weight.dtype))
    return model


@pytest.mark.parametrize(
    ("name", "make"),
    [("global", GlobalDiscriminator), ("local", LocalDiscriminator), ("patch", MaskedPatchDiscriminator)],
)
def test_parameter_counts(name: str, make: Any) -> None:
    """At 256x256 with crops of 128x128: pinned, and counted from the specification."""
    with tf.Graph().as_default():
        model = make()
        scores = model([tf.zeros([2, 256, 256, 3]), tf.zeros([2, 256, 256, 1])])
        assert scores.shape == (2, 1)
        assert [sum(int(np.prod(w.shape)) for w in model.trainable_weights)] == GOLDEN[name]
    channels = {"global": (3, 64, 128, 256, 256), "local": (3, 64, 128, 256, 512), "patch": (4, 64, 128, 256, 256, 1)}
    total = sum(25 * a * b + b for a, b in zip(channels[name], channels[name][1:]))
    total += {"global": 16 * 16 * 256 + 1, "local": 8 * 8 * 512 + 1, "patch": 0}[name]
    assert GOLDEN[name] == [total]


def features(model: keras.Model, images: tf.Tensor) -> tf.Tensor:
    """k5 s2 convolutions with leaky ReLU, from the model's weights."""
    for layer, channels in zip(model.convolutions.layers, (8, 16, 32, 64)):
        kernel, bias = layer.get_weights()
        assert kernel.shape[:2] == (5, 5)
        assert kernel.shape[3] == (32 if channels == 64 and not isinstance(model, LocalDiscriminator) else channels)
        images = tf.nn.conv2d(images, kernel, 2, "SAME") + bias
        images = tf.where(images > 0, images, 0.2 * images)
    return images


def test_global_and_local_are_their_formulas() -> None:
    images, masks = inputs()
    model = awake(SMALL["global"]())
    kernel, bias = model.dense.get_weights()
    expected = features(model, images).numpy().reshape(3, -1) @ kernel + bias
    np.testing.assert_allclose(model([images, masks]), expected, atol=1e-5)
    model = awake(SMALL["local"]())
    kernel, bias = model.dense.get_weights()
    # Boxes 9:20 x 12:22 and 22:32 x 0:5, middle of the image: centres (14.5, 17), (27, 2.5), (16, 16).
    crops = tf.stack([images[0, 6:22, 5:29], images[1, 16:32, 0:24], images[2, 8:24, 4:28]])
    expected = features(model, crops).numpy().reshape(3, -1) @ kernel + bias
    np.testing.assert_allclose(model([images, masks]), expected, atol=1e-5)


def test_patch_scores_are_weighted_by_the_hole() -> None:
    images, masks = inputs()
    model = awake(SMALL["patch"]())
    kernel, bias = model.to_scores.layers[0].get_weights()
    hidden = features(model, tf.concat([images, masks], axis=-1))
    patches = (tf.nn.conv2d(hidden, kernel, 1, "SAME") + bias).numpy()
    scores = model([images, masks]).numpy()
    for index in range(2):
        weighted = weight = 0.0
        for y in range(2):
            for x in range(2):
                share = masks.numpy()[index, 16 * y : 16 * y + 16, 16 * x : 16 * x + 16].mean()
                weighted, weight = weighted + share * patches[index, y, x, 0], weight + share
        np.testing.assert_allclose(scores[index, 0], weighted / weight, atol=1e-6)
    assert scores[2, 0] == 0


def test_crop_is_around_the_hole_and_inside_the_image() -> None:
    generator = np.random.default_rng(0)
    images = generator.normal(size=(20, 17, 23, 2)).astype(np.float32)
    masks = np.zeros((20, 17, 23, 1), np.float32)
    for mask in masks:
        top, left = generator.integers(0, 16), generator.integers(0, 22)
        mask[top : generator.integers(top, 17) + 1, left : generator.integers(left, 23) + 1] = 1
    height, width = 6, 9
    crops = crop_around_holes(tf.constant(images), tf.constant(masks), height, width)
    for image, mask, crop in zip(images, masks, crops.numpy()):
        rows, columns = np.nonzero(mask[..., 0])
        top = min(max((rows.min() + rows.max() + 1 - height) // 2, 0), 17 - height)
        left = min(max((columns.min() + columns.max() + 1 - width) // 2, 0), 23 - width)
        np.testing.assert_array_equal(crop, image[top : top + height, left : left + width])


def penalty(model: keras.Model, images: tf.Tensor, masks: tf.Tensor) -> tf.Tensor:
    with tf.GradientTape() as tape:
        tape.watch(images)
        scores = model([images, masks], training=True)
    slopes = tape.gradient(scores, images) * masks
    return tf.reduce_sum((tf.sqrt(tf.reduce_sum(slopes**2, axis=[1, 2, 3]) + 1e-12) - 1) ** 2)


@pytest.mark.parametrize("name", SMALL)
def test_gradient_penalty_has_the_finite_difference_gradient(name: str) -> None:
    """With respect to the weights and, a derivative of the same order, the images; in float64."""
    keras.mixed_precision.set_global_policy("float64")
    model = awake(SMALL[name]())
    images, masks = inputs("float64")
    compiled = tf.function(lambda images: penalty(model, images, masks))
    weights = [weight for weight in model.trainable_weights if len(weight.shape) > 1]
    assert all(weight.dtype in (tf.float64, "float64") for weight in weights)
    with tf.GradientTape() as tape:
        tape.watch(images)
        value = compiled(images)
    *gradients, of_images = tape.gradient(value, [*weights, images])
    assert all(np.abs(gradient).max() > 1e-6 for gradient in gradients)
    start, size = [weight.numpy() for weight in weights], 1e-6
    generator = np.random.default_rng(1)
    steps = [generator.normal(size=weight.shape) for weight in start]

    def moved(by: float) -> float:
        for weight, at, step in zip(weights, start, steps):
            weight.assign(at + by * step)
        return float(compiled(images))

    slope = (moved(size) - moved(-size)) / (2 * size)
    expected = sum(float(tf.reduce_sum(gradient * step)) for gradient, step in zip(gradients, steps))
    np.testing.assert_allclose(slope, expected, rtol=1e-5)
    # Between its kinks the score is linear in the image: its slope does not change there.
    assert of_images is None or np.abs(of_images).max() < 1e-9


@pytest.mark.parametrize("name", SMALL)
def test_files_hold_every_weight(name: str, tmp_path: Path) -> None:
    model, given = awake(SMALL[name]()), inputs()
    expected = model(given)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    np.testing.assert_array_equal(loaded(given), expected)
    path = tf.train.Checkpoint(model=model).save(str(tmp_path / "checkpoint"))
    restored = SMALL[name]()
    restored.build()
    tf.train.Checkpoint(model=restored).restore(path).assert_consumed()
    np.testing.assert_array_equal(restored(given), expected)


@pytest.mark.parametrize("name", SMALL)
def test_mixed_precision(name: str) -> None:
    model, given = awake(SMALL[name]()), inputs()
    keras.mixed_precision.set_global_policy("mixed_float16")
    half = SMALL[name]()
    half.build()
    half.set_weights(model.get_weights())
    scores = half(given)
    assert scores.dtype == tf.float32
    np.testing.assert_allclose(scores, model(given), atol=0.01)


def test_patch_and_local_take_any_size() -> None:
    for name in ("patch", "local"):
        model = awake(SMALL[name]())
        images, masks = tf.random.normal([1, 40, 56, 3]), tf.ones([1, 40, 56, 1])
        spec = [tf.TensorSpec([None, None, None, channels], tf.float32) for channels in (3, 1)]
        compiled = tf.function(lambda images, masks, model=model: model([images, masks]), input_signature=spec)
        np.testing.assert_allclose(compiled(images, masks), model([images, masks]), atol=1e-5)


@pytest.mark.parametrize(("kind", "second"), [("rectangle", "local"), ("center", "local"), ("thick", "patch")])
def test_discriminators_of_a_configuration(kind: str, second: str) -> None:
    config = InpaintingModelConfig(resolution=64, discriminator_width=0.125)
    built = build_inpainting_discriminators(config, kind, (32, 16))
    assert list(built) == ["global", second]
    assert all(model.built and model.width == 0.125 for model in built.values())
    assert built["global"].resolution == 64
    assert len({model.name for model in built.values()}) == 2
    if second == "local":
        assert built["local"].crop == (32, 16)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GlobalDiscriminator(resolution=0), "resolution must be an int >= 1, got 0"),
        (lambda: LocalDiscriminator(crop=16), r"crop must be \(height, width\), got 16"),
        (lambda: LocalDiscriminator(crop=(16, 0)), "crop must be an int >= 1, got 0"),
        (lambda: MaskedPatchDiscriminator(width=-1.0), "width must be a finite number > 0, got -1.0"),
    ],
)
def test_bad_arguments(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_inputs() -> None:
    images, masks = inputs()
    with pytest.raises(ValueError, match=r"images must be 32 pixels high and wide, got \(32, 16\)"):
        SMALL["global"]()([images[:, :, :16], masks[:, :, :16]])
    with pytest.raises(ValueError, match=r"images must hold the crop of \(16, 24\) pixels, got \(32, 16\)"):
        SMALL["local"]()([images[:, :, :16], masks[:, :, :16]])
    for name in SMALL:
        with pytest.raises(ValueError, match=r"masks must be of the images' .*\(3, 32, 32\); got \(3, 16, 32\)"):
            SMALL[name]()([images, masks[:, :16]])
