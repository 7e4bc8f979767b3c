"""Which parts of an image the network sees, and at which scale: crops around holes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from attennorm_tf.inference.holes import Box, bounding_box, thickness, widened


class Region(NamedTuple):
    """Holes that are filled together.

    crop: the part of the image that the network sees; scale: by how much it is made smaller first, >= 1; own: bool, of
    the crop's size, the pixels that are filled.
    """

    crop: Box
    scale: float
    own: np.ndarray


class _Group(NamedTuple):
    labels: tuple[int, ...]
    box: Box  # of the missing pixels
    crop: Box
    scale: float


def plan_regions(hole: np.ndarray, resolution: int, hole_size: int, scaled: bool = True) -> Iterator[Region]:
    """Splits what is missing into regions.

    Holes less than a quarter of `resolution` apart belong together. A region's crop reaches a quarter of `resolution`
    beyond its holes and is at least `resolution` wide and high, inside the image; crops that overlap are joined where
    that costs nothing. So a hole of half the training resolution is seen as in training.

    Holes thicker than `hole_size` are seen at a reduced scale, which makes them that thick, and all those lengths are
    so much longer: the middle of a hole thicker than any in training is beyond what the network can see, and comes
    out as mush. Measured on 40 photographs of 288x432 that a network trained at 128x128 with holes of 64 never saw
    (PSNR in the hole, dB; OpenCV's Telea last):

        hole of                          32     64     96    128    160
        crop at native scale           20.1   19.3   17.8   16.5   16.1
        whole picture at native scale  19.9   19.1   17.6   16.6   16.0
        crop at the scale of training  20.1   19.3   18.7   17.4   17.3
        Telea                          18.5   17.6   16.5   15.8   15.3

    Args:
        hole: bool (H, W), with missing and known pixels.
        resolution: side of the images that the network was trained on.
        hole_size: thickness of the holes it was trained on.
        scaled: whether thick holes are seen at a reduced scale.

    Yields:
        The regions; each missing pixel is one's own, once.
    """
    cell = max(8, resolution // 4)
    labels = _labelled(_occupied(hole, cell))
    groups: list[_Group] = []
    for label, cells in _label_boxes(labels):
        part = widened(Box(*(cell * side for side in cells)), 1, hole.shape)
        own = _own(hole, labels, cell, part, (label,))
        inner = bounding_box(own)
        box = Box(part.top + inner.top, part.left + inner.left, part.top + inner.bottom, part.left + inner.right)
        scale = max(1.0, thickness(own) / hole_size) if scaled else 1.0
        _add(groups, _Group((label,), box, _crop_around(box, scale, resolution, hole.shape), scale), resolution, hole)
    for group in groups:
        yield Region(group.crop, group.scale, _own(hole, labels, cell, group.crop, group.labels))


def _occupied(hole: np.ndarray, cell: int) -> np.ndarray:
    """Which cells of a grid hold missing pixels."""
    rows = np.logical_or.reduceat(hole, np.arange(0, hole.shape[0], cell), axis=0)
    return np.logical_or.reduceat(rows, np.arange(0, hole.shape[1], cell), axis=1)


def _labelled(occupied: np.ndarray) -> np.ndarray:
    """Numbers the connected groups of cells (8 neighbours) from 1; 0 elsewhere."""
    labels = np.zeros(occupied.shape, np.int32)
    count = 0
    for seed in zip(*np.nonzero(occupied)):
        if labels[seed]:
            continue
        count += 1
        labels[seed] = count
        open_cells = [seed]
        while open_cells:
            row, column = open_cells.pop()
            top, left = max(0, row - 1), max(0, column - 1)
            window = (slice(top, row + 2), slice(left, column + 2))
            for dy, dx in zip(*np.nonzero(occupied[window] & (labels[window] == 0))):
                labels[top + dy, left + dx] = count
                open_cells.append((top + dy, left + dx))
    return labels


def _label_boxes(labels: np.ndarray) -> list[tuple[int, Box]]:
    rows, columns = np.nonzero(labels)
    numbers = labels[rows, columns]
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[order], prepend=0))
    tops, lefts = (np.minimum.reduceat(values[order], starts) for values in (rows, columns))
    bottoms, rights = (np.maximum.reduceat(values[order], starts) + 1 for values in (rows, columns))
    corners = np.stack([tops, lefts, bottoms, rights], axis=1).tolist()
    return [(number + 1, Box(*sides)) for number, sides in enumerate(corners)]


def _own(hole: np.ndarray, labels: np.ndarray, cell: int, box: Box, wanted: tuple[int, ...]) -> np.ndarray:
    """The missing pixels in a box that belong to the groups `wanted`."""
    top, left = box.top // cell, box.left // cell
    cells = np.isin(labels[top : -(-box.bottom // cell), left : -(-box.right // cell)], wanted)
    pixels = cells.repeat(cell, axis=0).repeat(cell, axis=1)
    rows = slice(box.top - top * cell, box.bottom - top * cell)
    columns = slice(box.left - left * cell, box.right - left * cell)
    own: np.ndarray = hole[box.slices] & pixels[rows, columns]
    return own


def _crop_around(box: Box, scale: float, resolution: int, shape: tuple[int, ...]) -> Box:
    starts, ends = [], []
    for first, last, length in ((box.top, box.bottom, shape[0]), (box.left, box.right, shape[1])):
        side = max(last - first + 2 * math.ceil(scale * resolution / 4), math.ceil(scale * resolution))
        side = min(-(-side // 8) * 8, length)
        start = min(max(0, (first + last - side) // 2), length - side)
        starts.append(start)
        ends.append(start + side)
    return Box(*starts, *ends)


def _add(groups: list[_Group], new: _Group, resolution: int, hole: np.ndarray) -> None:
    """Adds a group, joined with those whose crops cost no more together than apart."""
    index = 0
    while index < len(groups):
        other = groups[index]
        joined = _joined(other, new, resolution, hole.shape)
        if joined is None:
            index += 1
        else:
            del groups[index]
            new, index = joined, 0
    groups.append(new)


def _joined(one: _Group, other: _Group, resolution: int, shape: tuple[int, ...]) -> _Group | None:
    scale = max(one.scale, other.scale)
    if scale > 1.25 * min(one.scale, other.scale):
        return None  # a small hole is not to be blurred for the sake of a large one
    box = Box(*(min(sides) for sides in zip(one.box[:2], other.box[:2])),
              *(max(sides) for sides in zip(one.box[2:], other.box[2:])))  # fmt: skip
    crop = _crop_around(box, scale, resolution, shape)
    if crop.area > one.crop.area + other.crop.area:
        return None
    return _Group(one.labels + other.labels, box, crop, scale)
