"""Intervals against SciPy's Student distribution, and by how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from attennorm_tf.metrics import mean_interval


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6, 7, 44, 1001])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_against_scipy(count, confidence):
    values = np.random.RandomState(count).normal(3, 2, count)
    mean, low, high = mean_interval(values, confidence)
    expected = stats.t.interval(confidence, count - 1, values.mean(), stats.sem(values))
    assert (mean, low, high) == pytest.approx((values.mean(), *expected), rel=1e-9)


def test_covers_the_mean_as_often_as_it_says():
    samples = np.random.RandomState(0).normal(1, 5, (2000, 5))
    held = [low <= 1 <= high for _, low, high in map(mean_interval, samples)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)


def test_one_value_has_no_interval_and_equal_values_an_empty_one():
    assert mean_interval([2.5]) == (2.5, None, None)
    assert mean_interval([2.5, 2.5]) == (2.5, 2.5, 2.5)


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")], [[1.0]]])
def test_bad_values(values):
    with pytest.raises(ValueError, match=r"values must be one or more finite numbers"):
        mean_interval(values)


def test_bad_confidence():
    with pytest.raises(ValueError, match=r"confidence must be in \(0, 1\), got 95"):
        mean_interval([1.0], 95)
