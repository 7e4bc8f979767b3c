"""Every pixel of a grid is where it belongs."""

from __future__ import annotations

import re

import numpy as np
import pytest

from attennorm_tf.visualization import image_grid, to_uint8


def _images(count, height=4, width=5, channels=3):
    return np.random.RandomState(0).uniform(-1, 1, (count, height, width, channels)).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("rows", "columns", "shape"), [(2, 3, (2, 3)), (None, 2, (3, 2)), (1, None, (1, 6))])
def test_tiles_stand_row_by_row(channels, rows, columns, shape):
    images = _images(6, channels=channels)
    grid = image_grid(images, rows=rows, columns=columns, padding=2)
    assert grid.dtype == np.uint8
    assert grid.shape == (2 + shape[0] * 6, 2 + shape[1] * 7, 3)
    covered = np.zeros(grid.shape[:2], bool)
    for index, tile in enumerate(to_uint8(images)):
        top, left = 2 + index // shape[1] * 6, 2 + index % shape[1] * 7
        np.testing.assert_array_equal(grid[top : top + 4, left : left + 5], tile)
        covered[top : top + 4, left : left + 5] = True
    assert (grid[~covered] == 255).all()


def test_about_square_without_rows_and_columns():
    assert image_grid(_images(10), padding=0).shape == (3 * 4, 4 * 5, 3)


def test_too_few_and_too_many_images():
    assert (image_grid(_images(1), rows=1, columns=2, padding=0)[:, 5:] == 255).all()
    np.testing.assert_array_equal(
        image_grid(_images(6), rows=1, columns=2), image_grid(_images(6)[:2], rows=1, columns=2)
    )


def test_range():
    levels = np.array([-5.0, -1.0, -1 / 255, 1.0, 5.0]).reshape(1, 5, 1)
    assert to_uint8(levels)[0, :, 0].tolist() == [0, 0, 127, 255, 255]
    every = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    np.testing.assert_array_equal(to_uint8(every / np.float32(127.5) - 1)[..., :1], every)


def test_scale_makes_squares_of_pixels():
    images = _images(1)
    grid = image_grid(images, padding=0, scale=3)
    np.testing.assert_array_equal(grid[1::3, 1::3], to_uint8(images)[0])
    assert grid.shape == (12, 15, 3)


def test_labels_are_written_under_the_images():
    images = np.full((4, 16, 16, 1), -1.0)
    grid = image_grid(images, rows=2, columns=2, padding=4, labels=["cat", 7, "a very long name indeed", ""])
    assert grid.shape == (4 + 2 * (32 + 18 + 4), 4 + 2 * 36, 3)
    captions = [
        grid[4 + 32 + row * 54 : 4 + 50 + row * 54, 4 + column * 36 :][:, :32] for row, column in np.ndindex(2, 2)
    ]
    assert [bool((caption < 200).any()) for caption in captions] == [True, True, True, False]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": np.zeros((0, 4, 4, 1))}, "images must be (n, height, width, 1 or 3) with n at least 1"),
        ({"images": np.zeros((4, 4, 1))}, "images must be (n, height, width, 1 or 3) with n at least 1"),
        ({"images": np.zeros((1, 4, 4, 2))}, "images must end in (height, width, 1 or 3), got (1, 4, 4, 2)"),
        ({"images": np.full((1, 4, 4, 1), np.nan)}, "images hold values that are not finite"),
        ({"images": np.zeros((1, 4, 4, 1)), "rows": 0}, "rows must be at least 1, got 0"),
        ({"images": np.zeros((1, 4, 4, 1)), "padding": -1}, "padding must be 0 or more, got -1"),
        ({"images": np.zeros((1, 4, 4, 1)), "labels": [1, 2]}, "labels must be one per image, 1, got 2"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        image_grid(**arguments)
