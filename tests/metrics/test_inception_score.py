"""Against known distributions, a loop over the definition, and TF-GAN."""

from __future__ import annotations

import numpy as np
import pytest

from attennorm_tf.metrics import InceptionScore


def _metric(logits, *args, **options):
    metric = InceptionScore(*args, **options)
    metric.update_state(logits)
    return metric


def _by_definition(logits):
    """The exponential of the mean divergence of each example's distribution from the mean one."""
    probabilities = [np.exp(row) / np.exp(row).sum() for row in np.asarray(logits, np.float64)]
    marginal = sum(probabilities) / len(probabilities)
    divergences = [sum(p * np.log(p / q) for p, q in zip(row, marginal)) for row in probabilities]
    return np.exp(np.mean(divergences))


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_sure_and_balanced_is_the_number_of_classes(classes):
    result = _metric(1e4 * np.eye(classes)[np.arange(2 * classes) % classes], 1).result()
    np.testing.assert_allclose(result.mean, classes, rtol=1e-12)


def test_all_alike_is_one():
    np.testing.assert_allclose(_metric(np.zeros((50, 10)), 5).result().mean, 1, rtol=1e-12)
    np.testing.assert_allclose(_metric(np.tile([3.0, -2, 0.5], (50, 1)), 1).result().mean, 1, rtol=1e-12)
    one_class = _metric(np.tile([900.0, 0, 0], (50, 1)), 1)
    assert one_class.result().mean == 1
    assert one_class.warnings == ["every example is taken for one class, 0."]


def test_unsure_by_half_has_a_closed_form():
    """Two classes, probabilities (3/4, 1/4) and (1/4, 3/4): exp(ln 2 - H(1/4))."""
    logits = np.log([[0.75, 0.25], [0.25, 0.75]] * 20)
    entropy = -0.75 * np.log(0.75) - 0.25 * np.log(0.25)
    np.testing.assert_allclose(_metric(logits, 1).result().mean, 2 * np.exp(-entropy), rtol=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1e5, -1e5])
def test_the_definition_agrees_at_any_offset_of_the_logits(offset):
    logits = np.random.RandomState(0).normal(0, 3, (2100, 7)) + offset
    result = _metric(logits, 1).result()
    np.testing.assert_allclose(result.mean, _by_definition(logits - offset), rtol=1e-9)
    assert (result.std, result.splits) == (None, 1)


def test_huge_logits_are_one_hot():
    logits = np.full((30, 3), -3e38, np.float32)
    logits[np.arange(30), np.arange(30) % 3] = 3e38
    np.testing.assert_allclose(_metric(logits, 1).result().mean, 3, rtol=1e-12)


def test_splits_are_consecutive_parts_in_the_order_given():
    logits = np.random.RandomState(0).normal(0, 2, (103, 5))
    bounds = [0, 25, 51, 77, 103]  # 103 i // 4
    scores = [_by_definition(logits[start:stop]) for start, stop in zip(bounds, bounds[1:])]
    result = _metric(logits, 4).result()
    np.testing.assert_allclose(result, (np.mean(scores), np.std(scores), 4), rtol=1e-12)


def test_examples_sorted_by_class_are_shuffled():
    logits = 50 * np.eye(5)[np.repeat(np.arange(5), 100)]
    np.testing.assert_allclose(_metric(logits, 5).result().mean, 1, rtol=1e-12)
    np.testing.assert_allclose(_metric(logits, 5, shuffle_seed=0).result().mean, 5, rtol=0.05)
    assert _metric(logits, 5, shuffle_seed=0).result() == _metric(logits, 5, shuffle_seed=0).result()


def test_few_examples_are_warned_of():
    metric = _metric(np.random.RandomState(0).normal(size=(3, 4)))
    result = metric.result()
    assert (result.mean, result.std, result.splits) == (1, 0, 3)
    assert metric.warnings[0] == "3 examples make 3 splits, not 10."
    assert metric.warnings[1].startswith("1 examples a split bound the score: at least 4, one for each class")


def test_bad_arguments():
    with pytest.raises(ValueError, match="splits must be at least 1, got 0"):
        InceptionScore(0)
    with pytest.raises(ValueError, match=r"at least 2 classes, got \(batch, 1\)"):
        _metric(np.zeros((3, 1)))
    with pytest.raises(ValueError, match="logits of example 1 are not finite"):
        _metric(np.array([[0, 1], [0, np.inf]]))


@pytest.mark.legacy
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of TF-GAN's own imports
@pytest.mark.parametrize(("count", "classes"), [(500, 10), (2000, 1008), (37, 2)])
@pytest.mark.parametrize("spread", [0.1, 3.0, 30.0])
def test_tf_gan_agrees(count, classes, spread):
    import tensorflow_gan

    logits = np.random.RandomState(count).normal(0, spread, (count, classes)).astype(np.float32)
    score = tensorflow_gan.eval.classifier_score_from_logits
    np.testing.assert_allclose(_metric(logits, 1).result().mean, score(logits).numpy(), rtol=1e-5)
    parts = [score(logits[number * count // 5 : (number + 1) * count // 5]).numpy() for number in range(5)]
    result = _metric(logits, 5).result()
    np.testing.assert_allclose(result.mean, np.mean(parts), rtol=1e-5)
    np.testing.assert_allclose(result.std, np.std(parts), rtol=1e-2, atol=1e-5)
