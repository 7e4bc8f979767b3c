"""Pictures of any kind and size: what is known stays, and what the network sees is bounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy import ndimage

import attennorm_tf
from attennorm_tf.inference.holes import grown, hole_of, rim_weights, thickness
from attennorm_tf.inference.inpaint import fill_holes, inpaint
from attennorm_tf.inference.inpainter import LoadedInpainter
from attennorm_tf.inference.regions import plan_regions
from attennorm_tf.inference.tile import complete_in_tiles, to_bytes, to_floats
from tests.inference.inpainters import tiny_config, tiny_inpainter, write_checkpoint


@pytest.fixture(scope="module")
def inpainter() -> LoadedInpainter:
    """Trained, as its config says, at 32x32 with holes of 16x16."""
    return tiny_inpainter()


class Watched(LoadedInpainter):
    """Fills by the mean of the known pixels within 4 pixels, and keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__(self._call, tiny_config())
        self.seen: list[tuple[np.ndarray, np.ndarray]] = []

    @staticmethod
    def _call(inputs: list[tf.Tensor], training: bool = False) -> tuple[None, tf.Tensor]:
        images, masks = inputs
        known, total = (tf.nn.avg_pool2d(x, 9, 1, "SAME") for x in (images * (1 - masks), 1 - masks))
        return None, known / (total + 1e-6)

    def complete(self, images: Any, masks: Any, batch_size: int = 8) -> np.ndarray:
        self.seen.append((images[0], masks[0, ..., 0]))
        return super().complete(images, masks, batch_size)


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.RandomState(height + width).randint(0, 256, (height, width, channels)).astype(np.uint8)


def square(shape: tuple[int, int], top: int, left: int, side: int) -> np.ndarray:
    mask = np.zeros(shape, np.bool_)
    mask[top : top + side, left : left + side] = True
    return mask


def picture(mode: str, height: int, width: int) -> Any:
    """A PIL image of a mode, or for "uint8 3" and the like an array."""
    pixels = noise(height, width, 4)
    if mode == "uint16":
        return pixels[..., 0].astype(np.uint16) * 256 + pixels[..., 1]
    if mode.startswith("uint8"):
        channels = int(mode.split()[1])
        return pixels[..., 0] if channels == 0 else pixels[..., :channels]
    if mode == "I;16":
        return Image.fromarray(picture("uint16", height, width))
    if mode == "I":
        return Image.fromarray(picture("uint16", height, width).astype(np.int32))
    if mode == "LA":
        return Image.fromarray(pixels[..., :2])
    if mode == "CMYK":
        return Image.frombytes("CMYK", (width, height), pixels.tobytes())
    if mode.startswith("P"):
        image = Image.fromarray(pixels[..., :3]).quantize(12)
        if mode == "P transparent":
            image.info["transparency"] = 3
        return image
    return Image.fromarray(pixels).convert(mode)


MODES = ("1", "L", "LA", "P", "P transparent", "RGB", "RGBA", "CMYK", "I;16", "I",
         "uint8 0", "uint8 1", "uint8 3", "uint8 4", "uint16")  # fmt: skip


@pytest.mark.parametrize(("height", "width"), [(1, 2), (7, 5), (33, 90)])
def test_known_pixels_and_transparency_are_bit_exact(inpainter: LoadedInpainter, height: int, width: int) -> None:
    mask = np.random.RandomState(1).rand(height, width) < 0.3
    mask[0, 0], mask[-1, -1] = True, False
    for mode in MODES:
        image = picture(mode, height, width)
        before = np.array(image)
        result = inpaint(image, mask, inpainter, feather=1 if mode == "RGB" else 0)
        assert type(result) is (np.ndarray if isinstance(image, np.ndarray) else Image.Image), mode
        after = np.array(result)
        assert (after.shape, after.dtype) == (before.shape, before.dtype), mode
        assert np.array_equal(after[~mask], before[~mask]), mode
        assert np.array_equal(np.array(image), before), mode
        assert height < 30 or (after[mask] != before[mask]).any(), mode
        if isinstance(image, Image.Image):
            assert (result.mode, result.size, result.info) == (image.mode, image.size, image.info)
            assert not mode.startswith("P") or result.getpalette() == image.getpalette()
        if mode in ("LA", "RGBA", "P transparent"):
            alpha = [np.asarray(one.convert("RGBA"))[..., 3] for one in (image, result)]
            assert np.array_equal(*alpha), mode
        elif mode == "uint8 4":
            assert np.array_equal(after[..., 3], before[..., 3])


def test_what_the_hole_holds_in_each_kind() -> None:
    mask = square((9, 9), 3, 3, 3)
    colours = np.where(mask[..., np.newaxis], 0, np.array([200, 100, 40])).astype(np.uint8)
    watched = Watched()
    assert inpaint(colours, mask, watched)[4, 4].tolist() == [200, 100, 40]
    grey = np.where(mask, 0, 123).astype(np.uint8)
    assert inpaint(grey, mask, watched)[4, 4] == 123
    deep = np.where(mask, 0, 40_000).astype(np.uint16)
    assert abs(int(inpaint(deep, mask, watched)[4, 4]) - 40_000) <= 128  # 8 bits' precision
    bilevel = inpaint(Image.fromarray(~mask), mask, watched)
    assert np.asarray(bilevel).all()
    palette = Image.fromarray(np.where(mask, 1, 2).astype(np.uint8))
    palette.putpalette([0, 0, 0, 9, 9, 9, 200, 100, 40, 199, 100, 40])
    assert inpaint(palette, mask, watched).getpixel((4, 4)) == 2
    cmyk = Image.fromarray(colours).convert("CMYK")
    assert inpaint(cmyk, mask, watched).getpixel((4, 4)) == cmyk.getpixel((0, 0))


def test_a_transparent_colour_becomes_an_alpha_channel() -> None:
    image = Image.fromarray(np.full((8, 8), 7, np.uint8))
    image.putpixel((0, 0), 5)
    image.info["transparency"] = 5
    result = inpaint(image, square((8, 8), 4, 4, 2), Watched())
    assert result.mode == "LA"
    assert result.getpixel((0, 0)) == (5, 0)
    assert result.getpixel((5, 5)) == (7, 255)
    assert "transparency" not in result.info


def test_a_small_hole_is_the_crop_around_it_and_nothing_else(inpainter: LoadedInpainter) -> None:
    image, mask = noise(200, 300), square((200, 300), 90, 130, 9)
    (region,) = plan_regions(mask, 32, 16)
    assert (region.crop, region.scale) == ((78, 118, 110, 150), 1)
    crop = region.crop.slices
    completed = inpainter.complete(to_floats(image[crop])[None], mask[crop][None, ..., None].astype(np.float32))[0]
    expected = image.copy()
    expected[mask] = to_bytes(completed)[mask[crop]]
    np.testing.assert_array_equal(inpaint(image, mask, inpainter), expected)
    moved = [np.roll(array, (37, -51), axis=(0, 1)) for array in (image, mask, expected)]
    np.testing.assert_array_equal(inpaint(moved[0], moved[1], inpainter), moved[2])


def test_far_holes_do_not_depend_on_each_other_and_near_ones_share_a_crop() -> None:
    image, watched = noise(150, 200), Watched()
    one, other = square((150, 200), 10, 10, 6), square((150, 200), 120, 150, 8)
    both = inpaint(image, one | other, watched)
    assert [hole.shape for _, hole in watched.seen] == [(32, 32), (32, 32)]
    np.testing.assert_array_equal(both[one], inpaint(image, one, watched)[one])
    np.testing.assert_array_equal(both[other], inpaint(image, other, watched)[other])
    watched.seen.clear()
    inpaint(image, one | square((150, 200), 20, 22, 5), watched)
    assert len(watched.seen) == 1


def test_regions_own_every_missing_pixel_once() -> None:
    random = np.random.RandomState(0)
    for trial in range(12):
        shape = tuple(random.randint(1, 400, 2))
        hole = np.zeros(shape, np.bool_)
        for _ in range(random.randint(1, 12)):
            top, left = (random.randint(0, size) for size in shape)
            hole[top : top + random.randint(1, 60), left : left + random.randint(1, 60)] = True
        hole[random.randint(0, shape[0]), random.randint(0, shape[1])] = False
        count = np.zeros(shape, np.int64)
        for region in plan_regions(hole, 32, 16, scaled=bool(trial % 2)):
            count[region.crop.slices] += region.own
            assert not hole[region.crop.slices].all()
            assert region.scale == 1 or trial % 2
            assert min(region.crop.height, region.crop.width) >= min(32, *shape)
        np.testing.assert_array_equal(count, hole)


def test_a_small_hole_in_a_large_picture_costs_a_small_crop() -> None:
    watched = Watched()
    image = np.zeros((3000, 4000), np.uint8)
    inpaint(image, square((3000, 4000), 1000, 2000, 10), watched)
    assert [hole.shape for _, hole in watched.seen] == [(32, 32)]
    watched.seen.clear()
    frame = np.ones((1500, 1100), np.bool_)
    frame[5:-5, 5:-5] = False
    image = noise(1500, 1100)
    result = inpaint(image, frame, watched, tile=128)
    assert max(hole.size for _, hole in watched.seen) == 128 * 128
    np.testing.assert_array_equal(result[~frame], image[~frame])


def test_tiles_are_the_whole_picture_away_from_their_borders() -> None:
    image, watched = noise(304, 264), Watched()
    hole = np.random.RandomState(0).rand(304, 264) < 0.3
    whole = complete_in_tiles(image, hole, watched.complete, 512)
    watched.seen.clear()
    tiled = complete_in_tiles(image, hole, watched.complete, 128)
    assert len(watched.seen) == 3 * 3
    difference = np.abs(tiled.astype(int) - whole).max(axis=-1)
    assert difference[~hole].max() == 0
    # Tiles begin at 0, 88, 176 and 0, 68, 136; within 4 pixels of a border the mean lacks some of its pixels.
    borders = np.zeros((304, 264), np.bool_)
    for edge in (88, 176, 128, 216):
        borders[edge - 4 : edge + 4] = True
    for edge in (68, 136, 128, 196):
        borders[:, edge - 4 : edge + 4] = True
    assert difference[~borders].max() <= 1  # rounding of a weighted mean of equal values
    assert 0 < difference.max() <= 12  # there another tile, further from its border, counts more


def test_what_is_known_stays_at_every_stage() -> None:
    """Also without the last one, which takes nothing but the hole from what is filled."""
    image, watched = noise(300, 300), Watched()
    thick, small = square((300, 300), 90, 90, 70), square((300, 300), 20, 20, 6)
    both = fill_holes(image, thick | small, watched)  # the small hole lies in the thick one's crop
    np.testing.assert_array_equal(both[~(thick | small)], image[~(thick | small)])
    np.testing.assert_array_equal(both[small], fill_holes(image, small, watched)[small])
    tiled = complete_in_tiles(image, small, watched.complete, 128)  # all tiles but one are left out
    np.testing.assert_array_equal(tiled[~small], image[~small])


def test_a_thick_hole_is_seen_at_the_scale_of_training() -> None:
    rows, columns = np.mgrid[0:400, 0:500].astype(np.float32)
    image = np.stack([rows / 2, columns / 2, rows / 4 + columns / 4], axis=-1).astype(np.uint8)
    hole, watched = square((400, 500), 100, 150, 160), Watched()
    hidden = np.where(hole[..., np.newaxis], 255, image).astype(np.uint8)
    inpaint(hidden, hole, watched)
    ((seen, small),) = watched.seen
    assert small.shape == (32, 32)
    assert int(small.sum()) == 16 * 16
    # What is under the hole has no part in what is known: the smaller picture is the smooth one of the larger.
    expected = tf.image.resize(to_floats(image)[20:340, 70:390], (32, 32), antialias=True).numpy()
    known = small == 0
    inside = ndimage.binary_erosion(known, iterations=2, border_value=1)
    assert np.abs(seen - expected)[inside].max() < 0.03
    assert np.abs(seen - expected)[known].max() < 0.15
    watched.seen.clear()
    inpaint(hidden, hole, watched, scale="native")
    assert watched.seen[0][1].shape == (176, 176)
    with pytest.raises(ValueError, match=r"a part of 64 x 64 pixels lies in the hole.* give a larger tile"):
        inpaint(hidden, hole, watched, scale="native", tile=64)


@pytest.mark.parametrize("radius", [0, 1, 1.5, 3, 7.3, 300])
def test_growing_is_the_euclidean_distance(radius: float) -> None:
    for hole in (np.random.RandomState(0).rand(60, 43) < 0.01, square((300, 9), 255, 2, 3)):
        distance = ndimage.distance_transform_edt(~hole)
        np.testing.assert_array_equal(grown(hole, radius), distance <= radius)


@pytest.mark.parametrize("width", [0.5, 2, 5])
def test_the_rim_rises_with_the_distance_to_what_is_known(width: float) -> None:
    hole = np.random.RandomState(0).rand(40, 50) < 0.97
    expected = np.minimum(ndimage.distance_transform_edt(hole) / (width + 1), 1)
    np.testing.assert_allclose(rim_weights(hole, width), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "box", "expected"),
    [((90, 90), (20, 30, 40, 55), 20), ((9, 500), (4, 0, 5, 500), 2), ((50, 50), (0, 0, 10, 50), 20),
     ((1200, 900), (100, 100, 700, 500), 400)],
)  # fmt: skip
def test_thickness(shape: tuple[int, int], box: tuple[int, ...], expected: int) -> None:
    hole = np.zeros(shape, np.bool_)
    hole[box[0] : box[2], box[1] : box[3]] = True
    assert abs(thickness(hole) - expected) <= 0.03 * expected


def test_grow_invert_and_feather(inpainter: LoadedInpainter) -> None:
    image, mask = noise(60, 70), square((60, 70), 20, 25, 10)
    plain = inpaint(image, mask, inpainter)
    np.testing.assert_array_equal(inpaint(image, ~mask, inpainter, invert=True), plain)
    wide = grown(mask, 4)
    changed = (inpaint(image, mask, inpainter, grow=4) != image).any(axis=-1)
    assert not changed[~wide].any()
    assert changed[wide & ~mask].mean() > 0.9
    soft = inpaint(image, mask, inpainter, grow=4, feather=3).astype(int)
    hard = inpaint(image, wide, inpainter).astype(int)
    weights = rim_weights(wide, 3)[..., np.newaxis]
    assert np.abs(soft - (image + weights * (hard - image)))[wide].max() <= 0.51
    np.testing.assert_array_equal(soft[~wide], image[~wide])


def test_masks_of_every_kind() -> None:
    hole = square((6, 8), 1, 2, 3)
    white = hole.astype(np.uint8) * 255
    coloured = np.repeat(white[..., np.newaxis], 3, axis=2)
    masks = [hole, white, white[..., np.newaxis], coloured, white.astype(np.int64), hole.astype(np.float32)]
    masks += [np.where(hole, 128, 127).astype(np.uint8), np.where(hole, 0.5, 0.49)]
    masks += [Image.fromarray(white).convert(mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")]
    masks += [Image.fromarray(white.astype(np.uint16) * 257), Image.fromarray(white.astype(np.int32) * 257)]
    masks += [Image.fromarray(np.dstack([np.full((6, 8, 3), 255, np.uint8), white]))]  # white paint on nothing
    for mask in masks:
        np.testing.assert_array_equal(hole_of(mask), hole)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((8, 8)), r"mask: no pixel is missing; the hole is where it is white"),
        (np.ones((8, 8)), r"mask: every pixel is missing; some must be known"),
        (np.ones((8, 8), np.uint8), r"mask: its values are 0 and 1 of 255.* Multiply it by 255"),
        (np.full((8, 8), np.nan), r"floats must be in \[0, 1\], got values from nan"),
        (np.full((8, 8), 1.5), r"floats must be in \[0, 1\], got values from 1.5 to 1.5"),
        (np.full((8, 8), -1), r"integers must be in \[0, 255\], got values from -1 to -1"),
        (np.full((8, 8), 300), r"integers must be in \[0, 255\], got values from 300"),
        (np.zeros((8, 8), np.complex64), r"mask must hold bool, integers.* got complex64"),
        (np.zeros((1, 8, 8)), r"mask must be of shape .* got \(1, 8, 8\)"),
        (np.ones((8, 9), bool), r"mask is 9 x 8 pixels, image is 8 x 8; they must be of one size"),
        (Image.new("F", (8, 8)), r"mask: a mask must have 8 or 16 bits, got mode 'F'"),
        (Image.new("I", (8, 8), 70_000), r"mask: a mask must have 8 or 16 bits, got mode 'I' with values from 70000"),
    ],
)
def test_masks_that_are_none(mask: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        inpaint(np.zeros((8, 8, 3), np.uint8), mask, Watched())


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8, 3), np.float32), r"image must be a path, a PIL image or an array of uint8 .* got float32"),
        (np.zeros((8, 8, 2), np.uint8), r"got uint8 \(8, 8, 2\)"),
        (np.zeros((0, 8, 3), np.uint8), r"got uint8 \(0, 8, 3\)"),
        (7, r"image must be a path, .* got int"),
        (Image.new("F", (8, 8)), r"image has mode 'F'; expected one of 1, L, LA"),
        (Image.new("LAB", (8, 8)), r"image has mode 'LAB'"),
        (Image.new("I", (8, 8), -1), r"image: grey of more than 16 bits, values from -1 to -1"),
    ],
)
def test_images_that_are_none(image: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        inpaint(image, square((8, 8), 2, 2, 2), Watched())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grow": -1}, r"grow must be a number of pixels in \[0, 1000\], got -1"),
        ({"feather": float("nan")}, r"feather must be a number of pixels"),
        ({"scale": "trained"}, r"scale must be one of 'auto', 'native'; got 'trained'"),
        ({"tile": 100}, r"tile must be a multiple of 8 from 64 on, got 100"),
        ({"grow": 20}, r"mask: every pixel is missing after growing by 20"),
        ({"invert": True, "grow": 20}, r"mask \(inverted\): every pixel is missing after growing by 20"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        inpaint(np.zeros((8, 8, 3), np.uint8), square((8, 8), 2, 2, 2), Watched(), **options)


def test_one_pixel_is_known_or_missing() -> None:
    for mask, message in ((np.ones((1, 1)), "every pixel is missing"), (np.zeros((1, 1)), "no pixel is missing")):
        with pytest.raises(ValueError, match=message):
            inpaint(np.zeros((1, 1, 3), np.uint8), mask, Watched())


def test_models_and_files(tmp_path: Path, inpainter: LoadedInpainter) -> None:
    image, mask = noise(20, 30), square((20, 30), 4, 5, 6)
    expected = inpaint(image, mask, inpainter)
    Image.fromarray(image).save(tmp_path / "photo.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    result = attennorm_tf.inpaint(str(tmp_path / "photo.png"), tmp_path / "mask.png", inpainter)
    np.testing.assert_array_equal(np.asarray(result), expected)
    # A bare model says nothing of its training: the paper's sizes, and so a larger crop.
    bare = inpaint(noise(300, 300), square((300, 300), 100, 100, 9), Watched._call)
    assert bare.shape == (300, 300, 3)
    with pytest.raises(ValueError, match=r"model must be a path, a LoadedInpainter or a Keras model, got int"):
        inpaint(image, mask, 3)
    with pytest.raises(ValueError, match=rf"image '{tmp_path}/photo.png' is 30 x 20; .*one size"):
        inpaint(tmp_path / "photo.png", mask[:8], inpainter)
    with pytest.raises(ValueError, match=rf"mask '{tmp_path}/photo.png' \(inverted\): every pixel is missing"):
        inpaint(image, tmp_path / "photo.png", inpainter, invert=True, grow=30)
    path = write_checkpoint(tmp_path, tiny_config())
    assert inpaint(image, mask, path).shape == image.shape


def test_the_public_name_is_found_when_asked_for() -> None:
    assert attennorm_tf.inpaint is inpaint
    assert "inpaint" in dir(attennorm_tf)
    with pytest.raises(AttributeError, match=r"module 'attennorm_tf' has no attribute 'outpaint'"):
        attennorm_tf.outpaint  # noqa: B018
