"""The classifier learns the real digits, and the score built on it tells good images from bad."""

from __future__ import annotations

import re

import numpy as np
import pytest

from attennorm_tf.data import load_dataset
from attennorm_tf.metrics import DigitsClassifier, score_class_conditional, train_digits_classifier
from attennorm_tf.metrics import digits_classifier as module


@pytest.fixture(scope="module")
def classifier():
    return train_digits_classifier(resolution=16, seed=0)


@pytest.fixture(scope="module")
def held_out():
    return load_dataset("digits", split="test").arrays(resolution=16)


def test_held_out_accuracy(classifier, held_out):
    images, labels = held_out
    assert classifier.test_accuracy >= 0.98
    assert classifier.test_accuracy == np.mean(classifier.logits(images).argmax(axis=1) == labels)


def test_shapes_and_chunks(classifier, held_out):
    images, _ = held_out
    features, logits = classifier.features(images), classifier.logits(images)
    assert features.shape == (len(images), 64)
    assert logits.shape == (len(images), 10)
    # 359 images go through in chunks of 256: the seam must not show.
    np.testing.assert_allclose(classifier.logits(images[250:262]), logits[250:262], rtol=1e-4, atol=1e-4)
    assert classifier.features(images[:0]).shape == (0, 64)


def test_same_seed_same_weights(monkeypatch):
    monkeypatch.setattr(module, "_STEPS", 3)
    hashes = [train_digits_classifier(resolution=8, seed=seed).content_hash for seed in (4, 4, 5)]
    assert hashes[0] == hashes[1] != hashes[2]
    assert re.fullmatch("[0-9a-f]{64}", hashes[0])


@pytest.mark.parametrize("resolution", [8, 10, 32])
def test_other_resolutions_learn(monkeypatch, resolution):
    monkeypatch.setattr(module, "_STEPS", 200)
    classifier = train_digits_classifier(resolution=resolution)
    assert classifier.test_accuracy > 0.93
    assert classifier.name == f"digits_classifier_{resolution}x{resolution}_seed0"


def test_bad_arguments(classifier):
    with pytest.raises(ValueError, match="resolution must be at least 8, the digits' own, got 4"):
        DigitsClassifier(4)
    with pytest.raises(ValueError, match=re.escape("images must be (n, 16, 16, 1), got (2, 8, 8, 1)")):
        classifier.logits(np.zeros((2, 8, 8, 1)))


def test_score_of_real_noisy_and_mislabelled_images(classifier, held_out):
    images, labels = held_out
    reference = classifier.moments(load_dataset("digits").arrays(resolution=16)[0])
    real = score_class_conditional(classifier, images, labels, reference)
    assert real.accuracy == classifier.test_accuracy == real.classifier_test_accuracy
    assert (real.num_images, real.num_reference) == (359, 1438)
    assert (real.classifier, real.classifier_hash) == (classifier.name, classifier.content_hash)
    wrong = score_class_conditional(classifier, images, (labels + 1) % 10, reference)
    assert wrong.accuracy < 0.02
    assert wrong.frechet_distance == real.frechet_distance
    noise = np.random.RandomState(0).normal(0, 0.5, images.shape)
    noisy = score_class_conditional(classifier, np.clip(images + noise, -1, 1), labels, reference)
    assert noisy.frechet_distance > 3 * real.frechet_distance
    one_class = score_class_conditional(classifier, images[labels == 3], labels[labels == 3], reference)
    assert one_class.frechet_distance > 10 * real.frechet_distance


def test_score_needs_a_label_per_image(classifier, held_out):
    reference = classifier.moments(held_out[0])
    with pytest.raises(ValueError, match=re.escape("labels must be one per image, (3,), got (2,)")):
        score_class_conditional(classifier, held_out[0][:3], np.zeros(2, int), reference)
