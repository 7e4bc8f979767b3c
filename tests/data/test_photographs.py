"""Every data set of photographs delivers what `Photographs` promises: crops by hand, the same stream however shared."""

from __future__ import annotations

import pkgutil
import re

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import attennorm_tf.data.photograph_sources
from attennorm_tf.data import UnreadableImageError, load_photographs, make_masks, photographs_names
from attennorm_tf.data.global_stream import shuffled_examples, stream_words
from attennorm_tf.data.image_decoding import centre_square, read_image
from attennorm_tf.data.photograph_sources import tfds_images
from attennorm_tf.data.unlabeled_images import Crops, IndexedPhotographs
from attennorm_tf.data.validation_split import select_part
from tests.processes import run_module

MASKS = make_masks("rectangle", height=4, width=4, shrink=2)


def _write_photographs(folder, count=9):
    """Photographs of different sizes, some of them in folders, one grey."""
    random = np.random.RandomState(0)
    names = []
    for index in range(count):
        name = f"{'abc'[index % 3]}/{index}.png" if index % 4 else f"{index}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shape = (9 + index, 14) if index == 3 else (9 + index, 14, 3)
        Image.fromarray(random.randint(0, 256, shape).astype(np.uint8)).save(folder / name)
        names.append(name)
    return sorted(names)


def _embedded(folder, build_tfds, monkeypatch):
    return load_photographs()


def _image_folder(folder, build_tfds, monkeypatch):
    _write_photographs(folder)
    return load_photographs("image_folder", root=folder, part="all")


def _image_folder_not_kept(folder, build_tfds, monkeypatch):
    data = _image_folder(folder, build_tfds, monkeypatch)
    monkeypatch.setattr(data, "_cache_bytes", 0)
    return data


def _tfds(folder, build_tfds, monkeypatch):
    build_tfds(folder)
    return load_photographs("tfds:tiny_shapes", root=folder)


def _tfds_streamed(folder, build_tfds, monkeypatch):
    monkeypatch.setattr(tfds_images, "DEFAULT_CACHE_BYTES", 0)
    data = _tfds(folder, build_tfds, monkeypatch)
    monkeypatch.setattr(data, "_block_size", 7)
    return data


# Registered name -> ways to open one; a new data set adds its line.
_CASES = {
    "photographs": [_embedded],
    "image_folder": [_image_folder, _image_folder_not_kept],
    "tfds": [_tfds, _tfds_streamed],
}


@pytest.fixture(params=[case for cases in _CASES.values() for case in cases], ids=lambda case: case.__name__.strip("_"))
def data(request, tmp_path, build_tfds, monkeypatch):
    return request.param(tmp_path, build_tfds, monkeypatch)


def _numpy(dataset):
    return [(images.numpy(), masks.numpy()) for images, masks in dataset]


def _unit(pixels):
    return pixels.astype(np.float32) / np.float32(127.5) - np.float32(1)


def test_every_source_is_registered_and_has_a_case():
    modules = {module.name for module in pkgutil.iter_modules(attennorm_tf.data.photograph_sources.__path__)}
    names = {{"tfds_images": "tfds", "embedded": "photographs"}.get(module, module) for module in modules}
    assert names == set(photographs_names()) == set(_CASES)


def test_stream_is_the_same_from_every_start_and_for_all_workers(data):
    options = {"resolution": 6, "batch_size": 8, "seed": 3, "masks": MASKS, "min_crop_scale": 0.5}
    whole = _numpy(data.batches(**options).take(6))
    for images, masks in whole:
        assert images.shape == (8, 6, 6, 3)
        assert masks.shape == (8, 6, 6, 1)
        assert -1 <= images.min() < images.max() <= 1
    masks = np.concatenate([masks for _, masks in whole])
    np.testing.assert_array_equal(masks, MASKS(tf.range(48, dtype=tf.int64), 3, (6, 6)))
    for part, expected in zip(_numpy(data.batches(**options, start_step=4).take(2)), whole[4:]):
        np.testing.assert_array_equal(part[0], expected[0])
        np.testing.assert_array_equal(part[1], expected[1])
    # Two workers of two replicas each
    shares = [
        _numpy(
            data.batches(
                **options, start_step=1, num_input_pipelines=2, input_pipeline_id=worker, replicas_per_pipeline=2
            ).take(4)
        )
        for worker in range(2)
    ]
    for step in range(2):
        parts = [share[2 * step + replica] for share in shares for replica in range(2)]
        for kind in (0, 1):
            np.testing.assert_array_equal(np.concatenate([part[kind] for part in parts]), whole[step + 1][kind])


def test_arrays_and_attributes(data):
    images = data.arrays(5)
    assert images.dtype == np.float32
    assert images.shape == (data.num_examples, 5, 5, 3)
    np.testing.assert_array_equal(data.arrays(5, limit=3), images[:3])
    assert data.arrays(5, limit=0).shape == (0, 5, 5, 3)
    assert data.skipped == []
    assert len(data.file_names) in (0, data.num_examples)
    assert data.batches(6, 4, 0, MASKS, replicas_per_pipeline=2).element_spec[0].shape.as_list() == [2, 6, 6, 3]


def test_crops_are_those_cut_with_pillow_by_hand(tmp_path):
    names = _write_photographs(tmp_path)
    data = load_photographs("image_folder", root=str(tmp_path), part="all")
    assert data.file_names == names
    resolution, seed, least = 7, 11, 0.6
    images = np.concatenate(
        [images for images, _ in _numpy(data.batches(resolution, 9, seed, MASKS, min_crop_scale=least).take(4))]
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
        np.testing.assert_array_equal(images[position], _unit(expected))
        sizes.append(side / short)
    assert min(sizes) < 0.7
    assert max(sizes) == 1
    np.testing.assert_array_equal(data.arrays(7)[4], _unit(centre_square(read_image(str(tmp_path / names[4])), 7)))


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
    ((images, _),) = _numpy(data.batches(16, 3, 0, MASKS, min_crop_scale=0.1).take(1))
    np.testing.assert_array_equal(np.sort(images[:, 5, 5, 2]), _unit(np.array([0, 51, 102])))
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


def test_the_validation_split_moves_no_other_image():
    names = [f"street/{index}.jpg" for index in range(2000)]
    parts = {part: [names[index] for index in select_part(names, part, 0.1, "x")] for part in ("train", "validation")}
    assert sorted(parts["train"] + parts["validation"]) == sorted(names)
    assert 150 < len(parts["validation"]) < 250
    fewer = names[::3]
    assert [fewer[i] for i in select_part(fewer, "validation", 0.1, "x")] == [
        name for name in fewer if name in parts["validation"]
    ]
    more = {names[index] for index in select_part(names, "validation", 0.2, "x")}
    assert set(parts["validation"]) < more
    # Each part has an image, even where the hash would leave one empty.
    for fraction in (1e-9, 1 - 1e-9):
        halves = [select_part(["a", "b", "c"], part, fraction, "x") for part in ("train", "validation")]
        assert sorted(halves[0] + halves[1]) == [0, 1, 2]
        assert all(halves)
    assert select_part(["a"], "all", 0.1, "x") == [0]


def test_the_split_is_pinned_so_that_runs_can_be_resumed_and_judged_later():
    names = [f"img_{index}.jpg" for index in range(40)]
    assert select_part(names, "validation", 0.1, "x") == [7, 31, 32]


def test_parts_of_a_folder_and_of_tfds_are_disjoint_and_complete(tmp_path, build_tfds):
    (tmp_path / "photographs").mkdir()
    names = _write_photographs(tmp_path / "photographs")
    folder = {"name": "image_folder", "root": tmp_path / "photographs", "validation_fraction": 0.4}
    train, validation = (load_photographs(**folder, part=part) for part in ("train", "validation"))
    assert sorted(train.file_names + validation.file_names) == names
    build_tfds(tmp_path)
    images = [
        load_photographs("tfds:tiny_shapes", root=tmp_path, validation_fraction=0.3, part=part).arrays(1)[:, 0, 0, 0]
        for part in ("train", "validation", "all")
    ]
    np.testing.assert_array_equal(images[2], _unit(np.arange(23)))
    np.testing.assert_array_equal(np.sort(np.concatenate(images[:2])), images[2])
    assert 0 < len(images[1]) < len(images[0])


def test_embedded_photographs_are_divided_for_all_time():
    train, validation, both = (load_photographs(part=part) for part in ("train", "validation", "all"))
    assert (train.num_examples, validation.num_examples, both.num_examples) == (11, 3, 14)
    assert not set(train.file_names) & set(validation.file_names)
    assert set(train.file_names) | set(validation.file_names) == set(both.file_names)
    # They are really there, and photographs: no two alike, none of one colour.
    images = both.arrays(64)
    assert (images.std(axis=(1, 2, 3)) > 0.03).all()
    assert len(np.unique(images.reshape(14, -1), axis=0)) == 14


@pytest.mark.parametrize("streamed", [False, True])
def test_corrupt_photographs_are_named_or_skipped(tmp_path, build_tfds, monkeypatch, streamed, caplog):
    if streamed:
        monkeypatch.setattr(tfds_images, "DEFAULT_CACHE_BYTES", 0)
    (tmp_path / "photographs").mkdir()
    names = _write_photographs(tmp_path / "photographs")
    bad = tmp_path / "photographs" / names[4]
    bad.write_bytes(bad.read_bytes()[:60])
    build_tfds(tmp_path, corrupt=(2, 17))
    for name, root, missing, count in (
        ("image_folder", tmp_path / "photographs", [str(bad)], 8),
        ("tfds:tiny_shapes", tmp_path, ["tiny_shapes-train.tfrecord-00000-of-00001__2", "__17"], 21),
    ):
        data = load_photographs(name, root=root, part="all", skip_corrupt=True)
        assert data.num_examples == count
        assert len(data.skipped) == len(missing)
        for expected, found in zip(missing, data.skipped):
            assert found.endswith(expected)
            assert found in caplog.text
        assert len(list(data.batches(4, 8, 0, make_masks("center", height=2, width=2)).take(4))) == 4
        broken = load_photographs(name, root=root, part="all")
        # Whichever of them is met first
        message = f"cannot read image.*({'|'.join(map(re.escape, missing))})"
        with pytest.raises(UnreadableImageError, match=message):
            broken.arrays(4)
        with pytest.raises(tf.errors.OpError, match=message):
            list(broken.batches(4, 24, 0, make_masks("center", height=2, width=2)).take(1))


def test_too_large_photographs_are_refused_and_nothing_readable_is_an_error(tmp_path):
    for index in range(3):
        Image.new("RGB", (20, 20)).save(tmp_path / f"{index}.png")
    folder = {"name": "image_folder", "root": tmp_path, "max_pixels": 399}
    with pytest.raises(UnreadableImageError, match=r"0\.png': 20 x 20 pixels, more than max_pixels=399"):
        load_photographs(**folder, part="all").arrays(4)
    with pytest.raises(ValueError, match=r"holds no readable image \(part 'train'\)"):
        load_photographs(**folder, skip_corrupt=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"name": "photos"},
            "unknown data set of photographs 'photos'; known are 'photographs', 'image_",
        ),
        ({"name": "photographs:all"}, "takes nothing after a colon"),
        ({"name": "photographs", "root": "x"}, "takes no root, got 'x'"),
        ({"name": "photographs", "split": "test"}, "has no splits, got split='test'"),
        ({"name": "photographs", "part": "test"}, "part must be one of 'train', 'validation', 'all', got 'test'"),
        ({"name": "image_folder"}, "needs root"),
        ({"name": "image_folder", "root": "/absent"}, "'/absent' does not exist"),
        ({"name": "tfds"}, "needs a name after a colon"),
        ({"name": "photographs", "max_pixels": 0}, "max_pixels must be in"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        load_photographs(**options)


def test_bad_folders_fractions_and_batches(tmp_path):
    with pytest.raises(ValueError, match="holds no images"):
        load_photographs("image_folder", root=tmp_path)
    Image.new("RGB", (4, 4)).save(tmp_path / "one.png")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ValueError, match="holds 1 image: too few to hold one out; use part='all'"):
        load_photographs("image_folder", root=tmp_path)
    for fraction in (0, 1, -0.1):
        with pytest.raises(ValueError, match=rf"validation_fraction must be in \(0, 1\), got {fraction}"):
            load_photographs("image_folder", root=tmp_path, validation_fraction=fraction)
    with pytest.raises(ValueError, match="part must be one of"):
        load_photographs("image_folder", root=tmp_path, part="test")
    data = load_photographs("image_folder", root=tmp_path, part="all")
    for options, message in (
        ({"resolution": 0}, "resolution must be at least 1, got 0"),
        ({"min_crop_scale": 0.0}, r"min_crop_scale must be in \(0, 1\], got 0.0"),
        ({"min_crop_scale": 1.1}, "min_crop_scale"),
        ({"resolution": 4}, "masks of kind 'rectangle' .* got resolution 4 x 4"),
        ({"batch_size": 3, "replicas_per_pipeline": 2}, "batch_size=3 .* must be divisible by the 2 replicas"),
    ):
        with pytest.raises(ValueError, match=message):
            data.batches(**{"resolution": 8, "batch_size": 4, "seed": 0, "masks": MASKS, **options})


def test_tfds_needs_one_image_of_bytes(tmp_path, build_tfds):
    import tensorflow_datasets as tfds

    image = tfds.features.Image(shape=(6, 6, 3))
    build_tfds(tmp_path / "a", features={"image": image, "caption": tfds.features.Text()})
    assert load_photographs("tfds:tiny_shapes", root=tmp_path / "a", part="all").num_examples == 23
    with pytest.raises(ValueError, match=r"has the splits \['train'\], got 'test'"):
        load_photographs("tfds:tiny_shapes", root=tmp_path / "a", split="test")
    build_tfds(tmp_path / "b", features={"label": tfds.features.ClassLabel(num_classes=3)})
    with pytest.raises(ValueError, match=r"must have one Image feature, found \['label'\] with images \[\]"):
        load_photographs("tfds:tiny_shapes", root=tmp_path / "b")


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs scikit-image, which is not installed: .*attennorm_tf\[data\]"):
        load_photographs()


_RUNNING_PIPELINE = """
import time
import numpy as np
import tensorflow as tf
from attennorm_tf.data.host_function import host_function

def slow(number):
    time.sleep(0.02)
    return np.sin(np.ones(1000)).sum() + number

numbers = tf.data.Dataset.range(10**9)
numbers = numbers.map(lambda n: host_function(slow, [tf.cast(n, tf.float64)], tf.float64), num_parallel_calls=8)
iterator = iter(numbers.prefetch(400))
next(iterator)
raise SystemExit(3)
"""


@pytest.mark.slow
def test_a_program_ends_while_its_pipeline_runs():
    done = run_module("-c", _RUNNING_PIPELINE, timeout=120)
    assert done.returncode == 3, done.stderr
    assert "Error" not in done.stderr
