"""Regional normalization against the paper's pseudocode in float64, closed forms and its invariances."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from attennorm_tf.layers.regional_normalization import (
    apply_regional_moments,
    regional_moments,
    regional_normalization,
    regional_normalization_reference,
)

STATISTICS = ("algorithm1", "weighted")
EPSILON = 1e-5


def _soft(rng, shape, sharpness=1.0):
    logits = sharpness * rng.normal(size=shape)
    exponential = np.exp(logits - logits.max(-1, keepdims=True))
    return exponential / exponential.sum(-1, keepdims=True)


def _inputs(size=(2, 5, 6), channels=3, entities=4, seed=0):
    rng = np.random.default_rng(seed)
    features, layout = rng.normal(size=(*size, channels)), _soft(rng, (*size, entities))
    return features.astype(np.float32).astype(np.float64), layout.astype(np.float32).astype(np.float64)


def _parameter(kind, channels, entities, seed):
    shapes = {None: None, "shared": (channels,), "per_entity": (channels, entities)}
    return None if kind is None else np.random.default_rng(seed).normal(size=shapes[kind]).astype(np.float32)


def _values_and_gradients(function, dtype, arguments, statistics):
    """Output, and gradients of a random weighting of it for every argument that is not None."""
    tensors = [None if a is None else tf.constant(a, dtype) for a in arguments]
    watched = [t for t in tensors if t is not None]
    upstream = np.random.default_rng(7).normal(size=arguments[0].shape).astype(np.float32)
    with tf.GradientTape() as tape:
        tape.watch(watched)
        out = function(*tensors, epsilon=EPSILON, statistics=statistics)
        loss = tf.reduce_sum(tf.cast(out, tf.float64 if dtype == tf.float64 else tf.float32) * upstream)
    return [np.asarray(tf.cast(t, tf.float64)) for t in (out, *tape.gradient(loss, watched))]


def _assert_close(actual, expected, tolerance):
    """Largest difference within `tolerance` of the largest value (or of 1)."""
    assert len(actual) == len(expected)
    for position, (a, e) in enumerate(zip(actual, expected)):
        assert np.all(np.isfinite(a)), position
        error = np.max(np.abs(a - e)) / max(1.0, np.max(np.abs(e)))
        assert error <= tolerance, f"tensor {position}: {error:.1e} > {tolerance:.0e}"


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize(("scale", "offset"), list(itertools.product((None, "shared", "per_entity"), repeat=2)))
def test_fused_equals_pseudocode(statistics, scale, offset):
    features, layout = _inputs()
    arguments = (features, layout, _parameter(scale, 3, 4, 1), _parameter(offset, 3, 4, 2))
    reference = _values_and_gradients(regional_normalization_reference, tf.float64, arguments, statistics)
    double = _values_and_gradients(regional_normalization, tf.float64, arguments, statistics)
    single = _values_and_gradients(regional_normalization, tf.float32, arguments, statistics)
    _assert_close(double, reference, 1e-9)
    _assert_close(single, reference, 1e-4)


def _hard(owner, entities):
    return np.eye(entities)[owner]


def _adversarial():
    """Name -> (features, layout), hostile to sums that cancel."""
    rng = np.random.default_rng(3)
    size = (2, 8, 8)
    noise = rng.normal(size=(*size, 3))
    soft = _soft(rng, (*size, 4))
    hard = _hard(rng.integers(0, 4, size), 4)
    all_or_none = _hard(np.zeros(size, int), 4)
    nearly = np.where(all_or_none > 0, 1 - 1e-6, 1e-6)
    halves = _hard(np.broadcast_to(np.arange(8) >= 4, size).astype(int), 2)
    constant = np.full((*size, 3), 1000.0)
    regions = noise + 1e3 * halves[..., 1:]
    return {
        "mean 1e3, soft": (noise + 1e3, soft),
        "mean 1e3, nearly even": (noise + 1e3, _soft(rng, (*size, 4), 0.1)),
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
    parameters = [_parameter("per_entity", 3, layout.shape[-1], seed) for seed in (1, 2)]
    arguments = (features, layout, *parameters)
    reference = _values_and_gradients(regional_normalization_reference, tf.float64, arguments, statistics)
    double = _values_and_gradients(regional_normalization, tf.float64, arguments, statistics)
    single = _values_and_gradients(regional_normalization, tf.float32, arguments, statistics)
    _assert_close(double, reference, 2e-9)
    _assert_close(single, reference, 2e-3)


@pytest.mark.parametrize("mean", [0.0, 12.0, 20.0, 1e3, 1e4])
@pytest.mark.parametrize("size", [(2, 7, 9), (2, 12, 12)], ids=str)
def test_channels_on_both_sides_of_the_pivot_threshold(size, mean):
    noise, soft = _inputs(size, seed=4)
    for features in (noise + mean, noise + mean * np.array([0.0, 1.0, -1.0]), 0 * noise + 0.1 * mean):
        for layout in (soft, np.ones((*size, 1)), np.full((*size, 2), 1 / 3)):
            arrays = [a.astype(np.float32).astype(np.float64) for a in (features, layout)]
            arguments = (*arrays, None, None)
            reference = _values_and_gradients(regional_normalization_reference, tf.float64, arguments, "algorithm1")
            single = _values_and_gradients(regional_normalization, tf.float32, arguments, "algorithm1")
            _assert_close(single, reference, 2e-3)


@pytest.mark.parametrize("pixels", [1, 2, 8])
def test_small_region_about_zero_in_a_channel_far_from_zero(pixels):
    noise, _ = _inputs((2, 16, 16), seed=5)
    layout = _hard(np.broadcast_to(np.arange(256).reshape(16, 16) < pixels, (2, 16, 16)).astype(int), 2)
    features = (noise + 1e3 * layout[..., :1]).astype(np.float32).astype(np.float64)
    reference = regional_normalization_reference(features, layout)
    single = regional_normalization(features.astype(np.float32), layout)
    _assert_close([single.numpy()], [reference.numpy()], 1e-4)


def test_rounding_of_the_layout_mean_is_made_good():
    # The sum of a constant layout less its float32 mean is not 0 but pixels * rounding.
    noise, _ = _inputs((1, 37, 41), seed=6)
    layout = np.full((1, 37, 41, 2), np.float32(0.1), np.float64)
    reference = regional_normalization_reference(noise, layout).numpy()
    _assert_close([regional_normalization(noise.astype(np.float32), layout).numpy()], [reference], 5e-7)


def test_an_image_far_from_zero_does_not_touch_another():
    features, layout = (tf.constant(a, tf.float32) for a in _inputs())
    far = tf.concat([features[:1] + 1e3, features[1:]], axis=0)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([features, far])
        out, beside_far = (regional_normalization(f, layout) for f in (features, far))
    np.testing.assert_array_equal(out[1], beside_far[1])
    np.testing.assert_array_equal(tape.gradient(out, features)[1], tape.gradient(beside_far, far)[1])


@pytest.mark.parametrize("statistics", STATISTICS)
def test_gradient_equals_finite_differences(statistics):
    features, layout = _inputs(size=(2, 3, 2), channels=2, entities=3)
    arguments = [features, layout, _parameter("per_entity", 2, 3, 1), _parameter("per_entity", 2, 3, 2)]
    upstream = np.random.default_rng(7).normal(size=features.shape).astype(np.float32)
    gradients = _values_and_gradients(regional_normalization, tf.float64, arguments, statistics)[1:]

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


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("size", [(2, 5, 6), (2, 3, 3)], ids=["map", "few pixels"])
@pytest.mark.parametrize("mean", [0.0, 30.0])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "graph"])
def test_second_derivative_equals_pseudocode(statistics, size, mean, compiled):
    features, layout = _inputs(size)
    features = features + mean
    scale, offset = _parameter("shared", 3, 4, 1), _parameter("per_entity", 3, 4, 2)

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
    _assert_close(second(tf.function(regional_normalization) if compiled else regional_normalization), expected, 1e-9)


@pytest.mark.parametrize("statistics", STATISTICS)
def test_permuting_pixels_permutes_the_output(statistics):
    features, layout = _inputs()
    order = np.random.default_rng(5).permutation(30)

    def permuted(maps):
        return maps.reshape(2, 30, -1)[:, order].reshape(maps.shape)

    out = regional_normalization(features, layout, statistics=statistics).numpy()
    moved = regional_normalization(permuted(features), permuted(layout), statistics=statistics).numpy()
    np.testing.assert_allclose(moved, permuted(out), atol=1e-12)


@pytest.mark.parametrize("statistics", STATISTICS)
def test_permuting_entities_changes_nothing(statistics):
    features, layout = _inputs()
    order = [2, 0, 3, 1]
    scale, offset = _parameter("per_entity", 3, 4, 1), _parameter("per_entity", 3, 4, 2)
    out = regional_normalization(features, layout, scale, offset, statistics=statistics)
    moved = regional_normalization(
        features, layout[..., order], scale[:, order], offset[:, order], statistics=statistics
    )
    np.testing.assert_allclose(moved, out, atol=1e-12)


@pytest.mark.parametrize("statistics", STATISTICS)
def test_nan_stays_in_its_image(statistics):
    features, layout = (tf.constant(a, tf.float32) for a in _inputs())
    bad = tf.concat([tf.fill([1, 5, 6, 3], np.nan), features[1:]], axis=0)
    with tf.GradientTape() as tape:
        tape.watch([bad, layout])
        out = regional_normalization(bad, layout, statistics=statistics)
    gradients = tape.gradient(out, [bad, layout])
    assert np.all(np.isnan(out[0]))
    np.testing.assert_array_equal(out[1], regional_normalization(features, layout, statistics=statistics)[1])
    assert all(np.all(np.isfinite(g[1])) for g in gradients)


def test_weighted_ignores_an_added_constant():
    features, layout = _inputs()
    out = regional_normalization(features, layout, epsilon=1e-12, statistics="weighted")
    moved = regional_normalization(features + 5.0, layout, epsilon=1e-12, statistics="weighted")
    np.testing.assert_allclose(moved, out, atol=1e-9)


@pytest.mark.parametrize("statistics", STATISTICS)
def test_one_entity_is_an_instance_norm_with_epsilon_outside_the_root(statistics):
    features, _ = _inputs()
    mean = features.mean(axis=(1, 2), keepdims=True)
    std = features.std(axis=(1, 2), keepdims=True)
    out = regional_normalization(features, np.ones((2, 5, 6, 1)), epsilon=1e-9, statistics=statistics)
    np.testing.assert_allclose(out, (features - mean) / (std + 1e-9), atol=1e-7)


@pytest.mark.parametrize("statistics", STATISTICS)
def test_eager_graph_and_xla_agree_with_dynamic_shapes(statistics):
    arguments = [tf.constant(a, tf.float32) for a in _inputs()]
    arguments += [tf.constant(_parameter("per_entity", 3, 4, s)) for s in (1, 2)]

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
        _assert_close([t.numpy() for t in function(*arguments)], expected, 1e-5)


@pytest.mark.parametrize("function", [regional_normalization, regional_normalization_reference])
@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_half_precision_stays_finite_to_6e4(function, dtype, statistics):
    rng = np.random.default_rng(1)
    layout = _soft(rng, (2, 4, 4, 3))
    for features in (
        rng.uniform(-6e4, 6e4, (2, 4, 4, 5)),
        np.full((2, 4, 4, 5), 6e4),
        np.zeros((2, 4, 4, 5)),
    ):
        results = _values_and_gradients(function, dtype, (features, layout, None, None), statistics)
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
    features, layout = (tf.constant(a, tf.float16) for a in _inputs())
    with tf.GradientTape() as tape:
        tape.watch(features)
        out = regional_normalization(features, layout)
    assert not np.all(np.isfinite(tape.gradient(out, features, tf.fill(out.shape, tf.constant(np.inf, tf.float16)))))


@pytest.mark.parametrize("function", [regional_normalization, regional_normalization_reference])
@pytest.mark.parametrize("statistics", STATISTICS)
def test_zero_std_has_finite_gradients(function, statistics):
    layout = _hard(np.zeros((1, 3, 3), int), 2)
    results = _values_and_gradients(function, tf.float32, (np.zeros((1, 3, 3, 2)), layout, None, None), statistics)
    assert all(np.all(np.isfinite(r)) for r in results)
    np.testing.assert_array_equal(results[0], 0.0)


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("across_batch", [False, True])
def test_moments_equal_a_numpy_loop(statistics, across_batch):
    features, layout = _inputs()
    mean, variance = regional_moments(
        features, layout, epsilon=EPSILON, statistics=statistics, across_batch=across_batch
    )
    groups = [(features, layout)] if across_batch else [(features[i], layout[i]) for i in range(2)]
    for image, (x, s) in enumerate(groups):
        for k, c in np.ndindex(4, 3):
            count = s[..., k].sum() + EPSILON
            m = (x[..., c] * s[..., k]).sum() / count
            deviation = (
                (x[..., c] * s[..., k] - m) ** 2 if statistics == "algorithm1" else s[..., k] * (x[..., c] - m) ** 2
            )
            np.testing.assert_allclose(mean[image, k, c], m, rtol=1e-10)
            np.testing.assert_allclose(variance[image, k, c], deviation.sum() / count, rtol=1e-10)


def test_derived_gradient_of_moments_has_no_branch():
    """TensorFlow's memory optimizer names temporary variables in a branch's gradient alike for two calls in a step."""

    @tf.function
    def gradient(features, layout):
        with tf.GradientTape() as tape:
            tape.watch(features)
            mean, variance = regional_moments(features, layout, across_batch=True)
            total = tf.reduce_sum(mean) + tf.reduce_sum(variance)
        return tape.gradient(total, features)

    graph = gradient.get_concrete_function(*_inputs()).graph
    assert not [operation.name for operation in graph.get_operations() if operation.type in ("If", "StatelessIf")]


@pytest.mark.parametrize("statistics", STATISTICS)
def test_applying_the_moments_is_regional_normalization(statistics):
    features, layout = _inputs()
    arguments = (features, layout, _parameter("shared", 3, 4, 1), _parameter("per_entity", 3, 4, 2))

    def in_two_steps(features, layout, scale, offset, *, epsilon, statistics):
        mean, variance = regional_moments(features, layout, epsilon=epsilon, statistics=statistics)
        return apply_regional_moments(features, layout, mean, variance, scale, offset, epsilon=epsilon)

    expected = _values_and_gradients(regional_normalization_reference, tf.float64, arguments, statistics)
    _assert_close(_values_and_gradients(in_two_steps, tf.float64, arguments, statistics), expected, 1e-9)


@pytest.mark.parametrize("statistics", STATISTICS)
def test_moments_across_two_replicas_equal_one(two_cpus, statistics):
    features, layout = _inputs(size=(4, 3, 5))
    weights = np.random.default_rng(9).normal(size=(2, 1, 4, 3))

    def moments_and_gradient(x, s):
        with tf.GradientTape() as tape:
            tape.watch(x)
            mean, variance = regional_moments(x, s, statistics=statistics, across_batch=True)
            loss = tf.reduce_sum(mean * weights[0] + variance * weights[1])
        return mean, variance, tape.gradient(loss, x)

    def halves(array):
        return two_cpus.experimental_distribute_values_from_function(
            lambda context: tf.constant(array[2 * context.replica_id_in_sync_group :][:2])
        )

    @tf.function
    def distributed(x, s):
        return two_cpus.run(moments_and_gradient, (x, s))

    expected = moments_and_gradient(tf.constant(features), tf.constant(layout))
    mean, variance, gradient = distributed(halves(features), halves(layout))
    for value, wanted in ((mean, expected[0]), (variance, expected[1])):
        for local in two_cpus.experimental_local_results(value):
            np.testing.assert_allclose(local, wanted, rtol=1e-10)
    joined = np.concatenate(two_cpus.experimental_local_results(gradient))
    # Each replica holds the same loss; all_reduce passes back the sum of both.
    np.testing.assert_allclose(joined, 2 * expected[2].numpy(), rtol=1e-8, atol=1e-12)


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


def test_bad_moments_are_named():
    features, layout = _inputs()
    with pytest.raises(ValueError, match="mean must have shape"):
        apply_regional_moments(features, layout, np.zeros((2, 3, 3)), np.ones((2, 4, 3)))
