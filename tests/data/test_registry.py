"""Names, arguments, and the packages behind the data sets."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

from attennorm_tf.data import dataset_names, load_dataset
from attennorm_tf.data.sources import tfds_images


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "mnist"}, "unknown data set 'mnist'; known are 'digits', 'image_folder', 'tfds:<name>'."),
        ({"name": "digits:8"}, "data set 'digits' takes nothing after a colon, got 'digits:8'"),
        ({"name": "digits", "channels": 4}, "channels must be None, 1 or 3, got 4"),
        ({"name": "digits", "root": "x"}, "takes no root, got 'x'"),
        ({"name": "digits", "split": "valid"}, "has the splits 'train' and 'test', got 'valid'"),
        ({"name": "tfds"}, "needs a name after a colon"),
        ({"name": "tfds:no_such_set_of_images"}, "has no data set 'no_such_set_of_images'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        load_dataset(**arguments)


@pytest.mark.parametrize(
    ("name", "package", "module"),
    [
        ("digits", "scikit-learn", "sklearn.datasets"),
        ("tfds:cifar10", "tensorflow-datasets", "tensorflow_datasets"),
    ],
)
def test_missing_packages_name_the_extra(monkeypatch, name, package, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=re.escape(f"needs {package}, which is not installed")) as error:
        load_dataset(name)
    assert "pip install 'attennorm_tf[data]'" in str(error.value)


def test_names():
    assert dataset_names() == ("digits", "image_folder", "tfds")


def test_resolution_is_checked():
    with pytest.raises(ValueError, match="resolution must be at least 1, got 0"):
        load_dataset("digits").batches(resolution=0, batch_size=4, seed=0)


def test_digits_are_the_real_ones_split_by_class():
    from sklearn.datasets import load_digits

    raw = load_digits()
    splits = [load_dataset("digits", split=split).arrays(resolution=8) for split in ("train", "test")]
    assert [len(labels) for _, labels in splits] == [1438, 359]
    joined = np.concatenate([(images[..., 0] + 1) * 8 for images, _ in splits])
    assert sorted(image.tobytes() for image in joined) == sorted(
        image.tobytes() for image in raw.images.astype(np.float32)
    )
    shares = np.bincount(splits[1][1]) / np.bincount(raw.target)
    assert np.abs(shares - 0.2).max() < 0.003
    np.testing.assert_array_equal(load_dataset("digits", split="test").arrays(resolution=8)[0], splits[1][0])


def test_digits_in_three_channels():
    images, _ = load_dataset("digits", channels=3).arrays(resolution=16, limit=5)
    assert images.shape == (5, 16, 16, 3)
    np.testing.assert_array_equal(images[..., 0], images[..., 2])


@pytest.fixture(params=["in memory", "streamed"])
def storage(request, monkeypatch):
    if request.param == "streamed":
        monkeypatch.setattr(tfds_images, "DEFAULT_CACHE_BYTES", 0)


def test_tfds_content(storage, tmp_path, build_tfds):
    build_tfds(tmp_path)
    data = load_dataset("tfds:tiny_shapes", root=tmp_path)
    assert (data.name, data.num_classes, data.class_names) == ("tfds:tiny_shapes", 3, ("x", "y", "z"))
    assert (data.num_examples, data.channels, data.native) == (23, 3, (6, 6))
    images, labels = data.arrays(resolution=6)
    np.testing.assert_allclose((images[:, 0, 0, 0] + 1) * 127.5, np.arange(23), atol=1e-4)
    np.testing.assert_array_equal(labels, np.arange(23) % 3)
    part = load_dataset("tfds:tiny_shapes:1.0.0", root=tmp_path, split="train[5:9]", channels=1)
    np.testing.assert_array_equal(part.arrays(resolution=6)[1], [2, 0, 1, 2])
    assert part.arrays(resolution=6)[0].shape == (4, 6, 6, 1)


def test_tfds_stream_differs_between_epochs_and_seeds(storage, tmp_path, build_tfds):
    build_tfds(tmp_path)
    data = load_dataset("tfds:tiny_shapes", root=tmp_path)
    orders = set()
    for seed in (0, 1):
        for images, _ in data.batches(resolution=6, batch_size=23, seed=seed).take(3):
            order = np.round((images.numpy()[:, 0, 0, 0] + 1) * 127.5).astype(int)
            assert sorted(order) == list(range(23))
            orders.add(tuple(order))
    assert len(orders) == 6


def test_tfds_corrupt(storage, tmp_path, build_tfds, caplog):
    build_tfds(tmp_path, corrupt=(3, 20))
    with pytest.raises(Exception, match=r"cannot read image 'tfds:tiny_shapes .*__3': "):
        load_dataset("tfds:tiny_shapes", root=tmp_path).arrays(resolution=6)
    data = load_dataset("tfds:tiny_shapes", root=tmp_path, skip_corrupt=True)
    assert data.num_examples == 21
    assert [name.split("__")[1] for name in data.skipped] == ["3", "20"]
    assert "skipped 2 of 23 images" in caplog.text
    expected = [index for index in range(23) if index not in (3, 20)]
    np.testing.assert_allclose((data.arrays(resolution=6)[0][:, 0, 0, 0] + 1) * 127.5, expected, atol=1e-4)


def test_tfds_not_prepared_is_not_fetched_unasked(tmp_path):
    with pytest.raises(ValueError, match=r"not prepared in .* pass download=True to fetch it, or run `tfds build"):
        load_dataset("tfds:mnist", root=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_tfds_unknown_split(tmp_path, build_tfds):
    build_tfds(tmp_path)
    with pytest.raises(ValueError, match=r"has the splits \['train'\], got 'valid'"):
        load_dataset("tfds:tiny_shapes", root=tmp_path, split="valid")


def _features(kind):
    import tensorflow_datasets as tfds

    image, label = tfds.features.Image(shape=(6, 6, 3)), tfds.features.ClassLabel(num_classes=3)
    return {
        "no label": {"image": image, "caption": tfds.features.Text()},
        "two labels": {"image": image, "label": label, "other": label},
    }[kind]


@pytest.mark.parametrize(
    ("kind", "found"),
    [("no label", "with images ['image'] and labels []"), ("two labels", "labels ['label', 'other']")],
)
def test_tfds_other_than_classification_is_refused(tmp_path, build_tfds, kind, found):
    features = _features(kind)
    if kind == "two labels":
        with pytest.raises(ValueError, match=re.escape(found)):
            _refuse(features)
        return
    build_tfds(tmp_path, features=features)
    with pytest.raises(ValueError, match=re.escape(found)):
        load_dataset("tfds:tiny_shapes", root=tmp_path)


def _refuse(features):
    import types

    import tensorflow_datasets as tfds

    info = types.SimpleNamespace(features=tfds.features.FeaturesDict(features), supervised_keys=None)
    tfds_images._classification_keys("tfds:x", info)
