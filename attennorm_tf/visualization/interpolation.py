"""From class to class with the noise fixed, and one entity followed: figure 8 of the paper."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from attennorm_tf.visualization.entity_colors import heat_colors, layout_colors
from attennorm_tf.visualization.image_grid import BACKGROUND, to_uint8, write
from attennorm_tf.visualization.layout_sheet import checked_layouts, paste
from attennorm_tf.visualization.tiles import tile_size, tiles

_GAP = 6
_HEADING = 16
_LABEL_MARGIN = 64


def class_blends(class_ids: Sequence[int], num_classes: int, steps: int) -> np.ndarray:
    """The weights of the classes at each step of an interpolation.

    Args:
        class_ids: two or more, visited in order.
        num_classes: of which they are.
        steps: images from one class (included) to the next (excluded, but for the last), >= 1.

    Returns:
        float32 ((len(class_ids) - 1) * steps + 1, num_classes), rows sum to 1.

    Raises:
        ValueError: fewer than two classes, a class id out of range, or steps < 1.

    Example:
        >>> class_blends([1, 0], 2, steps=2).tolist()
        [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]
    """
    if len(class_ids) < 2 or steps < 1:
        raise ValueError(f"class_ids must name two or more classes and steps be >= 1; got {class_ids}, {steps}.")
    for class_id in class_ids:
        if not 0 <= class_id < num_classes:
            raise ValueError(f"classes must be in [0, {num_classes}), got {class_id}.")
    corners = np.eye(num_classes, dtype=np.float32)[list(class_ids)]
    blends = [
        (1 - share) * before + share * after
        for before, after in zip(corners, corners[1:])
        for share in np.arange(steps) / steps
    ]
    return np.stack([*blends, corners[-1]]).astype(np.float32)


def three_classes(num_classes: int) -> list[int]:
    """What an interpolation visits unless told otherwise: classes far apart, or all where there are no more."""
    return [0, num_classes // 3, 2 * num_classes // 3] if num_classes > 3 else list(range(num_classes))


def blend_headings(class_ids: Sequence[int], names: Sequence[str], steps: int) -> list[str]:
    """What stands over the images of `class_blends`: the class at each corner, between them the share of the next."""
    headings = []
    for before, after in zip(class_ids, class_ids[1:]):
        headings += [f"{step / steps:.0%} {names[after]}" if step else names[before] for step in range(steps)]
    return [*headings, names[class_ids[-1]]]


def followed_entity(layouts: np.ndarray) -> int:
    """The entity whose map varies most over space: one that tells parts of the image from each other.

    Args:
        layouts: (N, h, w, n).

    Returns:
        An index in [0, n).
    """
    return int(np.argmax(layouts.std(axis=(1, 2)).mean(axis=0)))


def interpolation_strip(
    images: np.ndarray, layouts: np.ndarray, entity: int, headings: Sequence[str] | None = None
) -> np.ndarray:
    """Figure 8: a row of images over the row of one entity's maps, on one scale for the whole row.

    Args:
        images: float (b, H, W, 1 or 3) in [-1, 1], the steps of an interpolation.
        layouts: float (b, h, w, n).
        entity: which map to show, in [0, n).
        headings: what stands over each image, e.g. the classes it is between; None: nothing.

    Returns:
        uint8 (H', W', 3), small images enlarged by whole factors.

    Raises:
        ValueError: other shapes, no such entity, or not one heading for each image.
    """
    layouts = checked_layouts(layouts, images)
    if not 0 <= entity < layouts.shape[-1]:
        raise ValueError(f"entity must be in [0, {layouts.shape[-1]}), got {entity}.")
    if headings is not None and len(headings) != len(images):
        raise ValueError(f"headings must be one for each of {len(images)} images, got {len(headings)}.")
    size = tile_size(images, largest=128)
    values = layouts[..., entity]
    rows = [tiles(to_uint8(images), size, smooth=True), tiles(heat_colors(values, values.max()), size)]
    step = size.column + 2
    head = 0 if headings is None else _HEADING
    shape = (_LABEL_MARGIN + len(images) * step + _GAP, head + 2 * (size.height + _GAP) + _GAP)
    canvas = Image.new("RGB", shape, BACKGROUND)
    for column, heading in enumerate(headings or ()):
        write(canvas, (_LABEL_MARGIN + column * step + size.column // 2, _GAP + head // 2 - 1), heading, size.column)
    for row, (pictures, label) in enumerate(zip(rows, ("image", f"entity {entity}"))):
        top = head + _GAP + row * (size.height + _GAP)
        write(canvas, (_LABEL_MARGIN // 2, top + size.height // 2), label, _LABEL_MARGIN - 8)
        for column, pixels in enumerate(pictures):
            paste(canvas, (_LABEL_MARGIN + column * step, top), pixels, size.column)
    left = _LABEL_MARGIN // 2 - 6
    top = head + _GAP + size.height + _GAP + size.height // 2 + 12
    canvas.paste(tuple(layout_colors(entity + 1)[entity].tolist()), (left, top, left + 12, top + 12))
    return np.array(canvas)
