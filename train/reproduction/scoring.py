"""Scores of a trained generator's images, as `attennorm-evaluate-gan` gives them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from tqdm import tqdm

from attennorm_tf.data import LabeledImages, dataset_source
from attennorm_tf.inference import EvaluationOptions, GeneratedImages, evaluate_gan, load_generator
from attennorm_tf.inference.evaluate_gan import num_to_score
from attennorm_tf.metrics import FeatureExtractor, reference_statistics

_BATCH_SIZE = 64  # on each replica
_METRICS = ("fid", "is", "kid", "pr", "intra_fid")


def score(
    checkpoint: Path,
    folder: Path,
    dataset: LabeledImages,
    extractor: FeatureExtractor,
    *,
    cache: Path,
    num_samples: int,
    classes: Sequence[int] = (),
    seed: int = 0,
    strategy: tf.distribute.Strategy | None = None,
) -> list[Path]:
    """Scores the newest checkpoint of a run against its training images, and writes the results.

    The moving average of the generator and its moving batch statistics make the images.

    Args:
        checkpoint: the run's work directory.
        folder: for the results.
        dataset: what it was trained on.
        extractor: whose features.
        cache: folder for statistics of the real images.
        num_samples: images of all classes, or, with `classes`, of each of them.
        classes: intra FID of these and nothing else; (): every score, and intra FID of all classes where the memory
            for the statistics of all of them suffices (see `reference_statistics`).
        seed: of the images.
        strategy: where to compute; None: the default device.

    Returns:
        The files; `results.json` is the last.
    """
    loaded = load_generator(checkpoint)
    batch_size = _BATCH_SIZE * (strategy.num_replicas_in_sync if strategy else 1)
    source = dataset_source(dataset, loaded.config.model.resolution)
    with tqdm(total=source.num_images, desc="real images", unit="image", disable=None, leave=False) as bar:
        reference = reference_statistics(
            source, extractor, cache, batch_size=batch_size, strategy=strategy, progress=bar.update,
            classes=classes or None,
        )  # fmt: skip
    images = GeneratedImages(loaded.generator, num_samples, seed=seed, average=loaded.average)
    if classes:
        options = EvaluationOptions(("intra_fid",), batch_size, tuple(classes), num_samples)
    else:
        absent = {"is": extractor.num_classes is None, "intra_fid": not reference.class_moments}
        options = EvaluationOptions([name for name in _METRICS if not absent.get(name)], batch_size)
    subject: dict[str, Any] = {"name": loaded.config.name, "step": loaded.step, "checkpoint": loaded.path.name}
    total = num_to_score(images, options, len(reference.class_moments))
    with tqdm(total=total, desc="images", unit="image", disable=None, leave=False) as bar:
        evaluation = evaluate_gan(
            images, extractor, reference, options, subject=subject, strategy=strategy, progress=bar.update
        )
    return evaluation.write(folder)
