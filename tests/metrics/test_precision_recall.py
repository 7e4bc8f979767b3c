"""Against loops written from the papers, closed cases and invariances."""

from __future__ import annotations

import re

import numpy as np
import pytest

from attennorm_tf.metrics import PrecisionRecall


def _result(reference, features, *neighbours):
    metric = PrecisionRecall(reference, *neighbours)
    metric.update_state(features)
    return metric.result()


def _distance(x, y):
    return np.sqrt(sum((float(a) - float(b)) ** 2 for a, b in zip(x, y)))


def _radii(examples, k):
    """Distance of each to its k-th nearest neighbour among the others."""
    return [sorted(_distance(x, y) for j, y in enumerate(examples) if j != i)[k - 1] for i, x in enumerate(examples)]


def _from_the_papers(real, generated, k=3, k_density=5):
    """Equation 2 of Kynkaanniemi et al. both ways; equations 4 and 5 of Naeem et al."""

    def share_inside(points, centers):
        radii = _radii(centers, k)
        inside = [any(_distance(p, c) <= r for c, r in zip(centers, radii)) for p in points]
        return sum(inside) / len(points)

    radii = _radii(real, k_density)
    hits = [[_distance(g, r) <= radius for g in generated] for r, radius in zip(real, radii)]
    return (
        share_inside(generated, real),
        share_inside(real, generated),
        sum(map(sum, hits)) / (k_density * len(generated)),
        sum(map(any, hits)) / len(real),
    )


@pytest.mark.parametrize(("m", "n", "size"), [(40, 40, 2), (30, 51, 5), (45, 20, 1), (20, 20, 30)])
@pytest.mark.parametrize("neighbours", [(3, 5), (1, 2), (6, 4)])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_loops_agree(m, n, size, neighbours, offset):
    random = np.random.RandomState(m + n)
    real = offset + random.normal(size=(m, size))
    generated = offset + random.normal(0.4, 0.7, (n, size))
    np.testing.assert_allclose(
        _result(real, generated, *neighbours), _from_the_papers(real, generated, *neighbours), rtol=1e-12
    )


def test_pages_are_joined(monkeypatch):
    for module in ("feature_bank", "precision_recall"):
        monkeypatch.setattr(f"attennorm_tf.metrics.{module}.PAGE_ROWS", 7)
    random = np.random.RandomState(0)
    real, generated = random.normal(size=(45, 3)), random.normal(0.4, 0.7, (38, 3))
    np.testing.assert_allclose(_result(real, generated), _from_the_papers(real, generated), rtol=1e-12)


def test_identical_sets_cover_each_other():
    features = np.random.RandomState(0).normal(50, 1, (1100, 20)).astype(np.float32)
    result = _result(features, features)
    assert (result.precision, result.recall, result.coverage) == (1, 1, 1)
    assert result.density >= 1  # each is in its own ball, and in those it is a neighbour in
    shuffled = np.random.RandomState(1).permutation(features)
    assert _result(features, shuffled) == result


def test_identical_sets_of_repeated_examples_have_balls_of_radius_0():
    features = np.repeat(np.random.RandomState(0).normal(50, 1, (9, 40)).astype(np.float32), 6, axis=0)
    metric = PrecisionRecall(features)
    metric.update_state(features[::-1])
    result = metric.result()
    assert (result.precision, result.recall, result.coverage) == (1, 1, 1)
    assert result.density == 6 / 5
    assert metric.warnings == [
        "54 generated examples have 3 others with the same features.",
        "54 reference examples have 3 others with the same features.",
    ]


def test_disjoint_sets():
    random = np.random.RandomState(0)
    assert _result(random.normal(size=(30, 4)), random.normal(100, 1, (40, 4))) == (0, 0, 0, 0)


def test_one_mode_of_two():
    """Generated examples of half the distribution look real and miss half of it."""
    random = np.random.RandomState(0)
    real = np.concatenate([random.normal(size=(500, 4)), random.normal(50, 1, (500, 4))])
    result = _result(real, random.normal(size=(1000, 4)))
    assert result.precision > 0.9
    assert 0.4 < result.recall <= 0.5
    assert 0.4 < result.coverage <= 0.5
    # One image over and over looks real too, and shows nothing.
    collapsed = _result(real, np.zeros((1000, 4)))
    assert (collapsed.precision, collapsed.recall) == (1, 0)
    assert collapsed.coverage < 0.05


def test_density_and_coverage_of_one_distribution():
    """Naeem et al., section 3.2: density 1 is expected, and coverage 1 - 2^-k for many examples on both sides."""
    random = np.random.RandomState(0)
    result = _result(random.normal(size=(1500, 8)), random.normal(size=(1500, 8)))
    np.testing.assert_allclose(result.density, 1, atol=0.1)
    np.testing.assert_allclose(result.coverage, 1 - 2**-5, atol=0.02)


def test_neither_order_nor_a_rigid_motion_matters():
    random = np.random.RandomState(0)
    real, generated = random.normal(size=(60, 5)), random.normal(0.4, 0.7, (50, 5))
    expected = _result(real, generated)
    assert _result(random.permutation(real), random.permutation(generated)) == expected
    rotation, _ = np.linalg.qr(random.normal(size=(5, 5)))
    assert _result(7 * real @ rotation + 3, 7 * generated @ rotation + 3) == expected


def test_the_references_own_distances_are_kept(monkeypatch):
    random = np.random.RandomState(0)
    real, generated = random.normal(size=(60, 5)), random.normal(0.4, 0.7, (50, 5))
    metric = PrecisionRecall(real)
    metric.update_state(random.normal(size=(20, 5)))
    metric.result()
    metric.reset_state()
    metric.update_state(generated)
    calls = []
    original = PrecisionRecall._neighbour_squares
    monkeypatch.setattr(
        PrecisionRecall, "_neighbour_squares", lambda self, bank: calls.append(len(bank)) or original(self, bank)
    )
    assert metric.result() == _result(real, generated)
    assert calls == [50, 60, 50]  # the metric's own, then those of the one made anew


def test_too_few_examples():
    with pytest.raises(ValueError, match="reference must have at least 6 examples, got 5"):
        PrecisionRecall(np.zeros((5, 2)))
    metric = PrecisionRecall(np.zeros((4, 2)), 3, 2)
    metric.update_state(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="PrecisionRecall needs at least 4 examples, got 3"):
        metric.result()
    for neighbours, name in (((0, 5), "neighbours"), ((3, 0), "density_neighbours")):
        with pytest.raises(ValueError, match=re.escape(f"{name} must be at least 1, got 0")):
            PrecisionRecall(np.zeros((9, 2)), *neighbours)
