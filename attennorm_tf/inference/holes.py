"""The shape of what is missing: masks read, grown, measured."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

THRESHOLD = 128  # of 8-bit masks: from here on a pixel is missing
_BAND = 256  # rows worked on at a time


class Box(NamedTuple):
    """Rows top to bottom, columns left to right, the ends not included."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def area(self) -> int:
        return self.height * self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)


def hole_of(mask: Any, name: str = "mask") -> np.ndarray:
    """Where a mask says that pixels are missing.

    Args:
        mask: a PIL image of any mode, or an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4): bool; integers in
            [0, 255], missing from 128 on; floats in [0, 1], missing from 0.5 on. Colours count by their brightness
            (ITU-R 601), 16-bit grey by its upper 8 bits, and transparent pixels are not missing.
        name: what to call it in errors.

    Returns:
        bool (H, W).

    Raises:
        ValueError: another shape, type or range, NaN, or integers that are all 0 and 1.
    """
    if isinstance(mask, Image.Image):
        return _thresholded(_grey(mask, name), name)
    values = np.asarray(mask)
    if values.ndim == 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim not in (2, 3) or not values.size or (values.ndim == 3 and values.shape[-1] not in (3, 4)):
        raise ValueError(f"{name} must be of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), got {values.shape}.")
    if values.dtype == np.bool_ and values.ndim == 2:
        return values.copy()
    if np.issubdtype(values.dtype, np.floating) and values.ndim == 2:
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"{name}: floats must be in [0, 1], got {_range(values)}.")
        return values >= 0.5
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"{name} must hold bool, integers in [0, 255] or (in one channel) floats, got {values.dtype}.")
    if values.min() < 0 or values.max() > 255:
        raise ValueError(f"{name}: integers must be in [0, 255], got {_range(values)}.")
    if values.ndim == 3:
        values = _grey(Image.fromarray(values.astype(np.uint8)), name)
    return _thresholded(values, name)


def _grey(mask: Image.Image, name: str) -> np.ndarray:
    if mask.mode[0] in "FI":
        return _deep_grey(np.asarray(mask), mask.mode, name)
    if mask.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in mask.info:
        mask = mask.convert("RGBA")
        mask = Image.alpha_composite(Image.new("RGBA", mask.size, (0, 0, 0, 255)), mask)
    return np.asarray(mask.convert("RGB").convert("L") if mask.mode == "CMYK" else mask.convert("L"))


def _deep_grey(values: np.ndarray, mode: str, name: str) -> np.ndarray:
    if mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ValueError(f"{name}: a mask must have 8 or 16 bits, got mode {mode!r} with {_range(values)}.")
    return (values.astype(np.int32) >> 8).astype(np.uint8)


def _thresholded(values: np.ndarray, name: str) -> np.ndarray:
    if values.max() == 1:
        raise ValueError(
            f"{name}: its values are 0 and 1 of 255, which are all black; white (from {THRESHOLD} on) is the hole. "
            "Multiply it by 255."
        )
    return values >= THRESHOLD


def _range(values: np.ndarray) -> str:
    return f"values from {values.min()} to {values.max()}"


def grown(hole: np.ndarray, radius: float) -> np.ndarray:
    """All pixels within `radius` pixels (Euclidean) of a hole; bool (H, W)."""
    if radius <= 0 or not hole.any():
        return hole.copy()
    result = hole.copy()
    box = bounding_box(hole)
    reach = int(radius)
    around = widened(box, reach, hole.shape)
    rows, columns = around.slices
    part = hole[rows, columns]
    for top in range(0, around.height, _BAND):
        bottom = min(top + _BAND, around.height)
        start = max(0, top - reach)
        distance = _row_distance(part[start : min(bottom + reach, around.height)], reach + 1)
        band = result[rows, columns][top:bottom]
        for shift in range(-reach, reach + 1):
            here, there = _shifted(shift, top - start, bottom - start, len(distance))
            band[here] |= distance[there] <= math.isqrt(int(radius * radius - shift * shift))
    return result


def rim_weights(hole: np.ndarray, width: float) -> np.ndarray:
    """Weight of the completion: 0 at known pixels, rising to 1 at `width` + 1 pixels from the nearest of them.

    Args:
        hole: bool (H, W).
        width: of the ramp in pixels, >= 0.

    Returns:
        float32 (H, W) in [0, 1], > 0 in the hole.
    """
    reach = math.ceil(width) + 1
    across = _row_distance(~hole, reach).astype(np.int64) ** 2
    squared = across.copy()
    for shift in range(-reach, reach + 1):
        here, there = _shifted(shift, 0, len(hole), len(hole))
        np.minimum(squared[here], across[there] + shift * shift, out=squared[here])
    weights: np.ndarray = np.minimum(np.sqrt(squared.astype(np.float32)) / (width + 1), 1.0).astype(np.float32)
    return weights


def _row_distance(targets: np.ndarray, limit: int) -> np.ndarray:
    """int32 distance along the row to the nearest True, at most `limit`."""
    width = targets.shape[1]
    columns = np.arange(width, dtype=np.int32)
    far = np.int32(width + limit)
    before = np.maximum.accumulate(np.where(targets, columns, -far), axis=1)
    after = np.minimum.accumulate(np.where(targets, columns, 2 * far)[:, ::-1], axis=1)[:, ::-1]
    return np.minimum(np.minimum(columns - before, after - columns), limit)


def _shifted(shift: int, top: int, bottom: int, height: int) -> tuple[slice, slice]:
    """Rows of [top, bottom) whose neighbour `shift` rows further is in [0, height), counted from top; and those."""
    first, last = max(top, -shift), min(bottom, height - shift)
    last = max(first, last)
    return slice(first - top, last - top), slice(first + shift, last + shift)


def bounding_box(hole: np.ndarray) -> Box:
    """The smallest box with every True; there must be one."""
    rows, columns = np.flatnonzero(hole.any(axis=1)), np.flatnonzero(hole.any(axis=0))
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def widened(box: Box, margin: int, shape: tuple[int, ...]) -> Box:
    """The box with `margin` more on each side, within an image of this shape."""
    return Box(
        max(0, box.top - margin),
        max(0, box.left - margin),
        min(shape[0], box.bottom + margin),
        min(shape[1], box.right + margin),
    )


def thickness(hole: np.ndarray) -> int:
    """Twice the largest distance (in rows plus columns) of a missing pixel to a known one.

    It is the shorter side of a rectangle, and twice that where the rectangle lies along the edge of the image, beyond
    which nothing is known. A scratch is thin, however long. Arrays of more than 256 a side are measured in steps.
    """
    step = -(-max(hole.shape) // 256)
    height, width = (-(-size // step) for size in hole.shape)
    padded = np.ones((height * step, width * step), np.bool_)
    padded[: hole.shape[0], : hole.shape[1]] = hole
    cells = padded.reshape(height, step, width, step).all(axis=(1, 3))
    if cells.all():
        return 2 * max(hole.shape)
    peels = 0
    while cells.any():
        peels += 1
        around = np.pad(cells, 1, constant_values=True)
        cells = cells & around[2:, 1:-1] & around[:-2, 1:-1] & around[1:-1, 2:] & around[1:-1, :-2]
    return max(2 * peels * step, step)
