"""Spectral normalization against NumPy's SVD, power iterations, finite differences and the plain layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from attennorm_tf.layers.spectral_normalization import SpectralNormalization, update_spectral_norms

layers = keras.layers

# name: (layer type, options, input shape)
CASES: dict[str, tuple[type, dict[str, Any], tuple[int, ...]]] = {
    "dense": (layers.Dense, {"units": 5, "activation": "tanh"}, (3, 7)),
    "dense_of_a_map": (layers.Dense, {"units": 4, "use_bias": False}, (2, 3, 2, 6)),
    "conv2d": (layers.Conv2D, {"filters": 5, "kernel_size": 3, "padding": "same"}, (2, 6, 5, 4)),
    "conv2d_strided": (layers.Conv2D, {"filters": 6, "kernel_size": (4, 3), "strides": 2}, (2, 9, 8, 4)),
    "conv2d_dilated_groups": (
        layers.Conv2D,
        {"filters": 6, "kernel_size": 3, "dilation_rate": 2, "groups": 2, "activation": "relu"},
        (2, 7, 8, 4),
    ),
    "transpose": (layers.Conv2DTranspose, {"filters": 3, "kernel_size": 3, "padding": "same"}, (2, 4, 5, 6)),
    "transpose_strided": (
        layers.Conv2DTranspose,
        {"filters": 3, "kernel_size": 4, "strides": 2, "padding": "same"},
        (2, 4, 5, 6),
    ),
    "transpose_valid": (
        layers.Conv2DTranspose,
        {"filters": 7, "kernel_size": 2, "strides": (3, 2), "activation": "relu", "use_bias": False},
        (2, 4, 5, 3),
    ),
    "transpose_output_padding": (
        layers.Conv2DTranspose,
        {"filters": 4, "kernel_size": 5, "strides": 2, "padding": "same", "output_padding": 1},
        (2, 4, 5, 3),
    ),
    "transpose_dilated": (
        layers.Conv2DTranspose,
        {"filters": 4, "kernel_size": 3, "dilation_rate": 2},
        (2, 4, 5, 3),
    ),
    "embedding": (layers.Embedding, {"input_dim": 9, "output_dim": 5}, (2, 4)),
}
every_case = pytest.mark.parametrize("case", CASES)
one_of_each_type = pytest.mark.parametrize("case", ["dense", "conv2d_strided", "transpose_strided", "embedding"])


def plain_layer(case: str, **options: Any) -> keras.layers.Layer:
    kind, own, _ = CASES[case]
    return kind(**{**own, **options})


def wrapped(case: str, **options: Any) -> tuple[SpectralNormalization, tf.Tensor]:
    """A built wrapper whose kernel is not the initializer's (its bias not zero), and inputs for it."""
    layer = SpectralNormalization(plain_layer(case, **options))
    inputs = inputs_of(case)
    layer(inputs)
    generator = np.random.default_rng(7)
    for weight in layer.layer.weights:
        weight.assign(0.3 * generator.normal(size=tuple(weight.shape)))
    return layer, inputs


def inputs_of(case: str) -> tf.Tensor:
    generator = np.random.default_rng(3)
    shape = CASES[case][2]
    if case == "embedding":
        return tf.constant(generator.integers(0, 9, shape), tf.int32)
    return tf.constant(generator.normal(size=shape), tf.float32)


def kernel_of(layer: keras.layers.Layer) -> Any:
    return layer.embeddings if isinstance(layer, keras.layers.Embedding) else layer.kernel


def as_matrix(layer: keras.layers.Layer) -> np.ndarray:
    """(output channels, everything else), float64, written without the code under test."""
    kernel = np.asarray(kernel_of(layer).numpy(), np.float64)
    axis = 2 if isinstance(layer, keras.layers.Conv2DTranspose) else kernel.ndim - 1
    return np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1)


def power_iteration(matrix: np.ndarray, u: np.ndarray, count: int = 1) -> np.ndarray:
    for _ in range(count):
        v = matrix.T @ u
        v /= np.linalg.norm(v)
        u = matrix @ v
        u /= np.linalg.norm(u)
    return u


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


class Subclassed(keras.Model):
    """Wrappers in an attribute, a list and a dict; one of them shared."""

    def __init__(self) -> None:
        super().__init__()
        self.table = SpectralNormalization(layers.Embedding(5, 4))
        self.stages = [SpectralNormalization(layers.Dense(4)), layers.Dense(4)]
        self.named = {"shared": self.stages[0], "head": SpectralNormalization(layers.Dense(1))}
        self.nested = keras.Sequential([keras.Input((4,)), SpectralNormalization(layers.Dense(4))])

    def call(self, inputs: tf.Tensor, training: Any = None) -> tf.Tensor:
        hidden = self.table(inputs, training=training)
        for stage in [*self.stages, self.nested, self.named["shared"], self.named["head"]]:
            hidden = stage(hidden, training=training) if stage is not self.stages[1] else stage(hidden)
        return hidden

    def wrappers(self) -> list[SpectralNormalization]:
        return [self.table, self.stages[0], self.named["head"], self.nested.layers[-1]]


def test_update_spectral_norms_updates_every_wrapper_once() -> None:
    model = Subclassed()
    model(tf.constant([0, 3]))
    expected = [
        power_iteration(as_matrix(wrapper.layer), wrapper.u.numpy().astype(np.float64)) for wrapper in model.wrappers()
    ]
    tf.function(lambda: update_spectral_norms(model))()
    for wrapper, value in zip(model.wrappers(), expected):
        np.testing.assert_allclose(wrapper.u.numpy(), value, atol=2e-6)
    update_spectral_norms(layers.Dense(3))  # nothing to update is no mistake
    with pytest.raises(ValueError, match="has no weights yet"):
        update_spectral_norms(Subclassed())


def test_fit_trains_the_stored_kernel_and_updates_u() -> None:
    generator = np.random.default_rng(5)
    ids = generator.integers(0, 5, (64,))
    targets = (ids % 2).astype(np.float32)[:, None]
    for model in (
        Subclassed(),
        keras.Sequential(
            [keras.Input((), dtype="int32"), SpectralNormalization(layers.Embedding(5, 4)), layers.Dense(1)]
        ),
    ):
        model(ids[:2])
        before = [weight.numpy() for weight in model.weights]
        model.compile(keras.optimizers.Adam(0.05), "mse")
        history = model.fit(ids, targets, epochs=12, batch_size=16, verbose=0).history["loss"]
        assert history[-1] < 0.7 * history[0]
        for weight, value in zip(model.weights, before):
            if value.shape != (1,):  # the u of a single output channel is 1 or -1
                assert np.abs(weight.numpy() - value).max() > 0, weight.name


@one_of_each_type
def test_saved_and_loaded_wrappers_compute_the_same(case: str, tmp_path: Any) -> None:
    layer, inputs = wrapped(case)
    layer(inputs, training=True)
    clone = SpectralNormalization.from_config(layer.get_config())
    assert clone.get_config() == layer.get_config()
    clone(inputs)
    clone.set_weights(layer.get_weights())
    np.testing.assert_array_equal(clone(inputs), layer(inputs))

    symbolic = keras.Input(inputs.shape[1:], dtype=inputs.dtype)
    model = keras.Model(symbolic, layer(symbolic))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(inputs), layer(inputs))

    restored = SpectralNormalization(plain_layer(case))
    restored(inputs)
    path = tf.train.Checkpoint(layer=layer).write(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(layer=restored).read(path).assert_consumed()
    np.testing.assert_array_equal(restored.u.numpy(), layer.u.numpy())
    np.testing.assert_array_equal(restored(inputs), layer(inputs))


def test_regularizers_of_the_wrapped_layer_apply() -> None:
    options = {
        "kernel_regularizer": keras.regularizers.L2(0.5),
        "activity_regularizer": keras.regularizers.L1(0.1),
    }
    layer, inputs = wrapped("dense", **options)
    outputs = layer(inputs)
    kernel = layer.layer.kernel.numpy()
    expected = sorted([0.5 * np.sum(kernel**2), 0.1 * np.sum(np.abs(outputs)) / 3])
    np.testing.assert_allclose(sorted(float(loss) for loss in layer.losses), expected, rtol=1e-5)
    assert SpectralNormalization.from_config(layer.get_config()).layer.activity_regularizer is not None


def test_the_mask_of_an_embedding_goes_on() -> None:
    table = layers.Embedding(5, 3, mask_zero=True)
    inputs = keras.Input((4,), dtype="int32")
    model = keras.Model(inputs, layers.GlobalAveragePooling1D()(SpectralNormalization(table)(inputs)))
    wrapper = model.layers[1]
    ids = tf.constant([[1, 2, 0, 0]])
    expected = table.embeddings.numpy()[1:3].mean(axis=0) / float(wrapper.sigma())
    np.testing.assert_allclose(model(ids)[0], expected, rtol=1e-5)


class Renamed(layers.Conv2D):
    """Computes as Conv2D does."""


class OtherCall(layers.Dense):
    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return 2.0 * super().call(inputs)


class OtherConvolution(layers.Conv2D):
    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return super().convolution_op(inputs, 2.0 * kernel)


def test_a_subclass_that_computes_the_same_is_welcome() -> None:
    layer = SpectralNormalization(Renamed(3, 2))
    plain = SpectralNormalization(layers.Conv2D(3, 2))
    images = tf.random.normal((1, 4, 4, 2))
    layer(images), plain(images)
    plain.set_weights(layer.get_weights())
    np.testing.assert_array_equal(layer(images), plain(images))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SpectralNormalization(layers.DepthwiseConv2D(3)), "DepthwiseConv2D .*Dense, Conv2D, "),
        (lambda: SpectralNormalization(layers.LayerNormalization()), "LayerNormalization .* and Embedding"),
        (lambda: SpectralNormalization("dense"), "type str"),
        (lambda: SpectralNormalization(OtherCall(3)), "OtherCall overrides Dense.call"),
        (lambda: SpectralNormalization(OtherConvolution(3, 3)), "overrides Conv2D.convolution_op"),
        (lambda: SpectralNormalization(layers.Dense(3), power_iterations=0), "power_iterations .* got 0"),
        (lambda: SpectralNormalization(layers.Dense(3), power_iterations=True), "power_iterations .* True"),
        (lambda: SpectralNormalization(layers.Dense(3), epsilon=0.0), "epsilon .* got 0.0"),
        (lambda: SpectralNormalization(layers.Dense(3), dtype="float16"), "give dtype to the wrapped layer"),
        (lambda: SpectralNormalization(layers.Dense(3)).sigma(), "has no weights yet"),
    ],
)  # fmt: skip
def test_user_mistakes(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_changed_channels_are_refused() -> None:
    layer, _ = wrapped("conv2d")
    with pytest.raises(ValueError, match="4"):
        layer(tf.ones((1, 6, 6, 3)))


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
