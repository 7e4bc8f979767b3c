"""Images side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

BACKGROUND = (255, 255, 255)
INK = (60, 60, 60)
_SMALLEST_TILE = 64  # labels are unreadable on anything smaller
_LABEL_SIZE = 13


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Float (..., H, W, 1 or 3) in [-1, 1], values outside clipped, to uint8 RGB (..., H, W, 3)."""
    images = np.asarray(images, np.float32)
    if images.ndim < 3 or images.shape[-1] not in (1, 3):
        raise ValueError(f"images must end in (height, width, 1 or 3), got {images.shape}.")
    if not np.isfinite(images).all():
        raise ValueError("images hold values that are not finite.")
    pixels = np.round((np.clip(images, -1.0, 1.0) + 1.0) * 127.5).astype(np.uint8)
    return np.broadcast_to(pixels, (*pixels.shape[:-1], 3)).copy()


def image_grid(
    images: np.ndarray,
    rows: int | None = None,
    columns: int | None = None,
    padding: int = 2,
    labels: Sequence[object] | None = None,
    *,
    scale: int | None = None,
) -> np.ndarray:
    """Images in rows, from the upper left.

    Args:
        images: float (n, H, W, 1 or 3) in [-1, 1].
        rows: of the grid; None: as many as needed.
        columns: of the grid; None: from `rows`, or about square. Cells beyond n stay empty; images beyond
            rows * columns are left out.
        padding: pixels between images and around them.
        labels: a caption for each image, e.g. class names; None for none.
        scale: whole factor of enlargement, each pixel becoming a square; default 1, or with labels large
            enough to read them.

    Returns:
        uint8 (H', W', 3).

    Raises:
        ValueError: no images, other shapes, rows or columns below 1, or not one label per image.

    Example:
        >>> image_grid(np.zeros((6, 8, 8, 1)), rows=2).shape
        (22, 32, 3)
    """
    tiles = to_uint8(images)
    if tiles.ndim != 4 or not len(tiles):
        raise ValueError(f"images must be (n, height, width, 1 or 3) with n at least 1, got {tiles.shape}.")
    for name, value in (("rows", rows), ("columns", columns), ("scale", scale)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")
    if padding < 0:
        raise ValueError(f"padding must be 0 or more, got {padding}.")
    if labels is not None and len(labels) != len(tiles):
        raise ValueError(f"labels must be one per image, {len(tiles)}, got {len(labels)}.")
    if columns is None:
        columns = int(np.ceil(len(tiles) / rows)) if rows else int(np.ceil(np.sqrt(len(tiles))))
    rows = rows or -(-len(tiles) // columns)
    if scale is None:
        scale = 1 if labels is None else scale_to(tiles.shape[1], _SMALLEST_TILE // 2)
    tiles = enlarge(tiles, scale)
    height, width = tiles.shape[1:3]
    caption = 0 if labels is None else _LABEL_SIZE + 5
    step_y, step_x = height + caption + padding, width + padding
    canvas = Image.new("RGB", (padding + columns * step_x, padding + rows * step_y), BACKGROUND)
    for index, tile in enumerate(tiles[: rows * columns]):
        top, left = padding + index // columns * step_y, padding + index % columns * step_x
        canvas.paste(Image.fromarray(tile), (left, top))
        if labels is not None:
            write(canvas, (left + width // 2, top + height + caption // 2), str(labels[index]), width)
    return np.array(canvas)


def scale_to(side: int, smallest: int) -> int:
    """The smallest whole factor that makes `side` at least `smallest`."""
    return max(1, -(-smallest // side))


def enlarge(images: np.ndarray, scale: int) -> np.ndarray:
    """(..., H, W, C) with every pixel a square of `scale` x `scale`."""
    return images.repeat(scale, axis=-3).repeat(scale, axis=-2)


def write(canvas: Image.Image, centre: tuple[int, int], text: str, width: int, size: int = _LABEL_SIZE) -> None:
    """Writes `text` around `centre`, in a smaller type or shortened where it is wider than `width`."""
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size)
    while size > 9 and draw.textlength(text, font=font) > width:
        size -= 1
        font = ImageFont.load_default(size)
    shown = text
    while len(shown) > 1 and draw.textlength(shown, font=font) > width:
        shown = shown.rstrip(".")[:-1] + "."
    draw.text(centre, shown, fill=INK, font=font, anchor="mm")
