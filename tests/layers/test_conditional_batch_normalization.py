"""Conditional batch normalization against NumPy in float64, and over two replicas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from attennorm_tf.layers.conditional_batch_normalization import ConditionalBatchNormalization

IDS = np.array([2, 0, 2, 1])


def built(**options: Any) -> tuple[ConditionalBatchNormalization, np.ndarray]:
    """A layer of 3 classes with random scales and offsets, and features of mean 2 and deviation 3."""
    generator = np.random.default_rng(4)
    layer = ConditionalBatchNormalization(3, **options)
    features = (2 + 3 * generator.normal(size=(4, 5, 3, 6))).astype(np.float32)
    layer((tf.constant(features), tf.constant(IDS)))
    layer.gamma.assign(generator.normal(size=(3, 6)))
    layer.beta.assign(generator.normal(size=(3, 6)))
    return layer, features


def normalize(layer: Any, features: np.ndarray, weights: np.ndarray, mean: Any, variance: Any) -> np.ndarray:
    gamma, beta = (weights @ table.numpy().astype(np.float64) for table in (layer.gamma, layer.beta))
    scaled = (features - mean) / np.sqrt(variance + layer.epsilon)
    return scaled * gamma[:, None, None] + beta[:, None, None]


def moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    wide = features.astype(np.float64)
    return wide.mean(axis=(0, 1, 2)), wide.var(axis=(0, 1, 2))


def test_training_uses_the_batch_and_moves_the_averages() -> None:
    layer, features = built(momentum=0.9)
    mean, variance = moments(features)
    outputs = layer((tf.constant(features), tf.constant(IDS)), training=True)
    np.testing.assert_allclose(outputs, normalize(layer, features, np.eye(3)[IDS], mean, variance), atol=2e-5)
    np.testing.assert_allclose(layer.moving_mean.numpy(), 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance.numpy(), 0.9 + 0.1 * variance, rtol=1e-5)


def test_inference_uses_the_averages_and_leaves_them() -> None:
    layer, features = built()
    layer.moving_mean.assign(np.arange(6.0))
    layer.moving_variance.assign(1 + np.arange(6.0))
    inputs = (tf.constant(features), tf.constant(IDS))
    expected = normalize(layer, features, np.eye(3)[IDS], np.arange(6.0), 1 + np.arange(6.0))
    for training in (None, False, tf.constant(False)):
        np.testing.assert_allclose(layer(inputs, training=training), expected, rtol=1e-4, atol=2e-5)
    layer.trainable = False  # as in batch normalization: frozen is inference
    np.testing.assert_allclose(layer(inputs, training=True), expected, rtol=1e-4, atol=2e-5)
    np.testing.assert_array_equal(layer.moving_mean.numpy(), np.arange(6.0))


def test_training_as_a_tensor() -> None:
    layer, features = built()
    twin, _ = built()
    twin.set_weights(layer.get_weights())
    inputs = (tf.constant(features), tf.constant(IDS))
    outputs = tf.function(layer)(inputs, training=tf.constant(True))
    np.testing.assert_allclose(outputs, twin(inputs, training=True), atol=1e-6)
    np.testing.assert_allclose(layer.moving_variance.numpy(), twin.moving_variance.numpy(), rtol=1e-6)


def test_class_weights_blend_and_one_hot_is_the_class() -> None:
    layer, features = built()
    images = tf.constant(features)
    by_id = layer((images, tf.constant(IDS)))
    one_hot = tf.constant(np.eye(3)[IDS], tf.float32)
    np.testing.assert_allclose(layer((images, one_hot)), by_id, rtol=1e-5, atol=1e-6)
    for dtype in (tf.uint8, tf.int64):
        np.testing.assert_array_equal(layer((images, tf.constant(IDS, dtype))), by_id)
    weights = np.array([[0.5, 0.5, 0], [0.2, 0.3, 0.5], [0, 1, 0], [0.9, 0, 0.1]])
    expected = normalize(layer, features, weights, 0.0, 1.0)
    np.testing.assert_allclose(layer((images, tf.constant(weights, tf.float32))), expected, rtol=1e-4, atol=2e-5)
    # The way from one class to another is straight.
    ends = [layer((images, tf.constant(np.eye(3)[[k] * 4], tf.float32))).numpy() for k in (0, 2)]
    middle = layer((images, tf.constant([[0.25, 0.0, 0.75]] * 4)))
    np.testing.assert_allclose(middle, 0.25 * ends[0] + 0.75 * ends[1], rtol=1e-4, atol=2e-5)


def test_statistics_are_shared_and_parameters_are_not() -> None:
    layer, features = built()
    inputs = tf.constant(features)
    with tf.GradientTape() as tape:
        outputs = layer((inputs, tf.constant([1, 1, 1, 1])), training=True)
        loss = tf.reduce_sum(outputs**2)
    for gradient in tape.gradient(loss, [layer.gamma, layer.beta]):
        gradient = tf.convert_to_tensor(gradient).numpy()
        assert np.abs(gradient[1]).min() > 0
        np.testing.assert_array_equal(gradient[[0, 2]], 0.0)
    mean, variance = moments(features)
    expected = normalize(layer, features, np.eye(3)[[1] * 4], mean, variance)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=2e-5)


def test_large_means_and_constant_images_lose_nothing() -> None:
    """Where mean(x^2) - mean(x)^2 is all rounding."""
    layer, features = built()
    shifted = (features + 3e3).astype(np.float32)
    outputs = layer((tf.constant(shifted), tf.constant(IDS)), training=True)
    expected = normalize(layer, shifted.astype(np.float64), np.eye(3)[IDS], *moments(shifted))
    np.testing.assert_allclose(outputs, expected, atol=2e-3)
    constant = layer((tf.fill((4, 8, 8, 6), 6e4), tf.constant(IDS)), training=True).numpy()
    np.testing.assert_allclose(constant, np.broadcast_to(layer.beta.numpy()[IDS][:, None, None], constant.shape))


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_statistics_are_float32(dtype: str) -> None:
    layer, features = built()
    half, _ = built(dtype=dtype)
    rounded = tf.cast(features * 1e4, half.compute_dtype)  # squares overflow float16
    weights = tf.constant([[1 / 3, 1 / 3, 1 / 3]] * 4)
    outputs = half((rounded, weights), training=True)
    expected = layer((tf.cast(rounded, tf.float32), weights), training=True)
    assert outputs.dtype == half.compute_dtype
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        assert tf.as_dtype(getattr(half, name).dtype) == tf.float32
    np.testing.assert_array_equal(tf.cast(outputs, tf.float32), tf.cast(tf.cast(expected, outputs.dtype), tf.float32))
    np.testing.assert_array_equal(half.moving_variance.numpy(), layer.moving_variance.numpy())


@pytest.mark.parametrize("synchronized", [True, False])
def test_two_replicas_equal_one_if_synchronized(two_cpus: tf.distribute.Strategy, synchronized: bool) -> None:
    single, features = built(synchronized=synchronized)
    with two_cpus.scope():
        layer, _ = built(synchronized=synchronized)
    layer.set_weights(single.get_weights())
    targets = np.random.default_rng(9).normal(size=features.shape).astype(np.float32)

    def gradients_of(one: Any, images: tf.Tensor, ids: tf.Tensor, targets: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = one((images, ids), training=True)
            loss = tf.reduce_sum(outputs * targets)
        by_images, by_gamma = tape.gradient(loss, [images, one.gamma])
        return outputs, by_images, tf.convert_to_tensor(by_gamma)

    def replica_step(images: tf.Tensor, ids: tf.Tensor, targets: tf.Tensor) -> Any:
        return gradients_of(layer, images, ids, targets)

    @tf.function
    def step(images: Any, ids: Any, targets: Any) -> Any:
        return two_cpus.run(replica_step, args=(images, ids, targets))

    def split(values: np.ndarray) -> Any:
        def part(context: Any) -> tf.Tensor:
            first = 2 * context.replica_id_in_sync_group
            return tf.constant(values[first : first + 2])

        return two_cpus.experimental_distribute_values_from_function(part)

    results = [
        two_cpus.experimental_local_results(result) for result in step(split(features), split(IDS), split(targets))
    ]
    outputs, by_images = (np.concatenate([part.numpy() for part in result]) for result in results[:2])
    by_gamma = sum(part.numpy() for part in results[2])
    if synchronized:
        expected = gradients_of(single, tf.constant(features), tf.constant(IDS), tf.constant(targets))
        for ours, theirs in zip((outputs, by_images, by_gamma), expected):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    else:
        for half in (slice(0, 2), slice(2, 4)):
            own = moments(features[half])
            expected = normalize(layer, features[half], np.eye(3)[IDS[half]], *own)
            np.testing.assert_allclose(outputs[half], expected, rtol=1e-4, atol=2e-5)
        single((tf.constant(features), tf.constant(IDS)), training=True)
    np.testing.assert_allclose(layer.moving_mean.numpy(), single.moving_mean.numpy(), rtol=1e-5, atol=1e-7)
    if synchronized:
        np.testing.assert_allclose(layer.moving_variance.numpy(), single.moving_variance.numpy(), rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "num_classes must be an integer of at least 1, got 0"),
        ({"num_classes": 2.5}, "num_classes .* got 2.5"),
        ({"num_classes": 3, "momentum": 1.5}, "momentum must be in .* got 1.5"),
        ({"num_classes": 3, "epsilon": 0}, "epsilon must be a positive number, got 0"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConditionalBatchNormalization(**options)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (tf.constant([0, 1, 2, 3]), r"\[0, 3\), got 0 to 3"),
        (tf.constant([0, -1, 2, 0]), r"\[0, 3\), got -1 to 2"),
        (tf.constant([0.0, 1.0, 2.0, 0.0]), r"got float32 of shape \(4,\)"),
        (tf.constant([[0], [1], [2], [0]]), r"got int32 of shape \(4, 1\)"),
        (tf.ones((4, 2)), r"\(B, 3\), got float32 of shape \(4, 2\)"),
    ],
)
def test_bad_labels(labels: tf.Tensor, message: str) -> None:
    layer, features = built()
    with pytest.raises(ValueError, match=message):
        layer((tf.constant(features), labels))
    with pytest.raises(ValueError, match=message):
        tf.function(lambda images: layer((images, labels)))(features)  # a constant of the graph


def test_bad_features() -> None:
    layer, _ = built()
    labels = tf.constant(IDS)
    with pytest.raises(ValueError, match=r"\(B, H, W, 6\), got \(4, 5, 3, 5\)"):
        layer((tf.ones((4, 5, 3, 5)), labels))
    for inputs in (
        tf.ones((4, 5, 3, 6)),
        (tf.ones((4, 5, 6)), labels),
        (tf.ones((4, 5, 3, 6)), labels, labels),
    ):
        with pytest.raises(ValueError, match="pair \\(features, labels\\)"):
            ConditionalBatchNormalization(3)(inputs)
    with pytest.raises(ValueError, match="known C"):
        ConditionalBatchNormalization(3)((keras.Input((4, 4, None)), keras.Input((), dtype="int32")))
