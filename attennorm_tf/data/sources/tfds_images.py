"""Any classification data set of TensorFlow Datasets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from attennorm_tf.data.data_services import DataServices, decoded_elements
from attennorm_tf.data.encoded_images import decode_encoded
from attennorm_tf.data.global_stream import StreamPlan
from attennorm_tf.data.image_decoding import decode_image, map_in_threads
from attennorm_tf.data.labeled_images import (
    DEFAULT_CACHE_BYTES,
    DatasetRequest,
    IndexedImages,
    LabeledImages,
    StoredImage,
    to_unit_range,
)
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


def load(request: DatasetRequest) -> LabeledImages:
    """A split whose features hold one image and one class label.

    A data set of at most 256 MiB of encoded images is held in memory, and resumes at any step at once. A
    larger one is read in the order of its files, one after the other, and shuffled in blocks of about 256 MiB
    of encoded images (TFDS has shuffled most data sets once when it wrote them); resuming skips records
    within the epoch without decoding them. Every worker reads every record and decodes its own.
    """
    builder = open_builder(request.name, request.argument, request.root, request.download)
    image_key, label_key = _classification_keys(request.name, builder.info)
    num_examples, mean_bytes = split_size(builder, request.name, request.split)
    channels = request.channels or (1 if builder.info.features[image_key].shape[-1] == 1 else 3)
    shape = builder.info.features[image_key].shape[:2]
    records = encoded_records(builder, request.split, image_key, label_key)
    attributes: dict[str, Any] = {
        "split": request.split,
        "class_names": builder.info.features[label_key].names,
        "channels": channels,
        "native": None if None in shape else tuple(shape),
    }
    if num_examples * mean_bytes <= DEFAULT_CACHE_BYTES:
        return _in_memory(request, records, attributes)
    skipped = unreadable_records(records, request.name, request.max_pixels) if request.skip_corrupt else {}
    keep = np.array([index not in skipped for index in range(num_examples)])
    return StreamedImages(
        request.name,
        records=kept_records(records, keep),
        block_size=shuffled_together(mean_bytes),
        max_pixels=request.max_pixels,
        num_examples=num_examples - len(skipped),
        skipped=list(skipped.values()),
        **attributes,
    )


class StreamedImages(LabeledImages):
    """Encoded examples that can only be read in order.

    Args:
        name: see `LabeledImages`.
        records: finite, of (encoded image, int64 label, name), always in the same order.
        block_size: examples shuffled together in memory.
        max_pixels: see `load_dataset`.
        **attributes: the rest of `LabeledImages`.
    """

    def __init__(
        self, name: str, *, records: tf.data.Dataset, block_size: int, max_pixels: int, **attributes: Any
    ) -> None:
        super().__init__(name, **attributes)
        self._records = records
        self._block_size = block_size
        self._max_pixels = max_pixels

    def arrays(self, resolution: int, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        count = self.num_examples if limit is None else min(limit, self.num_examples)
        images = np.empty((count, resolution, resolution, self.channels), np.float32)
        labels = np.empty((count,), np.int32)
        decode = decode_encoded(**self._decoding(resolution))
        for start, (encoded, classes, names) in zip(range(0, count, 64), self._records.take(count).batch(64)):
            images[start : start + 64] = to_unit_range(tf.constant(decode(encoded.numpy(), names.numpy()))).numpy()
            labels[start : start + 64] = self._checked(classes).numpy()
        return images, labels

    def stored(self) -> Iterator[StoredImage]:
        for rows in self._records.batch(64).as_numpy_iterator():
            for content, label, number in zip(*rows):
                yield StoredImage(number.decode(), content, int(label))

    def decoding_request(self, resolution: int) -> dict[str, Any]:
        return {"kind": "encoded images", "arguments": self._decoding(resolution)}

    def _decoding(self, resolution: int) -> dict[str, Any]:
        return {
            "name": self.name, "resolution": resolution, "channels": self.channels, "max_pixels": self._max_pixels,
        }  # fmt: skip

    def _elements(self, plan: StreamPlan, resolution: int, services: DataServices | None) -> tf.data.Dataset:
        def element(call: Any, positions: tf.Tensor, rows: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
            encoded, labels, names = rows
            return call([encoded, names], tf.uint8), self._checked(labels), positions

        return decoded_elements(
            stream_records(self._records, plan, self._block_size), element,
            decode_encoded(**self._decoding(resolution)), services, lambda: self.decoding_request(resolution),
        )  # fmt: skip

    def _checked(self, labels: tf.Tensor) -> tf.Tensor:
        check = tf.debugging.assert_non_negative(labels, f"split of {self.name!r} without labels")
        with tf.control_dependencies([check] if check is not None else []):
            return tf.identity(labels)


def _classification_keys(name: str, info: Any) -> tuple[str, str]:
    """Keys of the one 8-bit image and of the one class label, the supervised ones where there are several."""
    import tensorflow_datasets as tfds

    features, images = image_features(info)
    labels = [key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
    if info.supervised_keys and len(info.supervised_keys) == 2:
        image_key, label_key = info.supervised_keys
        images = [image_key] if image_key in images else images
        labels = [label_key] if label_key in labels else labels
    if len(images) != 1 or len(labels) != 1:
        raise ValueError(
            f"data set {name!r} is not a classification data set: expected one Image and one ClassLabel "
            f"feature, found {sorted(features) or type(info.features).__name__} with images {images} and "
            f"labels {labels}."
        )
    check_bytes(name, features[images[0]])
    return images[0], labels[0]


def _in_memory(request: DatasetRequest, records: tf.data.Dataset, attributes: dict[str, Any]) -> LabeledImages:
    rows = [(image, int(label), number.decode()) for image, label, number in records.as_numpy_iterator()]
    skipped = unreadable_records(records, request.name, request.max_pixels) if request.skip_corrupt else {}
    rows = [row for index, row in enumerate(rows) if index not in skipped]
    if not rows or min(label for _, label, _ in rows) < 0:
        raise ValueError(f"split {request.split!r} of {request.name!r} holds no labelled images.")
    channels = attributes["channels"]

    def decode(indices: np.ndarray, resolution: int) -> np.ndarray:
        def one(index: int) -> np.ndarray:
            encoded, _, number = rows[index]
            return decode_image(
                encoded,
                resolution=resolution,
                channels=channels,
                max_pixels=request.max_pixels,
                name=f"{request.name} {number}",
            )

        images = map_in_threads(one, [int(index) for index in indices])
        return np.stack(images) if images else np.zeros((0, resolution, resolution, channels), np.uint8)

    return IndexedImages(
        request.name,
        labels=np.array([label for _, label, _ in rows], np.int32),
        decode=decode,
        read=lambda index: (rows[index][2], rows[index][0]),
        skipped=list(skipped.values()),
        **attributes,
    )
