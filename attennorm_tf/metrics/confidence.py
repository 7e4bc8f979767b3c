"""Means with confidence intervals."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class MeanInterval(NamedTuple):
    """A mean and the ends of its interval, which are None where one value says nothing of the spread."""

    mean: float
    low: float | None
    high: float | None


def mean_interval(values: Sequence[float] | np.ndarray, confidence: float = 0.95) -> MeanInterval:
    """The mean of independent values with Student's t interval: nothing random, and honest for few values.

    Args:
        values: (n,), n at least 1, finite.
        confidence: in (0, 1).

    Returns:
        mean -+ t s / sqrt(n), with s the sample's standard deviation and t the quantile for n - 1.

    Raises:
        ValueError: no values, one that is not finite, or a confidence outside (0, 1).

    Example:
        >>> [round(number, 3) for number in mean_interval([1.0, 2.0, 3.0])]
        [2.0, -0.484, 4.484]
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"values must be one or more finite numbers, got {values}.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}.")
    mean = float(values.mean())
    if values.size == 1:
        return MeanInterval(mean, None, None)
    reach = _student_quantile(confidence, values.size - 1) * float(values.std(ddof=1)) / math.sqrt(values.size)
    return MeanInterval(mean, mean - reach, mean + reach)


@functools.cache
def _student_quantile(confidence: float, freedom: int) -> float:
    """The t with P(|T| <= t) = confidence, to double precision: bisection of an angle on the closed form."""
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        if _student_probability(middle, freedom) < confidence:
            low = middle
        else:
            high = middle
    return math.sqrt(freedom) * math.tan((low + high) / 2)


def _student_probability(angle: float, freedom: int) -> float:
    """P(|T| <= sqrt(freedom) tan(angle)), a finite sum (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    cosine, sine = math.cos(angle), math.sin(angle)
    # The sum's terms: cos^1 or cos^0, then each times cos^2 j / (j + 1), in steps of 2.
    steps = np.arange(2 if freedom % 2 else 1, freedom - 2, 2)
    factors = cosine**2 * steps / (steps + 1)
    total = 1.0 + float(np.cumprod(factors).sum())
    if freedom % 2 == 0:
        return sine * total
    return 2 / math.pi * (angle + (sine * cosine * total if freedom > 1 else 0.0))
