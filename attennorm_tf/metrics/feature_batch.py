"""The check that every streaming metric makes of what it is given."""

from __future__ import annotations

from typing import Any

import numpy as np


def checked_features(features: Any, size: int | None, seen: int, name: str = "features") -> np.ndarray:
    """A batch as a float32 or float64 array, which may share memory with what was given.

    Args:
        features: (b, d), an array or an eager tensor; b may be 0. Floats of other widths become float32, whole
            numbers float64.
        size: d as of earlier batches, or None for any.
        seen: examples in earlier batches, so that an error can name the example.
        name: what errors call the batch.

    Returns:
        (b, d), finite.

    Raises:
        ValueError: not numbers, not (b, d), another d than before, d = 0, or a value is not finite.
    """
    array = np.asarray(features)
    if array.dtype.kind in "biu":
        array = array.astype(np.float64)
    elif array.dtype not in (np.float32, np.float64):
        try:
            array = array.astype(np.float32)
        except (TypeError, ValueError):
            raise ValueError(f"{name} must be numbers, got an array of {array.dtype}.") from None
    if array.ndim != 2 or array.shape[1] == 0 or size not in (None, array.shape[1]):
        raise ValueError(f"{name} must be (batch, {'d' if size is None else size}), got {array.shape}.")
    # A finite sum has finite terms; only where it is not (it may also overflow) is every value looked at.
    with np.errstate(over="ignore", invalid="ignore"):
        suspicious = not np.isfinite(array.sum())
    if suspicious and not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise ValueError(f"{name} of example {seen + row} are not finite.")
    return array
