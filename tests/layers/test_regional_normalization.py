"""Regional normalization against the paper's pseudocode in float64, closed forms and its invariances."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from attennorm_tf.layers.regional_normalization import (
    regional_normalization,
    regional_normalization_reference,
)
from tests.layers.regional_inputs import (
    STATISTICS,
    assert_close,
    inputs,
    parameter,
    soft_layout,
    values_and_gradients,
)


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize(("scale", "offset"), list(itertools.product((None, "shared", "per_entity"), repeat=2)))
def test_fused_equals_pseudocode(statistics, scale, offset):
    features, layout = inputs()
    arguments = (features, layout, parameter(scale, 3, 4, 1), parameter(offset, 3, 4, 2))
    reference = values_and_gradients(regional_normalization_reference, tf.float64, arguments, statistics)
    double = values_and_gradients(regional_normalization, tf.float64, arguments, statistics)
    single = values_and_gradients(regional_normalization, tf.float32, arguments, statistics)
    assert_close(double, reference, 1e-9)
    assert_close(single, reference, 1e-4)


def _hard(owner, entities):
    return np.eye(entities)[owner]


def _adversarial():
    """Name -> (features, layout), hostile to sums that cancel."""
    rng = np.random.default_rng(3)
    size = (2, 8, 8)
    noise = rng.normal(size=(*size, 3))
    soft = soft_layout(rng, (*size, 4))
    hard = _hard(rng.integers(0, 4, size), 4)
    all_or_none = _hard(np.zeros(size, int), 4)
    nearly = np.where(all_or_none > 0, 1 - 1e-6, 1e-6)
    halves = _hard(np.broadcast_to(np.arange(8) >= 4, size).astype(int), 2)
    constant = np.full((*size, 3), 1000.0)
    regions = noise + 1e3 * halves[..., 1:]
    return {
        "mean 1e3, soft": (noise + 1e3, soft),
        "mean 1e3, nearly even": (noise + 1e3, soft_layout(rng, (*size, 4), 0.1)),
        "mean 1e3, hard": (noise + 1e3, hard),
        "mean -1e3, one owns all": (noise - 1e3, all_or_none),
        "mean 1e3, one owns nearly all": (noise + 1e3, nearly),
        "mean 1e3, n = 1": (noise + 1e3, np.ones((*size, 1))),
        "hard": (noise, hard),
        "hard, many entities of one pixel or none": (noise, _hard(rng.integers(0, 64, size), 64)),
        "one owns all": (noise, all_or_none),
        "constant, soft": (constant, soft),
        "constant, one owns all": (constant, all_or_none),
        "constant, n = 1": (constant, np.ones((*size, 1))),
        "zero": (0.0 * noise, soft),
        "1x1, soft": (noise[:, :1, :1], soft[:, :1, :1]),
        "1x1, hard": (noise[:, :1, :1], hard[:, :1, :1]),
        "1x1, mean 1e3": (noise[:, :1, :1] + 1e3, soft[:, :1, :1]),
        "1x1, n = 1": (noise[:, :1, :1], np.ones((2, 1, 1, 1))),
        "2x1, two regions": (regions[:, :1, 3:5], halves[:, :1, 3:5]),
        "two regions": (regions, halves),
        "two regions, soft": (regions, 0.98 * halves + 0.01),
    }


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("name", list(_adversarial()))
def test_adversarial_inputs_in_float32(name, statistics):
    features, layout = (a.astype(np.float32).astype(np.float64) for a in _adversarial()[name])
    parameters = [parameter("per_entity", 3, layout.shape[-1], seed) for seed in (1, 2)]
    arguments = (features, layout, *parameters)
    reference = values_and_gradients(regional_normalization_reference, tf.float64, arguments, statistics)
    double = values_and_gradients(regional_normalization, tf.float64, arguments, statistics)
    single = values_and_gradients(regional_normalization, tf.float32, arguments, statistics)
    assert_close(double, reference, 2e-9)
    assert_close(single, reference, 2e-3)


@pytest.mark.parametrize("mean", [0.0, 12.0, 20.0, 1e3, 1e4])
@pytest.mark.parametrize("size", [(2, 7, 9), (2, 12, 12)], ids=str)
def test_channels_on_both_sides_of_the_pivot_threshold(size, mean):
    noise, soft = inputs(size, seed=4)
    for features in (noise + mean, noise + mean * np.array([0.0, 1.0, -1.0]), 0 * noise + 0.1 * mean):
        for layout in (soft, np.ones((*size, 1)), np.full((*size, 2), 1 / 3)):
            arrays = [a.astype(np.float32).astype(np.float64) for a in (features, layout)]
            arguments = (*arrays, None, None)
            reference = values_and_gradients(regional_normalization_reference, tf.float64, arguments, "algorithm1")
            single = values_and_gradients(regional_normalization, tf.float32, arguments, "algorithm1")
            assert_close(single, reference, 2e-3)


@pytest.mark.parametrize("pixels", [1, 2, 8])
def test_small_region_about_zero_in_a_channel_far_from_zero(pixels):
    noise, _ = inputs((2, 16, 16), seed=5)
    layout = _hard(np.broadcast_to(np.arange(256).reshape(16, 16) < pixels, (2, 16, 16)).astype(int), 2)
    features = (noise + 1e3 * layout[..., :1]).astype(np.float32).astype(np.float64)
    reference = regional_normalization_reference(features, layout)
    single = regional_normalization(features.astype(np.float32), layout)
    assert_close([single.numpy()], [reference.numpy()], 1e-4)


def test_rounding_of_the_layout_mean_is_made_good():
    # The sum of a constant layout less its float32 mean is not 0 but pixels * rounding.
    noise, _ = inputs((1, 37, 41), seed=6)
    layout = np.full((1, 37, 41, 2), np.float32(0.1), np.float64)
    reference = regional_normalization_reference(noise, layout).numpy()
    assert_close([regional_normalization(noise.astype(np.float32), layout).numpy()], [reference], 5e-7)


def test_an_image_far_from_zero_does_not_touch_another():
    features, layout = (tf.constant(a, tf.float32) for a in inputs())
    far = tf.concat([features[:1] + 1e3, features[1:]], axis=0)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([features, far])
        out, beside_far = (regional_normalization(f, layout) for f in (features, far))
    np.testing.assert_array_equal(out[1], beside_far[1])
    np.testing.assert_array_equal(tape.gradient(out, features)[1], tape.gradient(beside_far, far)[1])


@pytest.mark.parametrize("statistics", STATISTICS)
def test_gradient_equals_finite_differences(statistics):
    features, layout = inputs(size=(2, 3, 2), channels=2, entities=3)
    arguments = [features, layout, parameter("per_entity", 2, 3, 1), parameter("per_entity", 2, 3, 2)]
    upstream = np.random.default_rng(7).normal(size=features.shape).astype(np.float32)
    gradients = values_and_gradients(regional_normalization, tf.float64, arguments, statistics)[1:]

    def loss(values):
        tensors = [tf.constant(v, tf.float64) for v in values]
        return float(tf.reduce_sum(regional_normalization(*tensors, statistics=statistics) * upstream))

    step = 1e-5
    for position, gradient in enumerate(gradients):
        numeric = np.zeros(gradient.shape)
        for index in np.ndindex(*gradient.shape):
            ends = []
            for sign in (1, -1):
                moved = [np.array(a, np.float64) for a in arguments]
                moved[position][index] += sign * step
                ends.append(loss(moved))
            numeric[index] = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(gradient, numeric, rtol=1e-5, atol=1e-6)


# Eagerly all of them; a graph's are the same functions, traced once for each way through them.
_MAP, _FEW_PIXELS = (2, 5, 6), (2, 3, 3)


_SECOND_DERIVATIVES = [
    *itertools.product([_MAP, _FEW_PIXELS], [0.0, 30.0], [False]), (_MAP, 30.0, True), (_FEW_PIXELS, 0.0, True),
]  # fmt: skip


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize(("size", "mean", "compiled"), _SECOND_DERIVATIVES)
def test_second_derivative_equals_pseudocode(statistics, size, mean, compiled):
    features, layout = inputs(size)
    features = features + mean
    scale, offset = parameter("shared", 3, 4, 1), parameter("per_entity", 3, 4, 2)

    def second(function):
        tensors = [tf.constant(a, tf.float64) for a in (features, layout, scale, offset)]
        with tf.GradientTape() as outer:
            outer.watch(tensors)
            with tf.GradientTape() as inner:
                inner.watch(tensors)
                loss = tf.reduce_sum(tf.sin(function(*tensors, statistics=statistics)))
            penalty = sum(tf.reduce_sum(tf.square(g)) for g in inner.gradient(loss, tensors))
        return [g.numpy() for g in outer.gradient(penalty, tensors)]

    expected = second(regional_normalization_reference)
    assert_close(second(tf.function(regional_normalization) if compiled else regional_normalization), expected, 1e-9)


@pytest.mark.parametrize("statistics", STATISTICS)
def test_permuting_pixels_permutes_the_output(statistics):
    features, layout = inputs()
    order = np.random.default_rng(5).permutation(30)

    def permuted(maps):
        return maps.reshape(2, 30, -1)[:, order].reshape(maps.shape)

    out = regional_normalization(features, layout, statistics=statistics).numpy()
    moved = regional_normalization(permuted(features), permuted(layout), statistics=statistics).numpy()
    np.testing.assert_allclose(moved, permuted(out), atol=1e-12)


@pytest.mark.parametrize("statistics", STATISTICS)
def test_permuting_entities_changes_nothing(statistics):
    features, layout = inputs()
    order = [2, 0, 3, 1]
    scale, offset = parameter("per_entity", 3, 4, 1), parameter("per_entity", 3, 4, 2)
    out = regional_normalization(features, layout, scale, offset, statistics=statistics)
    moved = regional_normalization(
        features, layout[..., order], scale[:, order], offset[:, order], statistics=statistics
    )
    np.testing.assert_allclose(moved, out, atol=1e-12)


@pytest.mark.parametrize("statistics", STATISTICS)
def test_nan_stays_in_its_image(statistics):
    features, layout = (tf.constant(a, tf.float32) for a in inputs())
    bad = tf.concat([tf.fill([1, 5, 6, 3], np.nan), features[1:]], axis=0)
    with tf.GradientTape() as tape:
        tape.watch([bad, layout])
        out = regional_normalization(bad, layout, statistics=statistics)
    gradients = tape.gradient(out, [bad, layout])
    assert np.all(np.isnan(out[0]))
    np.testing.assert_array_equal(out[1], regional_normalization(features, layout, statistics=statistics)[1])
    assert all(np.all(np.isfinite(g[1])) for g in gradients)


def test_weighted_ignores_an_added_constant():
    features, layout = inputs()
    out = regional_normalization(features, layout, epsilon=1e-12, statistics="weighted")
    moved = regional_normalization(features + 5.0, layout, epsilon=1e-12, statistics="weighted")
    np.testing.assert_allclose(moved, out, atol=1e-9)


@pytest.mark.parametrize("statistics", STATISTICS)
def test_one_entity_is_an_instance_norm_with_epsilon_outside_the_root(statistics):
    features, _ = inputs()
    mean = features.mean(axis=(1, 2), keepdims=True)
    std = features.std(axis=(1, 2), keepdims=True)
    out = regional_normalization(features, np.ones((2, 5, 6, 1)), epsilon=1e-9, statistics=statistics)
    np.testing.assert_allclose(out, (features - mean) / (std + 1e-9), atol=1e-7)


@pytest.mark.parametrize("statistics", STATISTICS)
def test_eager_graph_and_xla_agree_with_dynamic_shapes(statistics):
    arguments = [tf.constant(a, tf.float32) for a in inputs()]
    arguments += [tf.constant(parameter("per_entity", 3, 4, s)) for s in (1, 2)]

    def step(features, layout, scale, offset):
        with tf.GradientTape() as tape:
            tape.watch([features, layout, scale, offset])
            out = regional_normalization(features, layout, scale, offset, statistics=statistics)
            loss = tf.reduce_sum(tf.sin(out))
        return [out, *tape.gradient(loss, [features, layout, scale, offset])]

    unknown = [
        tf.TensorSpec([None] * 4),
        tf.TensorSpec([None] * 4),
        tf.TensorSpec([None] * 2),
        tf.TensorSpec([None] * 2),
    ]
    expected = [t.numpy() for t in step(*arguments)]
    for function in (
        tf.function(step),
        tf.function(step, input_signature=unknown),
        tf.function(step, jit_compile=True),
    ):
        assert_close([t.numpy() for t in function(*arguments)], expected, 1e-5)


@pytest.mark.parametrize("function", [regional_normalization, regional_normalization_reference])
@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_half_precision_stays_finite_to_6e4(function, dtype, statistics):
    rng = np.random.default_rng(1)
    layout = soft_layout(rng, (2, 4, 4, 3))
    for features in (
        rng.uniform(-6e4, 6e4, (2, 4, 4, 5)),
        np.full((2, 4, 4, 5), 6e4),
        np.zeros((2, 4, 4, 5)),
    ):
        results = values_and_gradients(function, dtype, (features, layout, None, None), statistics)
        assert all(np.all(np.isfinite(r)) for r in results)
        out = function(tf.cast(features, dtype), tf.cast(layout, dtype), statistics=statistics)
        assert out.dtype == dtype
        expected = function(
            tf.cast(tf.cast(features, dtype), tf.float32),
            tf.cast(tf.cast(layout, dtype), tf.float32),
            statistics=statistics,
        )
        np.testing.assert_array_equal(out, tf.cast(expected, dtype))


def test_infinite_upstream_gradient_is_not_hidden_from_loss_scaling():
    features, layout = (tf.constant(a, tf.float16) for a in inputs())
    with tf.GradientTape() as tape:
        tape.watch(features)
        out = regional_normalization(features, layout)
    assert not np.all(np.isfinite(tape.gradient(out, features, tf.fill(out.shape, tf.constant(np.inf, tf.float16)))))


@pytest.mark.parametrize("function", [regional_normalization, regional_normalization_reference])
@pytest.mark.parametrize("statistics", STATISTICS)
def test_zero_std_has_finite_gradients(function, statistics):
    layout = _hard(np.zeros((1, 3, 3), int), 2)
    results = values_and_gradients(function, tf.float32, (np.zeros((1, 3, 3, 2)), layout, None, None), statistics)
    assert all(np.all(np.isfinite(r)) for r in results)
    np.testing.assert_array_equal(results[0], 0.0)


@pytest.mark.parametrize("function", [regional_normalization, regional_normalization_reference])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.zeros((2, 4, 3), np.float32)}, "features must have rank 4.*got shape"),
        ({"layout": np.zeros((2, 4), np.float32)}, "layout must have rank 4"),
        ({"features": np.zeros((2, 4, 4, 3), np.int32)}, "features must have a float dtype, got int32"),
        ({"layout": np.zeros((2, 4, 5, 2), np.float32)}, "layout must have the batch, height and width"),
        ({"scale": np.ones(4, np.float32)}, r"scale must be None or have shape \(C,\) = \(3,\)"),
        (
            {"offset": np.ones((3, 5), np.float32)},
            r"offset must be .*\(C, n\) = \(3, 2\), got shape \(3, 5\)",
        ),
        ({"epsilon": 0.0}, "epsilon must be > 0, got 0.0"),
        ({"statistics": "other"}, "statistics must be one of .*got 'other'"),
    ],
)
def test_bad_arguments_are_named(function, change, message):
    arguments = {"features": np.zeros((2, 4, 4, 3), np.float32), "layout": np.ones((2, 4, 4, 2), np.float32)}
    with pytest.raises(ValueError, match=message):
        function(**{**arguments, **change})
