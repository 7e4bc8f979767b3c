"""Mean and covariance of features that arrive in batches."""

from __future__ import annotations

import logging

import numpy as np

_logger = logging.getLogger(__name__)


class FeatureMoments:
    """Accumulates float64 mean and covariance without keeping the features.

    Batches are combined by the pairwise update of Chan, Golub and LeVeque (1979), exact for any split into
    batches up to rounding, also where the mean is large against the spread.

    Example:
        >>> moments = FeatureMoments()
        >>> moments.update(np.array([[0.0, 0.0], [2.0, 0.0]]))
        >>> moments.update(np.array([[1.0, 3.0]]))
        >>> moments.count, moments.mean.tolist(), moments.covariance.tolist()
        (3, [1.0, 1.0], [[1.0, 0.0], [0.0, 3.0]])
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean: np.ndarray | None = None
        self._scatter: np.ndarray | None = None  # sum of outer products of the deviations

    def update(self, features: np.ndarray) -> None:
        """Adds features (b, d), any float type; b may be 0.

        Raises:
            ValueError: not (b, d), another d than before, or a value is not finite.
        """
        features = np.asarray(features, np.float64)
        if features.ndim != 2 or (self._mean is not None and features.shape[1] != self._mean.size):
            expected = "d" if self._mean is None else self._mean.size
            raise ValueError(f"features must be (batch, {expected}), got {features.shape}.")
        if not np.isfinite(features).all():
            row = int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0])
            raise ValueError(f"features of example {self.count + row} are not finite.")
        if len(features):
            mean = features.mean(axis=0)
            deviations = features - mean
            self._combine(len(features), mean, deviations.T @ deviations)

    def merge(self, other: FeatureMoments) -> None:
        """Adds what `other` has seen, as if its features had been given to `update`."""
        if other._mean is None or other._scatter is None:
            return
        if self._mean is not None and self._mean.size != other._mean.size:
            raise ValueError(f"cannot merge features of {other._mean.size} into {self._mean.size} dimensions.")
        self._combine(other.count, other._mean, other._scatter)

    @property
    def mean(self) -> np.ndarray:
        """float64 (d,)."""
        if self._mean is None:
            raise ValueError("the mean needs at least 1 example, got 0.")
        return self._mean.copy()

    @property
    def covariance(self) -> np.ndarray:
        """float64 (d, d), unbiased (divided by n - 1)."""
        if self._mean is None or self._scatter is None or self.count < 2:
            raise ValueError(f"a covariance needs at least 2 examples, got {self.count}.")
        if self.count <= self._mean.size:
            _logger.warning(
                "covariance of %d dimensions from %d examples is singular: a Frechet distance from it is unreliable.",
                self._mean.size,
                self.count,
            )
        return self._scatter / (self.count - 1)

    def _combine(self, count: int, mean: np.ndarray, scatter: np.ndarray) -> None:
        if self._mean is None or self._scatter is None:
            self.count, self._mean, self._scatter = count, mean.copy(), scatter.copy()
            return
        total = self.count + count
        shift = mean - self._mean
        self._scatter = self._scatter + scatter + np.outer(shift, shift) * (self.count * count / total)
        self._mean = self._mean + shift * (count / total)
        self.count = total
