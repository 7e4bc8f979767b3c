"""Features of any number of images, the same on one replica and on two, from one graph."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tensorflow as tf

from attennorm_tf.metrics import Features, extract_features
from tests.metrics.extractors import LinearExtractor


def _images(count, seed=0):
    return np.random.RandomState(seed).randint(0, 256, (count, 3, 3, 3)).astype(np.uint8)


def _batches(images, sizes, labels=None):
    start = 0
    for size in sizes:
        rows = slice(start, start + size)
        yield images[rows], None if labels is None else labels[rows]
        start += size


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("batch_size", [4, 5])  # two replicas: 5 is rounded up to 6
def test_against_plain_arithmetic(two_cpus, replicas, batch_size):
    images, labels = _images(10), np.arange(10, dtype=np.int32)
    extractor = LinearExtractor()
    told = []
    strategy = two_cpus if replicas == 2 else None
    batches = list(
        extract_features(
            extractor, _batches(images, [4, 1, 4, 1], labels), batch_size, strategy=strategy, progress=told.append
        )
    )
    features, logits = extractor.expected(images)
    assert [len(batch.features) for batch in batches] == [len(batch.logits) for batch in batches] == [4, 1, 4, 1]
    np.testing.assert_allclose(np.concatenate([batch.features for batch in batches]), features, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.concatenate([batch.logits for batch in batches]), logits, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(np.concatenate([batch.labels for batch in batches]), labels)
    assert told == [4, 1, 4, 1]
    assert extractor.traces == replicas  # smaller batches are filled up: one graph for all


def test_without_logits_and_labels():
    (batch,) = extract_features(LinearExtractor(logits=False), _batches(_images(2), [2]), 2)
    assert batch.logits is None
    assert batch.labels is None
    assert list(extract_features(LinearExtractor(), [], 2)) == []


class _Broken(LinearExtractor):
    """Not finite for images that begin with 255, in one of its outputs."""

    def __init__(self, output):
        super().__init__()
        self.output = output

    def _forward(self, images):
        outputs = super()._forward(images)
        broken = tf.where(images[:, 0, 0, :1] == 1.0, np.nan, 0.0)
        return Features(*(value + broken if n == self.output else value for n, value in enumerate(outputs)))


@pytest.mark.parametrize(("output", "name"), [(0, "features"), (1, "logits")])
def test_features_that_are_not_finite_name_the_image(output, name):
    images = _images(7)
    images[:, 0, 0, 0] = [0, 0, 0, 0, 0, 255, 0]
    with pytest.raises(ValueError, match=f"^{name} of image 5 by 'linear_3' are not finite"):
        list(extract_features(_Broken(output), _batches(images, [3, 3, 1]), 3))


@pytest.mark.parametrize(
    ("images", "batch_size", "message"),
    [
        (_images(2).astype(np.float32), 2, "images must be uint8 (batch, height, width, channels), got float32 (2, 3,"),
        (_images(2)[0], 2, "images must be uint8 (batch, height, width, channels), got uint8 (3, 3, 3)"),
        (_images(3), 2, "a batch must hold 1 to batch_size=2 images, got 3"),
        (_images(0), 2, "a batch must hold 1 to batch_size=2 images, got 0"),
        (_images(2), 0, "batch_size must be at least 1, got 0"),
    ],
)
def test_bad_input(images, batch_size, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        list(extract_features(LinearExtractor(), [(images, None)], batch_size))
