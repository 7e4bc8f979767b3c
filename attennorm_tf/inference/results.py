"""What a finished run leaves behind: pictures, scores, a SavedModel."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from attennorm_tf.data import LabeledImages
from attennorm_tf.inference.sample import draw_latents, interpolate_classes, sample
from attennorm_tf.metrics import score_class_conditional, train_digits_classifier
from attennorm_tf.visualization import image_grid, interpolation_strip, layout_sheet, save_png


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
        test_accuracy: the classifier's accuracy on held-out real digits, in [0, 1].
    """

    def __init__(self, dataset: LabeledImages, resolution: int):
        if dataset.name != "digits":
            raise ValueError(f"evaluation.classifier: 'digits' judges data.name 'digits' only; got {dataset.name!r}.")
        self._classifier = train_digits_classifier(resolution=resolution)
        self._real = self._classifier.moments(dataset.arrays(resolution)[0])
        self.test_accuracy = float(self._classifier.test_accuracy)

    def score(self, generator: Any, num_samples: int, seed: int = 0) -> Scores:
        """Scores `num_samples` images, the classes in turn; the same seed gives the same score."""
        labels = np.arange(num_samples, dtype=np.int32) % generator.num_classes
        latents = draw_latents(num_samples, generator.latent_dim, seed)
        images = sample(generator, latents, labels).images
        result = score_class_conditional(self._classifier, images, labels, self._real)
        return Scores(float(result.accuracy), float(result.frechet_distance))


def draw_pictures(generator: Any, folder: str | os.PathLike[str], seed: int = 0) -> list[Path]:
    """Writes `samples.png`, `interpolation.png` and, with attentive normalization, `layouts.png`.

    Args:
        generator: built.
        folder: where; made if it is not there.
        seed: of the latents.

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
        class_ids = [0, classes // 3, 2 * classes // 3] if classes > 3 else list(range(classes))
        save_png(files[-1], draw_interpolation(generator, latents[0], class_ids))
    return files


def draw_interpolation(generator: Any, latent: np.ndarray, class_ids: list[int], steps: int = 6) -> np.ndarray:
    """Figure 8 as a picture, (H, W, 3) uint8: blended classes over the map of one entity followed through them."""
    images, layouts = interpolate_classes(generator, latent, class_ids, steps)
    if layouts is None:
        return image_grid(images, 1, len(images), scale=_scale(images))
    return interpolation_strip(images, layouts, followed_entity(layouts))


def _scale(images: np.ndarray) -> int:
    """Enlargement that makes small images visible on a screen."""
    return max(1, 48 // images.shape[1])


def followed_entity(layouts: np.ndarray) -> int:
    """The entity whose map varies most over space: one that tells parts of the image from each other.

    Args:
        layouts: (N, h, w, n).

    Returns:
        An index in [0, n).
    """
    return int(np.argmax(layouts.std(axis=(1, 2)).mean(axis=0)))
