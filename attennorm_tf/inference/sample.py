"""Images from a class-conditional generator."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from attennorm_tf.config import GanConfig
from attennorm_tf.models import ClassConditionalGenerator, build_gan
from attennorm_tf.training.checkpointing import CheckpointError, find_checkpoint, read_manifest, restore
from attennorm_tf.visualization import class_blends


class LoadedGenerator(NamedTuple):
    """A generator from a checkpoint, and what is known of it.

    Attributes:
        generator: built.
        config: the run's.
        class_names: one per class.
        step: generator steps it was trained for.
        average: whether its weights are the moving average; False where the run kept none.
        path: the checkpoint's folder.
    """

    generator: ClassConditionalGenerator
    config: GanConfig
    class_names: list[str]
    step: int
    average: bool
    path: Path


class Samples(NamedTuple):
    """images (N, R, R, C) float32 in [-1, 1]; layouts (N, h, w, n) float32, or None where there are none."""

    images: np.ndarray
    layouts: np.ndarray | None


def load_generator(checkpoint: str | os.PathLike[str], average: bool = True) -> LoadedGenerator:
    """The generator of a training run.

    Args:
        checkpoint: a work directory of `train.gan`, its `checkpoints` folder, or one checkpoint's folder.
        average: the moving average of the weights (True) or the weights as trained.

    Returns:
        The built generator with the checkpoint's weights, the run's config, class names and step.

    Raises:
        CheckpointError: nothing there, damaged, or not of this kind.
    """
    path = find_checkpoint(checkpoint)
    manifest = read_manifest(path)
    facts = manifest["metadata"]
    if "class_names" not in facts:
        raise CheckpointError(
            f"checkpoint {path} holds no class-conditional generator but a model for {facts.get('task')!r}; "
            "expected a run of train.gan."
        )
    config = GanConfig.from_json(facts["config"])
    generator, _ = build_gan(config.model, len(facts["class_names"]), facts["channels"])
    use_average = average and config.training.ema_decay > 0
    restore(path, {"average" if use_average else "generator": generator}, partial=True)
    return LoadedGenerator(generator, config, list(facts["class_names"]), manifest["step"], use_average, path)


def draw_latents(
    count: int, latent_dim: int, seed: int, truncation: float | None = None, first_row: int = 0
) -> np.ndarray:
    """Z ~ N(0, I), (count, latent_dim) float32; each row depends on the seed and its own number alone.

    Args:
        count: how many.
        latent_dim: length of z.
        seed: a non-negative int; the same numbers on every machine and stack.
        truncation: values beyond +-truncation are drawn again (the truncation trick: less variety, cleaner images);
            >= 0.01 (below, drawing again takes forever), or None for no limit.
        first_row: number of the first row.

    Raises:
        ValueError: `truncation` is below 0.01.
    """
    if truncation is not None and not truncation >= 0.01:
        raise ValueError(f"truncation must be a number >= 0.01, got {truncation!r}.")
    latents = np.empty((count, latent_dim), np.float32)
    for row in range(count):
        random = np.random.Generator(np.random.Philox(key=[seed, first_row + row]))
        values = random.standard_normal(latent_dim)
        if truncation is not None:
            while (beyond := np.abs(values) > truncation).any():
                values[beyond] = random.standard_normal(int(beyond.sum()))
        latents[row] = values
    return latents


def sample(
    generator: ClassConditionalGenerator,
    latents: np.ndarray,
    labels: np.ndarray,
    batch_size: int = 64,
    with_layouts: bool = False,
) -> Samples:
    """Images for latents and labels, batch by batch, at inference (deterministic).

    Args:
        generator: built.
        latents: (N, latent_dim).
        labels: (N,) class ids or (N, K) soft class weights.
        batch_size: images at a time.
        with_layouts: also return the layouts of the attentive normalization.

    Returns:
        The samples.

    Raises:
        ValueError: labels out of range, or layouts asked of a generator without any.
    """
    images: list[np.ndarray] = []
    layouts: list[Any] = []
    for batch_images, batch_layouts in _batches(generator, latents, labels, batch_size, with_layouts):
        images.append(batch_images)
        layouts.append(batch_layouts)
    return Samples(np.concatenate(images), np.concatenate(layouts) if with_layouts else None)


def interpolate_classes(
    generator: ClassConditionalGenerator,
    latent: np.ndarray,
    class_ids: Sequence[int],
    steps: int = 8,
    batch_size: int = 64,
) -> Samples:
    """Figure 8: from class to class with z fixed, blending the conditional batch normalization's statistics.

    Args:
        generator: built.
        latent: (latent_dim,).
        class_ids: two or more, visited in order.
        steps: images from one class (included) to the next (excluded, but for the last), >= 1.
        batch_size: images at a time.

    Returns:
        (len(class_ids) - 1) * steps + 1 images and, where the generator has any, their layouts.

    Raises:
        ValueError: fewer than two classes, a class id out of range, or steps < 1.
    """
    weights = class_blends(class_ids, generator.num_classes, steps)
    latents = np.repeat(latent[None], len(weights), axis=0)
    return sample(generator, latents, weights, batch_size, generator.attentive_normalization is not None)


def check_class_ids(class_ids: Sequence[int], num_classes: int) -> None:
    """Raises ValueError, naming the first class id outside [0, num_classes)."""
    for class_id in class_ids:
        if not 0 <= class_id < num_classes:
            raise ValueError(f"classes must be in [0, {num_classes}), got {class_id}.")


def _batches(
    generator: ClassConditionalGenerator,
    latents: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    with_layouts: bool,
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    labels = np.asarray(labels)
    if labels.ndim == 1:
        check_class_ids(labels.tolist(), generator.num_classes)
        labels = labels.astype(np.int32)

    for start in range(0, len(latents), batch_size):
        rows = slice(start, start + batch_size)
        here = len(latents[rows])
        # The last batch is filled up, so that one graph serves all.
        filled = [tf.constant(np.resize(values[rows], (batch_size, *values.shape[1:]))) for values in (latents, labels)]
        outputs = generator.infer(*filled, return_layout=with_layouts)
        yield (outputs[0].numpy()[:here], outputs[1].numpy()[:here]) if with_layouts else (outputs.numpy()[:here], None)
