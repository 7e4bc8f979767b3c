"""Frechet distance between two Gaussians, and of features to a reference: the formula behind FID."""

from __future__ import annotations

from typing import Any

import numpy as np

from attennorm_tf.metrics.feature_batch import checked_features
from attennorm_tf.metrics.feature_moments import FeatureMoments
from attennorm_tf.metrics.streaming_metric import StreamingMetric


def frechet_distance(mean1: np.ndarray, covariance1: np.ndarray, mean2: np.ndarray, covariance2: np.ndarray) -> float:
    """|mean1 - mean2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), in float64.

    tr (C1 C2)^(1/2) is the sum of the square roots of the eigenvalues of C1^(1/2) C2 C1^(1/2), a symmetric
    matrix: two symmetric eigendecompositions and no complex matrix square root, also where covariances are
    singular.

    Args:
        mean1: (d,).
        covariance1: (d, d), symmetric, positive semidefinite.
        mean2: (d,).
        covariance2: (d, d), likewise.

    Returns:
        The (squared) distance, 0 or more.

    Raises:
        ValueError: shapes do not fit, a value is not finite, or a covariance is not symmetric.

    Example:
        >>> frechet_distance(np.zeros(2), np.eye(2), np.array([3.0, 4.0]), 4 * np.eye(2))
        27.0
    """
    mean1, mean2 = np.asarray(mean1, np.float64), np.asarray(mean2, np.float64)
    covariance1, covariance2 = np.asarray(covariance1, np.float64), np.asarray(covariance2, np.float64)
    for number, mean, covariance in ((1, mean1, covariance1), (2, mean2, covariance2)):
        if mean.ndim != 1 or covariance.shape != (mean.size, mean.size):
            raise ValueError(
                f"mean{number} must be (d,) and covariance{number} (d, d), got {mean.shape} and {covariance.shape}."
            )
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            raise ValueError(f"mean{number} or covariance{number} holds a value that is not finite.")
        if not np.allclose(covariance, covariance.T, rtol=1e-6, atol=1e-9 * (1 + np.abs(covariance).max())):
            raise ValueError(f"covariance{number} is not symmetric.")
    if mean1.shape != mean2.shape:
        raise ValueError(f"mean1 and mean2 must have one length, got {mean1.size} and {mean2.size}.")
    values, vectors = np.linalg.eigh(covariance1)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    product = root @ covariance2 @ root
    # Rounding leaves tiny negative eigenvalues where the exact ones are 0.
    trace_of_root = np.sqrt(np.maximum(np.linalg.eigvalsh((product + product.T) / 2), 0.0)).sum()
    distance = np.square(mean1 - mean2).sum() + np.trace(covariance1) + np.trace(covariance2) - 2 * trace_of_root
    return max(0.0, float(distance))


def distance_of_moments(first: FeatureMoments, second: FeatureMoments) -> float:
    """`frechet_distance` of what two moments describe, each of at least 2 examples and of the same d.

    Where few examples were seen (n below d and below 1024), the covariance is A^T A with A (n, d), and
    tr (C1 C2)^(1/2) is the sum of the square roots of the eigenvalues of A C2 A^T, only (n, n); where few were seen
    on both sides, the sum of the singular values of A1 A2^T. That is faster, and fewer eigenvalues are 0 but for
    rounding.
    """
    if first.deviations() is None:
        first, second = second, first
    rows, other_rows = first.deviations(), second.deviations()
    if rows is None:
        return frechet_distance(first.mean, first.compute_covariance(), second.mean, second.compute_covariance())
    if other_rows is None:
        product = rows @ second.compute_covariance() @ rows.T
        trace_of_root = np.sqrt(np.maximum(np.linalg.eigvalsh((product + product.T) / 2), 0.0)).sum()
    else:
        trace_of_root = np.linalg.svd(rows @ other_rows.T, compute_uv=False).sum()
    traces = first.variances().sum() + second.variances().sum()
    return max(0.0, float(np.square(first.mean - second.mean).sum() + traces - 2 * trace_of_root))


class FrechetDistance(StreamingMetric):
    """Frechet distance of features to those of a reference (Heusel et al., 2017): FID where Inception made them.

    d^2 = |m - m_r|^2 + tr(C + C_r - 2 (C C_r)^(1/2)) with unbiased covariances, as TF-GAN computes it. It is biased:
    only scores of equally many examples compare.

    Memory: that of the two moments, and at d = 2048 it peaks at 337 MiB in all while the result is computed, for any
    number of examples. Time: 20 s for adding 50,000 of them and 30 s for the result, on two cores with other work.

    Args:
        reference: of at least 2 examples; read, never changed.

    Raises:
        ValueError: too few examples behind the reference.

    Example:
        >>> reference = FeatureMoments()
        >>> reference.update(np.array([[0.0], [2.0]]))
        >>> metric = FrechetDistance(reference)
        >>> metric.update_state(np.array([[5.0], [7.0]]))
        >>> metric.result(), metric.warnings
        (25.0, [])
    """

    def __init__(self, reference: FeatureMoments) -> None:
        super().__init__()
        if reference.count < 2:
            raise ValueError(f"reference must have at least 2 examples, got {reference.count}.")
        self._reference = reference
        self._moments = FeatureMoments()

    @property
    def count(self) -> int:
        """Examples seen."""
        return self._moments.count

    def update_state(self, features: Any) -> None:
        """Adds features (b, d), d as the reference's; b may be 0.

        Raises:
            ValueError: not (b, d), or a value is not finite.
        """
        self._moments.update(checked_features(features, self._reference.size, self.count))

    def result(self) -> float:
        """The distance, 0 or more.

        Raises:
            ValueError: fewer than 2 examples.
        """
        if self.count < 2:
            raise ValueError(f"a Frechet distance needs at least 2 examples, got {self.count}.")
        self._warn(_doubts(self._moments, self._reference))
        return distance_of_moments(self._moments, self._reference)

    def reset_state(self) -> None:
        self._moments = FeatureMoments()

    def merge_state(self, other: FrechetDistance) -> None:
        """Adds the examples of a metric with the same reference."""
        self._check_same_kind(other)
        self._moments.merge(other._moments)

    def protocol(self) -> dict[str, Any]:
        return {"covariance": "unbiased", "precision": "float64", "reference_count": self._reference.count}


def _doubts(moments: FeatureMoments, reference: FeatureMoments) -> list[str]:
    """Why the distance says less than it seems to."""
    reasons = [
        f"{of.count} {name} examples of {of.size} features: their covariance is singular, the distance unreliable."
        for name, of in (("generated", moments), ("reference", reference))
        if of.size is not None and of.count <= of.size
    ]
    constant, varies = constant_features(moments), ~constant_features(reference)
    if constant.all():
        reasons.append("all generated examples have the same features.")
    elif (constant & varies).any():
        reasons.append(
            f"{int((constant & varies).sum())} of {constant.size} features are constant over the generated examples "
            "but not over the reference."
        )
    if not varies.any():
        reasons.append("all reference examples have the same features.")
    return reasons


def constant_features(moments: FeatureMoments) -> np.ndarray:
    """Features whose spread is but rounding, bool (d,)."""
    return moments.variances() <= np.square(1e-12 * moments.mean)
