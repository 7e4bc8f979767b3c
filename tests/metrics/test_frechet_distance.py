"""Against closed forms, SciPy's matrix square root, and TF-GAN."""

from __future__ import annotations

import re

import numpy as np
import pytest

from attennorm_tf.metrics import FeatureMoments, frechet_distance


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


@pytest.mark.legacy
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of TF-GAN's own imports
@pytest.mark.parametrize("count", [500, 40])  # with 40 the covariances are singular
def test_tf_gan_agrees(count):
    import tensorflow_gan

    random = np.random.RandomState(0)
    mixing = random.normal(size=(64, 64))
    real = np.maximum(random.normal(size=(count, 64)) @ mixing, 0).astype(np.float32)
    generated = np.maximum(random.normal(0.3, 1.2, (count + 10, 64)) @ mixing, 0).astype(np.float32)
    expected = tensorflow_gan.eval.frechet_classifier_distance_from_activations(real, generated).numpy()
    moments = [FeatureMoments(), FeatureMoments()]
    for moment, features in zip(moments, (real, generated)):
        moment.update(features)
    got = frechet_distance(moments[0].mean, moments[0].covariance, moments[1].mean, moments[1].covariance)
    np.testing.assert_allclose(got, expected, rtol=1e-3)
