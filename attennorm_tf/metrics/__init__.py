"""Scores of generated and of finished images. FID with Inception, KID and Inception Score take places beside these."""

from __future__ import annotations

from attennorm_tf.metrics.class_conditional_score import ClassConditionalScore, score_class_conditional
from attennorm_tf.metrics.confidence import MeanInterval, mean_interval
from attennorm_tf.metrics.digits_classifier import DigitsClassifier, train_digits_classifier
from attennorm_tf.metrics.feature_moments import FeatureMoments
from attennorm_tf.metrics.frechet_distance import frechet_distance
from attennorm_tf.metrics.image_quality import MAX_PSNR, ImageQuality, capped_psnr, mae, measure, psnr, ssim, ssim_grey

__all__ = [
    "MAX_PSNR",
    "ClassConditionalScore",
    "DigitsClassifier",
    "FeatureMoments",
    "ImageQuality",
    "MeanInterval",
    "capped_psnr",
    "frechet_distance",
    "mae",
    "mean_interval",
    "measure",
    "psnr",
    "score_class_conditional",
    "ssim",
    "ssim_grey",
    "train_digits_classifier",
]
