"""One colour for each entity, the same in every picture, and heat maps: both for every kind of colour vision."""

from __future__ import annotations

import functools

import numpy as np

from attennorm_tf.visualization.color_vision import DEFICIENCIES, simulate, to_lab

# The first eight are Okabe and Ito's (black lightened). The others were found by a search over an RGB grid: each is, of
# all colours, about the farthest from the others and from white, by the smallest CIEDE2000 difference of normal vision,
# protanopia, deuteranopia and tritanopia (Machado et al. 2009; Vienot et al. 1999 too). No two of the first 16 are less
# than 10.9 apart, no two of all less than 8.3.
_COLORS = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66),
    (0, 114, 178), (213, 94, 0), (204, 121, 167), (40, 40, 40),
    (15, 60, 0), (60, 0, 75), (105, 90, 105), (195, 240, 180),
    (0, 0, 195), (90, 105, 75), (195, 195, 195), (0, 240, 255),
    (135, 120, 255), (120, 45, 45), (180, 210, 120), (15, 30, 0),
    (135, 105, 135), (105, 45, 105), (150, 195, 150), (180, 60, 0),
    (120, 165, 90), (120, 120, 120), (90, 135, 75), (150, 165, 150),
    (75, 30, 255), (75, 60, 75), (30, 75, 165), (45, 90, 75),
)  # fmt: skip
# Dark violet over teal to yellow: lightness rises evenly, so brighter is higher in grey and to every eye.
_HEAT = np.array(
    [
        (13, 8, 50),
        (52, 34, 116),
        (49, 88, 140),
        (33, 132, 141),
        (60, 175, 115),
        (164, 213, 68),
        (253, 231, 80),
    ]
)


def layout_colors(n: int) -> np.ndarray:
    """Distinct colours, uint8 (n, 3); colour k is the same for every n, so an entity has one colour everywhere.

    The first 32 are chosen to be told apart by colour-blind readers, the first 16 more easily; further ones are the
    best that are left.

    Raises:
        ValueError: n is below 1.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}.")
    colors = np.array(_COLORS if n <= len(_COLORS) else _COLORS + _further(n - len(_COLORS)), np.uint8)
    return colors[:n]


def heat_colors(values: np.ndarray, highest: np.ndarray | float | None = None) -> np.ndarray:
    """Numbers as colours of rising lightness, dark violet at 0.

    Args:
        values: (..., h, w), 0 or more.
        highest: what is brightest, a number or an array that broadcasts; None: each map's own maximum.

    Returns:
        uint8 (..., h, w, 3).
    """
    top = values.max(axis=(-2, -1), keepdims=True) if highest is None else highest
    position = np.clip(values / np.maximum(top, 1e-12), 0.0, 1.0) * (len(_HEAT) - 1)
    lower = np.minimum(position.astype(int), len(_HEAT) - 2)
    weight = (position - lower)[..., np.newaxis]
    return np.round(_HEAT[lower] * (1 - weight) + _HEAT[lower + 1] * weight).astype(np.uint8)


def ink_on(color: np.ndarray) -> tuple[int, int, int]:
    """Black or white, whichever is easier to read on a colour, uint8 (3,)."""
    return (0, 0, 0) if to_lab(color)[0] > 49.5 else (255, 255, 255)


@functools.lru_cache(maxsize=1)
def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Colours to choose from, uint8 (m, 3), and how each kind of vision sees them, (4, m, 3)."""
    levels = np.linspace(15, 240, 10).astype(np.uint8)
    colors = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    return colors, _seen(colors)


def _seen(colors: np.ndarray) -> np.ndarray:
    return np.stack([to_lab(colors), *(to_lab(simulate(colors, deficiency)) for deficiency in DEFICIENCIES)])


@functools.lru_cache(maxsize=4)
def _further(count: int) -> tuple[tuple[int, ...], ...]:
    candidates, seen = _grid()
    taken = _seen(np.array(_COLORS, np.uint8))
    distances = np.full(len(candidates), np.inf)
    found: list[tuple[int, ...]] = []
    for color in taken.swapaxes(0, 1):
        distances = np.minimum(distances, _distance(seen, color))
    while len(found) < count:
        farthest = int(distances.argmax())
        found.append(tuple(candidates[farthest].tolist()))
        distances = np.minimum(distances, _distance(seen, seen[:, farthest]))
    return tuple(found)


def _distance(seen: np.ndarray, color: np.ndarray) -> np.ndarray:
    """(m,), the smallest over the kinds of vision."""
    nearest: np.ndarray = np.linalg.norm(seen - color[:, np.newaxis], axis=-1).min(axis=0)
    return nearest
