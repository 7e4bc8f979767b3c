"""The classifier of the embedded handwritten digits as a feature extractor."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from attennorm_tf.metrics.digits_classifier import DigitsClassifier, train_digits_classifier
from attennorm_tf.metrics.feature_extractor import FeatureExtractor, Features

_RESOLUTION = 16


def load(argument: str) -> FeatureExtractor:
    """Trains it, in seconds; the argument is the resolution, default 16."""
    try:
        resolution = int(argument or _RESOLUTION)
    except ValueError:
        raise ValueError(f"digits takes a resolution after a colon, as in 'digits:16', got {argument!r}.") from None
    return DigitsExtractor(train_digits_classifier(resolution))


class DigitsExtractor(FeatureExtractor):
    """A `DigitsClassifier`: d = 64, K = 10, grey images."""

    def __init__(self, classifier: DigitsClassifier) -> None:
        features, logits = classifier.forward(tf.zeros((1, classifier.resolution, classifier.resolution, 1)))
        super().__init__(
            classifier.name,
            content_hash=classifier.content_hash,
            resolution=classifier.resolution,
            channels=1,
            feature_size=features.shape[-1],
            num_classes=logits.shape[-1],
        )
        self.classifier = classifier

    def protocol(self) -> dict[str, Any]:
        return {**super().protocol(), "test_accuracy": self.classifier.test_accuracy}

    def _forward(self, images: tf.Tensor) -> Features:
        return Features(*self.classifier.forward(images))
