"""Features of many images, batch by batch, on every replica of a strategy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Callable, NamedTuple

import numpy as np
import tensorflow as tf

from attennorm_tf.metrics.feature_extractor import FeatureExtractor


class FeatureBatch(NamedTuple):
    """Features of a batch of images.

    Attributes:
        features: float32 (b, d).
        logits: float32 (b, K), or None where the extractor has none.
        labels: as they came with the images.
    """

    features: np.ndarray
    logits: np.ndarray | None
    labels: np.ndarray | None


def extract_features(
    extractor: FeatureExtractor,
    batches: Iterable[tuple[np.ndarray, np.ndarray | None]],
    batch_size: int,
    *,
    strategy: tf.distribute.Strategy | None = None,
    progress: Callable[[int], object] = lambda count: None,
) -> Iterator[FeatureBatch]:
    """Runs an extractor over 8-bit images.

    A batch is filled up to `batch_size` and divided over the replicas of this machine, so that one graph serves all.
    While one batch is computed the next is read, on an accelerator.

    Args:
        extractor: whose features; its weights are read from where they are, see `load_extractor`.
        batches: (images uint8 (b, H, W, 1 or 3), labels (b,) or None), b from 1 to `batch_size`, H and W always the
            same: an `ImageSource`'s batches, or generated images.
        batch_size: images at a time, over all replicas; rounded up to a multiple of them.
        strategy: where to compute; None: the default device.
        progress: told how many images were finished since it was last told.

    Yields:
        The features of each batch, in order.

    Raises:
        ValueError: images of another type or shape, more than `batch_size` at once, or a feature or logit that is not
            finite (the message gives the number of the image).
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    strategy = strategy or tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    share = -(-batch_size // replicas)

    @tf.function
    def features_of(images: Any) -> Any:
        return strategy.run(_features, args=(extractor, images))

    def start(images: np.ndarray) -> Any:
        filled = np.zeros((share * replicas, *images.shape[1:]), np.uint8)
        filled[: len(images)] = images
        parts = filled.reshape(replicas, share, *images.shape[1:])
        if replicas == 1:
            return features_of(tf.constant(parts[0]))
        return features_of(
            strategy.experimental_distribute_values_from_function(
                lambda context: tf.constant(parts[context.replica_id_in_sync_group])
            )
        )

    def finish(outputs: Any, count: int, labels: np.ndarray | None, first: int) -> FeatureBatch:
        rows = [
            np.concatenate([part.numpy() for part in strategy.experimental_local_results(value)])[:count]
            for value in outputs
        ]
        for name, values in zip(("features", "logits"), rows):
            finite = np.isfinite(values).all(axis=1)
            if not finite.all():
                number = first + int(np.argmin(finite))
                raise ValueError(f"{name} of image {number} by {extractor.name!r} are not finite.")
        progress(count)
        return FeatureBatch(rows[0], rows[1] if len(rows) > 1 else None, labels)

    running: tuple[Any, int, np.ndarray | None, int] | None = None
    seen = 0
    for images, labels in batches:
        _check_images(images, batch_size)
        outputs = start(images)
        if running is not None:
            yield finish(*running)
        running = (outputs, len(images), labels, seen)
        seen += len(images)
    if running is not None:
        yield finish(*running)


def _features(extractor: FeatureExtractor, images: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """One replica's part; without the logits where there are none."""
    features, logits = extractor(tf.cast(images, tf.float32) / 127.5 - 1.0)
    return (features,) if logits is None else (features, logits)


def _check_images(images: np.ndarray, batch_size: int) -> None:
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(f"images must be uint8 (batch, height, width, channels), got {images.dtype} {images.shape}.")
    if not 1 <= len(images) <= batch_size:
        raise ValueError(f"a batch must hold 1 to batch_size={batch_size} images, got {len(images)}.")
