"""What is measured of generated images, and the metrics that measure it, fed together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from attennorm_tf.inference.gan_tables import score_names
from attennorm_tf.metrics import (
    FeatureBank,
    FeatureExtractor,
    FrechetDistance,
    InceptionScore,
    IntraFrechetDistance,
    KernelDistance,
    PrecisionRecall,
    ReferenceStatistics,
)

METRICS = ("fid", "is", "kid", "pr", "intra_fid")
DEFAULT_METRICS = ("fid", "is", "kid", "pr")
FEWEST_SAMPLES = {"fid": 2, "is": 2, "kid": 2, "pr": 6, "intra_fid": 2}
_SHUFFLE_SEED = 0  # folders may be sorted by class: splits and blocks are drawn at random


@dataclasses.dataclass(frozen=True)
class EvaluationOptions:
    """What is measured.

    Attributes:
        metrics: of `METRICS`: Frechet distance, Inception Score, kernel distance, precision and recall with density and
            coverage, Frechet distance within each class.
        batch_size: images at a time, over all replicas.
        classes: of intra_fid; (): all of the reference.
        samples_per_class: generated anew for intra_fid, of each of its classes. None: where `classes` are named, the
            number of samples shared out over them; otherwise the samples of the other metrics serve.
        splits: of the Inception Score.
    """

    metrics: Sequence[str] = DEFAULT_METRICS
    batch_size: int = 64
    classes: Sequence[int] = ()
    samples_per_class: int | None = None
    splits: int = 10

    def __post_init__(self) -> None:
        for name in self.metrics:
            if name not in METRICS:
                raise ValueError(f"metrics must be of {', '.join(METRICS)}; got {name!r}.")
        if not self.metrics:
            raise ValueError(f"metrics must name one or more of {', '.join(METRICS)}; got none.")
        if self.samples_per_class is not None and self.samples_per_class < 2:
            raise ValueError(f"samples_per_class must be at least 2, got {self.samples_per_class}.")
        if "intra_fid" not in self.metrics and (self.classes or self.samples_per_class is not None):
            raise ValueError("classes and samples_per_class are for the metric intra_fid, which is not asked for.")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes must be different, got {', '.join(map(str, self.classes))}.")

    @property
    def needs_own_samples(self) -> bool:
        """Whether intra_fid has samples of its own."""
        return bool(self.classes) or self.samples_per_class is not None

    @property
    def needs_all_samples(self) -> bool:
        """Whether anything is measured on the samples of all classes."""
        return set(self.metrics) != {"intra_fid"} or not self.needs_own_samples


class GanMeters:
    """The metrics asked for; those that compare every pair of features share them.

    Args:
        extractor: whose features.
        reference: of real images.
        options: what is asked for.
    """

    def __init__(self, extractor: FeatureExtractor, reference: ReferenceStatistics, options: EvaluationOptions):
        chosen = options.metrics
        self._names = score_names(extractor.name)
        self._bank = FeatureBank()
        self.classes = tuple(options.classes) or tuple(reference.class_moments)
        self.by_name: dict[str, Any] = {}
        if "fid" in chosen:
            self.by_name["fid"] = FrechetDistance(reference.moments)
        if "intra_fid" in chosen:
            moments = {label: reference.class_moments[label] for label in self.classes}
            self.by_name["intra_fid"] = IntraFrechetDistance(moments)
        if "is" in chosen:
            self.by_name["is"] = InceptionScore(options.splits, shuffle_seed=_SHUFFLE_SEED)
        if "kid" in chosen:
            self.by_name["kid"] = KernelDistance(reference.features, shuffle_seed=_SHUFFLE_SEED, bank=self._bank)
        if "pr" in chosen:
            self.by_name["pr"] = PrecisionRecall(reference.features, bank=self._bank)

    def update(
        self, features: np.ndarray, logits: np.ndarray | None, labels: np.ndarray | None, chosen: Sequence[str]
    ) -> None:
        if "fid" in chosen:
            self.by_name["fid"].update_state(features)
        if "is" in chosen:
            self.by_name["is"].update_state(logits)
        if {"kid", "pr"} & set(chosen):
            self._bank.update_state(features)  # one for both
        if "intra_fid" in chosen:
            self.by_name["intra_fid"].update_state(features, labels)

    def protocol(self) -> dict[str, Any]:
        found = {name: metric.protocol() for name, metric in self.by_name.items()}
        if "intra_fid" in found:
            found["intra_fid"]["classes"] = sorted(self.classes)
        return found

    def results(self) -> tuple[dict[str, Any], list[str]]:
        """Scores by their keys, and all warnings with the score they are about."""
        scores: dict[str, Any] = {}
        warnings: list[str] = []
        for name, metric in self.by_name.items():
            value = metric.result()
            key = {"intra_fid": "intra_fid_mean", "is": "inception_score", "pr": "precision"}.get(name, name)
            title = "precision and recall" if name == "pr" else self._names[key]
            warnings += [f"{title}: {reason}" for reason in metric.warnings]
            if name == "fid":
                scores["fid"] = value
            elif name == "intra_fid":
                scores["intra_fid_mean"] = value.mean
                scores["intra_fid"] = {str(label): distance for label, distance in value.per_class.items()}
                scores["intra_fid_skipped"] = {str(label): reason for label, reason in value.skipped.items()}
            elif name == "is":
                scores.update(inception_score=value.mean, inception_score_std=value.std)
            elif name == "kid":
                scores.update(kid=value.mean, kid_std_error=value.std_error)
            else:
                scores.update(value._asdict())
        return scores, warnings
