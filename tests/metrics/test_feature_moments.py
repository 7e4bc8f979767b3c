"""Streamed moments against NumPy over everything at once."""

from __future__ import annotations

import re

import numpy as np
import pytest

from attennorm_tf.metrics import FeatureMoments


def _moments(*batches):
    moments = FeatureMoments()
    for batch in batches:
        moments.update(batch)
    return moments


@pytest.mark.parametrize("splits", [[], [1], [1, 2, 3], [50, 50, 120]])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_any_split_into_batches_gives_numpys_moments(splits, offset):
    features = np.random.RandomState(0).normal(offset, 1.0, (200, 7))
    moments = _moments(*np.split(features, splits))
    assert moments.count == 200
    np.testing.assert_allclose(moments.mean, features.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.covariance, np.cov(features.T), rtol=1e-8, atol=1e-8)


def test_float32_features_are_summed_in_float64():
    features = np.random.RandomState(0).normal(1000.0, 1.0, (5000, 3)).astype(np.float32)
    moments = _moments(*np.split(features, 50))
    np.testing.assert_allclose(moments.covariance, np.cov(features.astype(np.float64).T), rtol=1e-9, atol=1e-9)


def test_merge_equals_one_stream():
    features = np.random.RandomState(0).normal(size=(100, 4))
    merged = _moments(features[:30])
    merged.merge(_moments(features[30:]))
    merged.merge(FeatureMoments())
    np.testing.assert_allclose(merged.covariance, np.cov(features.T), rtol=1e-12, atol=1e-14)
    into_empty = FeatureMoments()
    into_empty.merge(merged)
    into_empty.update(features)  # must not write into what it was merged from
    assert merged.count == 100
    np.testing.assert_allclose(merged.mean, features.mean(axis=0), atol=1e-14)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros(3), "features must be (batch, 3), got (3,)"),
        (np.zeros((2, 4)), "features must be (batch, 3), got (2, 4)"),
        (np.array([[0, 0, 0], [0, np.inf, 0]]), "features of example 6 are not finite"),
    ],
)
def test_bad_features(features, message):
    moments = _moments(np.zeros((5, 3)))
    with pytest.raises(ValueError, match=re.escape(message)):
        moments.update(features)
    assert moments.count == 5


def test_too_few_examples():
    with pytest.raises(ValueError, match="mean needs at least 1 example, got 0"):
        _ = FeatureMoments().mean
    with pytest.raises(ValueError, match="covariance needs at least 2 examples, got 1"):
        _ = _moments(np.zeros((1, 3))).covariance
    with pytest.raises(ValueError, match="cannot merge features of 2 into 3 dimensions"):
        _moments(np.zeros((1, 3))).merge(_moments(np.zeros((1, 2))))


def test_singular_covariance_is_warned_of(caplog):
    _ = _moments(np.random.RandomState(0).normal(size=(3, 3))).covariance
    assert "covariance of 3 dimensions from 3 examples is singular" in caplog.text


def test_splits_beyond_a_block_change_no_bit():
    features = np.random.RandomState(0).normal(3, 1, (3000, 5)).astype(np.float32)
    whole = _moments(features)
    split = _moments(*np.split(features, [1, 1000, 1024, 1500, 2999]))
    np.testing.assert_array_equal(whole.covariance, split.covariance)
    np.testing.assert_array_equal(whole.mean, split.mean)
    np.testing.assert_allclose(whole.mean, features.mean(axis=0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(whole.covariance, np.cov(features.T, dtype=np.float64), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(whole.variances(), features.var(axis=0, ddof=1, dtype=np.float64), rtol=1e-9)


def test_merge_of_many():
    features = np.random.RandomState(0).normal(3, 1, (5000, 5))
    merged = _moments(features[:1500])
    merged.merge(_moments(features[1500:2500]))
    merged.merge(_moments(features[2500:]))
    assert merged.count == 5000
    np.testing.assert_allclose(merged.mean, features.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(merged.covariance, np.cov(features.T), rtol=1e-9, atol=1e-12)


def test_few_examples_are_a_factor_of_their_covariance():
    features = np.random.RandomState(0).normal(3, 1, (9, 12))
    deviations = _moments(features).deviations()
    assert deviations.shape == (9, 12)
    np.testing.assert_allclose(deviations.T @ deviations, np.cov(features.T), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(_moments(features).variances(), features.var(axis=0, ddof=1), rtol=1e-12)
    assert _moments(features[:, :9]).deviations() is None
    assert _moments(features[:1]).deviations() is None
    assert FeatureMoments().deviations() is None


@pytest.mark.parametrize("count", [0, 3, 1024, 1500])
def test_state_comes_back(count):
    features = np.random.RandomState(0).normal(3, 1, (count, 4)).astype(np.float32)
    moments = _moments(features)
    again = FeatureMoments.from_state(moments.state())
    for one in (moments, again):
        one.update(np.ones((2, 4)))
    assert again.count == moments.count == count + 2
    np.testing.assert_array_equal(again.mean, moments.mean)
    np.testing.assert_array_equal(again.compute_covariance(), moments.compute_covariance())
