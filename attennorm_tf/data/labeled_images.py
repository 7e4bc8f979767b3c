"""The interface of every data set, and the data sets whose examples can be read by their index."""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Callable, NamedTuple

import numpy as np
import tensorflow as tf

from attennorm_tf.data.data_services import DataServices, Decode, decoded_elements
from attennorm_tf.data.global_stream import StreamPlan, finished_ahead, flip_decisions

DEFAULT_CACHE_BYTES = 256 * 2**20

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class DatasetRequest:
    """What the caller of `load_dataset` asked for, handed to the loader of the data set; see there."""

    name: str
    argument: str
    root: str | None
    split: str
    channels: int | None
    skip_corrupt: bool
    max_pixels: int
    download: bool


class StoredImage(NamedTuple):
    """One example as it is kept, not decoded.

    Attributes:
        name: of the example within its data set, wherever that is stored.
        content: bytes of the image.
        label: its class.
    """

    name: str
    content: bytes
    label: int


class LabeledImages(abc.ABC):
    """Labelled images that deliver square float32 images in [-1, 1] and int32 labels.

    Attributes:
        name: as given to `load_dataset`.
        split: likewise.
        class_names: one per class; the label is the index.
        num_examples: N, corrupt ones that were skipped not counted.
        channels: 1 or 3.
        native: (height, width) common to all images, or None where they differ or it is not known.
        skipped: names of the images dropped by skip_corrupt.
        request: what `load_dataset` was asked for; None where it was not.
    """

    request: DatasetRequest | None = None

    def __init__(
        self,
        name: str,
        *,
        split: str,
        class_names: Sequence[str],
        num_examples: int,
        channels: int,
        native: tuple[int, int] | None = None,
        skipped: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.split = split
        self.class_names = tuple(class_names)
        self.num_examples = num_examples
        self.channels = channels
        self.native = native
        self.skipped = list(skipped)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def fingerprint(self) -> str:
        """Hash of which images these are, not of their pixels: the same wherever the same data set is opened."""
        facts = [self.num_examples, self.channels, *self.class_names, *self._names()]
        return hashlib.sha256("\0".join(map(str, facts)).encode("utf-8", "surrogateescape")).hexdigest()

    def batches(
        self,
        *,
        resolution: int,
        batch_size: int,
        seed: int,
        start_step: int = 0,
        num_input_pipelines: int = 1,
        input_pipeline_id: int = 0,
        replicas_per_pipeline: int = 1,
        horizontal_flip: bool = False,
        shuffle: bool = True,
        repeat: bool = True,
        drop_remainder: bool = True,
        services: DataServices | None = None,
    ) -> tf.data.Dataset:
        """One input pipeline's share of the global stream of batches.

        Global batch k is the same images in the same order whatever the number of pipelines and replicas, and
        whether the stream began at step 0 or at k. Epochs follow each other within a batch, so `batch_size`
        may exceed the number of examples. With a strategy:

            strategy.distribute_datasets_from_function(lambda context: data.batches(
                resolution=64, batch_size=256, seed=0, start_step=step,
                num_input_pipelines=context.num_input_pipelines,
                input_pipeline_id=context.input_pipeline_id,
                replicas_per_pipeline=context.num_replicas_in_sync // context.num_input_pipelines))

        Args:
            resolution: side of the images: centre square, then bilinear resize with antialiasing.
            batch_size: global batch, divisible by the number of replicas.
            seed: orders the epochs and flips.
            start_step: global step of the first batch, for exact resume.
            num_input_pipelines: number of workers that read.
            input_pipeline_id: this worker, in [0, num_input_pipelines).
            replicas_per_pipeline: replicas fed by this worker; consecutive elements go to consecutive ones.
            horizontal_flip: mirror each image with probability 1/2, decided by its position in the stream.
            shuffle: a new permutation each epoch.
            repeat: endless; False: one epoch.
            drop_remainder: with repeat=False, whether the last incomplete global batch is dropped. If it is
                kept, replicas for which nothing is left get an element of zero images.
            services: other processes that decode; None: this one, which keeps what is small decoded.

        Returns:
            Elements (images, labels): float32 (b, resolution, resolution, channels) in [-1, 1] and int32
            (b,), b = batch_size / number of replicas.

        Raises:
            ValueError: an argument out of range, `batch_size` not divisible, no whole batch in the data set, or
                services for images that only this process has.
        """
        if resolution < 1:
            raise ValueError(f"resolution must be at least 1, got {resolution}.")
        plan = StreamPlan(
            num_examples=self.num_examples,
            batch_size=batch_size,
            seed=seed,
            start_step=start_step,
            num_input_pipelines=num_input_pipelines,
            input_pipeline_id=input_pipeline_id,
            replicas_per_pipeline=replicas_per_pipeline,
            shuffle=shuffle,
            repeat=repeat,
            drop_remainder=drop_remainder,
        )

        @tf.autograph.experimental.do_not_convert  # plain Python: half a second of a start
        def finish(images: tf.Tensor, labels: tf.Tensor, positions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            images = to_unit_range(images)
            if horizontal_flip:
                mirrored = flip_decisions(positions, seed)[:, tf.newaxis, tf.newaxis, tf.newaxis]
                images = tf.where(mirrored, tf.reverse(images, axis=[2]), images)
            images = tf.ensure_shape(images, (plan.static_batch, resolution, resolution, self.channels))
            return images, tf.ensure_shape(tf.cast(labels, tf.int32), (plan.static_batch,))

        return finished_ahead(self._elements(plan, resolution, services), finish)

    @abc.abstractmethod
    def arrays(self, resolution: int, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The first `limit` examples (default all) in the order of the data set.

        Returns:
            images float32 (n, resolution, resolution, channels) in [-1, 1], labels int32 (n,). To stream
            instead: `batches(shuffle=False, repeat=False, drop_remainder=False, ...)` gives the same in the
            same order.
        """

    @abc.abstractmethod
    def stored(self) -> Iterator[StoredImage]:
        """Every example in the order of the data set, as it is stored; one at a time."""

    @abc.abstractmethod
    def decoding_request(self, resolution: int) -> dict[str, Any]:
        """How a data service finds the function that decodes these images, see `data_services`.

        Raises:
            ValueError: it cannot.
        """

    def _names(self) -> Iterable[str]:
        """Of the examples in order, where they come from files."""
        return ()

    @abc.abstractmethod
    def _elements(self, plan: StreamPlan, resolution: int, services: DataServices | None) -> tf.data.Dataset:
        """Elements (images uint8 in [0, 255] or float32 in [-1, 1], labels, positions) of one pipeline."""


class IndexedImages(LabeledImages):
    """Examples that can be decoded by index: resuming costs nothing, and what is small is kept decoded.

    Args:
        name: see `LabeledImages`.
        labels: int (N,).
        decode: (indices (b,), resolution) -> (b, resolution, resolution, channels), uint8 in [0, 255] or
            float32 in [-1, 1].
        read: the name and the stored bytes of an example.
        names: the names of the examples in order, where they are those of files.
        bytes_per_value: 1 or 4, of what `decode` returns.
        cache_bytes: the data set is kept decoded in memory while it takes at most this much.
        **attributes: the rest of `LabeledImages`.
    """

    def __init__(
        self,
        name: str,
        *,
        labels: np.ndarray,
        decode: Callable[[np.ndarray, int], np.ndarray],
        read: Callable[[int], tuple[str, bytes]],
        names: Callable[[], Iterable[str]] = tuple,
        bytes_per_value: int = 1,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        split: str,
        class_names: Sequence[str],
        channels: int,
        native: tuple[int, int] | None = None,
        skipped: Sequence[str] = (),
    ) -> None:
        super().__init__(
            name,
            split=split,
            class_names=class_names,
            num_examples=len(labels),
            channels=channels,
            native=native,
            skipped=skipped,
        )
        self.labels = np.asarray(labels, np.int32)
        self._decode = decode
        self._read = read
        self._list_names = names
        self._bytes_per_value = bytes_per_value
        self._cache_bytes = cache_bytes
        self._cached: tuple[int, tf.Tensor] | None = None

    def arrays(self, resolution: int, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        count = self.num_examples if limit is None else min(limit, self.num_examples)
        cached = self._all_images(resolution)
        images = self._decode(np.arange(count), resolution) if cached is None else cached[:count].numpy()
        if images.dtype == np.uint8:
            images = images.astype(np.float32) / np.float32(127.5) - np.float32(1)
        return np.array(images), self.labels[:count].copy()

    def stored(self) -> Iterator[StoredImage]:
        for index, label in enumerate(self.labels):
            yield StoredImage(*self._read(index), int(label))

    def decoder(self, resolution: int) -> Decode:
        """Indices (b,) -> images, see `decode` of the constructor."""
        return lambda indices: self._decode(indices, resolution)

    def decoding_request(self, resolution: int) -> dict[str, Any]:
        if self.request is None:
            raise ValueError(f"data.service: {self.name} is not from load_dataset: only this process can read it.")
        arguments = {
            "data": load_arguments(self.request),
            "fingerprint": self.fingerprint(),
            "num_examples": self.num_examples,
            "resolution": resolution,
        }
        return {"kind": "images by index", "arguments": arguments}

    def _names(self) -> Iterable[str]:
        return self._list_names()

    def _elements(self, plan: StreamPlan, resolution: int, services: DataServices | None) -> tf.data.Dataset:
        images = self._all_images(resolution) if services is None else None
        dtype = tf.uint8 if self._bytes_per_value == 1 else tf.float32

        def element(call: Any, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            positions = plan.positions(number)
            indices = plan.examples(positions)
            return call([indices], dtype) if images is None else tf.gather(images, indices), indices, positions

        # Captured on the host: on a machine with a GPU the constant would land there and travel every step.
        with tf.device("/CPU:0"):
            labels = tf.constant(self.labels)
        elements = decoded_elements(
            plan.elements(), element, self.decoder(resolution), services, lambda: self.decoding_request(resolution)
        )

        @tf.autograph.experimental.do_not_convert
        def labelled(batch: tf.Tensor, indices: tf.Tensor, positions: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return batch, tf.gather(labels, indices), positions

        return elements.map(labelled)

    def _all_images(self, resolution: int) -> tf.Tensor | None:
        """The whole data set at `resolution` if it fits into the budget (the last resolution is kept)."""
        needed = self.num_examples * resolution * resolution * self.channels * self._bytes_per_value
        if needed > self._cache_bytes:
            return None
        if self._cached is None or self._cached[0] != resolution:
            _logger.debug("%s: keeping %d images decoded, %.1f MiB.", self.name, self.num_examples, needed / 2**20)
            self._cached = None  # the old ones must not stay in memory while the new ones are decoded
            with tf.device("/CPU:0"):
                images = tf.constant(self._decode(np.arange(self.num_examples), resolution))
            self._cached = (resolution, images)
        return self._cached[1]


def load_arguments(request: Any) -> dict[str, Any]:
    """What `load_dataset` or `load_photographs` was called with, to open the same data set elsewhere."""
    arguments = dataclasses.asdict(request)
    del arguments["argument"]  # a part of the name
    return {**arguments, "download": False}


def to_unit_range(images: tf.Tensor) -> tf.Tensor:
    """uint8 in [0, 255] to float32 in [-1, 1]; float32 stays."""
    return tf.cast(images, tf.float32) / 127.5 - 1.0 if images.dtype == tf.uint8 else images
