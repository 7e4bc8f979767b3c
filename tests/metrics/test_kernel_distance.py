"""Against loops over pairs, the closed form for one-dimensional Gaussians, and TF-GAN."""

from __future__ import annotations

import numpy as np
import pytest

from attennorm_tf.metrics import KernelDistance


def _result(reference, features, **options):
    metric = KernelDistance(reference, **options)
    metric.update_state(features)
    return metric.result()


def _kernel(x, y):
    return (sum(a * b for a, b in zip(x, y)) / len(x) + 1) ** 3


def _unbiased(reference, features):
    """The squared MMD of two sets as the definition says, pair by pair."""
    m, n = len(reference), len(features)
    within_reference = sum(_kernel(reference[i], reference[j]) for i in range(m) for j in range(m) if i != j)
    within_features = sum(_kernel(features[i], features[j]) for i in range(n) for j in range(n) if i != j)
    across = sum(_kernel(x, y) for x in reference for y in features)
    return within_reference / (m * (m - 1)) + within_features / (n * (n - 1)) - 2 * across / (m * n)


@pytest.mark.parametrize(("m", "n", "size"), [(7, 7, 3), (12, 5, 1), (2, 9, 4), (2, 2, 2)])
def test_one_block_is_the_unbiased_estimate(m, n, size):
    random = np.random.RandomState(m)
    reference, features = random.normal(size=(m, size)), random.normal(1, 2, (n, size))
    result = _result(reference, features)
    np.testing.assert_allclose(result.mean, _unbiased(reference, features), rtol=1e-12)
    assert (result.std_error, result.blocks) == (None, 1)


def test_blocks_are_estimated_separately():
    random = np.random.RandomState(0)
    reference, features = random.normal(size=(17, 3)), random.normal(1, 2, (13, 3))
    # 17 in blocks of at most 5 are 4 blocks: 4 4 4 5, beside 3 3 3 4.
    cuts, other_cuts = [4, 8, 12], [3, 6, 9]
    blocks = [_unbiased(x, y) for x, y in zip(np.split(reference, cuts), np.split(features, other_cuts))]
    result = _result(reference, features, max_block_size=5)
    np.testing.assert_allclose(result.mean, np.mean(blocks), rtol=1e-12)
    np.testing.assert_allclose(result.std_error, np.std(blocks, ddof=1) / 2, rtol=1e-12)
    assert result.blocks == 4


def test_gaussians_of_one_dimension_have_a_closed_form():
    """E (xy + 1)^3 of independent x and y is the sum of the products of their moments."""

    def moments(mean, deviation):
        return np.array([1, mean, mean**2 + deviation**2, mean**3 + 3 * mean * deviation**2])

    def expectation(p, q):
        return (np.array([1, 3, 3, 1]) * p * q).sum()

    p, q = moments(0.3, 1.0), moments(0.9, 0.7)
    expected = expectation(p, p) + expectation(q, q) - 2 * expectation(p, q)
    random = np.random.RandomState(0)
    result = _result(random.normal(0.3, 1.0, (40_000, 1)), random.normal(0.9, 0.7, (40_000, 1)), max_block_size=500)
    assert abs(result.mean - expected) < 4 * result.std_error
    assert result.std_error < 0.05 * expected


def test_no_distance_between_samples_of_one_distribution():
    random = np.random.RandomState(0)
    result = _result(random.normal(size=(4000, 8)), random.normal(size=(4000, 8)), max_block_size=200)
    assert abs(result.mean) < 4 * result.std_error


def test_examples_sorted_by_class_are_shuffled():
    random = np.random.RandomState(0)
    labels = np.repeat(np.arange(4), 100)
    reference, features = (random.normal(size=(400, 5)) + 3 * labels[:, None] for _ in range(2))
    whole = _result(reference, features, max_block_size=400).mean
    sorted_against_mixed = _result(reference, random.permutation(features), max_block_size=50).mean
    shuffled = _result(reference, features, max_block_size=50, shuffle_seed=0)
    assert sorted_against_mixed > 100 * abs(whole)
    assert abs(shuffled.mean - whole) < 4 * shuffled.std_error
    assert shuffled.mean != _result(reference, features, max_block_size=50, shuffle_seed=1).mean


def test_too_few_for_the_blocks_of_the_other_side():
    random = np.random.RandomState(0)
    reference, features = random.normal(size=(100, 3)), random.normal(1, 2, (5, 3))
    metric = KernelDistance(reference, max_block_size=10)
    metric.update_state(features)
    result = metric.result()
    expected = [_unbiased(reference[:10], features[:2]), _unbiased(reference[10:20], features[2:])]
    np.testing.assert_allclose(result.mean, np.mean(expected), rtol=1e-12)
    assert metric.warnings == ["5 examples make 2 blocks of 2 or more: 20 of the other side's 100 examples are used."]


def test_bad_arguments():
    with pytest.raises(ValueError, match="max_block_size must be at least 2, got 1"):
        KernelDistance(np.zeros((3, 2)), max_block_size=1)
    with pytest.raises(ValueError, match="reference must have at least 2 examples, got 1"):
        KernelDistance(np.zeros((1, 2)))


@pytest.mark.legacy
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of TF-GAN's own imports
@pytest.mark.parametrize(
    ("m", "n", "size", "block"), [(600, 600, 32, 100), (601, 455, 8, 64), (50, 300, 128, 1024), (99, 30, 1, 10)]
)
@pytest.mark.parametrize(("shift", "spread"), [(0.0, 1.0), (0.3, 1.2), (10.0, 0.1)])
def test_tf_gan_agrees(m, n, size, block, shift, spread):
    import tensorflow as tf
    import tensorflow_gan

    random = np.random.RandomState(m + n)
    mixing = random.normal(size=(size, size)) / np.sqrt(size)
    reference = np.maximum(random.normal(size=(m, size)) @ mixing, 0).astype(np.float32)
    features = np.maximum(random.normal(shift, spread, (n, size)) @ mixing, 0).astype(np.float32)
    mean, error = tensorflow_gan.eval.kernel_classifier_distance_and_std_from_activations(
        tf.constant(reference), tf.constant(features), max_block_size=block, dtype=tf.float64
    )
    result = _result(reference, features, max_block_size=block)
    np.testing.assert_allclose(result.mean, mean.numpy(), rtol=1e-9)
    only_mean = tensorflow_gan.eval.kernel_classifier_distance_from_activations(
        tf.constant(reference), tf.constant(features), max_block_size=block, dtype=tf.float64
    )
    np.testing.assert_allclose(result.mean, only_mean.numpy(), rtol=1e-9)
    if result.blocks > 1:
        np.testing.assert_allclose(result.std_error, error.numpy(), rtol=1e-9)
    else:
        assert np.isnan(error.numpy())
        assert result.std_error is None
    if shift:  # its own float32, where the distance is not all cancellation
        mean, error = tensorflow_gan.eval.kernel_classifier_distance_and_std_from_activations(
            tf.constant(reference), tf.constant(features), max_block_size=block
        )
        np.testing.assert_allclose(result.mean, mean.numpy(), rtol=1e-3)
