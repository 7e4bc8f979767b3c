"""Layouts beside the images they were made with: figure 5 of the paper."""

from __future__ import annotations

import numpy as np
from PIL import Image

from attennorm_tf.visualization.entity_colors import heat_colors, layout_colors
from attennorm_tf.visualization.image_grid import BACKGROUND, to_uint8, write
from attennorm_tf.visualization.tiles import tile_size, tiles

_GAP = 6
_HEADING = 22
_ONE_LINE = 10  # maps; more of them are shown in lines of eight
_LINE = 8
_GREY = np.array([0.299, 0.587, 0.114])


def binarized_layout(layout: np.ndarray) -> np.ndarray:
    """Each pixel in the colour of the entity it belongs to most: (..., H, W, n) to uint8 (..., H, W, 3)."""
    layout = checked_layouts(layout)
    return layout_colors(layout.shape[-1])[layout.argmax(axis=-1)]


def attention_maps(images: np.ndarray, layouts: np.ndarray, opacity: float = 0.65) -> np.ndarray:
    """Figure 5's maps over the images: the brighter, the more of a place belongs to an entity.

    Args:
        images: float (b, H, W, 1 or 3) in [-1, 1]; shown in grey.
        layouts: float (b, h, w, n).
        opacity: of the maps, in [0, 1]; at 1 nothing is seen of the images.

    Returns:
        uint8 (b, n, H, W, 3); each map is brightest where its entity has the most of this image.

    Raises:
        ValueError: other shapes, values that are not finite, or an opacity outside [0, 1].
    """
    layouts = checked_layouts(layouts, images)
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must be in [0, 1], got {opacity!r}.")
    grey = np.repeat((to_uint8(images) @ _GREY)[..., np.newaxis], 3, axis=-1)
    maps = np.stack([_resized(heat_colors(one), images.shape[1:3]) for one in np.moveaxis(layouts, -1, 1)])
    return np.round((1 - opacity) * grey[:, np.newaxis] + opacity * maps).astype(np.uint8)


def layout_sheet(
    images: np.ndarray, layouts: np.ndarray, max_entities: int | None = None, *, over_images: bool = False
) -> np.ndarray:
    """Figure 5: for each image, its binarised layout and one heat map per entity in use.

    Entities that own no pixel of any image are left out; the others stand in the order of the area they own.
    Over each map is the entity's number, its colour in the binarised layout, and the share of pixels it owns.
    A map is black where the entity has no part of a pixel and brightest where it has the most in this image.

    Args:
        images: float (b, H, W, 1 or 3) in [-1, 1].
        layouts: float (b, h, w, n), of any size (a layout is often smaller than its image).
        max_entities: at most so many heat maps; None: all in use.
        over_images: whether the maps lie over the images, see `attention_maps`.

    Returns:
        uint8 (H', W', 3), a row for each image, or several where more than ten entities are in use; images smaller
        than 80 pixels are enlarged by whole factors, those larger than 256 made smaller.

    Raises:
        ValueError: other shapes, values that are not finite, or `max_entities` below 1.
    """
    if max_entities is not None and max_entities < 1:
        raise ValueError(f"max_entities must be at least 1, got {max_entities}.")
    layouts = checked_layouts(layouts, images)
    num_entities = layouts.shape[-1]
    shares = owned_shares(layouts)
    in_use = [int(index) for index in np.argsort(-shares, kind="stable") if shares[index] > 0]
    entities = in_use[:max_entities]
    size = tile_size(images)
    colors = layout_colors(num_entities)
    per_line = len(entities) if len(entities) <= _ONE_LINE else _LINE
    lines = [entities[start : start + per_line] for start in range(0, len(entities), per_line)]
    step = size.column + _GAP
    lefts = [_GAP + column * step + (_GAP if column > 1 else 0) for column in range(2 + per_line)]
    heads = 2 * _HEADING
    block = size.height + _GAP if len(lines) == 1 else len(lines) * (heads + size.height + _GAP)
    top = heads if len(lines) == 1 else 0
    canvas = Image.new("RGB", (_GAP + (2 + per_line) * step + _GAP, top + len(images) * block), BACKGROUND)
    shown = attention_maps(images, layouts[..., entities], 0.65 if over_images else 1.0)
    maps = dict(zip(entities, shown.swapaxes(0, 1))) if over_images else {}
    both = (tiles(to_uint8(images), size, smooth=True), tiles(binarized_layout(layouts), size))
    for row in range(len(images)):
        for number, line in enumerate(lines):
            y = top + row * block + number * (heads + size.height + _GAP)
            if len(lines) > 1 or row == 0:
                head = y if len(lines) > 1 else 0
                if number == 0:
                    write(canvas, (lefts[0] + size.column // 2, head + _HEADING // 2 + 2), "image", size.column)
                    write(canvas, (lefts[1] + size.column // 2, head + _HEADING // 2 + 2), "layout", size.column)
                    text = f"{len(in_use)} of {num_entities} in use"
                    write(canvas, (lefts[1] + size.column // 2, head + _HEADING + 9), text, size.column)
                for left, entity in zip(lefts[2:], line):
                    entity_heading(canvas, (left, head), size.column, entity, colors[entity], percent(shares[entity]))
            y += 0 if len(lines) == 1 else heads
            if number == 0:
                for left, pictures in zip(lefts, both):
                    paste(canvas, (left, y), pictures[row], size.column)
            for left, entity in zip(lefts[2:], line):
                pixels = maps[entity][row] if over_images else heat_colors(layouts[row, ..., entity])
                paste(canvas, (left, y), tiles(pixels[np.newaxis], size, smooth=over_images)[0], size.column)
    return np.array(canvas)


def entity_heading(
    canvas: Image.Image, corner: tuple[int, int], width: int, entity: int, color: np.ndarray, text: str
) -> None:
    """Two lines over a tile: the entity's number; its colour and a text."""
    left, top = corner
    write(canvas, (left + width // 2, top + _HEADING // 2 + 2), f"entity {entity}", width)
    canvas.paste(tuple(color.tolist()), (left, top + _HEADING + 3, left + 12, top + _HEADING + 15))
    write(canvas, (left + 12 + (width - 12) // 2, top + _HEADING + 9), text, width - 16)


def checked_layouts(layouts: np.ndarray, images: np.ndarray | None = None) -> np.ndarray:
    """float32, (b, h, w, n) with `images`, otherwise (..., h, w, n). Raises ValueError unless they fit each other."""
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


def owned_shares(layouts: np.ndarray) -> np.ndarray:
    """(n,): the share of places that belong to each entity most, of layouts (..., n)."""
    winners = layouts.argmax(axis=-1)
    shares: np.ndarray = np.bincount(winners.ravel(), minlength=layouts.shape[-1]) / winners.size
    return shares


def percent(share: float) -> str:
    """For a heading: "42%"."""
    return "0%" if share == 0 else "<1%" if share < 0.01 else f"{100 * share:.0f}%"


def paste(canvas: Image.Image, corner: tuple[int, int], pixels: np.ndarray, column: int) -> None:
    """Puts a tile into the middle of a column of a sheet."""
    canvas.paste(Image.fromarray(pixels), (corner[0] + (column - pixels.shape[1]) // 2, corner[1]))


def _resized(pixels: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """uint8 (n, h, w, 3) to `size`, (H, W), each pixel the nearest."""
    height, width = size
    return np.stack(
        [np.array(Image.fromarray(one).resize((width, height), Image.Resampling.NEAREST)) for one in pixels]
    )
