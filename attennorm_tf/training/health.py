"""Warnings while there is still time: conditions that a log shows when training diverges, collapses or stands still."""

from __future__ import annotations

import abc
import logging
import math
import statistics
from collections import deque
from collections.abc import Mapping, Sequence

logger = logging.getLogger(__name__)


class Condition(abc.ABC):
    """Something unhealthy that one value of the log tells of.

    Args:
        metric: the value's name; nothing is concluded from a line without it, or where it is NaN.
        advice: what it means and what to do, behind "<metric> <what it does>: ".
    """

    def __init__(self, metric: str, advice: str):
        self.metric = metric
        self.advice = advice

    @abc.abstractmethod
    def found(self, step: int, value: float) -> str | None:
        """What the value does that it should not, or None; called with every value in turn."""


class HealthWatch:
    """Warns once of each condition, and again only after it was gone.

    What it has seen is no part of a checkpoint: a run that goes on looks anew.

    Args:
        conditions: to look for.
    """

    def __init__(self, conditions: Sequence[Condition]):
        self._conditions = list(conditions)
        self._warned: set[int] = set()

    def look(self, step: int, values: Mapping[str, float]) -> None:
        """Looks at what goes into the log at a step."""
        for index, condition in enumerate(self._conditions):
            value = values.get(condition.metric, math.nan)
            if math.isnan(value):
                continue
            found = condition.found(step, value)
            if found is None:
                self._warned.discard(index)
            elif index not in self._warned:
                self._warned.add(index)
                logger.warning("step %d: %s %s: %s", step, condition.metric, found, condition.advice)


class StaysBelow(Condition):
    """The value is below a threshold in `lines` log lines in a row, over at least `steps` steps.

    Args:
        metric: see `Condition`.
        advice: see `Condition`.
        threshold: what is below is too small.
        lines: how many.
        steps: from the first of them to the last.
    """

    def __init__(self, metric: str, advice: str, threshold: float, lines: int = 3, steps: int = 200):
        super().__init__(metric, advice)
        self._threshold, self._least_lines, self._least_steps = threshold, lines, steps
        self._since: int | None = None
        self._lines = 0

    def found(self, step: int, value: float) -> str | None:
        if value >= self._threshold:
            self._since, self._lines = None, 0
            return None
        self._since = step if self._since is None else self._since
        self._lines += 1
        if self._lines < self._least_lines or step - self._since < self._least_steps:
            return None
        return f"has been below {self._threshold:g} since step {self._since} (now {value:.3g})"


class Explodes(Condition):
    """The value's magnitude is far above its median in the lines before.

    Args:
        metric: see `Condition`.
        advice: see `Condition`.
        factor: how far.
        floor: the least median that counts: a value near 0 may well grow.
    """

    _FEWEST, _MOST = 5, 20

    def __init__(self, metric: str, advice: str, factor: float = 20.0, floor: float = 1.0):
        super().__init__(metric, advice)
        self._factor, self._floor = factor, floor
        self._before: deque[float] = deque(maxlen=self._MOST)

    def found(self, step: int, value: float) -> str | None:
        if len(self._before) >= self._FEWEST:
            usual = max(statistics.median(self._before), self._floor)
            if abs(value) > self._factor * usual:
                return f"is {value:.3g}, usually it was {usual:.3g}"
        self._before.append(abs(value))
        return None


class Falls(Condition):
    """The value has lost more than half of the best that it had reached, in two lines in a row.

    Args:
        metric: see `Condition`.
        advice: see `Condition`.
        least: what the best must have reached to be lost.
    """

    def __init__(self, metric: str, advice: str, least: float = 0.3):
        super().__init__(metric, advice)
        self._least = least
        self._best, self._best_step = -math.inf, 0
        self._low = 0

    def found(self, step: int, value: float) -> str | None:
        if value > self._best:
            self._best, self._best_step = value, step
        self._low = self._low + 1 if self._best >= self._least and value < 0.5 * self._best else 0
        return f"fell to {value:.3g} from {self._best:.3g} at step {self._best_step}" if self._low >= 2 else None


class Stalls(Condition):
    """The value has had no new least for `patience` values in a row.

    Args:
        metric: see `Condition`.
        advice: see `Condition`.
        patience: how many.
        progress: share of the least by which a value must be below it to be a new one.
    """

    def __init__(self, metric: str, advice: str, patience: int, progress: float = 1e-3):
        super().__init__(metric, advice)
        self._patience, self._progress = patience, progress
        self._least, self._least_step = math.inf, 0
        self._stale = 0

    def found(self, step: int, value: float) -> str | None:
        if value < self._least * (1 - self._progress):
            self._least, self._least_step, self._stale = value, step, 0
            return None
        self._stale += 1
        if self._stale < self._patience:
            return None
        return f"has not improved for {self._stale} validations (least {self._least:.4g} at step {self._least_step})"


class Rises(Condition):
    """The value is far above the least that it had.

    Args:
        metric: see `Condition`.
        advice: see `Condition`.
        factor: how far.
    """

    def __init__(self, metric: str, advice: str, factor: float):
        super().__init__(metric, advice)
        self._factor = factor
        self._least, self._least_step = math.inf, 0

    def found(self, step: int, value: float) -> str | None:
        if value < self._least:
            self._least, self._least_step = value, step
        if value <= self._factor * self._least:
            return None
        return f"rose to {value:.4g} from {self._least:.4g} at step {self._least_step}"
