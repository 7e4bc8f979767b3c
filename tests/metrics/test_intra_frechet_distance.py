"""Against one Frechet distance for each class."""

from __future__ import annotations

import re

import numpy as np
import pytest

from attennorm_tf.metrics import FeatureMoments, FrechetDistance, IntraFrechetDistance

SIZE = 4


def _moments(features):
    moments = FeatureMoments()
    moments.update(features)
    return moments


def _data(counts, seed, size=SIZE):
    """Features and labels in random order; classes 3, 7, ... differ in mean and spread."""
    random = np.random.RandomState(seed)
    labels = random.permutation(np.repeat(list(counts), list(counts.values())))
    return random.normal(0.1 * labels[:, None], 1 + 0.1 * labels[:, None], (len(labels), size)), labels


def _reference(counts, size=SIZE):
    features, labels = _data(counts, seed=1, size=size)
    return {label: _moments(features[labels == label]) for label in counts}


def test_each_class_is_a_frechet_distance_of_its_own():
    reference = _reference({7: 50, 3: 40, 12: 30})
    features, labels = _data({7: 20, 3: 35, 12: 25}, seed=2)
    metric = IntraFrechetDistance(reference)
    for part in (slice(0, 11), slice(11, 80)):
        metric.update_state(features[part], labels[part].astype(np.int32))
    result = metric.result()
    expected = {}
    for label in (3, 7, 12):
        single = FrechetDistance(reference[label])
        single.update_state(features[labels == label])
        expected[label] = single.result()
    assert list(result.per_class) == [3, 7, 12]
    np.testing.assert_allclose(list(result.per_class.values()), list(expected.values()), rtol=1e-12)
    np.testing.assert_allclose(result.mean, np.mean(list(expected.values())), rtol=1e-12)
    assert (result.skipped, metric.warnings) == ({}, [])


def test_classes_that_cannot_be_compared_are_skipped_with_the_reason():
    metric = IntraFrechetDistance(_reference({0: 30, 1: 30, 2: 1, 3: 30}))
    features, labels = _data({0: 30, 1: 1, 2: 30, 9: 5}, seed=2)
    metric.update_state(features, labels)
    result = metric.result()
    assert list(result.per_class) == [0]
    assert result.mean == result.per_class[0]
    assert result.skipped == {
        1: "1 generated examples, 2 are needed",
        2: "1 reference examples, 2 are needed",
        3: "0 generated examples, 2 are needed",
        9: "no reference of this class",
    }
    assert metric.count == 66
    assert metric.warnings == [
        "4 of 5 classes are not in the mean; class 1: 1 generated examples, 2 are needed.",
        "the mean is that of one class, 0.",
    ]


def test_fewer_examples_than_features_are_warned_of():
    metric = IntraFrechetDistance(_reference({0: 30, 1: 30}, size=20))
    metric.update_state(*_data({0: 30, 1: 5}, seed=2, size=20))
    metric.result()
    assert metric.warnings == [
        "1 of 2 classes have no more examples than the 20 features, class 1 only 5: their covariances are singular, "
        "their distances unreliable."
    ]


def test_merged_classes_that_have_no_reference_are_counted():
    metrics = [IntraFrechetDistance(_reference({0: 30})) for _ in range(2)]
    for metric in metrics:
        metric.update_state(*_data({0: 10, 5: 3}, seed=2))
    metrics[0].merge_state(metrics[1])
    assert metrics[0].count == 26
    assert metrics[0].result().skipped == {5: "no reference of this class"}
    with pytest.raises(ValueError, match="references have different classes"):
        metrics[0].merge_state(IntraFrechetDistance(_reference({0: 30, 1: 30})))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(2, int), "labels must be whole numbers, one per example, (3,), got int64 (2,)"),
        (np.zeros((3, 1), int), "one per example, (3,), got int64 (3, 1)"),
        (np.zeros(3), "one per example, (3,), got float64 (3,)"),
    ],
)
def test_bad_labels(labels, message):
    metric = IntraFrechetDistance(_reference({0: 30}))
    with pytest.raises(ValueError, match=re.escape(message)):
        metric.update_state(np.zeros((3, SIZE)), labels)
    assert metric.count == 0


def test_bad_references():
    with pytest.raises(ValueError, match="features of one size, got no class with examples"):
        IntraFrechetDistance({0: FeatureMoments()})
    with pytest.raises(ValueError, match=re.escape("got features of ['3', '4'] dimensions")):
        IntraFrechetDistance({0: _moments(np.zeros((2, 3))), 1: _moments(np.zeros((2, 4)))})
    metric = IntraFrechetDistance(_reference({0: 30}))
    metric.update_state(np.zeros((3, SIZE)), np.ones(3, int))
    with pytest.raises(ValueError, match="a class with 2 examples and a reference, got none"):
        metric.result()
