"""Every data set of photographs delivers what `Photographs` promises: the same stream however it is shared."""

from __future__ import annotations

import pkgutil
import re

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import attennorm_tf.data.photograph_sources
from attennorm_tf.data import UnreadableImageError, load_photographs, make_masks, photographs_names
from attennorm_tf.data.photograph_sources import tfds_images
from tests.data.cases import arrays_of, ways_to_open, write_photographs

MASKS = make_masks("rectangle", height=4, width=4, shrink=2)


def _embedded(folder, build_tfds, monkeypatch):
    return load_photographs()


# Registered name -> ways to open one; a new data set adds its line.
_CASES = {
    "photographs": [_embedded],
    **ways_to_open(load_photographs, tfds_images, write_photographs, part="all"),
}


@pytest.fixture(params=[case for cases in _CASES.values() for case in cases], ids=lambda case: case.__name__.strip("_"))
def data(request, tmp_path, build_tfds, monkeypatch):
    return request.param(tmp_path, build_tfds, monkeypatch)


def test_every_source_is_registered_and_has_a_case():
    modules = {module.name for module in pkgutil.iter_modules(attennorm_tf.data.photograph_sources.__path__)}
    names = {{"tfds_images": "tfds", "embedded": "photographs"}.get(module, module) for module in modules}
    assert names == set(photographs_names()) == set(_CASES)


def test_stream_is_the_same_from_every_start_and_for_all_workers(data):
    options = {"resolution": 6, "batch_size": 8, "seed": 3, "masks": MASKS, "min_crop_scale": 0.5}
    whole = arrays_of(data.batches(**options).take(6))
    for images, masks in whole:
        assert images.shape == (8, 6, 6, 3)
        assert masks.shape == (8, 6, 6, 1)
        assert -1 <= images.min() < images.max() <= 1
    masks = np.concatenate([masks for _, masks in whole])
    np.testing.assert_array_equal(masks, MASKS(tf.range(48, dtype=tf.int64), 3, (6, 6)))
    for part, expected in zip(arrays_of(data.batches(**options, start_step=4).take(2)), whole[4:]):
        np.testing.assert_array_equal(part[0], expected[0])
        np.testing.assert_array_equal(part[1], expected[1])
    # Two workers of two replicas each
    shares = [
        arrays_of(
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
    batches = data.batches(6, 4, 0, MASKS, replicas_per_pipeline=2)
    assert batches.element_spec[0].shape.as_list() == [2, 6, 6, 3]
    assert batches.options().autotune.enabled is False


@pytest.mark.parametrize("streamed", [False, True])
def test_corrupt_photographs_are_named_or_skipped(tmp_path, build_tfds, monkeypatch, streamed, caplog):
    if streamed:
        monkeypatch.setattr(tfds_images, "DEFAULT_CACHE_BYTES", 0)
    (tmp_path / "photographs").mkdir()
    names = write_photographs(tmp_path / "photographs")
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
