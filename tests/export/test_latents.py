"""Latents of seeds against a NumPy implementation in unsigned whole numbers, and as a distribution."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy import special, stats

from attennorm_tf.export.latents import latents_of_seeds


def oracle(seeds: list[int], truncation: list[float], latent_dim: int) -> np.ndarray:
    """The formula of the module, in Python's whole numbers and SciPy's normal distribution."""
    mask = (1 << 64) - 1

    def mix(x: int) -> int:
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    golden = 0x9E3779B97F4A7C15
    rows = []
    for seed, limit in zip(seeds, truncation):
        start = mix((seed + golden) & mask)
        hashes = [mix((start + (i + 1) * golden) & mask) for i in range(latent_dim)]
        uniform = np.array([((h >> 11) + 0.5) / 2**53 for h in hashes])
        below = special.ndtr(-limit)
        rows.append(special.ndtri(below + uniform * (1 - 2 * below)))
    return np.array(rows)


def latents(seeds: list[int], truncation: list[float], latent_dim: int) -> np.ndarray:
    return latents_of_seeds(tf.constant(seeds, tf.int64), tf.constant(truncation, tf.float32), latent_dim).numpy()


def test_they_are_those_of_the_formula() -> None:
    seeds = [0, 1, -1, 2**63 - 1, -(2**63), 123456789]
    truncation = [np.inf, 1.0, 0.01, 0.5, 10.0, 3.0]
    found = latents(seeds, truncation, 33)
    np.testing.assert_allclose(found, oracle(seeds, np.float32(truncation).tolist(), 33), rtol=2e-6, atol=1e-7)
    assert found.dtype == np.float32


def test_a_row_depends_on_its_seed_alone() -> None:
    together = latents([5, 6, 7], [1.0, 2.0, 1.0], 16)
    np.testing.assert_array_equal(latents([6], [2.0], 16), together[1:2])
    np.testing.assert_array_equal(latents([5], [1.0], 7)[0], together[0, :7])


@pytest.mark.parametrize("limit", [np.inf, 2.0, 0.5])
def test_they_are_normal_and_independent(limit: float) -> None:
    values = latents(list(range(-1000, 1000)), [limit] * 2000, 32)
    law = stats.truncnorm(-limit, limit) if np.isfinite(limit) else stats.norm
    assert stats.kstest(values.ravel(), law.cdf).pvalue > 1e-3
    assert np.abs(values).max() <= limit * (1 + 1e-6)
    # Neighbouring seeds and neighbouring places: correlations of 64,000 pairs, of standard deviation 0.004.
    for first, second in ((values[1:], values[:-1]), (values[:, 1:], values[:, :-1])):
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.02
    columns = np.corrcoef(values.T) - np.eye(32)
    assert np.abs(columns).max() < 5.5 / np.sqrt(2000)
