"""Rows in, the same rows out; and metrics that share a bank."""

from __future__ import annotations

import re

import numpy as np
import pytest

from attennorm_tf.metrics import FeatureBank, KernelDistance, PrecisionRecall


def _rows(count, size=3):
    return np.random.RandomState(count).normal(size=(count, size)).astype(np.float32)


@pytest.mark.parametrize("splits", [[], [1], [1000, 1024, 1025], [1024, 2048], [5, 5, 1500]])
def test_rows_come_back(splits):
    rows = _rows(2500)
    bank = FeatureBank()
    for batch in np.split(rows, splits):
        bank.update_state(batch)
    assert len(bank) == 2500
    assert bank.rows(1000, 2100).dtype == np.float64
    np.testing.assert_array_equal(bank.rows(0, 2500), rows)
    np.testing.assert_array_equal(np.concatenate([bank.page(n) for n in range(bank.num_pages())]), rows)
    chosen = np.random.RandomState(0).permutation(2500)[:77]
    np.testing.assert_array_equal(bank.take(chosen), rows[chosen])
    np.testing.assert_allclose(bank.mean(), rows.mean(axis=0, dtype=np.float64), rtol=1e-9, atol=1e-15)


def test_a_view_shares_memory_and_never_writes_into_it():
    rows = _rows(1500)
    bank = FeatureBank.view(rows)
    assert np.shares_memory(bank._pages[1], rows)
    kept = rows.copy()
    bank.update_state(_rows(700))
    np.testing.assert_array_equal(rows, kept)
    np.testing.assert_array_equal(bank.rows(0, 2200), np.concatenate([rows, _rows(700)]))


def test_equal_rows_are_noticed_on_any_page():
    bank = FeatureBank()
    bank.update_state(np.ones((3000, 2)))
    assert bank.all_equal()
    bank.update_state(np.array([[1.0, 2.0]]))
    assert not bank.all_equal()


def test_bad_banks():
    with pytest.raises(ValueError, match=re.escape("features must be (n, d), got (3,)")):
        FeatureBank.view(np.zeros(3))
    rows = np.zeros((3000, 2))
    rows[2000, 1] = np.nan
    with pytest.raises(ValueError, match="reference of example 2000 are not finite"):
        FeatureBank.view(rows, "reference")
    bank = FeatureBank.view(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="into itself"):
        bank.merge_state(bank)
    with pytest.raises(ValueError, match="cannot merge features of 4 into 2 dimensions"):
        bank.merge_state(FeatureBank.view(np.zeros((1, 4))))
    with pytest.raises(ValueError, match="no features yet"):
        FeatureBank().rows(0, 1)


def test_metrics_share_a_bank():
    reference, features = _rows(60), _rows(50)
    bank = FeatureBank()
    shared = [KernelDistance(reference, bank=bank), PrecisionRecall(reference, bank=bank)]
    alone = [KernelDistance(reference), PrecisionRecall(reference)]
    bank.update_state(features)
    for metric, other in zip(shared, alone):
        with pytest.raises(ValueError, match="given to the bank, once"):
            metric.update_state(features)
        other.update_state(features)
        assert metric.result() == other.result()
        with pytest.raises(ValueError, match="shared banks are merged"):
            metric.merge_state(other)
    other_size = FeatureBank()
    other_size.update_state(_rows(50, size=4))
    for metric in (KernelDistance(reference, bank=other_size), PrecisionRecall(reference, bank=other_size)):
        with pytest.raises(ValueError, match="must have the 3 dimensions of the reference's, the bank's have 4"):
            metric.result()
