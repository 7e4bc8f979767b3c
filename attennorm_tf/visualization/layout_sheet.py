"""Layouts beside the images they were made with: figures 5 and 8 of the paper."""

from __future__ import annotations

import numpy as np
from PIL import Image

from attennorm_tf.visualization.image_grid import BACKGROUND, enlarge, scale_to, to_uint8, write

# The first eight are Okabe and Ito's, distinct under the common kinds of colour blindness.
_OKABE_ITO = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (40, 40, 40),
)
_SMALLEST_TILE = 80
_GAP = 6
_HEADING = 22
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
    """Distinct colours, uint8 (n, 3); colour k is the same for every n.

    The first eight are safe for colour-blind readers; each further one is the farthest from those before it.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}.")
    colors = np.array(_OKABE_ITO, np.float64)
    if n > len(colors):
        candidates = np.stack(np.meshgrid(*[np.linspace(15, 240, 8)] * 3, indexing="ij"), -1).reshape(-1, 3)
        distances = _difference(candidates[:, np.newaxis], colors).min(axis=1)
        while len(colors) < n:
            farthest = candidates[distances.argmax()]
            colors = np.concatenate([colors, farthest[np.newaxis]])
            distances = np.minimum(distances, _difference(candidates, farthest))
    return np.round(colors[:n]).astype(np.uint8)


def _difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Of RGB colours, weighing lightness more, which every eye can tell apart."""
    offsets = first - second
    lightness = offsets @ (0.299, 0.587, 0.114)
    return np.sqrt(np.square(offsets - lightness[..., np.newaxis]).sum(axis=-1) + np.square(4 * lightness))


def binarized_layout(layout: np.ndarray) -> np.ndarray:
    """Each pixel in the colour of the entity it belongs to most: (..., H, W, n) to uint8 (..., H, W, 3)."""
    layout = _checked(layout)
    return layout_colors(layout.shape[-1])[layout.argmax(axis=-1)]


def layout_sheet(images: np.ndarray, layouts: np.ndarray, max_entities: int | None = None) -> np.ndarray:
    """Figure 5: a row for each image, with its binarised layout and one heat map per entity in use.

    Entities that own no pixel of any image are left out; the others stand in the order of the area they own.
    Over each map is the entity's number, its colour in the binarised layout, and the share of pixels it owns.
    A map is black where the entity has no part of a pixel and brightest where it has the most in this row's
    image.

    Args:
        images: float (b, H, W, 1 or 3) in [-1, 1].
        layouts: float (b, h, w, n), of any size (a layout is often smaller than its image).
        max_entities: at most so many heat maps; None: all in use.

    Returns:
        uint8 (H', W', 3), enlarged by whole factors so that 16x16 images can be seen.

    Raises:
        ValueError: other shapes, values that are not finite, or `max_entities` below 1.
    """
    if max_entities is not None and max_entities < 1:
        raise ValueError(f"max_entities must be at least 1, got {max_entities}.")
    layouts = _checked(layouts, images)
    num_entities = layouts.shape[-1]
    shares = np.bincount(layouts.argmax(axis=-1).ravel(), minlength=num_entities) / layouts[..., 0].size
    in_use = [int(index) for index in np.argsort(-shares, kind="stable") if shares[index] > 0]
    entities = in_use[:max_entities]
    tile = _tile_side(images)
    columns = [_tiles(to_uint8(images), tile), _tiles(binarized_layout(layouts), tile)]
    columns += [_tiles(_heat(layouts[..., entity]), tile) for entity in entities]
    step = tile + _GAP
    canvas = Image.new("RGB", (_GAP + len(columns) * step + _GAP, 2 * _HEADING + len(images) * step), BACKGROUND)
    lefts = [_GAP + index * step + (_GAP if index > 1 else 0) for index in range(len(columns))]
    headings = ["image", "layout"]
    headings += [f"entity {entity}" for entity in entities]
    colors = layout_colors(num_entities)
    for column, (left, heading, tiles) in enumerate(zip(lefts, headings, columns)):
        write(canvas, (left + tile // 2, _HEADING // 2 + 2), heading, tile)
        if column == 1:
            write(canvas, (left + tile // 2, _HEADING + 9), f"{len(in_use)} of {num_entities} in use", tile)
        elif column > 1:
            entity = entities[column - 2]
            top = _HEADING + 3
            canvas.paste(tuple(int(part) for part in colors[entity]), (left, top, left + 12, top + 12))
            write(canvas, (left + 12 + (tile - 12) // 2, top + 6), _percent(shares[entity]), tile - 16)
        for row, pixels in enumerate(tiles):
            canvas.paste(Image.fromarray(pixels), (left, 2 * _HEADING + row * step))
    return np.array(canvas)


def interpolation_strip(images: np.ndarray, layouts: np.ndarray, entity: int) -> np.ndarray:
    """Figure 8: a row of images over the row of one entity's maps, on one scale for the whole row.

    Args:
        images: float (b, H, W, 1 or 3) in [-1, 1], the steps of an interpolation.
        layouts: float (b, h, w, n).
        entity: which map to show, in [0, n).

    Returns:
        uint8 (H', W', 3), enlarged by whole factors.
    """
    layouts = _checked(layouts, images)
    if not 0 <= entity < layouts.shape[-1]:
        raise ValueError(f"entity must be in [0, {layouts.shape[-1]}), got {entity}.")
    tile = _tile_side(images)
    values = layouts[..., entity]
    rows = [_tiles(to_uint8(images), tile), _tiles(_heat(values, values.max()), tile)]
    margin = 64
    step = tile + 2
    canvas = Image.new("RGB", (margin + len(images) * step + _GAP, 2 * (tile + _GAP) + _GAP), BACKGROUND)
    for row, (tiles, heading) in enumerate(zip(rows, ("image", f"entity {entity}"))):
        top = _GAP + row * (tile + _GAP)
        write(canvas, (margin // 2, top + tile // 2), heading, margin - 8)
        for column, pixels in enumerate(tiles):
            canvas.paste(Image.fromarray(pixels), (margin + column * step, top))
    return np.array(canvas)


def _checked(layouts: np.ndarray, images: np.ndarray | None = None) -> np.ndarray:
    layouts = np.asarray(layouts, np.float32)
    if layouts.ndim < 3 or not layouts.size:
        raise ValueError(f"layouts must end in (height, width, entities), got {layouts.shape}.")
    if not np.isfinite(layouts).all():
        raise ValueError("layouts hold values that are not finite.")
    if images is not None and (np.ndim(images) != 4 or layouts.ndim != 4 or len(images) != len(layouts)):
        raise ValueError(
            "images (b, height, width, 1 or 3) and layouts (b, height, width, entities) must belong "
            f"together, got {np.shape(images)} and {layouts.shape}."
        )
    return layouts


def _tile_side(images: np.ndarray) -> int:
    side = max(np.shape(images)[1:3])
    return side * scale_to(side, _SMALLEST_TILE)


def _tiles(pixels: np.ndarray, side: int) -> np.ndarray:
    """uint8 (b, h, w, 3) to squares of `side`, exactly enlarged where that is a whole factor."""
    height, width = pixels.shape[1:3]
    if height == width and side % height == 0:
        return enlarge(pixels, side // height)
    return np.stack([np.array(Image.fromarray(one).resize((side, side), Image.Resampling.NEAREST)) for one in pixels])


def _heat(values: np.ndarray, highest: float | None = None) -> np.ndarray:
    """(b, h, w), 0 or more, to colours of rising lightness; each map to its own maximum, or to `highest`."""
    top = values.max(axis=(1, 2), keepdims=True) if highest is None else highest
    position = np.clip(values / np.maximum(top, 1e-12), 0.0, 1.0) * (len(_HEAT) - 1)
    lower = np.minimum(position.astype(int), len(_HEAT) - 2)
    weight = (position - lower)[..., np.newaxis]
    return np.round(_HEAT[lower] * (1 - weight) + _HEAT[lower + 1] * weight).astype(np.uint8)


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%" if share >= 0.01 else "<1%"
