"""Images of any size through a network that sees a tile at a time."""

from __future__ import annotations

from typing import Callable

import numpy as np

Complete = Callable[[np.ndarray, np.ndarray], np.ndarray]

SMALLEST_TILE = 64


def check_tile(tile: int) -> None:
    """Raises ValueError unless `tile` is a side that `complete_in_tiles` takes."""
    if isinstance(tile, bool) or not isinstance(tile, (int, np.integer)) or tile < SMALLEST_TILE or tile % 8:
        raise ValueError(f"tile must be a multiple of 8 from {SMALLEST_TILE} on, got {tile!r}.")


def complete_in_tiles(rgb: np.ndarray, hole: np.ndarray, complete: Complete, tile: int) -> np.ndarray:
    """Completes an image; one of more than tile x tile pixels in overlapping tiles, blended in the hole only.

    Neighbouring tiles overlap by a quarter or more; there, each counts by its distance to its own border (to the
    border of the image it counts in full). Tiles without missing pixels are left out. Besides the result, memory is
    needed for one tile in the network and for one row of tiles in float32.

    Args:
        rgb: uint8 (H, W, 3).
        hole: bool (H, W), with missing and known pixels.
        complete: (1, h, w, 3) float32 in [-1, 1], (1, h, w, 1) -> (1, h, w, 3).
        tile: side, a multiple of 8.

    Returns:
        uint8 (H, W, 3), known pixels those of `rgb`.

    Raises:
        ValueError: a tile has no known pixel.
    """
    height, width = hole.shape
    if height * width <= tile * tile:
        return np.where(hole[..., np.newaxis], to_bytes(_complete_one(rgb, hole, complete)), rgb)
    result = rgb.copy()
    tops, lefts = _starts(height, tile), _starts(width, tile)
    rows, columns = min(height, tile), min(width, tile)
    sums, weights = np.zeros((rows, width, 3), np.float32), np.zeros((rows, width, 1), np.float32)
    for index, top in enumerate(tops):
        for left in lefts:
            here = (slice(top, top + rows), slice(left, left + columns))
            if not hole[here].any():
                continue
            weight = (_ramp(top, rows, height)[:, np.newaxis] * _ramp(left, columns, width))[..., np.newaxis]
            sums[:, here[1]] += weight * _complete_one(rgb[here], hole[here], complete)
            weights[:, here[1]] += weight
        # What no later row of tiles reaches is finished; the rest moves up.
        done = (tops[index + 1] if index + 1 < len(tops) else height) - top
        finished = slice(top, top + done)
        mean = to_bytes(sums[:done] / np.maximum(weights[:done], 1e-12))
        np.copyto(result[finished], mean, where=hole[finished][..., np.newaxis])
        for band in (sums, weights):
            band[: rows - done] = band[done:].copy()
            band[rows - done :] = 0.0
    return result


def to_floats(rgb: np.ndarray) -> np.ndarray:
    """uint8 -> float32 in [-1, 1]."""
    return rgb.astype(np.float32) / np.float32(127.5) - np.float32(1)


def to_bytes(images: np.ndarray) -> np.ndarray:
    """Floats in [-1, 1] -> uint8, rounded."""
    return np.clip(np.rint((images + 1.0) * 127.5), 0, 255).astype(np.uint8)


def _complete_one(rgb: np.ndarray, hole: np.ndarray, complete: Complete) -> np.ndarray:
    if hole.all():
        raise ValueError(
            f"tile: a part of {hole.shape[1]} x {hole.shape[0]} pixels lies in the hole, with nothing known around; "
            "give a larger tile, or scale='auto', which makes large holes smaller."
        )
    return complete(to_floats(rgb)[np.newaxis], hole[np.newaxis, ..., np.newaxis].astype(np.float32))[0]


def _starts(length: int, tile: int) -> list[int]:
    """Evenly spread first pixels of tiles that overlap by a quarter or more and cover [0, length)."""
    if length <= tile:
        return [0]
    count = -(-(length - tile) // (tile - tile // 4)) + 1
    return [int(start) for start in np.rint(np.linspace(0, length - tile, count))]


def _ramp(start: int, side: int, length: int) -> np.ndarray:
    """Distance to the tile's borders, those of the image left out, in (0, 1] over a quarter of the tile."""
    places = np.arange(side, dtype=np.float32) + 0.5
    from_left = places if start > 0 else np.full(side, np.inf, np.float32)
    from_right = places[::-1] if start + side < length else np.full(side, np.inf, np.float32)
    return np.minimum(np.minimum(from_left, from_right) / max(1.0, side / 4), 1.0).astype(np.float32)
