"""Photographs without labels: random crops and masks as one reproducible stream, centre squares for validation."""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import threading
from collections.abc import Sequence
from typing import Any, Callable

import numpy as np
import tensorflow as tf
from PIL import Image

from attennorm_tf.data.data_services import DataServices, Decode, decoded_elements
from attennorm_tf.data.global_stream import StreamPlan, finished_ahead, stream_words
from attennorm_tf.data.image_decoding import centre_square, map_in_threads, resized_square
from attennorm_tf.data.labeled_images import DEFAULT_CACHE_BYTES, load_arguments, to_unit_range
from attennorm_tf.data.masks import MaskSource

_CROP_WORDS = 4
_BYTES_PER_PIXEL = 4  # of an RGB image in Pillow


@dataclasses.dataclass(frozen=True)
class PhotographsRequest:
    """What the caller of `load_photographs` asked for, handed to the loader of the data set; see there."""

    name: str
    argument: str
    root: str | None
    split: str
    skip_corrupt: bool
    validation_fraction: float
    part: str
    max_pixels: int
    download: bool


class Photographs(abc.ABC):
    """Photographs that deliver square float32 RGB images in [-1, 1].

    Attributes:
        name: as given to `load_photographs`.
        file_names: of every photograph, relative to the root; empty where the data set has no files.
        num_examples: N, corrupt ones that were skipped not counted.
        skipped: names of the photographs dropped by skip_corrupt.
        request: what `load_photographs` was asked for; None where it was not.
    """

    request: PhotographsRequest | None = None

    def __init__(
        self, name: str, *, num_examples: int, file_names: Sequence[str] = (), skipped: Sequence[str] = ()
    ) -> None:
        self.name = name
        self.num_examples = num_examples
        self.file_names = list(file_names)
        self.skipped = list(skipped)

    def fingerprint(self) -> str:
        """Hash of which photographs these are, not of their pixels: the same wherever the same data set is opened."""
        facts = [str(self.num_examples), *self.file_names]
        return hashlib.sha256("\0".join(facts).encode("utf-8", "surrogateescape")).hexdigest()

    def batches(
        self,
        resolution: int,
        batch_size: int,
        seed: int,
        masks: MaskSource,
        *,
        start_step: int = 0,
        num_input_pipelines: int = 1,
        input_pipeline_id: int = 0,
        replicas_per_pipeline: int = 1,
        horizontal_flip: bool = True,
        min_crop_scale: float = 1.0,
        services: DataServices | None = None,
    ) -> tf.data.Dataset:
        """One input pipeline's share of the endless global stream, as `LabeledImages.batches` shares it out.

        Order, crops, flips and masks are functions of the seed and the position in the stream: global batch k is the
        same whatever the number of pipelines and replicas, and whether the stream began at step 0 or at k.

        Args:
            resolution: side of the images.
            batch_size: global batch, divisible by the number of replicas.
            seed: of all random decisions; any Python integer.
            masks: draws a hole for each position.
            start_step: global step of the first batch, for exact resume.
            num_input_pipelines: number of workers that read.
            input_pipeline_id: this worker, in [0, num_input_pipelines).
            replicas_per_pipeline: replicas fed by this worker; consecutive elements go to consecutive ones.
            horizontal_flip: mirror each image with probability 1/2.
            min_crop_scale: the side of the square that is cut out, as a share of the photograph's shorter side, is
                uniform in [min_crop_scale, 1], and so is its place; it is then resized with antialiasing.
            services: other processes that read and cut; None: this one.

        Returns:
            Elements (images, masks): float32 (b, resolution, resolution, 3) in [-1, 1] and (b, resolution, resolution,
            1) in {0, 1}, b = batch_size / number of replicas.

        Raises:
            ValueError: an argument out of range, `batch_size` not divisible, masks that do not fit, or services for
                photographs that only this process has.
        """
        if resolution < 1:
            raise ValueError(f"resolution must be at least 1, got {resolution}.")
        if not 0 < min_crop_scale <= 1:
            raise ValueError(f"min_crop_scale must be in (0, 1], got {min_crop_scale}.")
        masks.check((resolution, resolution))
        plan = StreamPlan(
            num_examples=self.num_examples,
            batch_size=batch_size,
            seed=seed,
            start_step=start_step,
            num_input_pipelines=num_input_pipelines,
            input_pipeline_id=input_pipeline_id,
            replicas_per_pipeline=replicas_per_pipeline,
        )
        shape = (plan.per_replica_batch, resolution, resolution)

        @tf.autograph.experimental.do_not_convert  # plain Python
        def finish(images: tf.Tensor, positions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            holes = masks(positions, seed, (resolution, resolution))
            return tf.ensure_shape(to_unit_range(images), (*shape, 3)), tf.ensure_shape(holes, (*shape, 1))

        elements = self._elements(plan, Crops(resolution, min_crop_scale, horizontal_flip, seed), services)
        return finished_ahead(elements, finish)

    @abc.abstractmethod
    def arrays(self, resolution: int, limit: int | None = None) -> np.ndarray:
        """The centre squares of the first `limit` photographs (default all): float32 (n, resolution, resolution, 3)."""

    @abc.abstractmethod
    def decoding_request(self, crops: Crops) -> dict[str, Any]:
        """How a data service finds the function that cuts these photographs, see `data_services`.

        Raises:
            ValueError: it cannot.
        """

    @abc.abstractmethod
    def _elements(self, plan: StreamPlan, crops: Crops, services: DataServices | None) -> tf.data.Dataset:
        """Elements (images uint8 (b, resolution, resolution, 3), positions) of one pipeline."""


class Crops:
    """The random squares of a stream.

    Args:
        resolution: side of the results.
        min_scale: least side of a square, as a share of the photograph's shorter side.
        flip: whether half of them are mirrored.
        seed: of the stream.
    """

    def __init__(self, resolution: int, min_scale: float, flip: bool, seed: int) -> None:
        self.resolution = resolution
        self.min_scale = min_scale
        self._flip = flip
        self._seed = seed

    def facts(self) -> dict[str, Any]:
        """Arguments of the constructor for `cut_all` elsewhere, to which the seed is nothing."""
        return {"resolution": self.resolution, "min_scale": self.min_scale, "flip": self._flip, "seed": 0}

    def words(self, positions: tf.Tensor) -> tf.Tensor:
        """The random numbers that decide on the crops at `positions`, for `cut`."""
        return stream_words(positions, self._seed, "crop", _CROP_WORDS)

    def reduce(self, image: Image.Image) -> Image.Image:
        """The photograph that is cut from: whole, or where that is far too large averaged over squares of pixels, so
        that the least crop keeps at least twice the resolution.
        """
        factor = int(self.min_scale * min(image.size) / (2 * self.resolution))
        return image.reduce(factor) if factor > 1 else image

    def cut(self, image: Image.Image, words: np.ndarray) -> np.ndarray:
        """The square that `words` (4,) select from a reduced photograph: uint8 (resolution, resolution, 3)."""
        width, height = image.size
        short = min(width, height)
        least = max(1, round(self.min_scale * short))
        side = least + _share(words[0], short - least + 1)
        left, top = _share(words[1], width - side + 1), _share(words[2], height - side + 1)
        square = resized_square(image, (left, top, side), self.resolution)
        return square[:, ::-1] if self._flip and words[3] % 2 else square

    def cut_all(self, photograph: Callable[[int], Image.Image], words: np.ndarray) -> np.ndarray:
        """The crops of the reduced photographs 0..b-1: `words` (b, 4) to uint8 (b, resolution, resolution, 3)."""
        return np.stack(map_in_threads(lambda row: self.cut(photograph(row), words[row]), range(len(words))))


class IndexedPhotographs(Photographs):
    """Photographs that can be read by index: resuming costs nothing, and as many as fit are kept decoded.

    Args:
        name: see `Photographs`.
        read: the photograph of an index, mode "RGB".
        cache_bytes: memory for decoded photographs. Those beyond it are decoded whenever they are needed.
        **attributes: the rest of `Photographs`.
    """

    def __init__(
        self,
        name: str,
        *,
        read: Callable[[int], Image.Image],
        num_examples: int,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        file_names: Sequence[str] = (),
        skipped: Sequence[str] = (),
    ) -> None:
        super().__init__(name, num_examples=num_examples, file_names=file_names, skipped=skipped)
        self._read = read
        self._cache_bytes = cache_bytes

    def arrays(self, resolution: int, limit: int | None = None) -> np.ndarray:
        count = self.num_examples if limit is None else min(limit, self.num_examples)
        images = np.empty((count, resolution, resolution, 3), np.uint8)

        def read(index: int) -> None:
            images[index] = centre_square(self._read(index), resolution)

        map_in_threads(read, range(count))
        return to_unit_range(tf.constant(images)).numpy()

    def cutter(self, crops: Crops) -> Decode:
        """(indices (b,), words (b, 4)) -> uint8 (b, resolution, resolution, 3)."""
        kept: dict[int, Image.Image] = {}
        free = self._cache_bytes
        lock = threading.Lock()

        def photograph(index: int) -> Image.Image:
            nonlocal free
            image = kept.get(index)
            if image is None:
                image = crops.reduce(self._read(index))
                needed = image.size[0] * image.size[1] * _BYTES_PER_PIXEL
                with lock:
                    if needed <= free and index not in kept:
                        kept[index] = image
                        free -= needed
            return image

        def cut_all(indices: np.ndarray, words: np.ndarray) -> np.ndarray:
            return crops.cut_all(lambda row: photograph(int(indices[row])), words)

        return cut_all

    def decoding_request(self, crops: Crops) -> dict[str, Any]:
        if self.request is None:
            raise ValueError(f"data.service: {self.name} is not from load_photographs: only this process can read it.")
        arguments = {
            "data": load_arguments(self.request),
            "fingerprint": self.fingerprint(),
            "num_examples": self.num_examples,
            "crops": crops.facts(),
        }
        return {"kind": "photographs by index", "arguments": arguments}

    def _elements(self, plan: StreamPlan, crops: Crops, services: DataServices | None) -> tf.data.Dataset:
        def element(call: Any, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            positions = plan.positions(number)
            return call([plan.examples(positions), crops.words(positions)], tf.uint8), positions

        return decoded_elements(
            plan.elements(), element, self.cutter(crops), services, lambda: self.decoding_request(crops)
        )


def _share(word: np.integer, count: int) -> int:
    """A whole number in [0, count), uniform like the 32-bit word."""
    return int(word) * count >> 32
