"""A classifier trained on the images of a data set or folder, as a feature extractor."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from attennorm_tf.metrics.feature_extractor import FeatureExtractor, Features
from attennorm_tf.metrics.image_classifier import ImageClassifier


def load(argument: str) -> FeatureExtractor:
    """From the folder that `ImageClassifier.save` wrote."""
    if not argument:
        raise ValueError("classifier needs a folder after a colon, as in 'classifier:<folder>'.")
    return ImageClassifierExtractor(ImageClassifier.load(argument))


class ImageClassifierExtractor(FeatureExtractor):
    """An `ImageClassifier`: its scores compare only with scores by the same one."""

    def __init__(self, classifier: ImageClassifier) -> None:
        super().__init__(
            classifier.name,
            content_hash=classifier.content_hash,
            resolution=classifier.resolution,
            channels=classifier.channels,
            feature_size=classifier.feature_size,
            num_classes=len(classifier.class_names),
        )
        self.classifier = classifier

    def protocol(self) -> dict[str, Any]:
        return {**super().protocol(), "test_accuracy": self.classifier.test_accuracy}

    def _forward(self, images: tf.Tensor) -> Features:
        return Features(*self.classifier.forward(images))
