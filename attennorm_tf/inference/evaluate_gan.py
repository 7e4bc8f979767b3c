"""Generated images scored against real ones: FID, intra-FID, Inception Score, KID, precision and recall."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, Union

import numpy as np
import tensorflow as tf

from attennorm_tf._compat import stack_name
from attennorm_tf.data import ImageBatch, ImageSource
from attennorm_tf.inference.gan_meters import (
    DEFAULT_METRICS,
    FEWEST_SAMPLES,
    METRICS,
    EvaluationOptions,
    GanMeters,
)
from attennorm_tf.inference.gan_protocol import FORMAT, KIND
from attennorm_tf.inference.gan_tables import evaluation_markdown, evaluation_table
from attennorm_tf.inference.generated_images import GeneratedImages, check_batch_size
from attennorm_tf.metrics import FeatureExtractor, ReferenceStatistics, extract_features
from attennorm_tf.training.run_directory import describe_environment, write_text
from attennorm_tf.visualization import image_grid, save_png

__all__ = ["DEFAULT_METRICS", "METRICS", "EvaluationOptions", "GanEvaluation", "evaluate_gan", "num_to_score"]

_SHEET_IMAGES = 64

Images = Union[GeneratedImages, ImageSource]


@dataclasses.dataclass(frozen=True)
class GanEvaluation:
    """What came out.

    Attributes:
        result: JSON values: kind, format, subject (what was scored), protocol (all that the scores depend on), scores,
            warnings, environment.
        sheet: uint8 picture of the first images.
    """

    result: dict[str, Any]
    sheet: np.ndarray

    def table(self) -> str:
        """For a terminal of 80 columns, with every warning."""
        return evaluation_table(self.result)

    def write(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Writes `samples.png`, `table.txt`, `table.md` and `results.json` (last), each whole or not at all.

        Returns:
            The files.

        Raises:
            ValueError: `folder` is a file.
        """
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"output: {folder} is a file, expected a folder.")
        texts = {
            "table.txt": self.table(),
            "table.md": evaluation_markdown(self.result),
            "results.json": json.dumps(self.result, indent=2, allow_nan=False) + "\n",
        }
        folder.mkdir(parents=True, exist_ok=True)
        save_png(folder / "samples.png", self.sheet)
        for name, text in texts.items():
            write_text(folder / name, text)
        return [folder / name for name in ("samples.png", *texts)]


def evaluate_gan(
    images: Images,
    extractor: FeatureExtractor,
    reference: ReferenceStatistics,
    options: EvaluationOptions | None = None,
    *,
    subject: Mapping[str, Any] | None = None,
    strategy: tf.distribute.Strategy | None = None,
    progress: Callable[[int], object] = lambda count: None,
    save_to: str | os.PathLike[str] | None = None,
) -> GanEvaluation:
    """Scores images against the statistics of real ones.

    Images are generated, rounded to 8 bits, and their features extracted batch by batch under the strategy; what grows
    with their number is what the metrics keep (see there). A checkpoint and its samples saved as PNG score alike.

    Args:
        images: samples of a generator, or images of a folder or data set.
        extractor: whose features; loaded for the same strategy.
        reference: of real images at the same resolution, by the same extractor.
        options: what is measured; None: everything but intra_fid.
        subject: what results say about who made the images: "name", for tables, and any JSON values.
        strategy: where to compute; None: the default device.
        progress: told how many images were scored since it was last told; `num_to_score` of them come.
        save_to: folder for PNG files of the samples of all classes, `<number>-class<k>.png`; None: they are not kept.

    Returns:
        Scores, protocol, warnings.

    Raises:
        ValueError: something does not fit, an image cannot be read, or a sample or feature is not finite.
    """
    options = options or EvaluationOptions()
    strategy = strategy or tf.distribute.get_strategy()
    _check(images, extractor, reference, options, strategy)
    meters = GanMeters(extractor, reference, options)
    shown: list[np.ndarray] = []

    def score(batches: Iterable[ImageBatch], chosen: Sequence[str]) -> None:
        found = extract_features(extractor, batches, options.batch_size, strategy=strategy, progress=progress)
        for features, logits, labels in found:
            meters.update(features, logits, labels, chosen)

    def watched(batches: Iterable[ImageBatch]) -> Iterator[ImageBatch]:
        number = 0
        for batch in batches:
            missing = _SHEET_IMAGES - sum(map(len, shown))
            if missing > 0:
                shown.append(batch.images[:missing])
            if save_to is not None:
                _save(Path(save_to), batch, number)
            number += len(batch.images)
            yield batch

    own = "intra_fid" in options.metrics and options.needs_own_samples and isinstance(images, GeneratedImages)
    if options.needs_all_samples or not own:
        chosen = [name for name in options.metrics if not (own and name == "intra_fid")]
        score(watched(_batches(images, options.batch_size, strategy)), chosen)
    if own and isinstance(images, GeneratedImages):
        classes = sorted(meters.classes)
        count = len(classes) * _samples_per_class(images, options, len(classes))
        batches = images.batches(options.batch_size, strategy, classes=classes, count=count)
        score(batches if shown else watched(batches), ["intra_fid"])
    scores, warnings = meters.results()
    facts = images.facts(options.batch_size) if isinstance(images, GeneratedImages) else images.facts()
    if isinstance(images, GeneratedImages) and not options.needs_all_samples:
        del facts["count"]  # none of them were made
    protocol: dict[str, Any] = {
        "extractor": extractor.protocol(),
        "reference": {**reference.source, "count": reference.count},
        "resolution": images.resolution,
        "rounding": "images rounded to 8 bits",
        "samples": facts
        if isinstance(images, GeneratedImages)
        else {"count": images.num_images, "files": _of_files(facts)},
        "metrics": meters.protocol(),
        "software": _software(),
    }
    if own and isinstance(images, GeneratedImages):
        protocol["metrics"]["intra_fid"]["samples_per_class"] = count // len(classes)
    who = dict(subject or {"name": "generator" if isinstance(images, GeneratedImages) else images.name})
    if not isinstance(images, GeneratedImages):
        who["images"] = facts
    if "intra_fid" in scores and images.class_names is not None:
        who["class_names"] = {label: images.class_names[int(label)] for label in scores["intra_fid"]}
    result = {
        "kind": KIND,
        "format": FORMAT,
        "subject": who,
        "protocol": protocol,
        "scores": scores,
        "warnings": warnings,
        "environment": describe_environment(),
    }
    result = json.loads(json.dumps(result, allow_nan=False))  # plain values, as they come back from the file
    return GanEvaluation(result, _sheet(np.concatenate(shown)))


def num_to_score(images: Images, options: EvaluationOptions, num_reference_classes: int = 0) -> int:
    """How many images `evaluate_gan` will score, for a progress bar; classes of the reference where all are scored."""
    total = images.num_images if options.needs_all_samples or not isinstance(images, GeneratedImages) else 0
    if "intra_fid" in options.metrics and options.needs_own_samples and isinstance(images, GeneratedImages):
        classes = len(options.classes) or num_reference_classes
        total += classes * _samples_per_class(images, options, classes)
    return total


def _check(
    images: Images,
    extractor: FeatureExtractor,
    reference: ReferenceStatistics,
    options: EvaluationOptions,
    strategy: tf.distribute.Strategy,
) -> None:
    """Everything that can be known before the first image is."""
    reference.check(extractor)
    check_batch_size(options.batch_size, strategy)
    if reference.source["resolution"] != images.resolution:
        raise ValueError(
            f"reference: its images are {reference.source['resolution']} pixels wide, those to score "
            f"{images.resolution}; both must be of one resolution."
        )
    if images.channels > extractor.channels:
        raise ValueError(
            f"extractor {extractor.name!r} takes grey images, those to score have {images.channels} channels."
        )
    if "is" in options.metrics and extractor.num_classes is None:
        raise ValueError(f"metrics: 'is' needs logits, which the extractor {extractor.name!r} does not have.")
    for name in options.metrics:
        fewest = FEWEST_SAMPLES[name]
        if options.needs_all_samples and images.num_images < fewest:
            raise ValueError(f"num_samples: {name!r} needs at least {fewest} images, got {images.num_images}.")
        if name in ("kid", "pr") and len(reference.features) < fewest:
            raise ValueError(
                f"reference: {name!r} needs the features of at least {fewest} images, got {len(reference.features)}."
            )
    if "intra_fid" in options.metrics:
        _check_classes(images, reference, options)


def _check_classes(images: Images, reference: ReferenceStatistics, options: EvaluationOptions) -> None:
    known = reference.class_moments
    if not known:
        raise ValueError("metrics: 'intra_fid' needs real images with labels; the reference has none.")
    for label in options.classes:
        if label not in known:
            raise ValueError(
                f"classes: {label} is not among the {len(known)} classes of the reference, {_range(known)}."
            )
    if isinstance(images, GeneratedImages):
        if max(known) >= images.num_classes:
            raise ValueError(
                f"reference: it has a class {max(known)}, the generator only {images.num_classes} classes."
            )
        if options.needs_own_samples:
            count = len(options.classes) or len(known)
            if _samples_per_class(images, options, count) < 2:
                raise ValueError(
                    f"num_samples: 'intra_fid' needs 2 of each of {count} classes, got {images.num_images}."
                )
    elif images.class_names is None:
        raise ValueError("metrics: 'intra_fid' needs images with labels; these have none.")
    elif options.samples_per_class is not None:
        raise ValueError("samples_per_class is for samples of a checkpoint; finished images are scored as they are.")


def _range(labels: Iterable[int]) -> str:
    found = sorted(labels)
    contiguous = found == list(range(found[0], found[-1] + 1))
    return f"{found[0]} to {found[-1]}" if contiguous else ", ".join(map(str, found[:20]))


def _samples_per_class(images: Images, options: EvaluationOptions, num_classes: int) -> int:
    return options.samples_per_class or -(-images.num_images // max(1, num_classes))


def _batches(images: Images, batch_size: int, strategy: tf.distribute.Strategy) -> Iterator[ImageBatch]:
    if isinstance(images, GeneratedImages):
        return images.batches(batch_size, strategy)
    return images.batches(batch_size)


def _of_files(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the protocol says of finished images: not which they are, but what was done to them."""
    return {name: facts[name] for name in ("channels", "preparation") if name in facts}


def _software() -> dict[str, Any]:
    packages = describe_environment()["packages"]
    return {
        "stack": stack_name(),
        **{name: packages[name] for name in ("attennorm_tf", "tensorflow", "keras", "numpy")},
    }


def _save(folder: Path, batch: ImageBatch, first: int) -> None:
    """In one folder, in order: a score of the folder is that of the samples."""
    for index, image in enumerate(batch.images):
        suffix = "" if batch.labels is None else f"-class{batch.labels[index]}"
        save_png(folder / f"{first + index:06d}{suffix}.png", image)


def _sheet(pixels: np.ndarray) -> np.ndarray:
    images = pixels.astype(np.float32) / np.float32(127.5) - np.float32(1)
    return image_grid(images, scale=max(1, 48 // images.shape[1]))
