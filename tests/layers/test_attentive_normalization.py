"""The layer against a NumPy transcription of the paper's equations, and what each option does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from attennorm_tf import AttentiveNormalization
from attennorm_tf.layers import _attentive_inference
from attennorm_tf.layers._self_sampling import sample_positions


def features(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape or (2, 6, 5, 8))


def trained(**options: Any) -> AttentiveNormalization:
    """A float64 layer whose weights all differ from their start."""
    layer = AttentiveNormalization(**{"num_entities": 3, "seed": 7, "dtype": "float64", **options})
    layer.build((None, None, None, 8))
    random = np.random.default_rng(1)
    for weight in layer.trainable_weights:
        weight.assign(random.normal(size=weight.shape))
    return layer


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def equations(layer: AttentiveNormalization, x: np.ndarray, correlation: np.ndarray | float = 0.0) -> np.ndarray:
    """Eq. 3 to 6 and Algorithm 1 by loops over images, entities and channels; `correlation` is Eq. 2's F."""
    w = {weight.name.split(":")[0].split("/")[-1]: np.asarray(weight) for weight in layer.weights}
    layout = softmax(layer.temperature * (x @ w["entities"].T + w.get("t", 0.0) * correlation))
    values = x @ w["value_kernel"] + w["value_bias"] if layer.value_projection else x
    channels, n = x.shape[-1], layer.num_entities
    beta, alpha = w.get("beta", np.ones(channels)), w.get("alpha", np.zeros(channels))
    normalized = np.zeros_like(values)
    for image in range(len(x)):
        for k in range(n):
            s = layout[image, ..., k]
            count = s.sum() + layer.epsilon
            for c in range(channels):
                v = values[image, ..., c]
                mean = (s * v).sum() / count
                squares = (s * v - mean) ** 2 if layer.statistics == "algorithm1" else s * (v - mean) ** 2
                std = np.sqrt(squares.sum() / count)
                b, a = (beta[c, k], alpha[c, k]) if beta.ndim == 2 else (beta[c], alpha[c])
                normalized[image, ..., c] += ((v - mean) / (std + layer.epsilon) * b + a) * s
    return w["rho"] * normalized + x


@pytest.mark.parametrize("statistics", ["algorithm1", "weighted"])
@pytest.mark.parametrize("affine", ["shared", "per_entity", None])
@pytest.mark.parametrize("value_projection", [True, False])
@pytest.mark.parametrize("self_sampling", [True, False])
def test_inference_is_the_equations(statistics, affine, value_projection, self_sampling) -> None:
    layer = trained(
        statistics=statistics, affine=affine, value_projection=value_projection, self_sampling=self_sampling
    )
    x = features()
    np.testing.assert_allclose(layer(x), equations(layer, x), rtol=1e-9, atol=1e-9)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps of 6x5x8 count as large and are worked on in two chunks each."""
    monkeypatch.setattr(_attentive_inference, "LARGE", 1)
    monkeypatch.setattr(_attentive_inference, "CHUNK", 120)


@pytest.mark.parametrize("options", [{}, {"affine": "per_entity"}, {"affine": None, "value_projection": False}])
@pytest.mark.parametrize("how", ["eager", "graph", "xla"])
def test_large_maps_in_chunks_are_the_equations(options, how, small_chunks) -> None:
    assert _attentive_inference.chunks_of_image(3, 30, 8) == 2
    assert _attentive_inference.chunks_of_image(3, 31, 8) == 1  # no chunks of equal size
    assert _attentive_inference.chunks_of_image(99, 3, 8) == 0  # small images
    layer, x = trained(**options), features(3, 6, 5, 8)
    call = {"eager": layer, "graph": tf.function(layer), "xla": tf.function(layer, jit_compile=True)}[how]
    np.testing.assert_allclose(call(tf.constant(x)), equations(layer, x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("chunks", [False, True])
def test_gradient_at_inference_is_that_of_the_layout_and_the_normalization(chunks, request) -> None:
    """With the layout returned the layer is made of operations that TensorFlow derives by itself."""
    if chunks:
        request.getfixturevalue("small_chunks")
    layer, x = trained(affine="per_entity"), tf.constant(features())

    def gradients(compute: Any) -> list[Any]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.sin(compute(x)))
        return tape.gradient(loss, [x, *layer.trainable_weights])

    expected = gradients(lambda maps: layer(maps, return_layout=True)[0])
    for actual, wanted in zip(gradients(layer), expected):
        if wanted is not None:
            np.testing.assert_allclose(actual, wanted, rtol=1e-9, atol=1e-12)
    for actual, wanted in zip(gradients(tf.function(layer)), expected):
        if wanted is not None:
            np.testing.assert_allclose(actual, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("chunks", [False, True])
@pytest.mark.parametrize("mean", [1e2, 1e3])
def test_an_entity_that_owns_an_image_far_from_zero(chunks, mean, request) -> None:
    """The sums of squares cancel there; that image alone is computed with pivots."""
    if chunks:
        request.getfixturevalue("small_chunks")
    wide, narrow = trained(value_projection=False), trained(value_projection=False, dtype="float32")
    wide.entities.assign(np.outer([1.0, 0.0, -1.0], np.ones(8)))
    for weight, source in zip(narrow.weights, wide.weights):
        weight.assign(source.numpy())
    x = features(3, 6, 5, 8).astype(np.float32)
    x[1] += mean
    expected = equations(wide, x.astype(np.float64))
    outputs = narrow(x).numpy()
    np.testing.assert_allclose(outputs[1] - x[1], expected[1] - x[1], atol=2e-3 * np.abs(expected[1] - x[1]).max())
    np.testing.assert_array_equal(outputs[[0, 2]], narrow(x[[0, 2]]).numpy())


def test_maps_of_unknown_size() -> None:
    layer = trained()
    call = tf.function(layer, input_signature=[tf.TensorSpec([None, None, None, 8], tf.float64)])
    for shape in ((2, 6, 5, 8), (1, 3, 3, 8)):
        np.testing.assert_allclose(call(features(*shape)), equations(layer, features(*shape)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("pool", [1, 2, 3, 4])
def test_training_is_the_equations_with_the_places_it_drew(pool: int) -> None:
    """Eq. 2 by loops: queries against max-pooled keys at the drawn places."""
    layer = trained(sampling_pool_size=pool, key_channels=4)
    x = features(2, 6, 5, 8)
    height, width = -(-6 // pool), -(-5 // pool)
    places = sample_positions((2, height * width), 3, tf.constant([7, 0], tf.int64)).numpy()
    keys = x @ layer.key_kernel.numpy() + layer.key_bias.numpy()
    # TensorFlow's "SAME" windows: what is missing is split between both ends, the odd one at the lower right.
    top, left = (height * pool - 6) // 2, (width * pool - 5) // 2
    queries = x @ layer.query_kernel.numpy() + layer.query_bias.numpy()
    correlation = np.zeros((2, 6, 5, 3))
    for image in range(2):
        for k, place in enumerate(places[image]):
            i, j = divmod(place, width)
            rows = slice(max(i * pool - top, 0), (i + 1) * pool - top)
            columns = slice(max(j * pool - left, 0), (j + 1) * pool - left)
            sampled = keys[image, rows, columns].reshape(-1, 4).max(axis=0)
            correlation[image, ..., k] = queries[image] @ sampled
    np.testing.assert_allclose(layer(x, training=True), equations(layer, x, correlation), rtol=1e-8, atol=1e-8)


def test_places_are_uniform_and_without_replacement_where_they_can_be() -> None:
    drawn = sample_positions((4000, 10), 4, tf.constant([1, 2], tf.int64)).numpy()
    assert all(len(set(row)) == 4 for row in drawn)
    counts = np.bincount(drawn.ravel(), minlength=10)
    assert np.abs(counts - 1600).max() < 5 * np.sqrt(1600 * 0.6)
    few = sample_positions((4000, 3), 4, tf.constant([1, 2], tf.int64)).numpy()
    assert set(few.ravel()) == {0, 1, 2}
    assert np.abs(np.bincount(few.ravel()) - 16000 / 3).max() < 5 * np.sqrt(16000 / 3)
    np.testing.assert_array_equal(sample_positions((5, 1), 2, tf.constant([1, 2], tf.int64)), np.zeros((5, 2)))


def test_draws_change_from_call_to_call_and_resume_with_the_weight() -> None:
    layer, x = trained(), features()
    first, second = layer(x, training=True), layer(x, training=True)
    assert not np.allclose(first, second)
    layer.sampling_seed.assign([7, 0])
    np.testing.assert_array_equal(layer(x, training=True), first)
    np.testing.assert_array_equal(layer(x), layer(x))
    assert layer.sampling_seed.numpy().tolist() == [7, 1]


def test_the_layout() -> None:
    layer, x = trained(), features()
    _, layout = layer(x, return_layout=True)
    np.testing.assert_allclose(layout, softmax(0.1 * x @ layer.entities.numpy().T), rtol=1e-12)
    np.testing.assert_array_equal(layer.compute_layout(x), layout)
    np.testing.assert_allclose(tf.reduce_sum(layout, axis=-1), 1.0)
    assert AttentiveNormalization(num_entities=5).compute_layout(tf.ones([1, 2, 2, 4])).shape == (1, 2, 2, 5)


def test_starts_as_the_identity_and_rho_has_a_gradient() -> None:
    layer = AttentiveNormalization()
    x = tf.constant(features(), tf.float32)
    with tf.GradientTape() as tape:
        outputs = layer(x, training=True)
        loss = tf.reduce_sum(outputs * tf.random.normal(outputs.shape))
    np.testing.assert_array_equal(outputs, x)
    assert abs(float(tape.gradient(loss, layer.rho))) > 1e-3


def test_orthogonal_regularization_is_equation_1() -> None:
    layer = trained(orthogonal_weight=0.25)
    w = layer.entities.numpy()
    expected = 0.25 * np.linalg.norm(w @ w.T - np.eye(3), "fro") ** 2
    np.testing.assert_allclose(layer.losses, [expected], rtol=1e-12)
    assert trained(orthogonal_weight=0).losses == []


def test_weights_have_plain_names_and_the_papers_shapes() -> None:
    layer = AttentiveNormalization(num_entities=5, affine="per_entity")
    layer.build((None, None, None, 16))
    assert {w.name.split(":")[0].split("/")[-1]: tuple(w.shape) for w in layer.weights} == {
        "entities": (5, 16), "key_kernel": (16, 2), "key_bias": (2,), "query_kernel": (16, 2), "query_bias": (2,),
        "t": (1, 1, 5), "value_kernel": (16, 16), "value_bias": (16,), "beta": (16, 5), "alpha": (16, 5), "rho": (),
        "sampling_seed": (2,),
    }  # fmt: skip
    np.testing.assert_allclose(layer.t, 0.1 * np.ones((1, 1, 5)), rtol=1e-6)


def test_batch_normalization_joins_the_batch_and_moves_to_inference() -> None:
    """Two images as one image twice as high; moving statistics tend to those of the batch."""
    layer = trained(normalization="batch", self_sampling=False, momentum=0.5)
    x = features(2, 3, 4, 8)
    joined = x.reshape(1, 6, 4, 8)
    outputs = layer(x, training=True)
    np.testing.assert_allclose(outputs, equations(layer, joined).reshape(x.shape), rtol=1e-8, atol=1e-8)
    for _ in range(60):
        layer(x, training=True)
    np.testing.assert_allclose(layer(x), outputs, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(layer(x[:1]), outputs[:1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"statistics": "weighted"}, {"affine": None}])
def test_nan_stays_in_its_image(options: dict[str, Any]) -> None:
    layer = trained(**options)
    x = features(3, 4, 4, 8)
    expected = layer(x).numpy()
    x[1, 2, 2, 5] = np.nan
    outputs = layer(x).numpy()
    np.testing.assert_array_equal(outputs[[0, 2]], expected[[0, 2]])
    assert np.isnan(outputs[1]).any()


@pytest.mark.parametrize("training", [False, True])
def test_trains_inside_keras_models(training: bool) -> None:
    model = keras.Sequential(
        [keras.layers.Conv2D(8, 3), AttentiveNormalization(num_entities=2), keras.layers.GlobalMaxPool2D()]
    )
    model.compile(keras.optimizers.SGD(0.1), "mse")
    x, y = features(8, 5, 5, 3).astype(np.float32), np.ones((8, 8), np.float32)
    before = model.evaluate(x, y, verbose=0)
    model.fit(x, y, epochs=5, verbose=0)
    assert model.evaluate(x, y, verbose=0) < before
    assert model.layers[1].rho.numpy() != 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_entities": 0}, "num_entities must be an int >= 1, got 0"),
        ({"num_entities": 2.5}, "num_entities must be an int >= 1, got 2.5"),
        ({"num_entities": True}, "num_entities must be an int >= 1, got True"),
        ({"temperature": 0.0}, "temperature must be a finite number > 0, got 0.0"),
        ({"temperature": float("nan")}, "temperature must be a finite number > 0, got nan"),
        ({"epsilon": -1e-5}, "epsilon must be a finite number > 0, got -1e-05"),
        ({"epsilon": "small"}, "epsilon must be a finite number > 0, got 'small'"),
        ({"orthogonal_weight": -1}, "orthogonal_weight must be a finite number >= 0, got -1"),
        ({"sampling_pool_size": 0}, "sampling_pool_size must be an int >= 1, got 0"),
        ({"key_channels": 0}, "key_channels must be an int >= 1, got 0"),
        ({"affine": "full"}, "affine must be one of 'shared', 'per_entity', None; got 'full'"),
        ({"statistics": "robust"}, "statistics must be one of 'algorithm1', 'weighted'; got 'robust'"),
        ({"normalization": "layer"}, "normalization must be one of 'instance', 'batch'; got 'layer'"),
        ({"seed": -1}, "seed must be an int >= 0, got -1"),
        ({"momentum": 1.0}, r"momentum must be a finite number in \[0, 1\), got 1.0"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AttentiveNormalization(**options)


@pytest.mark.parametrize("shape", [(4, 8), (4, 4, 8), (1, 2, 4, 4, 8), (None, 4, 4, None)])
def test_bad_input_shapes(shape: tuple[int | None, ...]) -> None:
    with pytest.raises(ValueError, match=r"inputs must be \(batch, height, width, channels\), channels known; got"):
        AttentiveNormalization().build(shape)


def test_changed_channels() -> None:
    layer = AttentiveNormalization()
    layer(tf.ones([1, 4, 4, 8]))
    with pytest.raises(ValueError, match=r"inputs must have 8 channels, as when the layer was built; got shape"):
        layer(tf.ones([1, 4, 4, 9]))
