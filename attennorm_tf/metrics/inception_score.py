"""Inception Score: examples of one clear class each, of many classes together."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from attennorm_tf.metrics.feature_bank import FeatureBank
from attennorm_tf.metrics.streaming_metric import StreamingMetric


class InceptionScoreResult(NamedTuple):
    """The score.

    Attributes:
        mean: over the splits, in [1, number of classes].
        std: over the splits (of them, not of an estimate of more); None with one split.
        splits: how many there were.
    """

    mean: float
    std: float | None
    splits: int


class InceptionScore(StreamingMetric):
    """exp(E[KL(p(y|x) || p(y))]) of a classifier's logits (Salimans et al., 2016), per split, as TF-GAN computes it.

    Logits are kept as they come, since which examples make a split depends on how many there will be: 4 n K bytes
    (192 MiB for 50,000 examples of 1008 classes, 222 MiB while their score is computed, in a second).

    A deviation from the original code: softmax and sums are float64 and stable for any finite logits. Splits are
    consecutive parts, as there; with a `shuffle_seed` of parts drawn at random, because in examples sorted by class
    every part would lack classes.

    Args:
        splits: parts that are scored separately; more than there are examples: as many as there are.
        shuffle_seed: of the order; None: as the examples came.

    Raises:
        ValueError: splits below 1.

    Example:
        >>> metric = InceptionScore(splits=1)
        >>> metric.update_state(1000 * np.eye(4))
        >>> metric.result().mean
        4.0
    """

    def __init__(self, splits: int = 10, *, shuffle_seed: int | None = None) -> None:
        super().__init__()
        if splits < 1:
            raise ValueError(f"splits must be at least 1, got {splits}.")
        self._splits = splits
        self._shuffle_seed = shuffle_seed
        self._bank = FeatureBank("logits")

    @property
    def count(self) -> int:
        """Examples seen."""
        return len(self._bank)

    def update_state(self, logits: Any) -> None:
        """Adds logits (b, K), K at least 2; b may be 0.

        Raises:
            ValueError: not (b, K), fewer than 2 classes, or a value is not finite.
        """
        if np.ndim(logits) == 2 and np.shape(logits)[1] == 1:
            raise ValueError("logits must be of at least 2 classes, got (batch, 1).")
        self._bank.update_state(logits)

    def result(self) -> InceptionScoreResult:
        """The score.

        Raises:
            ValueError: no examples.
        """
        if not self.count:
            raise ValueError("an Inception Score needs at least 1 example, got 0.")
        splits = min(self._splits, self.count)
        order = np.arange(self.count)
        if self._shuffle_seed is not None:
            order = np.random.RandomState(self._shuffle_seed).permutation(self.count)
        # Part i as in the original code, from i n // splits to (i + 1) n // splits.
        bounds = [number * self.count // splits for number in range(splits + 1)]
        scores: list[float] = []
        seen: set[int] = set()
        for start, stop in zip(bounds, bounds[1:]):
            score, classes = self._score(order[start:stop])
            scores.append(score)
            seen |= classes
        self._warn(self._doubts(splits, seen))
        return InceptionScoreResult(float(np.mean(scores)), float(np.std(scores)) if splits > 1 else None, splits)

    def reset_state(self) -> None:
        self._bank.reset_state()

    def merge_state(self, other: InceptionScore) -> None:
        """Adds another one's examples after those seen."""
        self._check_same_kind(other)
        self._bank.merge_state(other._bank)

    def protocol(self) -> dict[str, Any]:
        return {"splits": self._splits, "shuffle_seed": self._shuffle_seed, "precision": "float64"}

    def _score(self, indices: np.ndarray) -> tuple[float, set[int]]:
        """exp(mean of sum p log p - sum q log q), and the classes that are any example's likeliest."""
        marginal, negative_entropy = np.zeros(self._bank.size or 0), 0.0
        classes: set[int] = set()
        for start in range(0, len(indices), 1024):
            logits = self._bank.take(indices[start : start + 1024])
            classes.update(map(int, np.unique(logits.argmax(axis=1))))
            logits -= logits.max(axis=1, keepdims=True)
            probabilities = np.exp(logits)
            totals = probabilities.sum(axis=1, keepdims=True)
            probabilities /= totals
            logits -= np.log(totals)
            negative_entropy += float((probabilities * logits).sum())
            marginal += probabilities.sum(axis=0)
        marginal /= len(indices)
        present = marginal[marginal > 0]  # 0 log 0 = 0
        return float(
            np.exp(max(0.0, negative_entropy / len(indices) - float((present * np.log(present)).sum())))
        ), classes

    def _doubts(self, splits: int, classes: set[int]) -> list[str]:
        reasons = []
        if splits < self._splits:
            reasons.append(f"{self.count} examples make {splits} splits, not {self._splits}.")
        num_classes = self._bank.size or 0
        if self.count // splits < num_classes:
            reasons.append(
                f"{self.count // splits} examples a split bound the score: at least {num_classes}, one for each class, "
                "are needed for its full range."
            )
        if len(classes) == 1:
            reasons.append(f"every example is taken for one class, {next(iter(classes))}.")
        return reasons
