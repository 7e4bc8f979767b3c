"""Masks, against their definitions drawn by hand, and as pure functions of the position."""

from __future__ import annotations

import hashlib
import math
import re

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from attennorm_tf.data import MASK_KINDS, UnreadableImageError, make_masks
from attennorm_tf.data.brush import Brush, draw_strokes
from attennorm_tf.data.global_stream import stream_words
from attennorm_tf.data.masks import BrushMasks


def positions(*numbers):
    return tf.range(*numbers, dtype=tf.int64)


@pytest.fixture
def mask_folder(tmp_path):
    """Six masks of different sizes; number i is white on the left i + 1 eighths."""
    folder = tmp_path / "masks"
    (folder / "more").mkdir(parents=True)
    for index in range(6):
        pixels = np.zeros((8 * (index + 1), 16 * (index + 1)), np.uint8)
        pixels[:, : 2 * (index + 1) ** 2] = 255
        Image.fromarray(pixels).save(folder / ("more" if index % 2 else "") / f"{index}.png")
    return folder


def source(kind, mask_folder):
    options = {"height": 12, "width": 10, "shrink": 4, "max_strokes": 2, "max_vertices": 3, "max_width": 6}
    return make_masks(kind, **options, root=str(mask_folder) if kind == "folder" else "")


@pytest.mark.parametrize("kind", MASK_KINDS)
def test_masks_are_pure_functions_of_seed_and_position(kind, mask_folder):
    masks = source(kind, mask_folder)

    def draw(where):
        return masks(where, 5, (24, 20))

    whole = draw(positions(12)).numpy()
    assert whole.dtype == np.float32
    assert whole.shape == (12, 24, 20, 1)
    assert set(np.unique(whole)) == {0.0, 1.0}
    shuffled = tf.constant([7, 3, 3, 11], tf.int64)
    np.testing.assert_array_equal(draw(shuffled), whole[[7, 3, 3, 11]])
    np.testing.assert_array_equal(tf.function(draw)(positions(12)), whole)
    if kind not in ("thin", "medium", "thick"):  # the same operations as free_form, only more of them
        np.testing.assert_array_equal(tf.function(draw, jit_compile=True)(positions(12)), whole)
    in_pipeline = tf.data.Dataset.range(12).batch(5).map(draw).unbatch().batch(12)
    np.testing.assert_array_equal(next(iter(in_pipeline)), whole)
    if kind != "center":
        for other in (6, -5, 2**40 + 5):
            assert (masks(positions(12), other, (24, 20)).numpy() != whole).any()
        assert (draw(positions(10**12, 10**12 + 12)).numpy() != whole).any()
    assert draw(positions(0)).shape == (0, 24, 20, 1)


# Of 24 x 20 masks at the positions 0 to 15, seed 5; the same on both stacks.
_CHECKSUMS = {
    "rectangle": "b4a6ac451cb9066e",
    "center": "88d89598b6bee2fa",
    "free_form": "ab82875641e4aa65",
    "thin": "6466e07d885e51d2",
    "medium": "03db8c913c39ba10",
    "thick": "6e3858c3fde4bd17",
    "folder": "014bd2cf3f221a62",
}


@pytest.mark.parametrize("kind", MASK_KINDS)
def test_masks_are_pinned_so_that_both_stacks_and_later_versions_agree(kind, mask_folder):
    masks = source(kind, mask_folder)(positions(16), 5, (24, 20)).numpy()
    assert hashlib.sha256(np.packbits(masks.astype(bool)).tobytes()).hexdigest()[:16] == _CHECKSUMS[kind]


def _rectangles(masks):
    """Top, left, height and width of each mask; checks that it is a rectangle."""
    rows, columns = masks.any(axis=2), masks.any(axis=1)
    height, width = rows.sum(axis=1), columns.sum(axis=1)
    assert (masks.sum(axis=(1, 2)) == height * width).all()
    for lines, length in ((rows, height), (columns, width)):
        assert (np.diff(lines.astype(int), axis=1, prepend=0) == 1).sum(axis=1).max() == 1
        assert (length > 0).all()
    return rows.argmax(axis=1), columns.argmax(axis=1), height, width


def test_rectangles_shrink_and_lie_as_specified():
    count, image, frame, shrink = 8000, 14, 9, 4
    masks = make_masks("rectangle", height=frame, width=frame, shrink=shrink)
    drawn = tf.function(lambda where: masks(where, 2, (image, image)))(positions(count)).numpy()[..., 0]
    top, left, height, width = _rectangles(drawn)
    # Every way of placing the frame, shrinking, and placing the hole in it, with its probability.
    expected = np.zeros((shrink + 1, image))
    for place in range(image - frame + 1):
        for lost in range(shrink + 1):
            for inside in range(lost + 1):
                chance = 1 / (image - frame + 1) / (shrink + 1) / (lost + 1)
                expected[lost, place + inside] += chance
    assert expected.sum() == pytest.approx(1)
    for start, length in ((top, height), (left, width)):
        found = np.zeros_like(expected)
        np.add.at(found, (frame - length, start), 1 / count)
        assert found[expected == 0].sum() == 0
        spread = np.sqrt(expected * (1 - expected) / count)
        assert (np.abs(found - expected) <= 4.5 * spread + 1e-12).all()
    # The two directions have nothing to do with each other.
    for rows, columns in ((top, left), (height, width), (top, width)):
        assert abs(np.corrcoef(rows, columns)[0, 1]) < 4.5 / np.sqrt(count)


def test_holes_of_the_street_photographs_are_48_to_64_pixels_a_side():
    masks = make_masks("rectangle", height=64, width=64, shrink=16)(positions(300), 0, (128, 128)).numpy()[..., 0]
    top, left, height, width = _rectangles(masks)
    for length, start in ((height, top), (width, left)):
        assert (length.min(), length.max()) == (48, 64)
        assert start.min() < 8
        assert (start + length).max() > 120


def test_center():
    masks = make_masks("center", height=6, width=3)(positions(2), 0, (10, 8)).numpy()[..., 0]
    expected = np.zeros((10, 8))
    expected[2:8, 2:5] = 1
    np.testing.assert_array_equal(masks, [expected, expected])


def _strokes_by_hand(words, height, width, brush):
    """The strokes of one mask, pixel by pixel: a hole where the distance to a segment is at most half the width."""
    words = iter(int(word) for word in words)

    def whole(least, greatest):
        return least + (next(words) * (greatest - least + 1) >> 32)

    covered = np.zeros((height, width), bool)
    strokes = whole(*brush.strokes)
    for stroke in range(brush.strokes[1]):
        vertex = [whole(0, height - 1), whole(0, width - 1)]
        course, thickness, segments = whole(0, 1023), whole(*brush.width), whole(*brush.segments)
        for segment in range(brush.segments[1]):
            # 48 to 96 degrees, alternately to the two sides
            turn = whole(137, 273) * (1 if segment % 2 == 0 else -1)
            length = whole(*brush.length)
            angle = 2 * math.pi * (course + turn) / 1024
            step = length * math.sin(angle), length * math.cos(angle)
            after = [
                min(max(place + math.floor(moved + 0.5), 0), size - 1)
                for place, moved, size in zip(vertex, step, (height, width))
            ]
            if stroke < strokes and segment < segments:
                way = np.subtract(after, vertex)
                for row in range(height):
                    for column in range(width):
                        here = np.subtract((row, column), vertex)
                        along = min(max(here @ way / max(way @ way, 1), 0), 1)
                        covered[row, column] |= math.hypot(*(here - along * way)) <= thickness / 2 + 1e-9
            vertex = after
    return covered


@pytest.mark.parametrize(
    ("brush", "resolution"),
    [
        (Brush(strokes=(1, 3), segments=(1, 4), length=(1, 9), width=(1, 6)), (17, 23)),
        (Brush(strokes=(1, 1), segments=(1, 1), length=(5, 20), width=(1, 1)), (12, 12)),
        (Brush(strokes=(2, 2), segments=(3, 3), length=(1, 40), width=(9, 9)), (15, 11)),
    ],
)
def test_brush_is_the_distance_to_its_segments(brush, resolution):
    words = stream_words(positions(10), 3, "test", brush.words_per_mask)
    drawn = draw_strokes(words, resolution, brush).numpy()
    expected = [_strokes_by_hand(row, *resolution, brush) for row in words.numpy()]
    np.testing.assert_array_equal(drawn, expected)
    assert drawn.any(axis=(1, 2)).all()


@pytest.mark.parametrize(
    ("kind", "mean", "four_of_five"),
    [("thin", 0.086, (0.05, 0.12)), ("medium", 0.23, (0.16, 0.30)), ("thick", 0.40, (0.31, 0.48))],
)
@pytest.mark.parametrize("resolution", [(128, 128), (256, 256)])
def test_presets_cover_what_the_documentation_says(kind, mean, four_of_five, resolution):
    masks = make_masks(kind)
    shares = tf.function(lambda where: tf.reduce_mean(masks(where, 1, resolution), axis=(1, 2, 3)))(positions(300))
    assert shares.numpy().mean() == pytest.approx(mean, rel=0.08)
    np.testing.assert_allclose(np.quantile(shares, [0.1, 0.9]), four_of_five, atol=0.025)


def test_a_brush_leaves_something_and_takes_something():
    # As wide as can be: everything would be covered. Another pixel is left each time.
    known = 1 - make_masks("free_form", max_width=4096)(positions(64), 0, (4, 5)).numpy()
    np.testing.assert_array_equal(known.sum(axis=(1, 2, 3)), 1)
    assert (known.sum(axis=0) > 0).sum() > 15
    # As thin and short as can be, in images of one line.
    for resolution in ((1, 7), (7, 1), (1, 2)):
        holes = make_masks("free_form", max_strokes=1, max_vertices=1, max_length=1, max_width=1)
        shares = holes(positions(64), 0, resolution).numpy().mean(axis=(1, 2, 3))
        assert 0 < shares.min() <= shares.max() < 1


def test_folder_draws_every_mask_and_scales_it_by_the_nearest_pixel(mask_folder):
    masks = make_masks("folder", root=str(mask_folder))
    assert masks.file_names == ["0.png", "2.png", "4.png", "more/1.png", "more/3.png", "more/5.png"]

    @tf.function
    def draw(resolution):
        return masks(positions(600), 0, resolution)

    drawn = draw((3, 8)).numpy()[..., 0]
    eighths = drawn.sum(axis=(1, 2)) / 3
    np.testing.assert_array_equal(drawn, np.tile(np.arange(8) < eighths[:, None, None], (1, 3, 1)))
    assert (np.abs(np.bincount(eighths.astype(int))[1:7] - 100) < 45).all()
    # Another resolution of the same folder
    np.testing.assert_array_equal(draw((6, 16)).numpy()[:, ::2, ::2, 0], drawn)


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "P", "RGBA", "LA", "I;16"])
def test_folder_takes_every_mode_and_cuts_at_128(mode, tmp_path):
    grey = np.array([[0, 255, 127, 128]], np.uint8)
    if mode == "1":
        grey = np.where(grey < 128, 0, 255).astype(np.uint8)
    image = Image.fromarray(grey)
    if mode == "P":
        image = Image.fromarray(np.arange(4, dtype=np.uint8)[None])
        image.putpalette([value for value in grey[0] for _ in range(3)])
    elif mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    else:
        image = image.convert(mode)
    image.save(tmp_path / "mask.png")
    drawn = make_masks("folder", root=str(tmp_path))(positions(1), 0, (2, 4)).numpy()
    np.testing.assert_array_equal(drawn[0, ..., 0], [[0, 1, 0, 1]] * 2)


def test_folder_errors_name_the_file(tmp_path):
    with pytest.raises(ValueError, match="need root"):
        make_masks("folder")
    with pytest.raises(ValueError, match=re.escape(f"image folder {str(tmp_path)!r} holds no images")):
        make_masks("folder", root=str(tmp_path))
    with pytest.raises(ValueError, match=r"absent' does not exist"):
        make_masks("folder", root=str(tmp_path / "absent"))

    def draw(resolution=(4, 4)):
        return make_masks("folder", root=str(tmp_path))(positions(1), 0, resolution)

    for value, message in (
        (0, r"m\.png': every pixel is black, so that nothing is missing \(at 4 x 4"),
        (255, "white"),
    ):
        Image.fromarray(np.full((8, 8), value, np.uint8)).save(tmp_path / "m.png")
        with pytest.raises(UnreadableImageError, match=message):
            draw()
    (tmp_path / "m.png").write_bytes(b"not a picture")
    with pytest.raises(UnreadableImageError, match=r"m\.png': not a PNG"):
        draw()
    # A speck that the nearest pixels miss
    pixels = np.zeros((9, 9), np.uint8)
    pixels[0, 0] = 255
    Image.fromarray(pixels).save(tmp_path / "m.png")
    assert draw((9, 9)).numpy().sum() == 1
    with pytest.raises(UnreadableImageError, match=r"m\.png.*black.*at 3 x 3"):
        draw((3, 3))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("round", {}, "kind must be one of 'rectangle', 'center', .*, got 'round'"),
        ("rectangle", {"height": 0}, "height must be at least 1, got 0"),
        ("rectangle", {"width": 5, "shrink": 5}, r"shrink must be in \[0, 5\), the shorter side, got 5"),
        ("rectangle", {"shrink": -1}, "shrink must be in .*, got -1"),
        ("free_form", {"max_width": 0}, r"max_width must be in \[1, 4096\], got 0"),
        ("free_form", {"max_length": 5000}, r"max_length must be in \[1, 4096\], got 5000"),
        ("free_form", {"max_strokes": 0}, "max_strokes"),
        ("free_form", {"max_vertices": 0}, "max_vertices"),
    ],
)
def test_bad_arguments(kind, options, message):
    with pytest.raises(ValueError, match=message):
        make_masks(kind, **options)


@pytest.mark.parametrize("kind", ["rectangle", "center"])
def test_rectangles_must_fit_and_leave_something(kind):
    masks = make_masks(kind, height=8, width=8, shrink=2)
    assert masks(positions(1), 0, (8, 9)).shape == (1, 8, 9, 1)
    for resolution in ((8, 8), (7, 20), (20, 7)):
        with pytest.raises(ValueError, match=f"height=8 and width=8 .* got resolution {resolution[0]} x"):
            masks(positions(1), 0, resolution)


def test_an_image_of_one_pixel_has_no_mask():
    for kind in ("thin", "free_form"):
        with pytest.raises(ValueError, match=r"2 pixels or more, got \(1, 1\)"):
            make_masks(kind)(positions(1), 0, (1, 1))


def test_presets_follow_the_resolution_and_free_form_counts_pixels():
    small, large = (BrushMasks("thick").brush(side, 2 * side) for side in (100, 300))
    assert small.length == (15, 28)
    assert large.length == (45, 84)
    assert small.width == (12, 18)
    assert small.strokes == large.strokes
    fixed = make_masks("free_form", max_width=12, max_length=7)
    assert fixed.brush(9, 9) == fixed.brush(99, 99) == Brush((1, 4), (1, 12), (1, 7), (3, 12))
