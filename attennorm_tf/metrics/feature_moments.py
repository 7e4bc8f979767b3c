"""Mean and covariance of features that arrive in batches."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from attennorm_tf.metrics.feature_batch import checked_features

_logger = logging.getLogger(__name__)

_BLOCK = 1024  # examples that are summed together


class FeatureMoments:
    """Accumulates float64 mean and covariance without keeping the features.

    Examples wait until there are 1024 and are then summed as one block; blocks are combined by the pairwise update
    of Chan, Golub and LeVeque (1979). So the result is the same to the last bit for any split into batches, and
    exact up to rounding where the mean is large against the spread.

    Memory: 8 d^2 bytes (32 MiB at d = 2048), twice that while a block is added, and at most 1024 waiting examples.
    While there are fewer examples than that, only they are kept, in the type they came in: moments of a thousand
    classes with 50 examples each take 0.4 GB at d = 2048 and not 33 GB.

    Attributes:
        count: examples seen.

    Example:
        >>> moments = FeatureMoments()
        >>> moments.update(np.array([[0.0, 0.0], [2.0, 0.0]]))
        >>> moments.update(np.array([[1.0, 3.0]]))
        >>> moments.count, moments.mean.tolist(), moments.covariance.tolist()
        (3, [1.0, 1.0], [[1.0, 0.0], [0.0, 3.0]])
    """

    def __init__(self) -> None:
        self.count = 0
        self._size: int | None = None
        self._waiting: list[np.ndarray] = []
        # Of the blocks summed so far:
        self._summed = 0
        self._mean: np.ndarray | None = None
        self._scatter: np.ndarray | None = None  # sum of outer products of the deviations

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> FeatureMoments:
        """Moments whose `state` this is, bit for bit."""
        moments = cls()
        if "mean" in state:
            moments._summed = int(state["summed"])
            moments._mean, moments._scatter = np.array(state["mean"]), np.array(state["scatter"])
            moments._size = moments._mean.size
        moments.count = moments._summed
        if "waiting" in state:
            moments.update(state["waiting"])
        return moments

    def state(self) -> dict[str, np.ndarray]:
        """All that they hold, to be stored, not to be changed: few examples take no d^2 numbers.

        Returns:
            "waiting", the examples (n, d) that are not summed yet, if there are any; "summed" (), "mean" (d,) and
            "scatter" (d, d), the sum of outer products of deviations, of those that are.
        """
        state = {"waiting": np.concatenate(self._waiting)} if self._waiting else {}
        if self._mean is not None and self._scatter is not None:
            state.update(summed=np.array(self._summed), mean=self._mean, scatter=self._scatter)
        return state

    def update(self, features: Any) -> None:
        """Adds features (b, d), any float type; b may be 0.

        Raises:
            ValueError: not (b, d), another d than before, or a value is not finite.
        """
        features = checked_features(features, self._size, self.count)
        if len(features):
            self._size = features.shape[1]
            self._append(features)

    def merge(self, other: FeatureMoments) -> None:
        """Adds what `other` has seen, as if its features had been given to `update`."""
        if other._size is None:
            return
        if self._size is not None and self._size != other._size:
            raise ValueError(f"cannot merge features of {other._size} into {self._size} dimensions.")
        self._size = other._size
        waiting = list(other._waiting)  # its own list might be this one
        if other._mean is not None and other._scatter is not None:
            self.count += other._summed
            self._combine(other._summed, other._mean, other._scatter)
        for features in waiting:
            self._append(features)

    @property
    def size(self) -> int | None:
        """d, or None before the first example."""
        return self._size

    @property
    def mean(self) -> np.ndarray:
        """float64 (d,)."""
        if self._size is None:
            raise ValueError("the mean needs at least 1 example, got 0.")
        mean = np.zeros(self._size) if self._mean is None else self._mean.copy()
        if self._waiting:
            mean += (self._waiting_rows().mean(axis=0) - mean) * (1 - self._summed / self.count)
        return mean

    @property
    def covariance(self) -> np.ndarray:
        """float64 (d, d), unbiased (divided by n - 1); a warning is logged where it is singular for lack of examples.

        Raises:
            ValueError: fewer than 2 examples.
        """
        covariance = self.compute_covariance()
        if self.count <= len(covariance):
            _logger.warning(
                "covariance of %d dimensions from %d examples is singular: a Frechet distance from it is unreliable.",
                len(covariance),
                self.count,
            )
        return covariance

    def deviations(self) -> np.ndarray | None:
        """float64 A (n, d) with A^T A = the covariance where few examples were seen, otherwise None.

        Where n is below d and below 1024, this is smaller than the covariance, and what is computed from it faster
        and more accurate.
        """
        if self._mean is not None or self._size is None or not 2 <= self.count < self._size:
            return None
        rows = self._waiting_rows()
        rows -= rows.mean(axis=0)
        rows /= np.sqrt(self.count - 1)
        return rows

    def variances(self) -> np.ndarray:
        """float64 (d,), the covariance's diagonal."""
        if self._mean is None and self.count >= 2:
            return self._waiting_rows().var(axis=0, ddof=1)
        return np.diagonal(self.compute_covariance()).copy()

    def compute_covariance(self) -> np.ndarray:
        """As `covariance`, a new array, without the warning."""
        if self._size is None or self.count < 2:
            raise ValueError(f"a covariance needs at least 2 examples, got {self.count}.")
        total = FeatureMoments()
        if self._mean is not None and self._scatter is not None:
            total._combine(self._summed, self._mean, self._scatter)
        if self._waiting:
            total._sum(self._waiting_rows())
        if total._scatter is None:
            raise RuntimeError("moments hold neither sums nor waiting examples")
        total._scatter /= self.count - 1
        return total._scatter

    def _waiting_rows(self) -> np.ndarray:
        """float64, a new array."""
        return np.concatenate(self._waiting).astype(np.float64)

    def _append(self, features: np.ndarray) -> None:
        start = 0
        while start < len(features):
            room = _BLOCK - (self.count - self._summed)
            self._waiting.append(features[start : start + room].copy())  # the caller may use its array again
            self.count += len(self._waiting[-1])
            start += room
            if self.count - self._summed == _BLOCK:
                rows = self._waiting_rows()
                self._waiting.clear()
                self._sum(rows)

    def _sum(self, rows: np.ndarray) -> None:
        """Adds float64 examples, and writes over them."""
        mean = rows.mean(axis=0)
        rows -= mean
        scatter = rows.T @ rows
        if self._mean is None:
            self._summed, self._mean, self._scatter = len(rows), mean, scatter
        else:
            self._combine(len(rows), mean, scatter)

    def _combine(self, count: int, mean: np.ndarray, scatter: np.ndarray) -> None:
        if self._mean is None or self._scatter is None:
            self._summed, self._mean, self._scatter = count, mean.copy(), scatter.copy()
            return
        total = self._summed + count
        shift = mean - self._mean
        self._scatter += scatter
        outer = np.outer(shift, shift)
        outer *= self._summed * count / total
        self._scatter += outer
        self._mean = self._mean + shift * (count / total)
        self._summed = total
