"""Crops of photographs: as Pillow cuts them by hand, uniform in place, size and direction; decoded once."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from PIL import Image

from attennorm_tf.data import load_photographs, make_masks
from attennorm_tf.data.global_stream import shuffled_examples, stream_words
from attennorm_tf.data.image_decoding import centre_square, read_image
from attennorm_tf.data.unlabeled_images import Crops, IndexedPhotographs
from tests.data.cases import arrays_of, unit_range, write_photographs

MASKS = make_masks("rectangle", height=4, width=4, shrink=2)


def test_crops_are_those_cut_with_pillow_by_hand(tmp_path):
    names = write_photographs(tmp_path)
    data = load_photographs("image_folder", root=str(tmp_path), part="all")
    assert data.file_names == names
    resolution, seed, least = 7, 11, 0.6
    images = np.concatenate(
        [images for images, _ in arrays_of(data.batches(resolution, 9, seed, MASKS, min_crop_scale=least).take(4))]
    )
    positions = tf.range(36, dtype=tf.int64)
    words = stream_words(positions, seed, "crop", 4).numpy()
    sizes = []
    for position, example in enumerate(shuffled_examples(positions, len(names), seed).numpy()):
        photograph = Image.open(tmp_path / names[example]).convert("RGB")
        short = min(photograph.size)
        shortest = round(least * short)
        scale, left, top = (int(word) / 2**32 for word in words[position, :3])
        side = shortest + int(scale * (short - shortest + 1))
        left, top = int(left * (photograph.width - side + 1)), int(top * (photograph.height - side + 1))
        square = photograph.crop((left, top, left + side, top + side))
        expected = np.asarray(square.resize((resolution, resolution), Image.Resampling.BILINEAR))
        expected = expected[:, ::-1] if words[position, 3] % 2 else expected
        np.testing.assert_array_equal(images[position], unit_range(expected))
        sizes.append(side / short)
    assert min(sizes) < 0.7
    assert max(sizes) == 1
    np.testing.assert_array_equal(data.arrays(7)[4], unit_range(centre_square(read_image(str(tmp_path / names[4])), 7)))


def _coordinates(width, height):
    """Red is the column, green the row."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.arange(width)
    pixels[..., 1] = np.arange(height)[:, np.newaxis]
    return Image.fromarray(pixels)


def _uniform(values, least, greatest):
    counts = np.bincount(np.asarray(values, int) - least, minlength=greatest - least + 1)
    assert len(counts) == greatest - least + 1
    expected = len(values) / len(counts)
    # Mean of a chi-squared with this many degrees of freedom, and five of its standard deviations.
    freedom = len(counts) - 1
    assert ((counts - expected) ** 2 / expected).sum() < freedom + 5 * np.sqrt(2 * freedom)


def test_crops_are_uniform_in_place_size_and_direction():
    words = tf.function(lambda: stream_words(tf.range(2000, dtype=tf.int64), 0, "crop", 4))().numpy()
    whole = Crops(16, 1.0, False, 0)
    crops = np.stack([whole.cut(_coordinates(25, 16), row) for row in words])
    np.testing.assert_array_equal(crops[..., 1], np.broadcast_to(np.arange(16)[:, np.newaxis], crops.shape[:3]))
    np.testing.assert_array_equal(np.diff(crops[..., 0].astype(int), axis=2), 1)
    _uniform(crops[:, 0, 0, 0], 0, 9)
    crops = np.stack([whole.cut(_coordinates(16, 21), row) for row in words])
    _uniform(crops[:, 0, 0, 1], 0, 5)
    flipped = np.stack([Crops(16, 1.0, True, 0).cut(_coordinates(16, 21), row) for row in words])
    mirrored = flipped[:, 0, 0, 0] == 15
    np.testing.assert_array_equal(flipped, np.where(mirrored[:, None, None, None], crops[:, :, ::-1], crops))
    assert abs(mirrored.mean() - 0.5) < 4.5 * 0.5 / np.sqrt(2000)
    # One pixel is the mean of its square: the place of its middle. Sides 10 to 20.
    sides, lefts = [], []
    for row in words:
        left, top = Crops(1, 0.5, False, 0).cut(_coordinates(20, 20), row)[0, 0, :2].astype(int)
        sides.append(10 + int(row[0]) * 11 // 2**32)
        lefts.append(left)
        assert sides[-1] // 2 - 1 <= left <= 20 - sides[-1] // 2
        assert sides[-1] // 2 - 1 <= top <= 20 - sides[-1] // 2
    _uniform(sides, 10, 20)
    assert abs(np.mean(lefts) - 9.5) < 0.5


def test_enlarged_and_tiny_photographs(tmp_path):
    for index, size in enumerate([(1, 1), (1, 40), (3, 2)]):
        Image.new("RGB", size, (255, 0, 51 * index)).save(tmp_path / f"{index}.png")
    data = load_photographs("image_folder", root=str(tmp_path), part="all")
    ((images, _),) = arrays_of(data.batches(16, 3, 0, MASKS, min_crop_scale=0.1).take(1))
    np.testing.assert_array_equal(np.sort(images[:, 5, 5, 2]), unit_range(np.array([0, 51, 102])))
    np.testing.assert_array_equal(images[..., :2], np.broadcast_to(np.float32([1, -1]), (3, 16, 16, 2)))
    assert data.arrays(16).shape == (3, 16, 16, 3)


def test_photographs_far_too_large_are_averaged_first():
    random = np.random.RandomState(0)
    photograph = Image.fromarray(random.randint(0, 256, (70, 95, 3)).astype(np.uint8))
    assert Crops(8, 1.0, False, 0).reduce(photograph).size == (24, 18)  # by 4: 70 // (2 * 8)
    assert Crops(8, 0.5, False, 0).reduce(photograph).size == (48, 35)
    assert Crops(18, 1.0, False, 0).reduce(photograph) is photograph
    reduced = np.asarray(Crops(8, 1.0, False, 0).reduce(photograph))
    blocks = np.asarray(photograph)[:68, :92].reshape(17, 4, 23, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(reduced[:17, :23], blocks, atol=0.51)


def test_photographs_are_decoded_once_as_far_as_they_fit():
    reads = []

    def read(index):
        reads.append(index)
        return Image.new("RGB", (10, 10))

    def reads_of(cache_bytes):
        reads.clear()
        data = IndexedPhotographs("test", read=read, num_examples=4, cache_bytes=cache_bytes)
        # One call at a time, so that no photograph is read twice at once.
        for _ in data.batches(6, 1, 0, MASKS).take(40):
            pass
        return len(reads)

    assert reads_of(4 * 400) <= 6
    assert reads_of(0) >= 40
    assert 20 <= reads_of(2 * 400) < 40
