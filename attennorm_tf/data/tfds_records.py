"""What is common to all data sets of TensorFlow Datasets: opening one, and its encoded records in a fixed order."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import tensorflow as tf

from attennorm_tf.data.image_decoding import UnreadableImageError, decode_image, map_in_threads

_SHUFFLE_BYTES = 256 * 2**20

_logger = logging.getLogger(__name__)


def open_builder(name: str, argument: str, root: str | None, download: bool) -> Any:
    """The builder of the prepared data set `argument`; `name` is what errors call it."""
    if not argument:
        raise ValueError("data set 'tfds' needs a name after a colon, as in 'tfds:cifar10'.")
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            f"data set {name!r} needs tensorflow-datasets, which is not installed: pip install 'attennorm_tf[data]'."
        ) from error
    try:
        builder = tfds.builder(argument, data_dir=root)
    except (ValueError, AssertionError) as error:
        raise ValueError(f"TensorFlow Datasets has no data set {argument!r}: {str(error).splitlines()[0]}") from error
    if not builder.is_prepared():
        if not download:
            raise ValueError(
                f"data set {name!r} is not prepared in {str(builder.data_dir)!r}: pass download=True "
                f"to fetch it, or run `tfds build {argument}`."
            )
        builder.download_and_prepare()
    return builder


def split_size(builder: Any, name: str, split: str) -> tuple[int, int]:
    """Examples in a split, and bytes of an average example.

    Raises:
        ValueError: no such split.
    """
    try:
        count = builder.info.splits[split].num_examples
    except (KeyError, ValueError) as error:
        raise ValueError(f"data set {name!r} has the splits {sorted(builder.info.splits)}, got {split!r}.") from error
    whole = list(builder.info.splits.values())
    return count, max(1, sum(part.num_bytes for part in whole) // max(1, sum(part.num_examples for part in whole)))


def image_features(info: Any) -> tuple[dict[str, Any], list[str]]:
    """All features by their key, and the keys of the images."""
    import tensorflow_datasets as tfds

    features = dict(info.features) if isinstance(info.features, tfds.features.FeaturesDict) else {}
    return features, [key for key, feature in features.items() if type(feature) is tfds.features.Image]


def check_bytes(name: str, feature: Any) -> None:
    """Raises ValueError unless an image feature holds 8-bit values."""
    if np.dtype(feature.np_dtype) != np.uint8:
        raise ValueError(f"data set {name!r} holds {feature.np_dtype} images; only uint8 is supported.")


def encoded_records(builder: Any, split: str, image_key: str, *other_keys: str) -> tf.data.Dataset:
    """(encoded image, the other features, name) in the order of the files."""
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
    return rows.map(lambda row: tuple(row[key] for key in (image_key, *other_keys, "tfds_id")))


def unreadable_records(records: tf.data.Dataset, name: str, max_pixels: int) -> dict[int, str]:
    """Index and name of every record that cannot be decoded; logged."""

    def problem(row: tuple[bytes, bytes]) -> str | None:
        try:
            decode_image(row[0], resolution=1, max_pixels=max_pixels, name=f"{name} {row[1].decode()}")
        except UnreadableImageError as error:
            return str(error)
        return None

    skipped: dict[int, str] = {}
    start = 0
    for encoded, *_, ids in records.batch(1024).as_numpy_iterator():
        rows = list(zip(encoded, ids))
        for index, found in enumerate(map_in_threads(problem, rows), start):
            if found:
                skipped[index] = f"{name} {ids[index - start].decode()}"
                _logger.warning("skipped: %s", found)
        start += len(rows)
    if skipped:
        _logger.warning("skipped %d of %d images that cannot be read.", len(skipped), start)
    return skipped


def kept_records(records: tf.data.Dataset, keep: np.ndarray) -> tf.data.Dataset:
    """The records with True in `keep` (N,)."""
    if keep.all():
        return records
    with tf.device("/CPU:0"):
        table = tf.constant(keep)
    return records.enumerate().filter(lambda index, _: tf.gather(table, index)).map(lambda _, row: row)


def shuffled_together(mean_bytes: int) -> int:
    """How many records of a split that is read in order are shuffled together in memory."""
    return max(1024, _SHUFFLE_BYTES // mean_bytes)
