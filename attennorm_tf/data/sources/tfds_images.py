"""Any classification data set of TensorFlow Datasets."""

from __future__ import annotations

import logging
from typing import Any, Callable

import numpy as np
import tensorflow as tf

from attennorm_tf.data.global_stream import StreamPlan
from attennorm_tf.data.image_decoding import UnreadableImageError, decode_image, map_in_threads
from attennorm_tf.data.labeled_images import (
    DEFAULT_CACHE_BYTES,
    DatasetRequest,
    IndexedImages,
    LabeledImages,
    to_unit_range,
)
from attennorm_tf.data.record_stream import stream_records

_SHUFFLE_BYTES = 256 * 2**20

_logger = logging.getLogger(__name__)


def load(request: DatasetRequest) -> LabeledImages:
    """A split whose features hold one image and one class label.

    A data set of at most 256 MiB of encoded images is held in memory, and resumes at any step at once. A
    larger one is read in the order of its files, one after the other, and shuffled in blocks of about 256 MiB
    of encoded images (TFDS has shuffled most data sets once when it wrote them); resuming skips records
    within the epoch without decoding them. Every worker reads every record and decodes its own.
    """
    builder = _builder(request)
    image_key, label_key = _classification_keys(request.name, builder.info)
    try:
        split = builder.info.splits[request.split]
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"data set {request.name!r} has the splits {sorted(builder.info.splits)}, got {request.split!r}."
        ) from error
    channels = request.channels or (1 if builder.info.features[image_key].shape[-1] == 1 else 3)
    shape = builder.info.features[image_key].shape[:2]
    records = _encoded_records(builder, request.split, image_key, label_key)
    whole = list(builder.info.splits.values())
    mean_bytes = max(1, sum(part.num_bytes for part in whole) // max(1, sum(part.num_examples for part in whole)))
    attributes: dict[str, Any] = {
        "class_names": builder.info.features[label_key].names,
        "channels": channels,
        "native": None if None in shape else tuple(shape),
    }
    if split.num_examples * mean_bytes <= DEFAULT_CACHE_BYTES:
        return _in_memory(request, records, attributes)
    skipped = _unreadable(records, request) if request.skip_corrupt else {}
    if skipped:
        bad = tf.constant(sorted(skipped), tf.int64)
        records = records.enumerate().filter(lambda index, _: tf.reduce_all(index != bad)).map(lambda _, row: row)
    return StreamedImages(
        request.name,
        records=records,
        block_size=max(1024, _SHUFFLE_BYTES // mean_bytes),
        max_pixels=request.max_pixels,
        num_examples=split.num_examples - len(skipped),
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
        rows = self._records.take(count).batch(64).map(self._decoded(resolution), num_parallel_calls=2)
        for start, (pixels, classes) in zip(range(0, count, 64), rows):
            images[start : start + 64] = to_unit_range(pixels).numpy()
            labels[start : start + 64] = classes.numpy()
        return images, labels

    def _elements(self, plan: StreamPlan, resolution: int) -> tf.data.Dataset:
        decode = self._decoded(resolution)

        def finish(positions: tf.Tensor, rows: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
            return (*decode(*rows), positions)

        elements = stream_records(self._records, plan, self._block_size)
        return elements.map(finish, num_parallel_calls=2)

    def _decoded(self, resolution: int) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
        def decode_all(encoded: np.ndarray, names: np.ndarray) -> np.ndarray:
            def one(row: tuple[bytes, bytes]) -> np.ndarray:
                return decode_image(
                    row[0],
                    resolution=resolution,
                    channels=self.channels,
                    max_pixels=self._max_pixels,
                    name=f"{self.name} {row[1].decode()}",
                )

            images = map_in_threads(one, list(zip(encoded, names)))
            return np.stack(images) if images else np.zeros((0, resolution, resolution, self.channels), np.uint8)

        def decode(encoded: tf.Tensor, labels: tf.Tensor, names: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            images = tf.numpy_function(decode_all, [encoded, names], tf.uint8, stateful=False)
            check = tf.debugging.assert_non_negative(labels, f"split of {self.name!r} without labels")
            with tf.control_dependencies([check] if check is not None else []):
                return images, tf.identity(labels)

        return decode


def _builder(request: DatasetRequest) -> Any:
    if not request.argument:
        raise ValueError("data set 'tfds' needs a name after a colon, as in 'tfds:cifar10'.")
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            f"data set {request.name!r} needs tensorflow-datasets, which is not installed: "
            "pip install 'attennorm_tf[data]'."
        ) from error
    try:
        builder = tfds.builder(request.argument, data_dir=request.root)
    except (ValueError, AssertionError) as error:
        raise ValueError(
            f"TensorFlow Datasets has no data set {request.argument!r}: {str(error).splitlines()[0]}"
        ) from error
    if not builder.is_prepared():
        if not request.download:
            raise ValueError(
                f"data set {request.name!r} is not prepared in {str(builder.data_dir)!r}: pass download=True "
                f"to fetch it, or run `tfds build {request.argument}`."
            )
        builder.download_and_prepare()
    return builder


def _classification_keys(name: str, info: Any) -> tuple[str, str]:
    """Keys of the one 8-bit image and of the one class label, the supervised ones where there are several."""
    import tensorflow_datasets as tfds

    features = dict(info.features) if isinstance(info.features, tfds.features.FeaturesDict) else {}
    images = [key for key, feature in features.items() if type(feature) is tfds.features.Image]
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
    if np.dtype(features[images[0]].np_dtype) != np.uint8:
        raise ValueError(f"data set {name!r} holds {features[images[0]].np_dtype} images; only uint8 is supported.")
    return images[0], labels[0]


def _encoded_records(builder: Any, split: str, image_key: str, label_key: str) -> tf.data.Dataset:
    """(encoded image, label, name) in the order of the files."""
    import tensorflow_datasets as tfds

    config = tfds.ReadConfig(
        interleave_cycle_length=1, try_autocache=False, add_tfds_id=True, enable_ordering_guard=False
    )
    rows = builder.as_dataset(
        split=split,
        decoders={image_key: tfds.decode.SkipDecoding()},
        read_config=config,
        shuffle_files=False,
    )
    return rows.map(lambda row: (row[image_key], row[label_key], row["tfds_id"]))


def _in_memory(request: DatasetRequest, records: tf.data.Dataset, attributes: dict[str, Any]) -> LabeledImages:
    rows = [
        (image, int(label), f"{request.name} {number.decode()}") for image, label, number in records.as_numpy_iterator()
    ]
    skipped = _unreadable(records, request) if request.skip_corrupt else {}
    rows = [row for index, row in enumerate(rows) if index not in skipped]
    if not rows or min(label for _, label, _ in rows) < 0:
        raise ValueError(f"split {request.split!r} of {request.name!r} holds no labelled images.")
    channels = attributes["channels"]

    def decode(indices: np.ndarray, resolution: int) -> np.ndarray:
        def one(index: int) -> np.ndarray:
            encoded, _, name = rows[index]
            return decode_image(
                encoded,
                resolution=resolution,
                channels=channels,
                max_pixels=request.max_pixels,
                name=name,
            )

        images = map_in_threads(one, [int(index) for index in indices])
        return np.stack(images) if images else np.zeros((0, resolution, resolution, channels), np.uint8)

    return IndexedImages(
        request.name,
        labels=np.array([label for _, label, _ in rows], np.int32),
        decode=decode,
        skipped=list(skipped.values()),
        **attributes,
    )


def _unreadable(records: tf.data.Dataset, request: DatasetRequest) -> dict[int, str]:
    """Index and name of every record that cannot be decoded; logged."""

    def problem(row: tuple[bytes, int, bytes]) -> str | None:
        try:
            decode_image(row[0], resolution=1, max_pixels=request.max_pixels, name=f"{request.name} {row[2].decode()}")
        except UnreadableImageError as error:
            return str(error)
        return None

    skipped: dict[int, str] = {}
    start = 0
    for encoded, labels, ids in records.batch(1024).as_numpy_iterator():
        rows = list(zip(encoded, labels, ids))
        for index, found in enumerate(map_in_threads(problem, rows), start):
            if found:
                skipped[index] = f"{request.name} {ids[index - start].decode()}"
                _logger.warning("skipped: %s", found)
        start += len(rows)
    if skipped:
        _logger.warning("skipped %d of %d images that cannot be read.", len(skipped), start)
    return skipped
