"""One battery over every metric of generated images: streams, merging, and input that is too little or wrong."""

from __future__ import annotations

import inspect
import json
import math
import re

import numpy as np
import pytest

from attennorm_tf.metrics import (
    FeatureMoments,
    FrechetDistance,
    InceptionScore,
    IntraFrechetDistance,
    KernelDistance,
    PrecisionRecall,
)
from attennorm_tf.metrics.streaming_metric import StreamingMetric

SIZE = 6


def _moments(features):
    moments = FeatureMoments()
    moments.update(features)
    return moments


def _reference(size=SIZE, count=60):
    return np.random.RandomState(1).normal(0.2, 1.3, (count, size))


class _Intra(IntraFrechetDistance):
    """Of two classes that alternate: takes features alone, like the others."""

    def __init__(self, size=SIZE):
        features = _reference(size)
        super().__init__({0: _moments(features[::2]), 5: _moments(features[1::2])})

    def update_state(self, features, labels=None):
        if labels is None:
            labels = np.where(np.arange(self.count, self.count + len(features)) % 2, 5, 0)
        super().update_state(features, labels)


METRICS = {
    "frechet": lambda size=SIZE: FrechetDistance(_moments(_reference(size))),
    "intra": _Intra,
    "inception": lambda size=SIZE: InceptionScore(splits=4),
    "kernel": lambda size=SIZE: KernelDistance(_reference(size), max_block_size=16),
    "precision_recall": lambda size=SIZE: PrecisionRecall(_reference(size)),
}


@pytest.fixture(params=METRICS)
def make(request):
    return METRICS[request.param]


def _numbers(result):
    """Every number of a result."""
    if isinstance(result, dict):
        return [number for value in result.values() for number in _numbers(value)]
    if isinstance(result, tuple):
        return [number for value in result for number in _numbers(value)]
    return [] if result is None or isinstance(result, str) else [float(result)]


def _features(count=70, size=SIZE):
    return np.random.RandomState(2).normal(0, 1, (count, size)) ** 2


def _fed(metric, *batches):
    for batch in batches:
        metric.update_state(batch)
    return metric


def test_every_metric_is_in_the_battery():
    kinds = {kind for base in StreamingMetric.__subclasses__() for kind in (base, *base.__subclasses__())}
    covered = {kind for make in METRICS.values() for kind in type(make()).__mro__}
    assert {kind for kind in kinds if not inspect.isabstract(kind)} <= covered


@pytest.mark.parametrize("splits", [[1], [0, 3, 3, 40], list(range(1, 70))])
def test_any_split_into_batches_gives_the_same(make, splits):
    features = _features()
    whole = _numbers(_fed(make(), features).result())
    np.testing.assert_allclose(_numbers(_fed(make(), *np.split(features, splits)).result()), whole, rtol=1e-12)


def test_any_split_of_more_than_a_page_gives_the_same(make):
    features = np.random.RandomState(2).normal(size=(1500, SIZE)).astype(np.float32)
    whole = _numbers(_fed(make(), features).result())
    got = _numbers(_fed(make(), *np.split(features, [7, 1000, 1030])).result())
    np.testing.assert_allclose(got, whole, rtol=1e-12)


def test_merged_states_equal_one_stream(make):
    features = _features()
    whole = _numbers(_fed(make(), features).result())
    merged, other = _fed(make(), features[:30]), _fed(make(), features[30:])
    merged.merge_state(other)
    merged.merge_state(make())
    np.testing.assert_allclose(_numbers(merged.result()), whole, rtol=1e-9)
    assert merged.count == 70
    assert other.count == 40
    into_empty = make()
    into_empty.merge_state(merged)
    into_empty.update_state(features)  # must not write into what it was merged from
    np.testing.assert_allclose(_numbers(merged.result()), whole, rtol=1e-9)


def test_reset_forgets_the_examples_and_keeps_the_reference(make):
    features = _features()
    metric = _fed(make(), 100 * features)
    metric.result()
    metric.reset_state()
    assert metric.count == 0
    metric.update_state(features)
    assert _numbers(metric.result()) == _numbers(_fed(make(), features).result())


def test_a_result_can_be_asked_for_on_the_way(make):
    features = _features()
    metric = _fed(make(), features[:40])
    metric.result()
    metric.update_state(features[40:])
    np.testing.assert_allclose(_numbers(metric.result()), _numbers(_fed(make(), features).result()), rtol=1e-12)


def test_the_callers_array_can_be_used_again(make):
    features, metric = _features(), make()
    buffer = np.empty((10, SIZE))
    for start in range(0, 70, 10):
        buffer[:] = features[start : start + 10]
        metric.update_state(buffer)
    buffer[:] = 1e6
    np.testing.assert_allclose(_numbers(metric.result()), _numbers(_fed(make(), features).result()), rtol=1e-12)


def test_float_types_and_tensors(make):
    import tensorflow as tf

    features = _features().astype(np.float16)
    expected = _numbers(_fed(make(), features.astype(np.float32)).result())
    for given in (features, tf.constant(features), tf.constant(features, tf.float32)):
        np.testing.assert_allclose(_numbers(_fed(make(), given).result()), expected, rtol=1e-12)
    rounded = tf.cast(features, tf.bfloat16)
    expected = _numbers(_fed(make(), tf.cast(rounded, tf.float32)).result())
    np.testing.assert_allclose(_numbers(_fed(make(), rounded).result()), expected, rtol=1e-12)


def test_nothing_seen_is_an_error(make):
    metric = make()
    metric.update_state(np.zeros((0, SIZE)))
    with pytest.raises(ValueError, match=r"needs? "):
        metric.result()


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros(SIZE), f"must be (batch, {SIZE}), got ({SIZE},)"),
        (np.zeros((2, 2, SIZE)), f"must be (batch, {SIZE}), got (2, 2, {SIZE})"),
        (np.zeros((2, SIZE + 1)), f"must be (batch, {SIZE}), got (2, {SIZE + 1})"),
        (np.where(np.arange(3 * SIZE).reshape(3, SIZE) == SIZE, np.nan, 0.0), "of example 71 are not finite"),
        (np.full((1, SIZE), np.inf), "of example 70 are not finite"),
        (np.array([["a"] * SIZE]), "must be numbers, got an array of <U1"),
    ],
)
def test_bad_features_are_refused_and_leave_the_state(make, features, message):
    metric = _fed(make(), _features())
    before = _numbers(metric.result())
    with pytest.raises(ValueError, match=re.escape(message)):
        metric.update_state(features)
    assert metric.count == 70
    assert _numbers(metric.result()) == before


def test_large_finite_features_are_not_called_infinite(make):
    metric = make()
    metric.update_state(np.full((10, SIZE), 1e38, np.float32))  # their float32 sum overflows
    assert metric.count == 10


DEGENERATE = {
    "single": lambda: _features(1),
    "two": lambda: _features(2),
    "fewer than features": lambda: _features(5),
    "constant": lambda: np.full((40, SIZE), 0.1),
    "zero": lambda: np.zeros((40, SIZE)),
    "one constant feature": lambda: _features(40) * (np.arange(SIZE) > 0),
    "large": lambda: 1e12 * _features(40),
    "tiny": lambda: 1e-30 * _features(40),
    "one class": lambda: _features(40) + 50 * (np.arange(SIZE) == 2),
    "the reference": lambda: _reference(),
    "repeated": lambda: np.repeat(_features(8), 6, axis=0),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_input_gives_finite_numbers_or_an_error(make, name, caplog):
    metric = _fed(make(), DEGENERATE[name]())
    refused = {"single": ("frechet", "intra", "kernel", "precision"), "two": ("intra", "precision")}
    refused["fewer than features"] = ("precision",)
    if any(word in type(metric).__name__.lower() for word in refused.get(name, ())):
        with pytest.raises(ValueError, match=r"needs? .*, got"):
            metric.result()
        return
    result = metric.result()
    assert all(math.isfinite(number) for number in _numbers(result))
    assert all(reason in caplog.text for reason in metric.warnings)


def test_warnings_are_of_the_last_result(make):
    metric = _fed(make(), np.full((40, SIZE), 0.1))
    metric.result()
    assert metric.warnings
    metric.reset_state()
    metric.update_state(np.concatenate([_features(30), -_features(30)[::-1]]))
    metric.result()
    assert metric.warnings == []


def test_the_protocol_is_json(make):
    assert json.loads(json.dumps(make().protocol()))


def test_only_the_same_kind_merges(make):
    metric = make()
    other = METRICS["inception"]() if type(metric) is not InceptionScore else METRICS["frechet"]()
    with pytest.raises(ValueError, match="cannot merge"):
        metric.merge_state(other)
    with pytest.raises(ValueError, match="into itself: its examples would count twice"):
        metric.merge_state(metric)


@pytest.mark.parametrize("kind", ["frechet", "intra", "kernel", "precision_recall"])
def test_features_must_be_the_references(kind):
    with pytest.raises(ValueError, match=re.escape("features must be (batch, 4), got (3, 6)")):
        METRICS[kind](size=4).update_state(np.zeros((3, SIZE)), *([np.zeros(3, int)] if kind == "intra" else []))
