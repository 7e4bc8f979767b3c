"""What the metrics of generated images have in common."""

from __future__ import annotations

import abc
import logging
from typing import Any

_logger = logging.getLogger(__name__)


class StreamingMetric(abc.ABC):
    """A score of examples that arrive in batches, shaped like `keras.metrics.Metric`, in NumPy on the host.

    Every one has `update_state`, `result`, `reset_state` and `merge_state`; the result does not depend on how the
    examples were split into batches. Input that leaves a score without meaning raises ValueError; input that makes it
    doubtful gives the score and says so in `warnings` and the log. No score is ever NaN.
    """

    def __init__(self) -> None:
        self._warnings: list[str] = []

    @property
    def warnings(self) -> list[str]:
        """Why the last `result()` is to be doubted, one sentence each; empty where it is not."""
        return list(self._warnings)

    @abc.abstractmethod
    def reset_state(self) -> None:
        """Forgets all examples; the reference stays."""

    @abc.abstractmethod
    def protocol(self) -> dict[str, Any]:
        """What a result depends on besides the examples, as JSON values."""

    def _warn(self, reasons: list[str]) -> None:
        self._warnings = reasons
        for reason in reasons:
            _logger.warning("%s: %s", type(self).__name__, reason)

    def _check_same_kind(self, other: object) -> None:
        if type(other) is not type(self):
            raise ValueError(f"cannot merge {type(other).__name__} into {type(self).__name__}.")
        if other is self:
            raise ValueError(f"cannot merge a {type(self).__name__} into itself: its examples would count twice.")
