"""Every data set of the registry delivers what `LabeledImages` promises."""

from __future__ import annotations

import pkgutil

import numpy as np
import pytest
from PIL import Image

import attennorm_tf.data.sources
from attennorm_tf.data import dataset_names, load_dataset
from attennorm_tf.data.sources import tfds_images
from tests.data.cases import arrays_of, ways_to_open


def _digits(folder, build_tfds, monkeypatch):
    return load_dataset("digits")


def _write_folder(folder):
    random = np.random.RandomState(0)
    for name, count in (("b", 5), ("a", 4), ("c", 2)):
        (folder / name).mkdir()
        for index in range(count):
            pixels = random.randint(0, 256, (9 + index, 7, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")


# Registered name -> ways to open one; a new data set adds its line.
_CASES = {"digits": [_digits], **ways_to_open(load_dataset, tfds_images, _write_folder)}
_ALL = [case for cases in _CASES.values() for case in cases]


@pytest.fixture(params=_ALL, ids=lambda case: case.__name__.strip("_"))
def data(request, tmp_path, build_tfds, monkeypatch):
    return request.param(tmp_path, build_tfds, monkeypatch)


def test_every_source_is_registered_and_has_a_case():
    modules = {module.name for module in pkgutil.iter_modules(attennorm_tf.data.sources.__path__)}
    names = {"tfds" if module == "tfds_images" else module for module in modules}
    assert names == set(dataset_names()) == set(_CASES)


def test_attributes_and_arrays(data):
    images, labels = data.arrays(resolution=5)
    assert images.dtype == np.float32
    assert labels.dtype == np.int32
    assert images.shape == (data.num_examples, 5, 5, data.channels)
    assert -1 <= images.min() < images.max() <= 1
    assert set(labels) == set(range(data.num_classes))
    assert len(data.class_names) == data.num_classes
    assert data.skipped == []
    first = data.arrays(resolution=5, limit=3)
    np.testing.assert_array_equal(first[0], images[:3])
    np.testing.assert_array_equal(first[1], labels[:3])


def test_unshuffled_epoch_is_the_arrays(data):
    images, labels = data.arrays(resolution=5)
    epoch = arrays_of(
        data.batches(resolution=5, batch_size=4, seed=0, shuffle=False, repeat=False, drop_remainder=False)
    )
    np.testing.assert_array_equal(np.concatenate([batch[0] for batch in epoch]), images)
    np.testing.assert_array_equal(np.concatenate([batch[1] for batch in epoch]), labels)


def test_resumes_exactly_at_every_step(data):
    def stream(start):
        return arrays_of(
            data.batches(resolution=5, batch_size=8, seed=3, start_step=start, horizontal_flip=True).take(9 - start)
        )

    whole = stream(0)
    for start in (1, 3, 8):
        for (images, labels), (resumed_images, resumed_labels) in zip(whole[start:], stream(start)):
            np.testing.assert_array_equal(images, resumed_images)
            np.testing.assert_array_equal(labels, resumed_labels)


def test_replicas_and_workers_share_the_global_batches(data):
    pipelines, replicas = 2, 4  # not as many of one as of the other
    options = {"resolution": 5, "batch_size": 8, "seed": 3, "start_step": 1, "horizontal_flip": True}
    whole = arrays_of(data.batches(**options).take(4))
    shares = [
        arrays_of(
            data.batches(
                **options,
                num_input_pipelines=pipelines,
                input_pipeline_id=worker,
                replicas_per_pipeline=replicas,
            ).take(4 * replicas)
        )
        for worker in range(pipelines)
    ]
    for step, (images, labels) in enumerate(whole):
        parts = [share[step * replicas + replica] for share in shares for replica in range(replicas)]
        np.testing.assert_array_equal(np.concatenate([part[0] for part in parts]), images)
        np.testing.assert_array_equal(np.concatenate([part[1] for part in parts]), labels)


@pytest.mark.parametrize("drop_remainder", [True, False])
def test_one_epoch_holds_every_example_once_over_all_workers(data, drop_remainder):
    images, _ = data.arrays(resolution=5)
    elements = [
        arrays_of(
            data.batches(
                resolution=5,
                batch_size=8,
                seed=1,
                repeat=False,
                drop_remainder=drop_remainder,
                num_input_pipelines=2,
                input_pipeline_id=worker,
                replicas_per_pipeline=2,
            )
        )
        for worker in range(2)
    ]
    assert len(elements[0]) == len(elements[1])  # no replica waits for another at the end
    seen = np.concatenate([batch for worker in elements for batch, _ in worker])
    count = len(images) // 8 * 8 if drop_remainder else len(images)
    assert len(seen) == count
    expected = {image.tobytes() for image in images}
    assert {image.tobytes() for image in seen} <= expected
    assert len({image.tobytes() for image in seen}) == min(count, len(expected))


def test_batch_larger_than_the_data_set_crosses_epochs(data):
    size = 2 * data.num_examples + 2
    (images, labels), (_, more) = arrays_of(data.batches(resolution=2, batch_size=size, seed=0).take(2))
    assert images.shape == (size, 2, 2, data.channels)
    counts = np.bincount(data.arrays(resolution=2)[1])
    np.testing.assert_array_equal(np.bincount(labels[: data.num_examples]), counts)
    np.testing.assert_array_equal(np.bincount(labels[data.num_examples : -2]), counts)
    assert (labels[: data.num_examples] != labels[data.num_examples : -2]).any()
    np.testing.assert_array_equal(np.bincount(np.append(labels[-2:], more[: data.num_examples - 2])), counts)


def test_flips_are_half_of_the_images_and_leave_the_rest_alone(data):
    options = {"resolution": 5, "batch_size": 200, "seed": 5}
    plain = next(iter(data.batches(**options)))[0].numpy()
    mixed = next(iter(data.batches(**options, horizontal_flip=True)))[0].numpy()
    kept = (mixed == plain).all(axis=(1, 2, 3))
    mirrored = (mixed == plain[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (kept | mirrored).all()
    if not (kept & mirrored).all():  # an image may be its own mirror image
        assert 60 < mirrored.sum() < 140


def test_static_shapes(data):
    endless = data.batches(resolution=5, batch_size=8, seed=0, replicas_per_pipeline=2)
    assert endless.element_spec[0].shape.as_list() == [4, 5, 5, data.channels]
    assert endless.element_spec[1].shape.as_list() == [4]
    assert endless.options().autotune.enabled is False  # else its thread may hold up the end of a program
    last = data.batches(resolution=5, batch_size=8, seed=0, repeat=False, drop_remainder=False)
    assert last.element_spec[0].shape.as_list() == [None, 5, 5, data.channels]
    assert data.batches(resolution=5, batch_size=8, seed=0, repeat=False, start_step=10**6).cardinality() <= 0
