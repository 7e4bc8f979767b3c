"""Binarised layouts in colour, numbered, with a legend: figure 4 of the supplement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from attennorm_tf.visualization.entity_colors import ink_on, layout_colors
from attennorm_tf.visualization.image_grid import BACKGROUND, INK, to_uint8, write
from attennorm_tf.visualization.layout_sheet import binarized_layout, checked_layouts, owned_shares, percent
from attennorm_tf.visualization.tiles import tile_size, tiles

_GAP = 6
_MARGIN = 72
_PER_BAND = 8
_LINE = 20
_ENTRY = 92  # width of an entry of the legend
_SMALLEST_WIDTH = 5 * _ENTRY + 2 * _GAP
_OPACITY = 0.6
_NUMBER = 11  # size of an entity's number on its region


def binarized_sheet(images: np.ndarray, layouts: np.ndarray, labels: Sequence[object] | None = None) -> np.ndarray:
    """Images over their binarised layouts and both in one, eight beside each other, and a legend of the entities.

    An entity's number stands on its regions where there is room, so that the colours need not be told apart.

    Args:
        images: float (b, H, W, 1 or 3) in [-1, 1].
        layouts: float (b, h, w, n), of any size.
        labels: what stands over each image, e.g. its class; None: nothing.

    Returns:
        uint8 (H', W', 3).

    Raises:
        ValueError: other shapes, values that are not finite, or not one label for each image.

    Example:
        >>> layouts = np.eye(4)[np.zeros((2, 8, 8), int)]
        >>> binarized_sheet(np.zeros((2, 16, 16, 1)), layouts).shape
        (310, 472, 3)
    """
    layouts = checked_layouts(layouts, images)
    if labels is not None and len(labels) != len(images):
        raise ValueError(f"labels must be one per image, {len(images)}, got {len(labels)}.")
    size = tile_size(images)
    step = size.column + _GAP
    pictures = tiles(to_uint8(images), size, smooth=True)
    colored = tiles(binarized_layout(layouts), size)
    mixed = np.round((1 - _OPACITY) * pictures.astype(np.float32) + _OPACITY * colored).astype(np.uint8)
    head = _LINE if labels is not None else _GAP
    band = head + 3 * (size.height + _GAP)
    bands = -(-len(images) // _PER_BAND)
    width = max(_MARGIN + min(len(images), _PER_BAND) * step, _SMALLEST_WIDTH)
    shares = owned_shares(layouts)
    entries = (width - 2 * _GAP) // _ENTRY
    used = [entity for entity, share in enumerate(shares) if share > 0]
    legend = (1 + -(-len(used) // entries)) * _LINE
    canvas = Image.new("RGB", (width, bands * band + legend + _GAP), BACKGROUND)
    for index in range(len(images)):
        left, top = _MARGIN + index % _PER_BAND * step, index // _PER_BAND * band
        if labels is not None:
            write(canvas, (left + size.column // 2, top + head // 2), str(labels[index]), size.column)
        left += (size.column - size.width) // 2
        for row, pixels in enumerate((pictures[index], colored[index], mixed[index])):
            y = top + head + row * (size.height + _GAP)
            canvas.paste(Image.fromarray(pixels), (left, y))
            if row == 1:
                _write_numbers(canvas, (left, y), layouts[index], (size.height, size.width))
            if index % _PER_BAND == 0:
                write(canvas, (_MARGIN // 2, y + size.height // 2), ("image", "layout", "both")[row], _MARGIN - 8)
    _write_legend(canvas, bands * band, shares, used, entries)
    return np.array(canvas)


def largest_squares(winners: np.ndarray, n: int) -> np.ndarray:
    """The largest square inside each entity's region: int (n, 3), side, top and left; side 0 where there is none.

    Args:
        winners: int (h, w), in [0, n).
        n: entities.
    """
    found = np.zeros((n, 3), int)
    inside = winners == np.arange(n)[:, np.newaxis, np.newaxis]  # upper left corners of squares of `side`
    side = 1
    while inside.size and inside.any():
        for entity in np.flatnonzero(inside.any(axis=(1, 2))):
            found[entity] = (side, *np.argwhere(inside[entity])[0])
        inside = inside[:, :-1, :-1] & inside[:, 1:, :-1] & inside[:, :-1, 1:] & inside[:, 1:, 1:]
        side += 1
    return found


def _write_numbers(canvas: Image.Image, corner: tuple[int, int], layout: np.ndarray, size: tuple[int, int]) -> None:
    height, width = layout.shape[:2]
    scales = size[0] / height, size[1] / width
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(_NUMBER)
    colors = layout_colors(layout.shape[-1])
    for entity, (side, top, left) in enumerate(largest_squares(layout.argmax(axis=-1), layout.shape[-1])):
        room = max(_NUMBER, draw.textlength(str(entity), font=font)) + 2
        if side * min(scales) >= room:
            centre = (corner[0] + (left + side / 2) * scales[1], corner[1] + (top + side / 2) * scales[0])
            draw.text(centre, str(entity), fill=ink_on(colors[entity]), font=font, anchor="mm")


def _write_legend(canvas: Image.Image, top: int, shares: np.ndarray, used: list[int], entries: int) -> None:
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(12)
    text = f"{len(used)} of {len(shares)} entities own a part of these images:"
    draw.text((_GAP, top + _LINE // 2), text, fill=INK, font=font, anchor="lm")
    colors = layout_colors(len(shares))
    for number, entity in enumerate(used):
        left = _GAP + number % entries * _ENTRY
        y = top + (1 + number // entries) * _LINE
        draw.rectangle((left, y + 3, left + 24, y + 17), fill=tuple(colors[entity].tolist()))
        draw.text((left + 12, y + 10), str(entity), fill=ink_on(colors[entity]), font=font, anchor="mm")
        draw.text((left + 30, y + 10), percent(shares[entity]), fill=INK, font=font, anchor="lm")
