"""Offsets as colours."""

from __future__ import annotations

import numpy as np

# Steps from red to yellow, green, cyan, blue, magenta and back: Baker et al., "A Database and Evaluation Methodology
# for Optical Flow" (Middlebury), whose wheel gives more colours where the eye tells more apart.
_STEPS = (15, 6, 4, 11, 13, 6)
_CORNERS = ((255, 0, 0), (255, 255, 0), (0, 255, 0), (0, 255, 255), (0, 0, 255), (255, 0, 255))


def color_wheel() -> np.ndarray:
    """The Middlebury wheel's 55 fully saturated colours, float64 (55, 3) in [0, 255]."""
    colors = []
    for index, steps in enumerate(_STEPS):
        start, end = (np.asarray(_CORNERS[(index + more) % len(_CORNERS)], np.float64) for more in (0, 1))
        # The channel that grows is rounded down, as the original's is, and so is what the other one loses.
        share = np.floor(255 * np.arange(steps) / steps)[:, np.newaxis] / 255
        colors.append(start + (end - start) * share)
    return np.concatenate(colors)


def flow_picture(offsets: np.ndarray, longest: float | None = None) -> np.ndarray:
    """Where each place of contextual attention looks: the direction as hue, the distance as saturation.

    Args:
        offsets: (..., h, w, 2), (dy, dx), integers or floats.
        longest: the distance drawn in full colour; None takes each picture's longest. Longer ones are darkened.

    Returns:
        uint8 (..., h, w, 3); white where the offset is 0.

    Raises:
        ValueError: another shape, offsets that are not finite, or `longest` not above 0.

    Example:
        >>> flow_picture(np.zeros((2, 4, 6, 2), np.int32)).shape
        (2, 4, 6, 3)
    """
    offsets = np.asarray(offsets, np.float64)
    if offsets.ndim < 3 or offsets.shape[-1] != 2:
        raise ValueError(f"offsets must be (..., height, width, 2), got {offsets.shape}.")
    if not np.isfinite(offsets).all():
        raise ValueError("offsets hold values that are not finite.")
    if longest is not None and not 0 < longest < np.inf:
        raise ValueError(f"longest must be a finite number > 0 or None, got {longest!r}.")
    dy, dx = offsets[..., 0], offsets[..., 1]
    distance = np.hypot(dy, dx)
    if longest is None:
        reach = distance.max(axis=(-2, -1), keepdims=True, initial=0.0)
        reach = np.where(reach > 0, reach, 1.0)
    else:
        reach = np.asarray(longest)
    radius = (distance / reach)[..., np.newaxis]
    wheel = color_wheel() / 255
    turn = (np.arctan2(-dy, -dx) / np.pi + 1) / 2 * (len(wheel) - 1)
    before = np.floor(turn).astype(int)
    part = (turn - before)[..., np.newaxis]
    hue = (1 - part) * wheel[before] + part * wheel[(before + 1) % len(wheel)]
    colors = np.where(radius <= 1, 1 - radius * (1 - hue), 0.75 * hue)
    return np.floor(255 * colors).astype(np.uint8)
