"""Sheets show the layout they are given."""

from __future__ import annotations

import re

import numpy as np
import pytest

from attennorm_tf.visualization import (
    attention_maps,
    binarized_layout,
    layout_colors,
    layout_sheet,
    to_uint8,
)
from attennorm_tf.visualization.entity_colors import heat_colors

TILE = 80


def _softmax(scores):
    exponentials = np.exp(scores)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


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


def test_maps_over_images_against_a_loop():
    images, layouts = _quarters()
    layouts = layouts[:, ::2, ::2]
    maps = attention_maps(images, layouts, opacity=0.25)
    assert maps.shape == (2, 4, 16, 16, 3)
    grey = to_uint8(images)[..., 0]
    for image, entity in ((0, 0), (1, 2)):
        heat = heat_colors(layouts[image, ..., entity])
        for y, x in ((0, 0), (7, 9), (15, 15), (8, 3)):
            expected = 0.75 * grey[image, y, x] + 0.25 * heat[y // 2, x // 2].astype(float)
            np.testing.assert_allclose(maps[image, entity, y, x], expected, atol=0.51)
    np.testing.assert_array_equal(attention_maps(images, layouts, 0.0)[:, 1], to_uint8(images))
    with pytest.raises(ValueError, match=re.escape("opacity must be in [0, 1], got 2")):
        attention_maps(images, layouts, 2)


def test_sheet_of_maps_over_images():
    images, layouts = _quarters()
    plain, over = (layout_sheet(images, layouts, over_images=flag) for flag in (False, True))
    np.testing.assert_array_equal(plain[:, :180], over[:, :180])
    maps = attention_maps(images, layouts)
    for left, entity in ((184, 2), (270, 0)):
        np.testing.assert_array_equal(over[44:, left:][:TILE, :TILE][2::5, 2::5], maps[0, entity])


def test_many_entities_take_several_lines():
    """12 in use: lines of 8 and 4 maps for each image, each with its own heading."""
    layouts = np.eye(16)[np.random.RandomState(0).randint(0, 12, (2, 16, 16))]
    sheet = layout_sheet(np.zeros((2, 16, 16, 1)), layouts)
    line = 44 + 86
    assert sheet.shape == (2 * 2 * line, 6 + 10 * 86 + 6, 3)
    shares = np.bincount(layouts.argmax(axis=-1).ravel(), minlength=16)
    order = np.argsort(-shares, kind="stable")
    for row in range(2):
        for place, entity in enumerate(order[:12]):
            top, left = (2 * row + place // 8) * line, 184 + place % 8 * 86
            np.testing.assert_array_equal(sheet[top + 30, left + 5], layout_colors(16)[entity])
            brightness = sheet[top + 44 :, left:][:TILE, :TILE][2::5, 2::5].astype(int).sum(axis=-1)
            np.testing.assert_array_equal(brightness == brightness.max(), layouts[row, ..., entity] > 0)


@pytest.mark.parametrize(("sides", "tile"), [((512, 512), (256, 256)), ((20, 60), (40, 120)), ((512, 256), (256, 128))])
def test_proportions_are_kept_and_large_images_made_smaller(sides, tile):
    images = np.full((1, *sides, 3), -1.0)
    layouts = np.full((1, sides[0] // 4, sides[1] // 4, 1), 1.0)
    sheet = layout_sheet(images, layouts)
    black = (sheet[44:, : 6 + max(80, tile[1])] == 0).all(axis=-1)
    assert (black.any(axis=1).sum(), black.any(axis=0).sum()) == tile


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
