"""A metric that compares every example with every other, so that all are kept."""

from __future__ import annotations

from typing import Any

import numpy as np

from attennorm_tf.metrics.feature_bank import FeatureBank
from attennorm_tf.metrics.feature_batch import checked_features
from attennorm_tf.metrics.streaming_metric import StreamingMetric


class BankMetric(StreamingMetric):
    """Keeps the features of generated examples beside those of a reference.

    Args:
        reference: (m, d), float32 or float64, which is not copied, or a bank.
        bank: where the features are kept, so that several metrics share the memory: whoever made it gives it the
            features, once, and `update_state` of the metrics is not called. None: a bank of its own.
        fewest: examples that the reference must have.

    Raises:
        ValueError: reference is not (m, d), has too few examples, or a value that is not finite.
    """

    def __init__(self, reference: np.ndarray | FeatureBank, bank: FeatureBank | None, fewest: int) -> None:
        super().__init__()
        self._reference = reference if isinstance(reference, FeatureBank) else FeatureBank.view(reference, "reference")
        if len(self._reference) < fewest:
            raise ValueError(f"reference must have at least {fewest} examples, got {len(self._reference)}.")
        self._shares_bank = bank is not None
        self._bank = FeatureBank() if bank is None else bank

    @property
    def count(self) -> int:
        """Examples seen."""
        return len(self._bank)

    def update_state(self, features: Any) -> None:
        """Adds features (b, d), d as the reference's; b may be 0.

        Raises:
            ValueError: not (b, d), a value is not finite, or the bank is a shared one.
        """
        if self._shares_bank:
            raise ValueError("features of a shared bank are given to the bank, once, and not to each metric.")
        self._bank.update_state(checked_features(features, self._reference.size, self.count))

    def reset_state(self) -> None:
        self._bank.reset_state()

    def merge_state(self, other: BankMetric) -> None:
        """Adds the examples of a metric with the same reference, after those seen.

        Raises:
            ValueError: another kind of metric, or the bank is a shared one.
        """
        self._check_same_kind(other)
        if self._shares_bank:
            raise ValueError("shared banks are merged, once, and not each metric.")
        self._bank.merge_state(other._bank)

    def _check_examples(self, fewest: int) -> None:
        """Raises ValueError where there is too little for a result, or a shared bank holds other features."""
        if self.count < fewest:
            raise ValueError(f"{type(self).__name__} needs at least {fewest} examples, got {self.count}.")
        if self._bank.size != self._reference.size:
            raise ValueError(
                f"features must have the {self._reference.size} dimensions of the reference's, the bank's have "
                f"{self._bank.size}."
            )

    def _doubts(self) -> list[str]:
        sides = (("generated", self._bank), ("reference", self._reference))
        return [f"all {name} examples have the same features." for name, bank in sides if bank.all_equal()]
