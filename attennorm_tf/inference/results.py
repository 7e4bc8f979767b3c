"""What a finished run leaves behind: pictures, scores, a SavedModel."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from attennorm_tf.data import LabeledImages
from attennorm_tf.inference.sample import draw_latents, interpolate_classes, sample
from attennorm_tf.metrics import score_class_conditional, train_digits_classifier
from attennorm_tf.visualization import image_grid, interpolation_strip, layout_sheet, save_png
from attennorm_tf.visualization.interpolation import blend_headings, followed_entity, three_classes


class Scores(NamedTuple):
    """How a classifier of real images sees generated ones."""

    accuracy: float  # share of images recognised as the class that was asked for, in [0, 1]
    frechet_distance: float  # between its features of generated and of real training images, >= 0


class DigitsJudge:
    """Scores generators of handwritten digits by a classifier trained on the real ones.

    Args:
        dataset: the digits the generator learns.
        resolution: of the images.

    Attributes:
        classifier: that judges.
        test_accuracy: the classifier's accuracy on held-out real digits, in [0, 1].
    """

    def __init__(self, dataset: LabeledImages, resolution: int):
        if dataset.name != "digits":
            raise ValueError(f"evaluation.classifier: 'digits' judges data.name 'digits' only; got {dataset.name!r}.")
        self.classifier = train_digits_classifier(resolution=resolution)
        self._real = self.classifier.moments(dataset.arrays(resolution)[0])
        self.test_accuracy = float(self.classifier.test_accuracy)

    def score(self, generator: Any, num_samples: int, seed: int = 0) -> Scores:
        """Scores `num_samples` images, the classes in turn; the same seed gives the same score."""
        labels = np.arange(num_samples, dtype=np.int32) % generator.num_classes
        latents = draw_latents(num_samples, generator.latent_dim, seed)
        images = sample(generator, latents, labels).images
        result = score_class_conditional(self.classifier, images, labels, self._real)
        return Scores(float(result.accuracy), float(result.frechet_distance))


def draw_pictures(
    generator: Any, folder: str | os.PathLike[str], seed: int = 0, names: Sequence[str] | None = None
) -> list[Path]:
    """Writes `samples.png`, `interpolation.png` and, with attentive normalization, `layouts.png`.

    Args:
        generator: built.
        folder: where; made if it is not there.
        seed: of the latents.
        names: of the classes, for the interpolation; None: their numbers.

    Returns:
        The files.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    classes = min(generator.num_classes, 10)
    rows = 8
    labels = np.tile(np.arange(classes), rows)
    latents = draw_latents(rows * classes, generator.latent_dim, seed)
    with_layouts = generator.attentive_normalization is not None
    images, layouts = sample(generator, latents, labels, with_layouts=with_layouts)
    files = [folder / "samples.png"]
    save_png(files[0], image_grid(images, rows, classes, scale=_scale(images)))
    if layouts is not None:
        files.append(folder / "layouts.png")
        save_png(files[-1], layout_sheet(images[:classes], layouts[:classes]))
    if classes > 1:
        files.append(folder / "interpolation.png")
        save_png(files[-1], draw_interpolation(generator, latents[0], three_classes(classes), names=names))
    return files


def draw_interpolation(
    generator: Any,
    latents: np.ndarray,
    class_ids: Sequence[int],
    steps: int = 6,
    names: Sequence[str] | None = None,
    entity: int | None = None,
) -> np.ndarray:
    """Figure 8 as a picture: blended classes over the map of one entity followed through them.

    Args:
        generator: built.
        latents: (latent_dim,), or (k, latent_dim) for k strips under each other.
        class_ids: two or more, visited in order.
        steps: images from one class to the next.
        names: of all classes; None: their numbers.
        entity: which one to follow; None: the `followed_entity` of all strips.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: fewer than two classes, a class id or an entity out of range, or steps < 1.
    """
    runs = [interpolate_classes(generator, latent, class_ids, steps) for latent in np.atleast_2d(latents)]
    names = names or [f"class {number}" for number in range(generator.num_classes)]
    headings = blend_headings(class_ids, names, steps)
    images = np.concatenate([run.images for run in runs])
    if runs[0].layouts is None:
        columns = len(runs[0].images)
        return image_grid(images, len(runs), columns, labels=headings * len(runs), scale=_scale(images))
    layouts = np.concatenate([run.layouts for run in runs])
    if entity is None:
        entity = followed_entity(layouts)
    pairs = zip(np.split(images, len(runs)), np.split(layouts, len(runs)))
    return np.concatenate([interpolation_strip(*pair, entity, headings) for pair in pairs])


def _scale(images: np.ndarray) -> int:
    """Enlargement that makes small images visible on a screen."""
    return max(1, 48 // images.shape[1])
