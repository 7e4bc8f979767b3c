"""The classifier learns classes that are easy to tell apart, and what is saved is what is loaded."""

from __future__ import annotations

import json
import os
import re

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from attennorm_tf.data import load_dataset
from attennorm_tf.metrics import ImageClassifier, load_extractor, train_image_classifier
from attennorm_tf.metrics import image_classifier as saving
from attennorm_tf.metrics.image_classifier import whitening_kernels
from attennorm_tf.metrics.image_classifier_training import learning_rates, shifted


@pytest.fixture(scope="module")
def stripes(tmp_path_factory):
    """Class folders of noisy horizontal and vertical stripes, which keep their class mirrored and shifted."""
    root = tmp_path_factory.mktemp("stripes")
    random = np.random.RandomState(0)
    wave = np.where(np.arange(10) % 4 < 2, 80, 170)
    for split, count in (("train", 40), ("test", 13)):
        for name, picture in (("level", wave[:, None]), ("upright", wave[None])):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = picture[..., None] + random.normal(0, 30, (10, 10, 3))
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{index}.png")
    return tuple(load_dataset("image_folder", root=root, split=split) for split in ("train", "test"))


@pytest.fixture(scope="module")
def trained(stripes):
    told = []
    made = train_image_classifier(*stripes, 10, epochs=6, batch_size=16, width=0.2, seed=4, progress=told.append)
    assert told == [16] * 30
    return made


def test_it_learns(trained, stripes):
    assert trained.test_accuracy > 0.95
    images, labels = stripes[1].arrays(10)
    features, logits = trained.forward(images)
    assert trained.test_accuracy == np.mean(np.argmax(logits, axis=1) == labels)
    assert features.shape == (26, trained.feature_size)
    mirrored = trained.forward(images[:, :, ::-1])[1]
    assert trained.facts["test_accuracy_with_flips"] == np.mean(np.argmax(logits + mirrored, axis=1) == labels)


def test_it_says_how_it_was_trained(trained, stripes):
    assert trained.name == "image_classifier_10x10"
    assert trained.class_names == ("level", "upright")
    facts = trained.facts
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["steps"], facts["batch_size"], facts["epochs"], facts["seed"]) == (30, 16, 6, 4)
    assert (facts["data"]["count"], facts["test_data"]["count"]) == (80, 26)
    assert facts["data"]["content_hash"] != facts["test_data"]["content_hash"]
    assert facts["seconds"] > 0


def test_saved_is_loaded(trained, stripes, tmp_path):
    trained.save(tmp_path / "c")
    loaded = ImageClassifier.load(tmp_path / "c")
    images = stripes[1].arrays(10)[0]
    for ours, theirs in zip(trained.forward(images), loaded.forward(images)):
        np.testing.assert_array_equal(ours, theirs)
    for name in ("name", "content_hash", "test_accuracy", "facts", "class_names", "channels", "width"):
        assert getattr(loaded, name) == getattr(trained, name)
    protocol = load_extractor(f"classifier:{tmp_path / 'c'}").protocol()
    assert (protocol["name"], protocol["test_accuracy"]) == ("image_classifier_10x10", trained.test_accuracy)
    assert protocol["content_hash"] == trained.content_hash
    with pytest.raises(ValueError, match="classifier needs a folder after a colon"):
        load_extractor("classifier")


def test_a_saved_classifier_is_replaced_as_a_whole(tmp_path, monkeypatch):
    first, second = (ImageClassifier(8, 3, ["a", "b"], width=0.1, seed=seed) for seed in (1, 2))
    assert first.content_hash != second.content_hash
    first.save(tmp_path)
    written = []
    replace = os.replace

    def fail_at_the_second(source, target):
        written.append(target)
        if len(written) == 2:
            raise OSError("disk full")
        replace(source, target)

    monkeypatch.setattr(saving.os, "replace", fail_at_the_second)
    with pytest.raises(OSError, match="disk full"):
        second.save(tmp_path)
    assert ImageClassifier.load(tmp_path).content_hash == first.content_hash
    monkeypatch.undo()
    second.save(tmp_path)
    assert ImageClassifier.load(tmp_path).content_hash == second.content_hash
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"classifier.json", f"weights-{second.content_hash[:16]}.npz"}


@pytest.mark.parametrize("damage", ["weights", "cut", "gone", "json", "fields", "format", "shape"])
def test_damaged_folders(tmp_path, damage):
    made = ImageClassifier(8, 1, ["a", "b"], width=0.1)
    made.save(tmp_path)
    (weights,) = tmp_path.glob("weights-*.npz")
    facts = json.loads((tmp_path / "classifier.json").read_text())
    if damage == "weights":
        with np.load(weights) as file:
            arrays = dict(file)
        arrays["logits.0"] += 1
        np.savez(weights, **arrays)
    elif damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-200])
    elif damage == "gone":
        weights.unlink()
    elif damage == "json":
        (tmp_path / "classifier.json").write_text("{")
    else:
        if damage == "fields":
            del facts["width"]
        elif damage == "format":
            facts["format"] = 9
        else:
            facts["channels"] = 3
        (tmp_path / "classifier.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=re.escape(f"classifier folder {str(tmp_path)!r} is damaged: ")):
        ImageClassifier.load(tmp_path)


def test_folders_that_hold_none(tmp_path):
    with pytest.raises(ValueError, match="gone' does not exist; `train_image_classifier` makes one"):
        ImageClassifier.load(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"holds no classifier\.json"):
        ImageClassifier.load(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="file' is a file"):
        ImageClassifier(8, 1, ["a", "b"], width=0.1).save(tmp_path / "file")


def test_the_same_seed_gives_the_same_weights(stripes):
    made = [
        train_image_classifier(*stripes, 8, epochs=0.4, batch_size=16, width=0.1, seed=seed).content_hash
        for seed in (1, 1, 2)
    ]
    assert made[0] == made[1] != made[2]


@pytest.mark.parametrize(("resolution", "channels"), [(8, 1), (32, 3), (80, 3)])
def test_shapes(resolution, channels):
    made = ImageClassifier(resolution, channels, ["a", "b", "c"], width=0.1)
    features, logits = made.forward(tf.zeros((2, resolution, resolution, channels)))
    assert features.shape == (2, made.feature_size)
    assert logits.shape == (2, 3)
    assert made.network.inputs[0].shape[1] == min(resolution, 64)


def test_whitened_patches_are_uncorrelated():
    random = np.random.RandomState(0)
    images = random.normal(0, 0.3, (40, 7, 7, 3)).cumsum(axis=1).cumsum(axis=2).astype(np.float32)
    kernels = whitening_kernels(images)
    assert kernels.shape == (2, 2, 3, 24)
    np.testing.assert_array_equal(kernels[..., 12:], -kernels[..., :12])
    rows = [
        [(image[top : top + 2, left : left + 2, :, None] * kernels[..., :12]).sum(axis=(0, 1, 2))]
        for image in images
        for top in range(6)
        for left in range(6)
    ]
    values = np.concatenate(rows).astype(np.float64)
    np.testing.assert_allclose(values.T @ values / len(values), np.eye(12), atol=0.03)


def test_shifts():
    images = np.random.RandomState(0).normal(size=(50, 16, 16, 2)).astype(np.float32)
    moved = shifted(tf.constant(images), [3, 4]).numpy()
    framed = np.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)], mode="reflect")
    places = set()
    for image, frame in zip(moved, framed):
        found = [
            (top, left)
            for top in range(3)
            for left in range(3)
            if (image == frame[top : top + 16, left : left + 16]).all()
        ]
        assert len(found) == 1
        places.update(found)
    assert len(places) == 9
    assert (shifted(tf.constant(images), [3, 4]).numpy() == moved).all()
    assert (shifted(tf.constant(images), [3, 5]).numpy() != moved).any()


def test_one_cycle_of_the_learning_rate():
    rates = [float(learning_rates(2.0, 10)(tf.constant(float(step)))) for step in range(10)]
    np.testing.assert_allclose(rates, [1.0, 2.0, 2.0, 1.75, 1.5, 1.25, 1.0, 0.75, 0.5, 0.25])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be above 0, got 0"),
        ({"batch_size": 81}, "batch_size must be in [1, 80], the images, got 81"),
        ({"batch_size": 0}, "batch_size must be in [1, 80], the images, got 0"),
        ({"resolution": 7}, "resolution must be at least 8, got 7"),
        ({"width": 0.0}, "width must be above 0, got 0.0"),
    ],
)
def test_bad_arguments(stripes, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        train_image_classifier(*stripes, **{"resolution": 8, "epochs": 1, "batch_size": 8, **options})


def test_test_images_of_other_classes(stripes):
    digits = load_dataset("digits")
    with pytest.raises(ValueError, match=r"test_dataset must have the class_names of dataset, \('level', 'upright'\)"):
        train_image_classifier(stripes[0], digits, 8)
    with pytest.raises(ValueError, match="test_dataset must have the channels of dataset, 3, got 1"):
        train_image_classifier(load_dataset("digits", channels=3), digits, 8)
    with pytest.raises(ValueError, match="class_names must be two or more, got \\['a'\\]"):
        ImageClassifier(8, 3, ["a"])
    with pytest.raises(ValueError, match="channels must be 1 or 3, got 2"):
        ImageClassifier(8, 2, ["a", "b"])


def test_a_loss_that_is_not_finite_stops(stripes, monkeypatch):
    from attennorm_tf.metrics import image_classifier_training

    monkeypatch.setattr(image_classifier_training, "_PEAK_LEARNING_RATE", 1e30)
    with pytest.raises(ValueError, match=r"the loss of step \d is not finite"):
        train_image_classifier(*stripes, 8, epochs=1, batch_size=8, width=0.1)
