"""One battery for every public layer: whatever a Keras user may do with it, on both Keras generations.

A layer that `attennorm_tf.layers` exports and that has no entry in `battery.CASES` fails the first test.
`ATTENNORM_TF_WRITE_GOLDENS=1 pytest tests/layers/test_battery.py` writes the goldens of weight names anew.
"""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

import attennorm_tf.layers
from tests.layers.battery import (
    CASES,
    Holder,
    assert_close,
    built,
    functional,
    inputs_of,
    plain_name,
    symbolic_inputs,
)

GOLDENS = Path(__file__).parent / "goldens"


every_case = pytest.mark.parametrize("name", CASES)
HALF = ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16"]


def test_every_exported_layer_has_a_case() -> None:
    exported = {
        value
        for value in vars(attennorm_tf.layers).values()
        if inspect.isclass(value) and issubclass(value, keras.layers.Layer)
    }
    assert exported
    assert exported == {type(case.make()) for case in CASES.values()}


@every_case
def test_config_round_trip(name: str) -> None:
    layer = built(name)
    unbuilt = type(layer).from_config(layer.get_config())
    clone = keras.layers.deserialize(json.loads(json.dumps(keras.layers.serialize(unbuilt))))
    assert type(clone) is type(layer)
    assert json.dumps(clone.get_config()) == json.dumps(unbuilt.get_config())
    clone(inputs_of(name))
    clone.set_weights(layer.get_weights())
    np.testing.assert_array_equal(clone(inputs_of(name)), layer(inputs_of(name)))


STYLES = [
    (name, style)
    for name, case in CASES.items()
    for style in ("functional", "subclassed", "sequential")
    if style != "sequential" or len(case.inputs) == 1
]


@pytest.mark.parametrize(("name", "style"), STYLES)
def test_keras_file_round_trip(name: str, style: str, tmp_path: Path) -> None:
    layer, inputs = built(name), inputs_of(name)
    if style == "functional":
        model = functional(name, layer)
    elif style == "sequential":
        model = keras.Sequential([*symbolic_inputs(name), layer])
    else:
        model = Holder(layer)
        model.input_specs = CASES[name].inputs
        model(inputs)
    expected = layer(inputs)
    assert_close(model(inputs), expected, 1e-6)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(inputs), expected)


@every_case
def test_saved_model_round_trip(name: str, tmp_path: Path) -> None:
    layer = built(name)
    specs = [tf.TensorSpec((None, *spec.shape), spec.dtype) for spec in CASES[name].inputs]

    @tf.function(input_signature=specs)
    def serve(*inputs: tf.Tensor) -> tf.Tensor:
        return layer(inputs if len(inputs) > 1 else inputs[0])

    module = tf.Module()
    # Keras 3 holds the tf.Variable in `value`; in Keras 2 it is the weight itself.
    module.weights = [weight if callable(weight.value) else weight.value for weight in layer.weights]
    module.serve = serve
    tf.saved_model.save(module, str(tmp_path / "saved"))
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    for sizes in ((4, 6, 5), (1, 3, 8)):
        inputs = inputs_of(name, sizes)
        assert_close(loaded.serve(*inputs if isinstance(inputs, tuple) else (inputs,)), layer(inputs), 1e-6)


@every_case
@pytest.mark.parametrize("training", [False, True])
def test_eager_graph_and_xla_agree(name: str, training: bool) -> None:
    layer, inputs = built(name), inputs_of(name)
    start = layer.get_weights()

    def call(inputs: Any) -> tf.Tensor:
        return layer(inputs, training=training)

    results = []
    for run in (call, tf.function(call), tf.function(call, jit_compile=True)):
        layer.set_weights(start)
        results.append((run(inputs), layer.get_weights()))
    for outputs, weights in results[1:]:
        assert_close(outputs, results[0][0])
        for weight, value, expected in zip(layer.weights, weights, results[0][1]):
            np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6, err_msg=weight.name)


@every_case
def test_two_resolutions_through_one_instance(name: str) -> None:
    layer, fresh = built(name), CASES[name].make()
    small, large = inputs_of(name, (2, 3, 5)), inputs_of(name, (3, 8, 6))
    fresh(large)
    fresh.set_weights(layer.get_weights())
    np.testing.assert_array_equal(layer(large), fresh(large))
    fresh = CASES[name].make()
    fresh(small)
    fresh.set_weights(layer.get_weights())
    np.testing.assert_array_equal(layer(small), fresh(small))


@every_case
def test_unknown_sizes_in_a_functional_model(name: str) -> None:
    layer = built(name)
    model = functional(name, layer)
    for sizes in ((2, 3, 5), (1, 8, 6), (3, 1, 1)):
        inputs = inputs_of(name, sizes)
        outputs = model(inputs)
        assert_close(outputs, layer(inputs), 1e-6)
        shape = tuple(model.output_shape)
        assert [size for size in shape if size is not None] == [outputs.shape[-1]]
        if "compute_output_shape" in vars(type(layer)):
            shapes = tuple(value.shape for value in inputs) if isinstance(inputs, tuple) else inputs.shape
            assert tuple(layer.compute_output_shape(shapes)) == tuple(outputs.shape)
    assert_close(model.predict(inputs, verbose=0), outputs)


@every_case
@pytest.mark.parametrize("dtype", HALF)
def test_large_half_precision_values_stay_finite(name: str, dtype: str) -> None:
    """Wherever the float32 layer's output fits the type, the half precision layer's output is finite."""
    half, wide = built(name, dtype=dtype), built(name)
    compute_dtype = tf.as_dtype(dtype.replace("mixed_", ""))
    inputs = tf.nest.map_structure(
        lambda value: tf.cast(value, compute_dtype) if value.dtype.is_floating else value,
        inputs_of(name, scale=6e4),
    )
    exact = tf.nest.map_structure(
        lambda value: tf.cast(value, tf.float32) if value.dtype.is_floating else value, inputs
    )
    for training in (False, True):
        outputs = half(inputs, training=training)
        assert outputs.dtype == compute_dtype
        expected = wide(exact, training=training)
        fits = np.abs(expected.numpy()) < 0.9 * compute_dtype.max
        assert fits.mean() > 0.5
        assert np.isfinite(tf.cast(outputs, tf.float32).numpy()[fits]).all(), f"training={training}"


@every_case
@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_computes_what_float32_does(name: str, dtype: str) -> None:
    half, wide = built(name, dtype=dtype), built(name)
    outputs = functional(name, half)(inputs_of(name))
    tolerance = 0.02 if "bfloat16" not in dtype else 0.12
    assert_close(outputs, wide(inputs_of(name)), tolerance)


@every_case
@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("trained", [False, True])
def test_every_trainable_weight_has_a_finite_gradient(name: str, dtype: str, trained: bool) -> None:
    """Of a layer without weights, every feature map that it reads."""
    layer, inputs = CASES[name].make(dtype=dtype), inputs_of(name)
    layer = built(name, dtype=dtype) if trained else layer
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = tf.cast(layer(inputs, training=True), tf.float32)
        direction = tf.constant(np.random.default_rng(8).normal(size=tuple(outputs.shape)), tf.float32)
        loss = tf.reduce_sum(outputs * direction)
    sources = [(weight.name, weight) for weight in layer.trainable_weights]
    if not layer.weights:
        features = [value for value, spec in zip(inputs, CASES[name].inputs) if spec.kind == "features"]
        sources = [(f"input {index}", value) for index, value in enumerate(features)]
    assert sources
    gradients = [
        None if gradient is None else tf.convert_to_tensor(gradient).numpy()
        for gradient in tape.gradient(loss, [value for _, value in sources])
    ]
    for (source, _), gradient in zip(sources, gradients):
        assert gradient is not None, source
        assert np.isfinite(gradient.astype(np.float32)).all(), source
    assert any(np.abs(gradient).max() > 0 for gradient in gradients)


@every_case
def test_inference_is_deterministic_and_changes_no_weight(name: str) -> None:
    layer, inputs = built(name), inputs_of(name)
    before = layer.get_weights()
    first = layer(inputs)
    for training in (None, False):
        np.testing.assert_array_equal(layer(inputs, training=training), first)
    for weight, value in zip(layer.weights, before):
        np.testing.assert_array_equal(weight.numpy(), value, err_msg=weight.name)


@every_case
def test_two_replicas_equal_one(name: str, two_cpus: tf.distribute.Strategy) -> None:
    single = built(name)
    with two_cpus.scope():
        layer = built(name)
    inputs = inputs_of(name)
    direction = tf.constant(np.random.default_rng(8).normal(size=tuple(single(inputs).shape)), tf.float32)

    def gradients_of(one: keras.layers.Layer, inputs: Any, direction: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            outputs = one(inputs, training=True)
            loss = tf.reduce_sum(outputs * direction)
        return outputs, [tf.convert_to_tensor(part) for part in tape.gradient(loss, one.trainable_weights)]

    def replica_step(inputs: Any, direction: tf.Tensor) -> Any:
        return gradients_of(layer, inputs, direction)

    @tf.function
    def step(inputs: Any, direction: Any) -> Any:
        return two_cpus.run(replica_step, args=(inputs, direction))

    def split(value: tf.Tensor) -> Any:
        def part(context: Any) -> tf.Tensor:
            return tf.split(value, 2)[context.replica_id_in_sync_group]

        return two_cpus.experimental_distribute_values_from_function(part)

    outputs, gradients = step(tf.nest.map_structure(split, inputs), split(direction))
    expected, expected_gradients = gradients_of(single, inputs, direction)
    assert_close(tf.concat(two_cpus.experimental_local_results(outputs), axis=0), expected, 2e-5)
    # The bias of a projection that is normalized afterwards has a gradient of rounding errors only.
    scale = max(float(tf.reduce_max(tf.abs(gradient))) for gradient in expected_gradients) if single.weights else 1.0
    for weight, ours, theirs in zip(single.trainable_weights, gradients, expected_gradients):
        total = sum(two_cpus.experimental_local_results(ours))
        assert_close(total / scale, theirs / scale, 5e-5, weight.name)
    for ours, theirs in zip(layer.weights, single.weights):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=2e-5, atol=1e-6, err_msg=theirs.name)


@every_case
def test_names_and_shapes_of_weights_are_the_golden_ones(name: str) -> None:
    """Checkpoints and converters rely on them; the last part of a name is the same on both stacks."""
    layer = built(name)
    trainable = {id(weight) for weight in layer.trainable_weights}
    weights = sorted(
        [plain_name(weight), list(weight.shape), "trainable" if id(weight) in trainable else "not trainable"]
        for weight in layer.weights
    )
    path = GOLDENS / f"{name}.json"
    if os.environ.get("ATTENNORM_TF_WRITE_GOLDENS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("[\n" + ",\n".join("  " + json.dumps(weight) for weight in weights) + "\n]\n")
    assert weights == json.loads(path.read_text()), "regenerate with ATTENNORM_TF_WRITE_GOLDENS=1 if meant"


def test_every_golden_has_a_case() -> None:
    assert {path.stem for path in GOLDENS.glob("*.json")} == set(CASES)
