"""Scores of generated images. FID with Inception, KID and Inception Score take their places beside these."""

from __future__ import annotations

from attennorm_tf.metrics.class_conditional_score import ClassConditionalScore, score_class_conditional
from attennorm_tf.metrics.digits_classifier import DigitsClassifier, train_digits_classifier
from attennorm_tf.metrics.feature_moments import FeatureMoments
from attennorm_tf.metrics.frechet_distance import frechet_distance

__all__ = [
    "ClassConditionalScore",
    "DigitsClassifier",
    "FeatureMoments",
    "frechet_distance",
    "score_class_conditional",
    "train_digits_classifier",
]
