"""Samples of a generator as a stream of 8-bit images, to be scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from attennorm_tf.data import ImageBatch, to_8_bits
from attennorm_tf.inference.batch_norm_modes import BN_MODES, EvaluationGenerator
from attennorm_tf.inference.replicas import run_on_replicas
from attennorm_tf.inference.sample import check_class_ids, draw_latents
from attennorm_tf.models import ClassConditionalGenerator

DEFAULT_STANDING_BATCHES = 100  # Brock et al. 2019, "100 forward passes"
# Rows of noise that only the standing statistics use.
_FIRST_STANDING_ROW = 2**32
_LABEL_KEYS = 2**63  # Philox keys apart from those of the latents


class GeneratedImages:
    """The first `num_images` samples of a generator, and how they are drawn.

    Row i has the latents and the class of row i whatever the batch size, the number of replicas and `num_images`: z
    as of `draw_latents`, and the classes in rounds that hold each of them once, in an order drawn anew for every round
    (in turn, a batch of 64 would hold 64 neighbouring classes of 1000, and its statistics be theirs).

    Args:
        generator: built; it is copied, not changed.
        num_images: N, at least 1.
        seed: of latents and labels, a non-negative int.
        truncation: see `draw_latents`.
        bn_mode: "moving", "batch" or "standing", see `EvaluationGenerator`.
        standing_batches: batches behind the standing statistics, at least 1.
        average: whether the weights are a moving average; only recorded.
        class_names: one per class, or None.

    Attributes:
        resolution: R.
        channels: 1 or 3.
        num_classes: K.
        class_names: as given.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        generator: ClassConditionalGenerator,
        num_images: int = 50_000,
        *,
        seed: int = 0,
        truncation: float | None = None,
        bn_mode: str = "moving",
        standing_batches: int = DEFAULT_STANDING_BATCHES,
        average: bool = False,
        class_names: Sequence[str] | None = None,
    ):
        if bn_mode not in BN_MODES:
            raise ValueError(f"bn_mode must be one of {', '.join(map(repr, BN_MODES))}; got {bn_mode!r}.")
        for name, value, least in (
            ("num_samples", num_images, 1),
            ("seed", seed, 0),
            ("standing_batches", standing_batches, 1),
        ):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}.")
        draw_latents(0, generator.latent_dim, seed, truncation)  # checks truncation
        self.num_images = num_images
        self.resolution = generator.resolution
        self.channels = generator.channels
        self.num_classes = generator.num_classes
        self.class_names = None if class_names is None else tuple(class_names)
        self._generator = generator
        self._seed = seed
        self._truncation = truncation
        self._bn_mode = bn_mode
        self._standing_batches = standing_batches
        self._average = average
        self._prepared: tuple[Any, EvaluationGenerator, Any] | None = None

    def facts(self, batch_size: int) -> dict[str, Any]:
        """What results say about the samples; JSON values.

        Args:
            batch_size: that they are generated in; stated where the images depend on it.
        """
        facts: dict[str, Any] = {
            "count": self.num_images,
            "seed": self._seed,
            "truncation": self._truncation,
            "classes": "each once a round, in an order drawn by the seed",
            "weights": "moving average" if self._average else "as trained",
            "bn_mode": self._bn_mode,
        }
        if self._bn_mode != "moving":
            facts["bn_batch_size"] = batch_size
        if self._bn_mode == "standing":
            facts["standing_batches"] = self._standing_batches
        return facts

    def batches(
        self,
        batch_size: int,
        strategy: tf.distribute.Strategy | None = None,
        *,
        classes: Sequence[int] | None = None,
        count: int | None = None,
    ) -> Iterator[ImageBatch]:
        """The samples in order, as uint8 images (b, R, R, C) and labels (b,); the last batch may be smaller.

        Args:
            batch_size: images at a time, over all replicas, whose number divides it.
            strategy: where to compute; None: the default device.
            classes: only these, each as often; None: all.
            count: of samples; None: `num_images`.

        Raises:
            ValueError: a class that the generator does not have, a batch size that replicas cannot share, or a sample
                that is not finite (the message gives its number).
        """
        strategy = strategy or tf.distribute.get_strategy()
        chosen = list(range(self.num_classes)) if classes is None else list(classes)
        check_class_ids(chosen, self.num_classes)
        check_batch_size(batch_size, strategy)
        generate = self._prepare(batch_size, strategy)
        total = self.num_images if count is None else count
        for start in range(0, total, batch_size):
            # The last batch is drawn in full too: one graph serves all, and with bn_mode="batch" its statistics are
            # those of a full batch.
            latents, labels = self._noise(start, batch_size, chosen)
            images = run_on_replicas(strategy, generate, (latents, labels))[: total - start]
            finite = np.isfinite(images).all(axis=(1, 2, 3))
            if not finite.all():
                row = int(np.argmin(finite))
                raise ValueError(
                    f"sample {start + row} (class {labels[row]}) of the generator is not finite: its weights are "
                    "damaged, or its training had diverged."
                )
            yield ImageBatch(to_8_bits(images), labels[: len(images)])

    def _noise(self, first_row: int, count: int, classes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        latents = draw_latents(count, self._generator.latent_dim, self._seed, self._truncation, first_row)
        return latents, draw_labels(first_row, count, classes, self._seed)

    def _prepare(self, batch_size: int, strategy: tf.distribute.Strategy) -> Any:
        """The function from noise to images, made once for a strategy and batch size."""
        key = (strategy, batch_size if self._bn_mode == "standing" else None)
        if self._prepared is None or self._prepared[0] != key:
            made = EvaluationGenerator(self._generator, self._bn_mode, strategy)
            if self._bn_mode == "standing":
                rows = (_FIRST_STANDING_ROW + number * batch_size for number in range(self._standing_batches))
                made.take_standing_statistics(self._noise(row, batch_size, range(self.num_classes)) for row in rows)

            @tf.function(autograph=False)
            def generate(latents: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
                return made.network([latents, labels], training=made.training)

            self._prepared = (key, made, generate)
        return self._prepared[2]


def draw_labels(first_row: int, count: int, classes: Sequence[int], seed: int) -> np.ndarray:
    """Classes of samples, int32 (count,): each once in every round, in an order drawn for the round.

    Args:
        first_row: number of the first sample; a label depends on its row, the classes and the seed alone.
        count: how many.
        classes: one or more class ids.
        seed: a non-negative int.
    """
    if not len(classes):
        raise ValueError("classes must name one or more classes, got none.")
    size = len(classes)
    rounds = range(first_row // size, (first_row + count - 1) // size + 1) if count else range(0)
    keys = [np.array([seed, _LABEL_KEYS + number], np.uint64) for number in rounds]  # a list of these becomes floats
    labels = [np.random.Generator(np.random.Philox(key=key)).permutation(np.asarray(classes)) for key in keys]
    skipped = first_row % size
    return np.concatenate([np.zeros(0, np.int32), *labels])[skipped : skipped + count].astype(np.int32)


def check_batch_size(batch_size: int, strategy: tf.distribute.Strategy) -> None:
    """Raises ValueError unless the replicas can share a batch equally."""
    replicas = strategy.num_replicas_in_sync
    if batch_size < 1 or batch_size % replicas:
        raise ValueError(f"batch_size must be a positive multiple of the {replicas} replicas, got {batch_size}.")
