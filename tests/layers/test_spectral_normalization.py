"""Spectral normalization against NumPy's SVD, power iterations, finite differences and the plain layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from attennorm_tf.layers.spectral_normalization import SpectralNormalization, update_spectral_norms
from tests.layers.spectral_cases import (
    CASES,
    as_matrix,
    kernel_of,
    layers,
    plain_layer,
    power_iteration,
    wrapped,
)

every_case = pytest.mark.parametrize("case", CASES)
one_of_each_type = pytest.mark.parametrize("case", ["dense", "conv2d_strided", "transpose_strided", "embedding"])


@every_case
def test_sigma_becomes_the_largest_singular_value(case: str) -> None:
    layer, _ = wrapped(case)
    largest = np.linalg.svd(as_matrix(layer.layer), compute_uv=False)[0]
    first = float(layer.sigma())
    assert first < 0.99 * largest
    for _ in range(150):
        layer.update_spectral_vector()
    np.testing.assert_allclose(float(layer.sigma()), largest, rtol=1e-5)


@every_case
@pytest.mark.parametrize("iterations", [1, 3])
def test_an_update_is_a_numpy_power_iteration(case: str, iterations: int) -> None:
    layer, inputs = wrapped(case)
    layer.power_iterations = iterations
    before = layer.u.numpy().astype(np.float64)
    np.testing.assert_allclose(np.linalg.norm(before), 1.0, rtol=1e-6)
    matrix = as_matrix(layer.layer)
    layer(inputs, training=True)
    expected = power_iteration(matrix, before, iterations)
    np.testing.assert_allclose(layer.u.numpy(), expected, atol=2e-6)
    # sigma = u^T W v of the stored u, v = W^T u normalised: the length of W^T u.
    np.testing.assert_allclose(float(layer.sigma()), np.linalg.norm(matrix.T @ expected), rtol=1e-5)


@every_case
def test_output_is_that_of_the_plain_layer_with_the_divided_kernel(case: str) -> None:
    layer, inputs = wrapped(case)
    outputs = layer(inputs)
    plain = plain_layer(case)
    plain(inputs)
    plain.set_weights([weight.numpy() for weight in layer.layer.weights])
    kernel_of(plain).assign(kernel_of(layer.layer).numpy() / float(layer.sigma()))
    np.testing.assert_allclose(outputs, plain(inputs), rtol=2e-5, atol=2e-6)
    assert tuple(layer.compute_output_shape(inputs.shape)) == tuple(outputs.shape)


# TensorFlow has no float64 dilated transposed convolution on CPU.
@pytest.mark.parametrize("case", [case for case in CASES if case != "transpose_dilated"])
def test_gradient_equals_finite_differences_with_u_and_v_fixed(case: str) -> None:
    layer, inputs = wrapped(case, dtype="float64")
    plain = plain_layer(case, dtype="float64")
    plain(inputs)
    plain.set_weights([weight.numpy() for weight in layer.layer.weights])
    if case != "embedding":
        inputs = tf.cast(inputs, tf.float64)
    kernel = kernel_of(layer.layer).numpy()
    generator = np.random.default_rng(1)
    weights = generator.normal(size=tuple(layer(inputs).shape))
    u = layer.u.numpy().astype(np.float64)
    v = as_matrix(layer.layer).T @ u
    v /= np.linalg.norm(v)

    def loss(value: np.ndarray) -> float:
        kernel_of(plain).assign(value)
        kernel_of(plain).assign(value / (u @ as_matrix(plain) @ v))
        return float(np.sum(plain(inputs).numpy() * weights))

    with tf.GradientTape() as tape:
        value = tf.reduce_sum(layer(inputs, training=False) * weights)
    gradient = tf.convert_to_tensor(tape.gradient(value, kernel_of(layer.layer))).numpy()
    np.testing.assert_allclose(value, loss(kernel), rtol=1e-6)
    step = 1e-6
    for _ in range(4):
        direction = generator.normal(size=kernel.shape)
        difference = (loss(kernel + step * direction) - loss(kernel - step * direction)) / (2 * step)
        np.testing.assert_allclose(np.sum(gradient * direction), difference, rtol=1e-6, atol=1e-6)
    # W and 2 W give the same outputs, so that the gradient has no part along W.
    assert abs(np.sum(gradient * kernel)) < 1e-6 * np.linalg.norm(gradient) * np.linalg.norm(kernel)


@one_of_each_type
def test_training_calls_leave_the_kernel_alone_and_move_only_u(case: str) -> None:
    layer, inputs = wrapped(case)
    before = [weight.numpy() for weight in layer.layer.weights]
    for _ in range(3):
        u = layer.u.numpy()
        layer(inputs, training=True)
        assert np.abs(layer.u.numpy() - u).max() > 0
    for weight, value in zip(layer.layer.weights, before):
        np.testing.assert_array_equal(weight.numpy(), value)
    assert [weight.name.split("/")[-1].split(":")[0] for weight in layer.non_trainable_weights] == ["u"]


def test_u_stays_at_inference_and_where_asked() -> None:
    layer, inputs = wrapped("conv2d")
    u = layer.u.numpy()
    for training in (None, False, tf.constant(False)):
        layer(inputs, training=training)
    tf.function(layer)(inputs, training=tf.constant(False))
    layer.update_on_call = False
    layer(inputs, training=True)
    layer.update_on_call = True
    layer.trainable = False
    layer(inputs, training=True)
    np.testing.assert_array_equal(layer.u.numpy(), u)
    layer.trainable = True
    tf.function(layer)(inputs, training=tf.constant(True))
    np.testing.assert_allclose(
        layer.u.numpy(), power_iteration(as_matrix(layer.layer), u.astype(np.float64)), atol=2e-6
    )


@pytest.mark.parametrize("update_on_call", [True, False])
def test_replicas_hold_the_same_u_as_one_device(two_cpus: tf.distribute.Strategy, update_on_call: bool) -> None:
    with two_cpus.scope():
        inputs = keras.Input((None, None, 3))
        hidden = SpectralNormalization(layers.Conv2D(4, 3), update_on_call=update_on_call)(inputs)
        outputs = SpectralNormalization(layers.Dense(2), update_on_call=update_on_call)(hidden)
        model = keras.Model(inputs, outputs)
    wrappers = [layer for layer in model.layers if isinstance(layer, SpectralNormalization)]
    expected = [
        power_iteration(as_matrix(wrapper.layer), wrapper.u.numpy().astype(np.float64), 3) for wrapper in wrappers
    ]

    @tf.function
    def forward(images: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(model(images, training=True))

    @tf.function
    def update() -> None:
        update_spectral_norms(model)

    def replica_step(images: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        # Functions within the replica's function: where a merge_call is refused.
        if not update_on_call:
            update()
        loss = forward(images)
        return loss, [tf.convert_to_tensor(wrapper.u) + 0.0 for wrapper in wrappers]

    @tf.function
    def step(images: Any) -> Any:
        return two_cpus.run(replica_step, args=(images,))

    generator = np.random.default_rng(0)
    halves = [tf.constant(generator.normal(size=(2, 6, 6, 3)), tf.float32) for _ in range(2)]

    def half(context: Any) -> tf.Tensor:
        return halves[context.replica_id_in_sync_group]

    for _ in range(3):
        _, vectors = step(two_cpus.experimental_distribute_values_from_function(half))
    for vector, wrapper, value in zip(vectors, wrappers, expected):
        first, second = (part.numpy() for part in two_cpus.experimental_local_results(vector))
        np.testing.assert_array_equal(first, second)
        np.testing.assert_allclose(first, value, atol=5e-6)
        np.testing.assert_array_equal(wrapper.u.numpy(), first)
    # Out of a replica context the update reaches both replicas.
    update_spectral_norms(model)
    _, vectors = step(two_cpus.experimental_distribute_values_from_function(half))
    for vector in vectors:
        first, second = (part.numpy() for part in two_cpus.experimental_local_results(vector))
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("value", [0.0, 1e-30, 1e-20, 1e-13, 1e-8])
@one_of_each_type
def test_a_kernel_near_zero_is_finite_and_can_grow(case: str, value: float) -> None:
    layer, inputs = wrapped(case)
    kernel = kernel_of(layer.layer)
    shape = kernel.numpy() / np.abs(kernel.numpy()).max()
    kernel.assign(value * shape)
    for _ in range(5):
        with tf.GradientTape() as tape:
            outputs = layer(inputs, training=True)
            loss = tf.reduce_sum(outputs)
        assert np.isfinite(outputs.numpy()).all()
        assert np.isfinite(tf.convert_to_tensor(tape.gradient(loss, kernel)).numpy()).all()
    np.testing.assert_allclose(np.linalg.norm(layer.u.numpy()), 1.0, rtol=1e-5)
    kernel.assign(shape)
    for _ in range(150):
        layer.update_spectral_vector()
    largest = np.linalg.svd(as_matrix(layer.layer), compute_uv=False)[0]
    np.testing.assert_allclose(float(layer.sigma()), largest, rtol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@one_of_each_type
def test_sigma_is_float32_of_the_stored_kernel_under_mixed_precision(case: str, policy: str) -> None:
    keras.mixed_precision.set_global_policy(policy)
    layer, inputs = wrapped(case)
    seen: list[tf.Tensor] = []

    class Outer(layers.Layer):
        def call(self, inputs: tf.Tensor) -> tf.Tensor:
            outputs = layer(inputs)
            layer_call, layer.call = layer.call, spy
            layer(inputs)
            layer.call = layer_call
            return outputs

    def spy(inputs: tf.Tensor, training: Any = None) -> tf.Tensor:
        seen.append(layer.sigma())
        return seen[-1]

    outputs = Outer()(inputs)
    sigma = np.linalg.norm(as_matrix(layer.layer).T @ layer.u.numpy().astype(np.float64))
    assert seen[0].dtype == tf.float32
    np.testing.assert_allclose(float(seen[0]), sigma, rtol=1e-6)
    half = policy.split("_")[1]
    assert outputs.dtype == half
    keras.mixed_precision.set_global_policy("float32")
    exact, _ = wrapped(case)
    exact.u.assign(layer.u)
    tolerance = 5e-3 if half == "float16" else 4e-2
    np.testing.assert_allclose(tf.cast(outputs, tf.float32), exact(inputs), rtol=tolerance, atol=tolerance)
    symbolic = keras.Input(inputs.shape[1:], dtype=inputs.dtype)
    assert tf.as_dtype(layer(symbolic).dtype) == half


def test_channels_first_equals_channels_last() -> None:
    """Under XLA, as TensorFlow's own kernels on CPU have no channels_first."""
    for case in ("conv2d_strided", "transpose_strided", "transpose_valid"):
        last, inputs = wrapped(case)
        first = SpectralNormalization(plain_layer(case, data_format="channels_first"))
        shape = tuple(inputs.shape)
        first.build((shape[0], shape[3], shape[1], shape[2]))
        for target, source in zip(first.layer.weights, last.layer.weights):
            target.assign(source)
        first.u.assign(last.u)
        outputs = tf.function(first, jit_compile=True)(tf.transpose(inputs, (0, 3, 1, 2)))
        np.testing.assert_allclose(tf.transpose(outputs, (0, 2, 3, 1)), last(inputs), rtol=2e-5, atol=2e-6)


def test_unknown_sizes_in_graph_and_xla() -> None:
    for case in ("conv2d_strided", "transpose_output_padding"):
        layer, inputs = wrapped(case)
        signature = [tf.TensorSpec((None, None, None, inputs.shape[-1]))]
        graph = tf.function(layer, input_signature=signature)
        np.testing.assert_allclose(graph(inputs), layer(inputs), rtol=1e-5, atol=1e-6)
        compiled = tf.function(layer, jit_compile=True)
        for size in (5, 8):
            images = tf.random.normal((1, size, size + 1, inputs.shape[-1]))
            np.testing.assert_allclose(compiled(images), layer(images), rtol=1e-5, atol=1e-6)


@pytest.mark.legacy
@pytest.mark.parametrize("case", ["dense", "conv2d_strided", "embedding"])
def test_tensorflow_addons_converges_to_the_same_output(case: str) -> None:
    """Where its kernel axis is right: it rewrites the kernel to W / sigma, ours computes with it."""
    addons = pytest.importorskip("tensorflow_addons")
    layer, inputs = wrapped(case)
    theirs = addons.layers.SpectralNormalization(plain_layer(case))
    theirs(inputs)
    theirs.layer.set_weights([weight.numpy() for weight in layer.layer.weights])
    for _ in range(200):
        theirs(inputs, training=True)
        layer.update_spectral_vector()
    np.testing.assert_allclose(layer(inputs), theirs(inputs, training=False), rtol=1e-4, atol=1e-5)
