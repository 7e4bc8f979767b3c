"""Sources give each image once, in order, as training sees it, and a hash of what they hold."""

from __future__ import annotations

import hashlib
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from attennorm_tf.data import UnreadableImageError, dataset_source, folder_source, load_dataset, to_8_bits
from attennorm_tf.data.image_source import PREPARATION
from attennorm_tf.data.sources import tfds_images


def _save(path, size=(4, 4), value=0, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, value, value)).save(path)


@pytest.fixture
def folder(tmp_path):
    """Seven images in two class folders; two are not 4x4."""
    root = tmp_path / "real"
    for index in range(4):
        _save(root / "cat" / f"{index}.png", value=10 * index)
    for index in range(2):
        _save(root / "dog" / f"{index}.png", size=(9 + index, 5), value=100 + index)
    _save(root / "dog" / "x" / "deep.png", value=200)
    return root


def _all(source, batch_size=3):
    batches = list(source.batches(batch_size))
    labels = [batch.labels for batch in batches]
    return (
        np.concatenate([batch.images for batch in batches]),
        None if labels[0] is None else np.concatenate(labels),
        [len(batch.images) for batch in batches],
    )


def test_folder(folder):
    source = folder_source(folder, 4)
    images, labels, sizes = _all(source)
    assert images.dtype == np.uint8
    assert images[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 100, 101, 200]
    assert images.shape == (7, 4, 4, 3)
    assert labels is None
    assert sizes == [3, 3, 1]
    facts = source.facts()
    assert json.loads(json.dumps(facts)) == facts
    del facts["content_hash"]
    assert facts == {
        "name": "real",
        "split": None,
        "count": 7,
        "resolution": 4,
        "channels": 3,
        "classes": None,
        "preparation": PREPARATION,
        "resized": 2,
        "skipped": 0,
    }
    assert folder_source(folder, 5).resized == 7


def test_class_folders(folder):
    source = folder_source(folder, 4, channels=1, class_folders=True)
    images, labels, _ = _all(source)
    assert images.shape == (7, 4, 4, 1)
    assert source.class_names == ("cat", "dog")
    assert labels.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert labels.dtype == np.int32
    other = folder_source(folder, 4, class_folders=True, class_names=["bird", "dog", "cat"])
    assert _all(other)[1].tolist() == [2, 2, 2, 2, 1, 1, 1]
    assert len({folder_source(folder, 4).content_hash, source.content_hash, other.content_hash}) == 3


def test_the_hash_is_of_names_labels_and_bytes(tmp_path):
    _save(tmp_path / "b.png", value=1)
    _save(tmp_path / "a.png", value=2)
    digest = hashlib.sha256(b"None")
    for name in ("a.png", "b.png"):
        content = (tmp_path / name).read_bytes()
        digest.update(f"5 None {len(content)} {name}".encode() + content)
    assert folder_source(tmp_path, 4).content_hash == digest.hexdigest()


def test_the_hash_follows_the_content_and_not_the_place(folder, tmp_path):
    before = folder_source(folder, 4).content_hash
    copied = shutil.copytree(folder, tmp_path / "copy")
    assert folder_source(copied, 4).content_hash == before
    assert folder_source(copied, 8).content_hash == before  # of what is stored; the resolution stands beside it
    (copied / "cat" / "0.png").rename(copied / "cat" / "00.png")
    renamed = folder_source(copied, 4).content_hash
    _save(copied / "cat" / "1.png", value=11)
    changed = folder_source(copied, 4).content_hash
    (copied / "cat" / "1.png").unlink()
    assert len({before, renamed, changed, folder_source(copied, 4).content_hash}) == 4


def test_a_folder_of_class_folders_is_the_data_set(folder):
    shutil.rmtree(folder / "dog" / "x")
    data = dataset_source(load_dataset("image_folder", root=folder), 4)
    own = folder_source(folder, 4, class_folders=True)
    np.testing.assert_array_equal(_all(data)[0], _all(own)[0])
    np.testing.assert_array_equal(_all(data)[1], _all(own)[1])
    assert (data.content_hash, data.resized) == (own.content_hash, 2)
    assert data.facts()["split"] == "train"


def test_digits():
    source = dataset_source(load_dataset("digits", split="test"), 8)
    images, labels, _ = _all(source, 100)
    expected, expected_labels = load_dataset("digits", split="test").arrays(8)
    np.testing.assert_array_equal(images, np.floor((expected.astype(np.float64) + 1) * 127.5 + 0.5))
    np.testing.assert_array_equal(labels, expected_labels)
    assert source.resized == 0
    assert dataset_source(load_dataset("digits", split="test"), 16).resized == 359
    hashes = {dataset_source(load_dataset("digits", split=split), 8).content_hash for split in ("train", "test")}
    assert hashes > {source.content_hash}


def test_tfds_records(tmp_path, build_tfds, monkeypatch):
    build_tfds(tmp_path)
    hashes = set()
    for cache_bytes in (2**20, 0):
        monkeypatch.setattr(tfds_images, "DEFAULT_CACHE_BYTES", cache_bytes)
        data = load_dataset("tfds:tiny_shapes", root=str(tmp_path))
        assert isinstance(data, tfds_images.StreamedImages) == (not cache_bytes)
        source = dataset_source(data, 6)
        images, labels, sizes = _all(source, 8)
        assert images[:, 0, 0, 0].tolist() == list(range(23))
        assert labels.tolist() == [index % 3 for index in range(23)]
        assert sizes == [8, 8, 7]
        assert (source.resized, source.class_names) == (0, ("x", "y", "z"))
        hashes.add(source.content_hash)
    assert len(hashes) == 1
    assert dataset_source(data, 5).resized == 23
    part = dataset_source(load_dataset("tfds:tiny_shapes", root=str(tmp_path), split="train[:10]"), 6)
    assert (part.num_images, part.facts()["split"]) == (10, "train[:10]")
    assert part.content_hash not in hashes


def test_tfds_mocked(tmp_path):
    import tensorflow_datasets as tfds

    place = tmp_path / "cifar10" / "3.0.2"
    place.mkdir(parents=True)
    split = {
        "name": "test",
        "shardLengths": ["7"],
        "numBytes": "9000",
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    }
    (place / "dataset_info.json").write_text(
        json.dumps({"name": "cifar10", "version": "3.0.2", "fileFormat": "tfrecord", "splits": [split]})
    )
    with tfds.testing.mock_data(num_examples=7, data_dir=str(tmp_path)):
        source = dataset_source(load_dataset("tfds:cifar10:3.0.2", root=str(tmp_path), split="test"), 32)
        images, labels, _ = _all(source, 4)
        assert images.shape == (7, 32, 32, 3)
        assert set(labels.tolist()) <= set(range(10))
        assert (source.resized, len(source.content_hash)) == (0, 64)


def test_links_and_hidden_files(folder, tmp_path, caplog):
    _save(folder / ".hidden" / "a.png")
    (folder / "notes.txt").write_text("about")
    _save(tmp_path / "elsewhere" / "a.png", value=77)
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "round").symlink_to(folder)
    images, _, _ = _all(folder_source(folder, 4))
    assert images[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 100, 101, 200, 77]
    assert "passed over 1 files that are not images" in caplog.text


def test_unreadable_images_stop_or_are_skipped(folder):
    content = (folder / "cat" / "2.png").read_bytes()
    (folder / "cat" / "2.png").write_bytes(content[:45])
    source = folder_source(folder, 4)
    with pytest.raises(UnreadableImageError, match=r"cannot read image '.*cat/2\.png': image file is truncated"):
        list(source.batches(3))
    (folder / "dog" / "0.png").write_bytes(b"")
    with pytest.raises(UnreadableImageError, match=r"cannot read image '.*dog/0\.png': the file is empty"):
        source.content_hash  # noqa: B018
    kept = folder_source(folder, 4, skip_corrupt=True)
    assert kept.skipped == ["cat/2.png", "dog/0.png"]
    assert (kept.num_images, kept.facts()["skipped"]) == (5, 2)
    assert _all(kept)[0][:, 0, 0, 0].tolist() == [0, 10, 30, 101, 200]
    (folder / "cat" / "0.png").unlink()
    with pytest.raises(UnreadableImageError, match=r"cannot read image '.*cat/0\.png': No such file"):
        list(kept.batches(3))


@pytest.mark.parametrize("streamed", [False, True])
def test_unreadable_images_of_data_sets_are_named(tmp_path, build_tfds, monkeypatch, streamed):
    build_tfds(tmp_path, corrupt=(5,))
    if streamed:
        monkeypatch.setattr(tfds_images, "DEFAULT_CACHE_BYTES", 0)
    source = dataset_source(load_dataset("tfds:tiny_shapes", root=str(tmp_path)), 6)
    with pytest.raises(UnreadableImageError, match=r"^cannot read image 'tfds:tiny_shapes tiny_shapes-.*__5'.*\.$"):
        list(source.batches(4))
    skipping = load_dataset("tfds:tiny_shapes", root=str(tmp_path), skip_corrupt=True)
    assert dataset_source(skipping, 6).facts()["skipped"] == 1


def test_folders_that_cannot_serve(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"no image")
    for path, message, options in [
        (tmp_path / "empty", "holds no images", {}),
        (tmp_path / "gone", "does not exist", {}),
        (tmp_path / "file", "is a file; expected a folder of images", {}),
        (tmp_path / "bad", "holds no readable image; 1 cannot be read", {"skip_corrupt": True}),
        (folder / "cat", "'0.png' lies outside the class folders, as 4 do", {"class_folders": True}),
        (folder, "folder 'dog' is no class; classes are cat", {"class_folders": True, "class_names": ["cat"]}),
        (folder, "class_names needs class_folders=True", {"class_names": ["cat"]}),
        (folder, "channels must be 1 or 3, got 4", {"channels": 4}),
        (folder, "max_pixels must be in", {"max_pixels": 0}),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            folder_source(path, 4, **options)
    with pytest.raises(ValueError, match="resolution must be at least 1, got 0"):
        folder_source(folder, 0)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        next(folder_source(folder, 4).batches(0))
    _save(folder / "big.png", size=(40, 40))
    with pytest.raises(UnreadableImageError, match=r"big\.png': 40 x 40 pixels, more than max_pixels=1000"):
        list(folder_source(folder, 4, max_pixels=1000).batches(8))


def test_to_8_bits():
    levels = np.arange(256)
    np.testing.assert_array_equal(to_8_bits((levels / 127.5 - 1).astype(np.float32)), levels)
    assert to_8_bits(np.float32([-1.5, -1, 0.999, 1, 7])).tolist() == [0, 0, 255, 255, 255]
