"""How well generated images show the class that was asked for, and how close they are to real ones."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np

from attennorm_tf.metrics.feature_moments import FeatureMoments
from attennorm_tf.metrics.frechet_distance import frechet_distance


class Classifier(Protocol):
    """What judges: a `DigitsClassifier`, or anything with these."""

    name: str
    test_accuracy: float

    @property
    def content_hash(self) -> str: ...

    def logits(self, images: np.ndarray) -> np.ndarray: ...

    def features(self, images: np.ndarray) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class ClassConditionalScore:
    """The numbers, with everything they depend on.

    Attributes:
        accuracy: share of the images that the classifier takes for the class asked for, in [0, 1].
        frechet_distance: between the classifier's features of these and of the reference images.
        num_images: images judged.
        num_reference: images behind the reference.
        classifier: its name.
        classifier_hash: of its weights.
        classifier_test_accuracy: on held-out real images; what `accuracy` is to be held against.
    """

    accuracy: float
    frechet_distance: float
    num_images: int
    num_reference: int
    classifier: str
    classifier_hash: str
    classifier_test_accuracy: float


def score_class_conditional(
    classifier: Classifier, images: np.ndarray, labels: np.ndarray, reference: FeatureMoments
) -> ClassConditionalScore:
    """Judges generated images by a classifier trained on real ones.

    Args:
        classifier: of the data set that the images imitate.
        images: float (n, H, W, C) in [-1, 1], n at least 2.
        labels: int (n,), the classes asked for.
        reference: moments of `classifier.features` of real images.

    Returns:
        Accuracy and Frechet distance with what they were measured by.

    Raises:
        ValueError: images and labels of different lengths, fewer than 2, or features that are not finite.
    """
    labels = np.asarray(labels)
    if labels.shape != (len(images),):
        raise ValueError(f"labels must be one per image, ({len(images)},), got {labels.shape}.")
    moments = FeatureMoments()
    moments.update(classifier.features(images))
    return ClassConditionalScore(
        accuracy=float((classifier.logits(images).argmax(axis=1) == labels).mean()),
        frechet_distance=frechet_distance(moments.mean, moments.covariance, reference.mean, reference.covariance),
        num_images=len(images),
        num_reference=reference.count,
        classifier=classifier.name,
        classifier_hash=classifier.content_hash,
        classifier_test_accuracy=classifier.test_accuracy,
    )
