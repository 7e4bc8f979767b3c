"""Against closed forms, SciPy's matrix square root, and TF-GAN."""

from __future__ import annotations

import re

import numpy as np
import pytest

from attennorm_tf.metrics import FeatureMoments, FrechetDistance, frechet_distance


def _covariance(random, size, rank=None):
    factor = random.normal(size=(size, rank or 2 * size))
    return factor @ factor.T / factor.shape[1]


def test_commuting_covariances_have_a_closed_form():
    random = np.random.RandomState(0)
    rotation, _ = np.linalg.qr(random.normal(size=(6, 6)))
    values1, values2 = random.uniform(0, 5, (2, 6))
    mean1, mean2 = random.normal(size=(2, 6))
    expected = np.square(mean1 - mean2).sum() + np.square(np.sqrt(values1) - np.sqrt(values2)).sum()
    got = frechet_distance(mean1, (rotation * values1) @ rotation.T, mean2, (rotation * values2) @ rotation.T)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("size", [1, 5, 64])
def test_general_covariances_against_the_matrix_square_root(size):
    scipy_linalg = pytest.importorskip("scipy.linalg")
    random = np.random.RandomState(size)
    first, second = _covariance(random, size), _covariance(random, size)
    mean1, mean2 = random.normal(size=(2, size))
    root = np.real(scipy_linalg.sqrtm(first @ second))
    expected = np.square(mean1 - mean2).sum() + np.trace(first + second - 2 * root)
    np.testing.assert_allclose(frechet_distance(mean1, first, mean2, second), expected, rtol=1e-9)


def test_symmetric_zero_and_shift():
    random = np.random.RandomState(0)
    first, second = _covariance(random, 8), _covariance(random, 8, rank=3)
    zero = np.zeros(8)
    assert frechet_distance(zero, first, zero, first) < 1e-12
    assert frechet_distance(zero, second, zero, second) < 1e-7  # singular
    np.testing.assert_allclose(frechet_distance(zero, first, zero + 2, first), 32, rtol=1e-12)
    one_way, other_way = (
        frechet_distance(zero, first, zero, second),
        frechet_distance(zero, second, zero, first),
    )
    np.testing.assert_allclose(one_way, other_way, rtol=1e-6)


def test_zero_covariances_leave_the_distance_of_the_means():
    assert frechet_distance(np.ones(2), np.zeros((2, 2)), np.zeros(2), np.zeros((2, 2))) == 2.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (np.zeros(2), np.eye(3), np.zeros(2), np.eye(2)),
            "mean1 must be (d,) and covariance1 (d, d), got (2,) and",
        ),
        (
            (np.zeros(2), np.eye(2), np.zeros(3), np.eye(3)),
            "mean1 and mean2 must have one length, got 2 and 3",
        ),
        (
            (np.zeros(2), np.eye(2), np.array([0, np.nan]), np.eye(2)),
            "mean2 or covariance2 holds a value that is not",
        ),
        ((np.zeros(2), np.array([[1, 0.5], [0, 1]]), np.zeros(2), np.eye(2)), "covariance1 is not symmetric"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        frechet_distance(*arguments)


def _moments(features):
    moments = FeatureMoments()
    moments.update(features)
    return moments


def _metric(reference, features):
    metric = FrechetDistance(_moments(reference))
    metric.update_state(features)
    return metric


@pytest.mark.parametrize(
    ("m", "n"),
    [(300, 200), (300, 20), (20, 300), (20, 15), (1100, 20), (1100, 1200)],  # of 30 features
)
def test_any_number_of_examples_gives_the_distance_of_the_covariances(m, n):
    random = np.random.RandomState(m + n)
    mixing = random.normal(size=(30, 30))
    reference, features = random.normal(size=(m, 30)) @ mixing, random.normal(0.3, 1.2, (n, 30)) @ mixing
    expected = frechet_distance(reference.mean(axis=0), np.cov(reference.T), features.mean(axis=0), np.cov(features.T))
    np.testing.assert_allclose(_metric(reference, features).result(), expected, rtol=1e-7)


@pytest.mark.parametrize(("m", "n"), [(300, 20), (20, 300), (20, 15)])
def test_few_examples_on_either_side_need_no_eigenvectors(m, n, monkeypatch):
    random = np.random.RandomState(0)
    metric = _metric(random.normal(size=(m, 30)), random.normal(size=(n, 30)))
    monkeypatch.setattr(np.linalg, "eigh", None)
    assert metric.result() > 0


def test_samples_of_known_gaussians():
    """|m|^2 + sum (s - s_r)^2 for independent features."""
    random = np.random.RandomState(0)
    spreads, other_spreads, shift = np.array([1.0, 2, 3]), np.array([2.0, 2, 0.5]), np.array([0.5, -1, 0])
    reference, features = (random.normal(size=(200_000, 3)) * s for s in (spreads, other_spreads))
    expected = np.square(shift).sum() + np.square(spreads - other_spreads).sum()
    np.testing.assert_allclose(_metric(reference, features + shift).result(), expected, rtol=0.01)


def test_what_makes_a_distance_doubtful_is_said():
    random = np.random.RandomState(0)
    reference, few = random.normal(size=(50, 8)), random.normal(size=(8, 8))
    metric = _metric(reference, few)
    metric.result()
    assert metric.warnings == [
        "8 generated examples of 8 features: their covariance is singular, the distance unreliable."
    ]
    metric = _metric(few, reference)
    metric.result()
    assert metric.warnings[0].startswith("8 reference examples of 8 features: their covariance is singular")
    constant = np.where(np.arange(8) < 3, 0.1, reference)
    for features, warnings in (
        (constant, ["3 of 8 features are constant over the generated examples but not over the reference."]),
        (np.full((50, 8), 0.1), ["all generated examples have the same features."]),
        (reference, []),
    ):
        metric = _metric(reference, features)
        metric.result()
        assert metric.warnings == warnings
    metric = _metric(constant, constant + 1)  # an unused feature, in both
    assert metric.result() == pytest.approx(8)
    assert metric.warnings == []
    metric = _metric(np.full((1500, 8), 0.1, np.float32), reference)
    metric.result()
    assert metric.warnings == ["all reference examples have the same features."]


def test_a_reference_needs_two_examples():
    with pytest.raises(ValueError, match="reference must have at least 2 examples, got 1"):
        FrechetDistance(_moments(np.zeros((1, 3))))


@pytest.mark.legacy
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of TF-GAN's own imports
@pytest.mark.parametrize(
    ("m", "n", "size"), [(500, 510, 64), (40, 50, 64), (2000, 1100, 16), (300, 70, 200), (50, 60, 1)]
)
@pytest.mark.parametrize(("shift", "spread"), [(0.3, 1.2), (0.0, 0.5), (10.0, 3.0)])
def test_tf_gan_agrees(m, n, size, shift, spread):
    import tensorflow_gan

    random = np.random.RandomState(0)
    mixing = random.normal(size=(size, size))
    real = np.maximum(random.normal(size=(m, size)) @ mixing, 0).astype(np.float32)
    generated = np.maximum(random.normal(shift, spread, (n, size)) @ mixing, 0).astype(np.float32)
    expected = tensorflow_gan.eval.frechet_classifier_distance_from_activations(real, generated).numpy()
    np.testing.assert_allclose(_metric(real, generated).result(), expected, rtol=1e-3)
    got = frechet_distance(
        real.mean(axis=0, dtype=np.float64),
        np.atleast_2d(np.cov(real.T)),
        generated.mean(axis=0, dtype=np.float64),
        np.atleast_2d(np.cov(generated.T)),
    )
    np.testing.assert_allclose(got, expected, rtol=1e-3)
