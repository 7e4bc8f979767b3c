"""Strips of blended classes with one entity followed."""

from __future__ import annotations

import re

import numpy as np
import pytest

from attennorm_tf.visualization import class_blends, interpolation_strip, layout_colors, to_uint8
from attennorm_tf.visualization.interpolation import blend_headings, three_classes

TILE = 80


def _strip_inputs():
    images = np.random.RandomState(0).uniform(-1, 1, (3, 16, 16, 3))
    layouts = np.zeros((3, 16, 16, 4))
    layouts[..., 0] = np.array([0.1, 0.5, 0.9])[:, None, None]
    layouts[..., 1] = 1 - layouts[..., 0]
    return images, layouts


def test_strip_uses_one_scale_for_the_whole_row():
    images, layouts = _strip_inputs()
    strip = interpolation_strip(images, layouts, entity=0)
    assert strip.shape == (2 * 86 + 6, 64 + 3 * 82 + 6, 3)
    brightness = [int(strip[6 + 86 + 40, 64 + column * 82 + 40].astype(int).sum()) for column in range(3)]
    assert brightness[0] < brightness[1] < brightness[2]
    for column in range(3):
        tile = strip[6:86, 64 + column * 82 :][:, :TILE]
        np.testing.assert_array_equal(tile[2::5, 2::5], to_uint8(images)[column])


def test_headings_and_the_entitys_color():
    images, layouts = _strip_inputs()
    plain, headed = (interpolation_strip(images, layouts, 1, names) for names in (None, ["a", "50% b", "b"]))
    assert headed.shape == (plain.shape[0] + 16, *plain.shape[1:])
    np.testing.assert_array_equal(headed[22:], plain[6:])
    for column in range(3):
        assert (headed[:20, 64 + column * 82 :][:, :TILE] < 150).any()
    margin = plain[:, :64]
    assert (margin == layout_colors(2)[1]).all(axis=-1).sum() == 144


def test_large_images_make_no_huge_strip():
    strip = interpolation_strip(np.zeros((13, 512, 256, 3)), np.full((13, 64, 32, 2), 0.5), 0, ["long name"] * 13)
    assert strip.shape[0] <= 16 + 2 * 134 + 6
    assert strip.shape[1] <= 64 + 13 * 130 + 6


def test_blends_and_their_headings():
    blends = class_blends([2, 0, 1], 4, steps=4)
    assert blends.dtype == np.float32
    expected = np.array([[i, 0, 4 - i, 0] for i in range(4)] + [[4 - i, i, 0, 0] for i in range(5)]) / 4
    np.testing.assert_array_equal(blends, expected)
    names = ["cat", "dog", "fox", "owl"]
    assert blend_headings([2, 0, 1], names, 4) == [
        "fox", "25% cat", "50% cat", "75% cat", "cat", "25% dog", "50% dog", "75% dog", "dog"
    ]  # fmt: skip
    assert [three_classes(n) for n in (1, 2, 3, 4, 10)] == [[0], [0, 1], [0, 1, 2], [0, 1, 2], [0, 3, 6]]


def test_bad_arguments():
    images, layouts = _strip_inputs()
    with pytest.raises(ValueError, match=re.escape("entity must be in [0, 4), got 4")):
        interpolation_strip(images, layouts, entity=4)
    with pytest.raises(ValueError, match="headings must be one for each of 3 images, got 1"):
        interpolation_strip(images, layouts, 0, ["x"])
    with pytest.raises(ValueError, match=re.escape("class_ids must name two or more classes and steps be >= 1")):
        class_blends([1], 4, 2)
    with pytest.raises(ValueError, match=re.escape("classes must be in [0, 4), got 4")):
        class_blends([1, 4], 4, 2)
