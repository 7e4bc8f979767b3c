"""Any data set of TensorFlow Datasets that has images."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from attennorm_tf.data.data_services import DataServices, decoded_elements
from attennorm_tf.data.encoded_images import crop_encoded
from attennorm_tf.data.global_stream import StreamPlan
from attennorm_tf.data.image_decoding import centre_square, map_in_threads, read_image
from attennorm_tf.data.labeled_images import DEFAULT_CACHE_BYTES, to_unit_range
from attennorm_tf.data.record_stream import stream_records
from attennorm_tf.data.tfds_records import (
    check_bytes,
    encoded_records,
    image_features,
    kept_records,
    open_builder,
    shuffled_together,
    split_size,
    unreadable_records,
)
from attennorm_tf.data.unlabeled_images import Crops, IndexedPhotographs, Photographs, PhotographsRequest
from attennorm_tf.data.validation_split import select_part


def load(request: PhotographsRequest) -> Photographs:
    """A split whose features hold one image; its other features are passed over.

    What is held out is chosen by a hash of the number of the example in the split. As in classification, at most 256
    MiB of encoded images are held in memory, a larger split is read in order and shuffled in blocks of that size.
    """
    builder = open_builder(request.name, request.argument, request.root, request.download)
    image_key = _image_key(request.name, builder.info)
    num_examples, mean_bytes = split_size(builder, request.name, request.split)
    where = f"split {request.split!r} of {request.name!r}"
    if not num_examples:
        raise ValueError(f"{where} holds no images.")
    numbers = [str(number) for number in range(num_examples)]
    keep = np.zeros(num_examples, bool)
    keep[select_part(numbers, request.part, request.validation_fraction, where)] = True
    records = kept_records(encoded_records(builder, request.split, image_key), keep)
    skipped: dict[int, str] = {}
    if request.skip_corrupt:
        skipped = unreadable_records(records, request.name, request.max_pixels)
        if len(skipped) == keep.sum():
            raise ValueError(f"{where} holds no readable image (part {request.part!r}).")
    readable = np.array([index not in skipped for index in range(keep.sum())])
    records = kept_records(records, readable)
    count = int(readable.sum())
    dropped = list(skipped.values())
    if count * mean_bytes > DEFAULT_CACHE_BYTES:
        return StreamedPhotographs(
            request.name,
            records=records,
            block_size=shuffled_together(mean_bytes),
            max_pixels=request.max_pixels,
            num_examples=count,
            skipped=dropped,
        )
    rows = [(image, f"{request.name} {number.decode()}") for image, number in records.as_numpy_iterator()]

    def read(index: int) -> Image.Image:
        encoded, name = rows[index]
        return read_image(encoded, max_pixels=request.max_pixels, name=name)

    return IndexedPhotographs(request.name, read=read, num_examples=count, skipped=dropped)


class StreamedPhotographs(Photographs):
    """Encoded photographs that can only be read in order.

    Args:
        name: see `Photographs`.
        records: finite, of (encoded image, name), always in the same order.
        block_size: photographs shuffled together in memory.
        max_pixels: see `load_photographs`.
        num_examples: how many records there are.
        skipped: see `Photographs`.
    """

    def __init__(
        self,
        name: str,
        *,
        records: tf.data.Dataset,
        block_size: int,
        max_pixels: int,
        num_examples: int,
        skipped: list[str],
    ) -> None:
        super().__init__(name, num_examples=num_examples, skipped=skipped)
        self._records = records
        self._block_size = block_size
        self._max_pixels = max_pixels

    def arrays(self, resolution: int, limit: int | None = None) -> np.ndarray:
        count = self.num_examples if limit is None else min(limit, self.num_examples)
        images = np.empty((count, resolution, resolution, 3), np.float32)
        for start, rows in zip(range(0, count, 64), self._records.take(count).batch(64).as_numpy_iterator()):
            squares = map_in_threads(lambda row: centre_square(self._read(*row), resolution), list(zip(*rows)))
            images[start : start + 64] = to_unit_range(tf.constant(np.stack(squares)))
        return images

    def _read(self, encoded: bytes, number: bytes) -> Image.Image:
        return read_image(encoded, max_pixels=self._max_pixels, name=f"{self.name} {number.decode()}")

    def decoding_request(self, crops: Crops) -> dict[str, Any]:
        arguments = {"crops": crops.facts(), "name": self.name, "max_pixels": self._max_pixels}
        return {"kind": "encoded photographs", "arguments": arguments}

    def _elements(self, plan: StreamPlan, crops: Crops, services: DataServices | None) -> tf.data.Dataset:
        def element(call: Any, positions: tf.Tensor, rows: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, tf.Tensor]:
            return call([*rows, crops.words(positions)], tf.uint8), positions

        return decoded_elements(
            stream_records(self._records, plan, self._block_size), element,
            crop_encoded(crops, self.name, self._max_pixels), services, lambda: self.decoding_request(crops),
        )  # fmt: skip


def _image_key(name: str, info: object) -> str:
    """Key of the one 8-bit image."""
    features, images = image_features(info)
    if len(images) != 1:
        raise ValueError(
            f"data set {name!r} must have one Image feature, found {sorted(features) or 'no named features'} with "
            f"images {images}."
        )
    check_bytes(name, features[images[0]])
    return images[0]
