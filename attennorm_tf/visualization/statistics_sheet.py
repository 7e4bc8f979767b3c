"""Figure 4: the regions of images with the mean and the standard deviation of the features inside them."""

from __future__ import annotations

import math
from typing import Callable

import numpy as np
from PIL import Image

from attennorm_tf.visualization.entity_colors import layout_colors
from attennorm_tf.visualization.image_grid import BACKGROUND, to_uint8, write
from attennorm_tf.visualization.layout_sheet import checked_layouts, percent
from attennorm_tf.visualization.region_statistics import RegionStatistics
from attennorm_tf.visualization.tiles import tile_size, tiles

_GAP = 6
_LINE = 17
_HEAD = 22
_SMALLEST_TILE = 112  # two numbers fit above
_OUTSIDE = 0.2
_LIFT = 64


def statistics_sheet(
    images: np.ndarray, layouts: np.ndarray, statistics: RegionStatistics, max_regions: int = 5
) -> np.ndarray:
    """A row for each image: the whole of it, then its largest regions, each with mean and standard deviation above.

    Args:
        images: float (b, H, W, 1 or 3) in [-1, 1].
        layouts: float (b, h, w, n), of any size.
        statistics: of `region_statistics`, for these images and layouts.
        max_regions: of each image, the largest first.

    Returns:
        uint8 (H', W', 3); a region is lighter and what is outside darker than the image. Over each region are the
        entity's number, colour and share of the image, the mean, the standard deviation and what part that is of the
        whole map's.

    Raises:
        ValueError: other shapes, statistics of other images, or `max_regions` below 1.
    """
    layouts = checked_layouts(layouts, images)
    if max_regions < 1:
        raise ValueError(f"max_regions must be at least 1, got {max_regions}.")
    if statistics.shares.shape != (len(layouts), layouts.shape[-1]):
        raise ValueError(
            f"statistics must be of these {len(layouts)} images and {layouts.shape[-1]} entities, got those of "
            f"{statistics.shares.shape[0]} and {statistics.shares.shape[1]}."
        )
    size = tile_size(images, _SMALLEST_TILE)
    orders = np.argsort(-statistics.shares, axis=1, kind="stable")
    regions = [
        [int(k) for k in order[:max_regions] if statistics.shares[row, k] > 0] for row, order in enumerate(orders)
    ]
    columns = 1 + max(len(found) for found in regions)
    step, block = size.column + _GAP, 3 * _LINE + 2 + size.height + 2 * _GAP
    canvas = Image.new("RGB", (_GAP + columns * step, _HEAD + len(images) * block), BACKGROUND)
    title = "mean, standard deviation of the features: over the whole map, and over the region of an entity"
    write(canvas, (canvas.width // 2, _HEAD // 2), title, canvas.width - 2 * _GAP)
    pictures = tiles(to_uint8(images), size, smooth=True)
    colors = layout_colors(layouts.shape[-1])
    ratios = statistics.ratios
    numbers = _pair_format(float(np.median(statistics.map_std)))
    for row, found in enumerate(regions):
        top = _HEAD + row * block
        winners = layouts[row].argmax(axis=-1)
        for column, entity in enumerate([None, *found]):
            left = _GAP + column * step
            pixels = pictures[row]
            if entity is None:
                lines = ["whole map", numbers(statistics.map_mean[row], statistics.map_std[row]), ""]
            else:
                pixels = _highlighted(pixels, tiles(_as_pixels(winners == entity), size)[0, ..., 0] > 0)
                share, ratio = statistics.shares[row, entity], ratios[row, entity]
                lines = [
                    f"entity {entity}, {percent(share)}",
                    numbers(statistics.mean[row, entity], statistics.std[row, entity]),
                    f"{ratio:.2f} of the map's" if np.isfinite(ratio) else "constant map",
                ]
                canvas.paste(tuple(colors[entity].tolist()), (left, top + 3, left + 12, top + 15))
            for number, line in enumerate(lines):
                shift = 14 if entity is not None and number == 0 else 0
                centre = (left + shift + (size.column - shift) // 2, top + number * _LINE + _LINE // 2)
                write(canvas, centre, line, size.column - shift)
            corner = (left + (size.column - size.width) // 2, top + 3 * _LINE + 2)
            canvas.paste(Image.fromarray(pixels), corner)
    return np.array(canvas)


def _highlighted(pixels: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3): every pixel of a region, bool (H, W), is brighter than all others, however dark the image is."""
    shown = np.where(inside[..., np.newaxis], _LIFT + (255 - _LIFT) / 255 * pixels, _OUTSIDE * pixels)
    return np.round(shown).astype(np.uint8)


def _as_pixels(region: np.ndarray) -> np.ndarray:
    return region.astype(np.uint8)[np.newaxis, ..., np.newaxis].repeat(3, axis=-1)


def _pair_format(scale: float) -> Callable[[float, float], str]:
    """Mean and deviation with as many decimals as a deviation of about `scale` needs."""
    decimals = min(8, max(0, 2 - round(math.log10(scale)))) if scale > 0 else 2

    def shown(mean: float, std: float) -> str:
        return f"{round(mean, decimals) + 0.0:.{decimals}f}, {std:.{decimals}f}"  # no "-0.00"

    return shown
