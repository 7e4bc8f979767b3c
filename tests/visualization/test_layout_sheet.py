"""Colours that can be told apart, and sheets that show the layout they are given."""

from __future__ import annotations

import re

import numpy as np
import pytest

from attennorm_tf.visualization import (
    binarized_layout,
    interpolation_strip,
    layout_colors,
    layout_sheet,
    to_uint8,
)

TILE = 80


def _softmax(scores):
    exponentials = np.exp(scores)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def test_colors_are_distinct_and_stable():
    colors = layout_colors(32).astype(int)
    np.testing.assert_array_equal(layout_colors(5), colors[:5])
    distances = np.abs(colors[:, None] - colors).sum(axis=-1) + 1000 * np.eye(32, dtype=int)
    assert distances.min() >= 60
    assert distances[:8, :8].min() >= 80
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        layout_colors(0)


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4)])
def test_binarized_layout(shape):
    layout = np.random.RandomState(0).uniform(size=(*shape, 6))
    picture = binarized_layout(layout)
    assert picture.shape == (*shape, 3)
    for position in np.ndindex(*shape):
        assert picture[position].tolist() == layout_colors(6)[np.argmax(layout[position])].tolist()


def _quarters():
    """Two 16x16 images; entity 2 owns 3/4 of the pixels, entity 0 a quarter, 1 and 3 nothing."""
    scores = np.zeros((2, 16, 16, 4))
    scores[..., 2] = 2.0
    scores[:, :8, :8, 0] = 5.0
    images = np.random.RandomState(0).uniform(-1, 1, (2, 16, 16, 1))
    return images, _softmax(scores)


def test_sheet_shows_images_layouts_and_the_entities_in_use():
    images, layouts = _quarters()
    sheet = layout_sheet(images, layouts)
    # image, layout, entity 2, entity 0; two rows of tiles under two lines of headings
    assert sheet.shape == (44 + 2 * 86, 6 + 4 * 86 + 6, 3)
    tops, lefts = (44, 130), (6, 92, 184, 270)
    for row in range(2):
        tiles = [sheet[tops[row] :, left:][:TILE, :TILE] for left in lefts]
        np.testing.assert_array_equal(tiles[0][2::5, 2::5], to_uint8(images)[row])
        np.testing.assert_array_equal(tiles[1][2::5, 2::5], binarized_layout(layouts)[row])
        for tile, entity in ((tiles[2], 2), (tiles[3], 0)):
            brightness = tile[2::5, 2::5].astype(int).sum(axis=-1)
            values = layouts[row, ..., entity]
            assert brightness[values.argmax() // 16, values.argmax() % 16] == brightness.max()
            assert (np.diff(brightness.ravel()[np.argsort(values.ravel())]) >= 0).all()  # brighter = higher
    headings = sheet[:44]
    for left in lefts:
        assert (headings[:22, left : left + TILE] < 150).any()
    for left, entity in ((184, 2), (270, 0)):
        np.testing.assert_array_equal(headings[30, left + 5], layout_colors(4)[entity])


def test_sheet_of_one_entity_at_most():
    images, layouts = _quarters()
    assert layout_sheet(images, layouts, max_entities=1).shape[1] == 6 + 3 * 86 + 6


def test_layout_smaller_than_its_image():
    images, layouts = _quarters()
    sheet = layout_sheet(images, layouts[:, ::4, ::4])
    np.testing.assert_array_equal(sheet[54:124:20, 102:172:20], binarized_layout(layouts[0, ::4, ::4]))


@pytest.mark.parametrize("sides", [(12, 20), (100, 7)])
def test_any_size_of_image(sides):
    images = np.zeros((1, sides[0], sides[0], 3))
    layouts = _softmax(np.random.RandomState(0).normal(size=(1, sides[1], sides[1], 3)))
    assert layout_sheet(images, layouts).shape[0] > 80


def test_strip_uses_one_scale_for_the_whole_row():
    images = np.random.RandomState(0).uniform(-1, 1, (3, 16, 16, 3))
    layouts = np.zeros((3, 16, 16, 2))
    layouts[..., 0] = np.array([0.1, 0.5, 0.9])[:, None, None]
    layouts[..., 1] = 1 - layouts[..., 0]
    strip = interpolation_strip(images, layouts, entity=0)
    assert strip.shape == (2 * 86 + 6, 64 + 3 * 82 + 6, 3)
    brightness = [int(strip[6 + 86 + 40, 64 + column * 82 + 40].astype(int).sum()) for column in range(3)]
    assert brightness[0] < brightness[1] < brightness[2]
    for column in range(3):
        tile = strip[6:86, 64 + column * 82 :][:, :TILE]
        np.testing.assert_array_equal(tile[2::5, 2::5], to_uint8(images)[column])


def test_bad_arguments():
    images, layouts = _quarters()
    for arguments, message in (
        ((images, layouts, 0), "max_entities must be at least 1, got 0"),
        ((images[:1], layouts), "must belong together, got (1, 16, 16, 1) and (2, 16, 16, 4)"),
        ((images, np.full_like(layouts, np.nan)), "layouts hold values that are not finite"),
        ((images, layouts[..., 0, 0, 0]), "layouts must end in (height, width, entities), got (2,)"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            layout_sheet(*arguments)
    with pytest.raises(ValueError, match=re.escape("entity must be in [0, 4), got 4")):
        interpolation_strip(images, layouts, entity=4)
