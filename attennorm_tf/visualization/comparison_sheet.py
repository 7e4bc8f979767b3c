"""The same images treated in several ways, side by side: inputs, results of each method, truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from attennorm_tf.visualization.image_grid import BACKGROUND, enlarge, scale_to, to_uint8, write

_SMALLEST_TILE = 96  # titles are unreadable over anything smaller
_GAP = 4
_LINE = 17


def comparison_sheet(
    columns: Mapping[str, np.ndarray],
    *,
    captions: Mapping[str, Sequence[str]] | None = None,
    scale: int | None = None,
) -> np.ndarray:
    """A column for each key with its title above, a row for each image.

    Args:
        columns: title -> images (n, H, W, 1 or 3), uint8, or float in [-1, 1]; all of one n, H and W. A title may
            have several lines; one that is too wide is written smaller, then shortened.
        captions: title -> a line under each of that column's images; columns may be missing.
        scale: whole factor of enlargement, each pixel becoming a square; default large enough to read the titles.

    Returns:
        uint8 (H', W', 3).

    Raises:
        ValueError: no columns or no images, shapes that differ, a scale below 1, captions of no column or not one
            for each image.

    Example:
        >>> truth = np.zeros((2, 48, 48, 3), np.uint8)
        >>> comparison_sheet({"input": truth, "truth": truth}).shape
        (221, 204, 3)
    """
    if not columns:
        raise ValueError("columns must hold at least one title, got none.")
    pictures = {title: _pixels(title, images) for title, images in columns.items()}
    first, shape = next((title, images.shape) for title, images in pictures.items())
    for title, images in pictures.items():
        if images.shape != shape:
            raise ValueError(f"columns must be of one shape: {first!r} is {shape}, {title!r} is {images.shape}.")
    captions = captions or {}
    for title, lines in captions.items():
        if title not in pictures or len(lines) != shape[0]:
            raise ValueError(
                f"captions must be one for each of {shape[0]} images of a column, got {len(lines)} for {title!r}."
            )
    if scale is None:
        scale = scale_to(shape[2], _SMALLEST_TILE)
    if scale < 1:
        raise ValueError(f"scale must be at least 1, got {scale}.")
    height, width = shape[1] * scale, shape[2] * scale
    heading = max(title.count("\n") + 1 for title in pictures) * _LINE
    step_y, step_x = height + (_LINE if captions else 0) + _GAP, width + _GAP
    canvas = Image.new("RGB", (_GAP + len(pictures) * step_x, _GAP + heading + shape[0] * step_y), BACKGROUND)
    for column, (title, images) in enumerate(pictures.items()):
        left = _GAP + column * step_x
        for number, line in enumerate(title.split("\n")):
            write(canvas, (left + width // 2, _GAP // 2 + number * _LINE + _LINE // 2), line, width)
        for row, image in enumerate(enlarge(images, scale)):
            top = _GAP + heading + row * step_y
            canvas.paste(Image.fromarray(image), (left, top))
            if title in captions:
                write(canvas, (left + width // 2, top + height + _LINE // 2), captions[title][row], width)
    return np.array(canvas)


def _pixels(title: str, images: np.ndarray) -> np.ndarray:
    """uint8 (n, H, W, 3) of one column."""
    images = np.asarray(images)
    if images.ndim != 4 or not images.size or images.shape[-1] not in (1, 3):
        raise ValueError(f"column {title!r} must be (n, height, width, 1 or 3) with n at least 1, got {images.shape}.")
    if images.dtype == np.uint8:
        return np.broadcast_to(images, (*images.shape[:-1], 3))
    return to_uint8(images)
