"""Every picture of a comparison stands in its row and under its title."""

from __future__ import annotations

import re

import numpy as np
import pytest

from attennorm_tf.visualization import comparison_sheet, to_uint8

GAP, LINE = 4, 17


def _images(seed, shape=(2, 5, 6, 3)):
    return np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)


def test_every_pixel_of_every_picture():
    names = ("input", "model", "truth")
    columns = {name: _images(seed) for seed, name in enumerate(names)}
    sheet = comparison_sheet(columns, scale=3)
    assert sheet.dtype == np.uint8
    assert sheet.shape == (GAP + LINE + 2 * (15 + GAP), GAP + 3 * (18 + GAP), 3)
    covered = np.zeros(sheet.shape[:2], bool)
    covered[: GAP // 2 + LINE] = True  # the titles
    for (column, name), row in ((pair, row) for pair in enumerate(names) for row in range(2)):
        top, left = GAP + LINE + row * (15 + GAP), GAP + column * (18 + GAP)
        np.testing.assert_array_equal(sheet[top : top + 15 : 3, left : left + 18 : 3], columns[name][row])
        np.testing.assert_array_equal(sheet[top + 2 : top + 15 : 3, left + 2 : left + 18 : 3], columns[name][row])
        covered[top : top + 15, left : left + 18] = True
    assert (sheet[~covered] == 255).all()


def test_floats_and_grey():
    floats = np.random.RandomState(0).uniform(-1.2, 1.2, (2, 5, 6, 3)).astype(np.float32)
    np.testing.assert_array_equal(comparison_sheet({"a": floats}), comparison_sheet({"a": to_uint8(floats)}))
    grey = _images(0, (2, 5, 6, 1))
    np.testing.assert_array_equal(comparison_sheet({"a": grey}), comparison_sheet({"a": grey.repeat(3, axis=-1)}))


def test_titles_of_two_lines_and_captions():
    black = np.zeros((2, 96, 96, 3), np.uint8)
    sheet = comparison_sheet({"input": black, "attentive\n18.1 dB": black}, captions={"input": ["a.png", "b.png"]})
    assert sheet.shape == (GAP + 2 * LINE + 2 * (96 + LINE + GAP), GAP + 2 * (96 + GAP), 3)
    first = (slice(GAP // 2, GAP // 2 + LINE), slice(GAP // 2 + LINE, GAP // 2 + 2 * LINE))
    dark = [(sheet[lines][:, columns] < 200).any() for columns in (slice(0, 100), slice(104, 200)) for lines in first]
    assert dark == [True, False, True, True]
    under = slice(GAP + 2 * LINE + 96, GAP + 2 * LINE + 96 + LINE)
    assert (sheet[under, :100] < 200).any()
    assert (sheet[under, 104:] == 255).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"columns": {}}, "columns must hold at least one title"),
        ({"columns": {"a": _images(0, (0, 4, 4, 3))}}, "column 'a' must be (n, height, width, 1 or 3)"),
        ({"columns": {"a": _images(0, (4, 4, 3))}}, "column 'a' must be (n, height, width, 1 or 3)"),
        ({"columns": {"a": _images(0), "b": _images(0)[:1]}}, "'a' is (2, 5, 6, 3), 'b' is (1, 5, 6, 3)"),
        ({"columns": {"a": _images(0)}, "scale": 0}, "scale must be at least 1, got 0"),
        ({"columns": {"a": _images(0)}, "captions": {"a": ["x"]}}, "one for each of 2 images of a column, got 1"),
        ({"columns": {"a": _images(0)}, "captions": {"b": ["x", "y"]}}, "of a column, got 2 for 'b'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        comparison_sheet(**arguments)
