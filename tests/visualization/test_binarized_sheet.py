"""Binarised layouts in colour: the right colours, numbers where there is room, a legend of what is there."""

from __future__ import annotations

import re

import numpy as np
import pytest

from attennorm_tf.visualization import binarized_layout, binarized_sheet, layout_colors, to_uint8
from attennorm_tf.visualization.binarized_sheet import largest_squares

LEFT, TILE = 72, 80


def _layouts(seed, b, h, w, n):
    return np.random.RandomState(seed).dirichlet(np.ones(n), size=(b, h, w))


def test_images_layouts_and_both():
    images = np.random.RandomState(1).uniform(-1, 1, (9, 16, 16, 1))
    layouts = _layouts(0, 9, 16, 16, 5)
    sheet = binarized_sheet(images, layouts)
    band = 6 + 3 * 86
    assert sheet.shape == (2 * band + 2 * 20 + 6, LEFT + 8 * 86, 3)
    for index in (0, 7, 8):
        top, left = index // 8 * band + 6, LEFT + index % 8 * 86
        image, layout, both = (sheet[top + row * 86 :, left:][:TILE, :TILE][2::5, 2::5] for row in range(3))
        np.testing.assert_array_equal(image, to_uint8(images)[index])
        np.testing.assert_array_equal(layout, binarized_layout(layouts)[index])
        expected = 0.4 * to_uint8(images)[index] + 0.6 * binarized_layout(layouts)[index]
        np.testing.assert_allclose(both, expected, atol=0.51)


def test_the_legend_names_the_entities_that_own_something():
    layouts = np.zeros((1, 8, 8, 12))
    layouts[..., 9] = 0.5
    layouts[0, :4, :, 3] = 0.6
    sheet = binarized_sheet(np.zeros((1, 16, 16, 3)), layouts)
    legend = sheet[6 + 3 * 86 + 20 :]
    shown = [k for k, color in enumerate(layout_colors(12)) if (legend == color).all(axis=-1).sum() > 100]
    assert shown == [3, 9]


def test_a_number_stands_on_a_region_that_has_room():
    layouts = np.eye(2)[np.zeros((1, 16, 16), int)]
    layouts[0, 4:6, 4:6] = (0, 1)  # 10 pixels of the sheet: too small for a number
    tile = binarized_sheet(np.zeros((1, 16, 16, 3)), layouts)[6 + 86 :, LEFT:][:TILE, :TILE]
    small = tile[20:30, 20:30]
    assert (small == layout_colors(2)[1]).all()
    written = (tile != layout_colors(2)[0]).any(axis=-1)
    written[20:30, 20:30] = False
    assert 5 < written.sum() < 120


@pytest.mark.parametrize("sides", [(7, 7), (5, 9), (1, 6), (12, 4)])
def test_largest_squares_against_trying_all(sides):
    for seed in range(5):
        winners = np.random.RandomState(seed).randint(0, 3, sides)
        winners[: sides[0] // 2, : sides[1] // 2] = 0
        for entity, (side, top, left) in enumerate(largest_squares(winners, 4)):
            fitting = [
                length
                for length in range(1, min(sides) + 1)
                for y in range(sides[0] - length + 1)
                for x in range(sides[1] - length + 1)
                if (winners[y : y + length, x : x + length] == entity).all()
            ]
            assert side == max(fitting, default=0)
            assert (winners[top : top + side, left : left + side] == entity).all()


@pytest.mark.parametrize(
    ("count", "image", "layout", "n"),
    [(1, (16, 16, 1), (8, 8), 1), (1, (512, 512, 3), (64, 64), 32), (3, (16, 16, 3), (16, 16), 32),
     (8, (512, 384, 1), (64, 48), 16), (2, (24, 96, 3), (6, 24), 3)],
)  # fmt: skip
def test_any_size(count, image, layout, n):
    labels = ["a class name that is very long indeed"] * count
    sheet = binarized_sheet(np.zeros((count, *image)), _layouts(0, count, *layout, n), labels)
    assert sheet.dtype == np.uint8
    assert sheet.shape[1] <= LEFT + 8 * (256 + 6)
    assert sheet.shape[0] <= 20 + 3 * (256 + 6) + 33 * 20 + 6
    height, width = image[:2]
    grey = (sheet[20:] == (128, 128, 128)).all(axis=-1)[:, LEFT:]  # the images; tiles lie 6 pixels apart
    shown = (grey.any(axis=1).argmin(), np.append(grey[0], False)[grey[0].argmax() :].argmin())
    assert shown[0] / shown[1] == pytest.approx(height / width, rel=0.01)


def test_bad_arguments():
    images, layouts = np.zeros((2, 8, 8, 3)), _layouts(0, 2, 8, 8, 3)
    for arguments, message in (
        ((images, layouts, ["x"]), "labels must be one per image, 2, got 1"),
        ((images[:1], layouts), "must belong together, got (1, 8, 8, 3) and (2, 8, 8, 3)"),
        ((images, np.full_like(layouts, np.inf)), "layouts hold values that are not finite"),
        ((images[..., :2], layouts), "images must end in (height, width, 1 or 3), got (2, 8, 8, 2)"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            binarized_sheet(*arguments)
