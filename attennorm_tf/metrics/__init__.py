"""Scores of generated and of finished images."""

from __future__ import annotations

from attennorm_tf.metrics.class_conditional_score import ClassConditionalScore, score_class_conditional
from attennorm_tf.metrics.confidence import MeanInterval, mean_interval
from attennorm_tf.metrics.digits_classifier import DigitsClassifier, train_digits_classifier
from attennorm_tf.metrics.extractor_registry import extractor_names, load_extractor
from attennorm_tf.metrics.feature_bank import FeatureBank
from attennorm_tf.metrics.feature_extraction import FeatureBatch, extract_features
from attennorm_tf.metrics.feature_extractor import FeatureExtractor, Features
from attennorm_tf.metrics.feature_moments import FeatureMoments
from attennorm_tf.metrics.frechet_distance import FrechetDistance, frechet_distance
from attennorm_tf.metrics.image_classifier import ImageClassifier
from attennorm_tf.metrics.image_classifier_training import train_image_classifier
from attennorm_tf.metrics.image_quality import MAX_PSNR, ImageQuality, capped_psnr, mae, measure, psnr, ssim, ssim_grey
from attennorm_tf.metrics.inception_score import InceptionScore, InceptionScoreResult
from attennorm_tf.metrics.intra_frechet_distance import IntraFrechet, IntraFrechetDistance
from attennorm_tf.metrics.kernel_distance import KernelDistance, KernelDistanceResult
from attennorm_tf.metrics.precision_recall import PrecisionRecall, PrecisionRecallResult
from attennorm_tf.metrics.reference_statistics import DamagedStatisticsError, ReferenceStatistics, reference_statistics

__all__ = [
    "MAX_PSNR",
    "ClassConditionalScore",
    "DamagedStatisticsError",
    "DigitsClassifier",
    "FeatureBank",
    "FeatureBatch",
    "FeatureExtractor",
    "FeatureMoments",
    "Features",
    "FrechetDistance",
    "ImageClassifier",
    "ImageQuality",
    "InceptionScore",
    "InceptionScoreResult",
    "IntraFrechet",
    "IntraFrechetDistance",
    "KernelDistance",
    "KernelDistanceResult",
    "MeanInterval",
    "PrecisionRecall",
    "PrecisionRecallResult",
    "ReferenceStatistics",
    "capped_psnr",
    "extract_features",
    "extractor_names",
    "frechet_distance",
    "load_extractor",
    "mae",
    "mean_interval",
    "measure",
    "psnr",
    "reference_statistics",
    "score_class_conditional",
    "ssim",
    "ssim_grey",
    "train_digits_classifier",
    "train_image_classifier",
]
