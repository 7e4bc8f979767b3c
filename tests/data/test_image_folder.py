"""What may be in a folder, and what is said when something is wrong with it."""

from __future__ import annotations

import logging
import os
import re

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from attennorm_tf.data import load_dataset


def _write(folder, name, value=0):
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (value, value, value)).save(folder / name)


@pytest.fixture
def folder(tmp_path):
    for label, name in enumerate(("cat", "dog", "owl")):
        for index in range(4):
            _write(tmp_path / name, f"{index}.png", value=10 * label + index)
    return tmp_path


def _values(data):
    return np.round((data.arrays(resolution=4)[0][:, 0, 0, 0] + 1) * 127.5).astype(int).tolist()


def test_classes_and_files_are_in_order_of_their_names(folder):
    data = load_dataset("image_folder", root=folder)
    assert data.class_names == ("cat", "dog", "owl")
    assert _values(data) == [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]
    assert data.arrays(resolution=4)[1].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert (data.name, data.channels, data.native) == ("image_folder", 3, None)


def test_grey(folder):
    data = load_dataset("image_folder", root=folder, channels=1)
    assert data.arrays(resolution=4)[0].shape == (12, 4, 4, 1)


def test_other_entries_are_passed_over_and_counted(folder, caplog):
    _write(folder / ".hidden", "a.png")
    _write(folder / "cat" / "nested", "a.png")
    (folder / "readme.txt").write_text("about")
    (folder / "cat" / "Thumbs.db").write_bytes(b"\0")
    (folder / "cat" / "._0.png").write_bytes(b"\0")
    data = load_dataset("image_folder", root=folder)
    assert data.num_examples == 12
    assert "passed over 3 entries that are not images" in caplog.text


def test_extensions_in_any_case_and_contents_of_another_format(folder):
    Image.new("RGB", (4, 4), (9, 9, 9)).save(folder / "cat" / "9.JPG", "PNG")
    assert _values(load_dataset("image_folder", root=folder))[:5] == [0, 1, 2, 3, 9]


def test_links_are_followed_and_a_broken_one_is_unreadable(folder, tmp_path_factory, caplog):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    _write(elsewhere / "yak", "0.png", value=77)
    (folder / "yak").symlink_to(elsewhere / "yak")
    (folder / "cat" / "4.png").symlink_to(elsewhere / "yak" / "0.png")
    data = load_dataset("image_folder", root=folder)
    assert data.class_names[-1] == "yak"
    assert _values(data)[4] == _values(data)[-1] == 77
    (folder / "cat" / "5.png").symlink_to(elsewhere / "gone.png")
    with pytest.raises(ValueError, match=r"5\.png': No such file"):
        load_dataset("image_folder", root=folder).arrays(resolution=4)
    assert load_dataset("image_folder", root=folder, skip_corrupt=True).num_examples == 14


def test_split_folders(folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("splits")
    for split, value in (("train", 1), ("test", 2)):
        for name in ("a", "b"):
            _write(root / split / name, "0.png", value)
    assert _values(load_dataset("image_folder", root=root)) == [1, 1]
    assert _values(load_dataset("image_folder", root=root, split="test")) == [2, 2]
    with pytest.raises(ValueError, match="has no split folder 'valid'"):
        load_dataset("image_folder", root=root, split="valid")
    with pytest.raises(ValueError, match="has no split folder 'test'; without split folders all"):
        load_dataset("image_folder", root=folder, split="test")


def test_a_class_may_be_called_train(folder):
    _write(folder / "train", "0.png")
    assert "train" in load_dataset("image_folder", root=folder).class_names


def _remove_classes(folder, keep):
    for name in ("cat", "dog", "owl")[keep:]:
        for file in (folder / name).iterdir():
            file.unlink()
        (folder / name).rmdir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: _remove_classes(folder, 0), "holds no class folders"),
        (lambda folder: _remove_classes(folder, 1), "holds one class only, 'cat'"),
        (lambda folder: (folder / "empty").mkdir(), "empty' holds no images"),
        (
            lambda folder: _write(folder / "deep" / "x", "a.png"),
            "deep' holds no images (.png, .jpg, .jpeg, .bmp, ",
        ),
    ],
)
def test_folders_that_cannot_serve(folder, change, message):
    change(folder)
    with pytest.raises(ValueError, match=re.escape(message)):
        load_dataset("image_folder", root=folder)


def test_roots_that_cannot_serve(folder):
    with pytest.raises(ValueError, match="needs root"):
        load_dataset("image_folder")
    with pytest.raises(ValueError, match="gone' does not exist"):
        load_dataset("image_folder", root=folder / "gone")
    with pytest.raises(ValueError, match=r"0\.png' is a file"):
        load_dataset("image_folder", root=folder / "cat" / "0.png")


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_unreadable_class_folder(folder, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ValueError, match="dog' cannot be read: Permission denied"):
        load_dataset("image_folder", root=folder)


def _damage(path):
    path.write_bytes(path.read_bytes()[:45])


def test_a_corrupt_image_stops_with_its_name(folder):
    _damage(folder / "dog" / "2.png")
    data = load_dataset("image_folder", root=folder)
    with pytest.raises(ValueError, match=r"cannot read image '.*2\.png': image file is truncated"):
        data.batches(resolution=4, batch_size=4, seed=0)


def test_a_corrupt_image_stops_with_its_name_where_images_are_decoded_on_the_fly(folder, monkeypatch):
    _damage(folder / "dog" / "2.png")
    data = load_dataset("image_folder", root=folder)
    monkeypatch.setattr(data, "_cache_bytes", 0)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"cannot read image '.*2\.png': image file is trunc"):
        list(data.batches(resolution=4, batch_size=4, seed=0, repeat=False))


def test_skip_corrupt_drops_counts_and_names(folder, caplog):
    caplog.set_level(logging.WARNING)
    _damage(folder / "dog" / "2.png")
    (folder / "owl" / "0.png").write_bytes(b"")
    data = load_dataset("image_folder", root=folder, skip_corrupt=True)
    assert data.skipped == [str(folder / "dog" / "2.png"), str(folder / "owl" / "0.png")]
    assert _values(data) == [0, 1, 2, 3, 10, 11, 13, 21, 22, 23]
    assert data.arrays(resolution=4)[1].tolist() == [0] * 4 + [1] * 3 + [2] * 3
    assert "skipped 2 of 12 images" in caplog.text
    assert "the file is empty" in caplog.text


def test_a_class_without_readable_images(folder):
    for index in range(4):
        _damage(folder / "dog" / f"{index}.png")
    with pytest.raises(ValueError, match="dog' holds no readable image"):
        load_dataset("image_folder", root=folder, skip_corrupt=True)


def test_max_pixels(folder):
    Image.new("RGB", (40, 40)).save(folder / "cat" / "0.png")
    with pytest.raises(ValueError, match=r"0\.png': 40 x 40 pixels, more than max_pixels=1000"):
        load_dataset("image_folder", root=folder, max_pixels=1000).arrays(resolution=4)
    assert load_dataset("image_folder", root=folder, max_pixels=1000, skip_corrupt=True).num_examples == 11
