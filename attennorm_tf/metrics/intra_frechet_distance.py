"""Frechet distance within each class: how well every class looks, not only their mixture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from attennorm_tf.metrics.feature_batch import checked_features
from attennorm_tf.metrics.feature_moments import FeatureMoments
from attennorm_tf.metrics.frechet_distance import constant_features, distance_of_moments
from attennorm_tf.metrics.streaming_metric import StreamingMetric


class IntraFrechet(NamedTuple):
    """Frechet distances by class.

    Attributes:
        mean: over the classes in `per_class`, each weighted the same.
        per_class: by class id, in ascending order.
        skipped: why a class has none, by class id.
    """

    mean: float
    per_class: dict[int, float]
    skipped: dict[int, str]


class IntraFrechetDistance(StreamingMetric):
    """Frechet distance of each class's features to the same class's reference (intra-FID of Miyato and Koyama, 2018).

    Memory: 8 d^2 bytes a class (32 MiB at d = 2048), but only its examples, 4 d bytes each, where there are fewer than
    1024. For some classes of many, give only their references: examples of other classes are counted, not kept.

    Args:
        reference: moments by class id; read, never changed. A class with fewer than 2 examples is skipped.

    Raises:
        ValueError: no class, or classes of different d.
    """

    def __init__(self, reference: Mapping[int, FeatureMoments]) -> None:
        super().__init__()
        sizes = {moments.size for moments in reference.values() if moments.size is not None}
        if len(sizes) != 1:
            found = f"features of {sorted(map(str, sizes))} dimensions" if sizes else "no class with examples"
            raise ValueError(f"reference must hold classes with features of one size, got {found}.")
        self._reference = {int(label): reference[label] for label in sorted(reference)}
        self._size = sizes.pop()
        self.reset_state()

    @property
    def count(self) -> int:
        """Examples seen, with those of classes without a reference."""
        return sum(moments.count for moments in self._moments.values()) + sum(self._left_out.values())

    def update_state(self, features: Any, labels: Any) -> None:
        """Adds features (b, d) of the classes `labels`, whole numbers (b,); b may be 0.

        Raises:
            ValueError: not (b, d), a value is not finite, or not one whole number an example.
        """
        features = checked_features(features, self._size, self.count)
        labels = np.asarray(labels)
        if labels.shape != (len(features),) or (labels.size and labels.dtype.kind not in "iu"):
            raise ValueError(
                f"labels must be whole numbers, one per example, ({len(features)},), got {labels.dtype} {labels.shape}."
            )
        for label in map(int, np.unique(labels)):
            chosen = labels == label
            if label in self._reference:
                self._moments[label].update(features[chosen])
            else:
                self._left_out[label] = self._left_out.get(label, 0) + int(chosen.sum())

    def result(self) -> IntraFrechet:
        """Mean and values by class.

        Raises:
            ValueError: no class has 2 examples on both sides.
        """
        per_class: dict[int, float] = {}
        skipped = dict.fromkeys(self._left_out, "no reference of this class")
        for label, reference in self._reference.items():
            moments = self._moments[label]
            few = [
                f"{of.count} {name}" for name, of in (("generated", moments), ("reference", reference)) if of.count < 2
            ]
            if few:
                skipped[label] = f"{' and '.join(few)} examples, 2 are needed"
            else:
                per_class[label] = distance_of_moments(moments, reference)
        if not per_class:
            raise ValueError("an intra-class Frechet distance needs a class with 2 examples and a reference, got none.")
        skipped = dict(sorted(skipped.items()))
        self._warn(self._doubts(per_class, skipped))
        return IntraFrechet(float(np.mean(list(per_class.values()))), per_class, skipped)

    def reset_state(self) -> None:
        self._moments = {label: FeatureMoments() for label in self._reference}
        self._left_out: dict[int, int] = {}

    def merge_state(self, other: IntraFrechetDistance) -> None:
        """Adds the examples of a metric with the same reference.

        Raises:
            ValueError: the other one's reference has other classes.
        """
        self._check_same_kind(other)
        if set(other._reference) != set(self._reference):
            raise ValueError("cannot merge intra-class Frechet distances whose references have different classes.")
        for label, moments in other._moments.items():
            self._moments[label].merge(moments)
        for label, count in other._left_out.items():
            self._left_out[label] = self._left_out.get(label, 0) + count

    def protocol(self) -> dict[str, Any]:
        return {
            "covariance": "unbiased",
            "precision": "float64",
            "reference_counts": {str(label): moments.count for label, moments in self._reference.items()},
        }

    def _doubts(self, per_class: dict[int, float], skipped: dict[int, str]) -> list[str]:
        reasons = []
        if skipped:
            example = next(iter(skipped))
            reasons.append(
                f"{len(skipped)} of {len(per_class) + len(skipped)} classes are not in the mean; "
                f"class {example}: {skipped[example]}."
            )
        fewest = {label: min(self._moments[label].count, self._reference[label].count) for label in per_class}
        singular = [label for label, count in fewest.items() if count <= self._size]
        if singular:
            least = min(singular, key=fewest.__getitem__)
            reasons.append(
                f"{len(singular)} of {len(per_class)} classes have no more examples than the {self._size} features, "
                f"class {least} only {fewest[least]}: their covariances are singular, their distances unreliable."
            )
        if len(per_class) == 1:
            reasons.append(f"the mean is that of one class, {next(iter(per_class))}.")
        same = [label for label in per_class if constant_features(self._moments[label]).all()]
        if same:
            reasons.append(
                f"all generated examples of class {same[0]} have the same features ({len(same)} such classes)."
            )
        return reasons
