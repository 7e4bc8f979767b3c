"""The colour wheel against its published table, and its properties."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest

from attennorm_tf.visualization import flow_picture
from attennorm_tf.visualization.flow_picture import color_wheel


def middlebury_wheel() -> np.ndarray:
    """Statement by statement from the authors' `computeColor.m`."""
    ry, yg, gc, cb, bm, mr = 15, 6, 4, 11, 13, 6
    wheel = np.zeros((ry + yg + gc + cb + bm + mr, 3))
    column = 0
    wheel[:ry, 0], wheel[:ry, 1] = 255, np.floor(255 * np.arange(ry) / ry)
    column += ry
    wheel[column : column + yg, 0] = 255 - np.floor(255 * np.arange(yg) / yg)
    wheel[column : column + yg, 1] = 255
    column += yg
    wheel[column : column + gc, 1], wheel[column : column + gc, 2] = 255, np.floor(255 * np.arange(gc) / gc)
    column += gc
    wheel[column : column + cb, 1] = 255 - np.floor(255 * np.arange(cb) / cb)
    wheel[column : column + cb, 2] = 255
    column += cb
    wheel[column : column + bm, 2], wheel[column : column + bm, 0] = 255, np.floor(255 * np.arange(bm) / bm)
    column += bm
    wheel[column : column + mr, 2] = 255 - np.floor(255 * np.arange(mr) / mr)
    wheel[column : column + mr, 0] = 255
    return wheel


def middlebury_color(dy: float, dx: float, longest: float) -> list[int]:
    """One offset's colour from the same file, u to the right and v down."""
    wheel = middlebury_wheel()
    u, v = dx / longest, dy / longest
    radius = np.hypot(u, v)
    place = (np.arctan2(-v, -u) / np.pi + 1) / 2 * (len(wheel) - 1)
    first = int(np.floor(place))
    second = 0 if first + 1 == len(wheel) else first + 1
    color = (1 - (place - first)) * wheel[first] / 255 + (place - first) * wheel[second] / 255
    color = 1 - radius * (1 - color) if radius <= 1 else color * 0.75
    return [int(np.floor(255 * value)) for value in color]


def test_wheel_is_the_published_one() -> None:
    np.testing.assert_allclose(color_wheel(), middlebury_wheel(), atol=1e-10)


def test_pictures_are_the_published_colors() -> None:
    offsets = np.random.default_rng(0).integers(-9, 10, (2, 5, 6, 2))
    pictures = flow_picture(offsets)
    for picture, one in zip(pictures, offsets):
        longest = max(np.hypot(*offset) for offset in one.reshape(-1, 2))
        expected = [[middlebury_color(*offset, longest) for offset in row] for row in one]
        assert np.abs(picture.astype(int) - expected).max() <= 1  # a rounding of the last bit
    fixed = flow_picture(offsets[0], longest=5.0)
    expected = [[middlebury_color(*offset, 5.0) for offset in row] for row in offsets[0]]
    assert np.abs(fixed.astype(int) - expected).max() <= 1


def test_no_offset_is_white_and_distance_saturates() -> None:
    np.testing.assert_array_equal(flow_picture(np.zeros((3, 4, 2), np.int32)), np.full((3, 4, 3), 255))
    line = np.zeros((1, 5, 2))
    line[0, :, 1] = range(5)
    saturation = [colorsys.rgb_to_hsv(*color)[1] for color in flow_picture(line)[0] / 255.0]
    np.testing.assert_allclose(saturation, np.arange(5) / 4, atol=0.01)
    around = np.array([[(0, 1), (1, 0), (0, -1), (-1, 0)]])
    assert len({tuple(color) for color in flow_picture(around)[0]}) == 4


@pytest.mark.parametrize(
    ("offsets", "longest", "message"),
    [
        (np.zeros((4, 4, 3)), None, r"offsets must be \(..., height, width, 2\), got \(4, 4, 3\)"),
        (np.zeros((4, 2)), None, r"offsets must be \(..., height, width, 2\), got \(4, 2\)"),
        (np.full((1, 1, 2), np.nan), None, "offsets hold values that are not finite"),
        (np.zeros((1, 1, 2)), 0.0, "longest must be a finite number > 0 or None, got 0.0"),
    ],
)
def test_bad_input(offsets: np.ndarray, longest: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        flow_picture(offsets, longest)
