"""Images to be scored: a data set or a folder, as 8-bit squares in a fixed order, with a hash of what they are."""

from __future__ import annotations

import abc
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from attennorm_tf.data.image_decoding import (
    DEFAULT_MAX_PIXELS,
    UnreadableImageError,
    check_max_pixels,
    decode_image,
    image_size,
    map_in_threads,
)
from attennorm_tf.data.image_files import list_image_files, read_file, unreadable_files
from attennorm_tf.data.labeled_images import LabeledImages

PREPARATION = "centre square, bilinear with antialiasing, rounded to 8 bits"


class ImageBatch(NamedTuple):
    """Consecutive images of a source.

    Attributes:
        images: uint8 (b, R, R, channels).
        labels: int32 (b,), or None where the source has none.
    """

    images: np.ndarray
    labels: np.ndarray | None


class _Content(NamedTuple):
    content_hash: str
    resized: int


class ImageSource(abc.ABC):
    """Images in a fixed order, each its centre square at one resolution, as in training.

    Memory: a batch, besides what a data set keeps decoded (at most 256 MiB).

    Attributes:
        name: of the data set or the folder, without where it lies.
        split: of the data set; None for a folder.
        num_images: N, those that were skipped not counted.
        resolution: R.
        channels: 1 or 3.
        class_names: one per class, the label is the index; None where the images have no labels.
        skipped: names of images dropped because they cannot be read.
    """

    def __init__(
        self,
        name: str,
        *,
        split: str | None,
        num_images: int,
        resolution: int,
        channels: int,
        class_names: Sequence[str] | None,
        skipped: Sequence[str] = (),
    ) -> None:
        if resolution < 1:
            raise ValueError(f"resolution must be at least 1, got {resolution}.")
        self.name = name
        self.split = split
        self.num_images = num_images
        self.resolution = resolution
        self.channels = channels
        self.class_names = None if class_names is None else tuple(class_names)
        self.skipped = list(skipped)
        self._content: _Content | None = None

    @property
    def content_hash(self) -> str:
        """SHA-256 over the name, the label and the stored bytes of every image, in order.

        The first call reads every image's bytes once (50,000 JPEG files of 32x32: 10 s on two busy cores); nothing is
        decoded.
        """
        return self._scanned().content_hash

    @property
    def resized(self) -> int:
        """How many images are stored at another size than R x R; counted from the headers, see `content_hash`."""
        return self._scanned().resized

    def facts(self) -> dict[str, Any]:
        """What results say about the images: JSON values, nothing that depends on where they are stored."""
        return {
            "name": self.name,
            "split": self.split,
            "count": self.num_images,
            "resolution": self.resolution,
            "channels": self.channels,
            "classes": None if self.class_names is None else len(self.class_names),
            "preparation": PREPARATION,
            "resized": self.resized,
            "skipped": len(self.skipped),
            "content_hash": self.content_hash,
        }

    @abc.abstractmethod
    def batches(self, batch_size: int) -> Iterator[ImageBatch]:
        """Every image once, in order; the last batch may be smaller.

        Raises:
            ValueError: a batch size below 1, or an image that cannot be read (`UnreadableImageError`, by its name).
        """

    @abc.abstractmethod
    def _stored(self) -> Iterable[tuple[str, bytes, int | None]]:
        """(name, stored bytes, label) of every image."""

    def _is_native(self, name: str, content: bytes) -> bool:
        """Whether an image is stored at R x R."""
        return image_size(content, max_pixels=2**62, name=name) == (self.resolution, self.resolution)

    def _scanned(self) -> _Content:
        if self._content is None:
            digest = hashlib.sha256(repr(self.class_names).encode())
            resized = 0
            for name, content, label in self._stored():
                # Lengths keep one field from running into the next.
                title = name.encode("utf-8", "surrogateescape")
                digest.update(f"{len(title)} {label} {len(content)} ".encode())
                digest.update(title)
                digest.update(content)
                resized += not self._is_native(name, content)
            self._content = _Content(digest.hexdigest(), resized)
        return self._content


def dataset_source(dataset: LabeledImages, resolution: int) -> ImageSource:
    """The images of a data set, in its own order.

    Args:
        dataset: as from `load_dataset`.
        resolution: side of the images.

    Example:
        >>> from attennorm_tf.data import load_dataset
        >>> source = dataset_source(load_dataset("digits", split="test"), resolution=16)
        >>> source.num_images, source.resized, source.facts()["split"]
        (359, 359, 'test')
        >>> images, labels = next(source.batches(batch_size=100))
        >>> images.shape, images.dtype, labels.shape
        ((100, 16, 16, 1), dtype('uint8'), (100,))
    """
    return _DatasetSource(dataset, resolution)


def folder_source(
    folder: str | os.PathLike[str],
    resolution: int,
    channels: int = 3,
    *,
    class_folders: bool = False,
    class_names: Sequence[str] | None = None,
    skip_corrupt: bool = False,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> ImageSource:
    """The image files in a folder and the folders in it, in order of their paths.

    PNG, JPEG, BMP, GIF and WebP, of any size. Hidden files and folders and files with other endings are passed over
    and counted in the log; symbolic links are followed.

    Args:
        folder: where the images are.
        resolution: side of the images.
        channels: 1 (grey) or 3.
        class_folders: whether the first folder of an image's path is its class; otherwise images have no labels.
        class_names: with class_folders, the classes in order of their ids, for instance those of the real images;
            default: the folders that hold images, sorted.
        skip_corrupt: drop images that cannot be read, count and log them; every image is decoded once for that.
        max_pixels: images with more are refused by their header, before they are decoded.

    Raises:
        ValueError: no such folder, a file in its place, no images, none that can be read; with class_folders, an
            image outside a class folder, or a folder that is not among `class_names`.
    """
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels!r}.")
    if class_names is not None and not class_folders:
        raise ValueError("class_names needs class_folders=True: without it images have no labels.")
    check_max_pixels(max_pixels)
    root = os.fspath(folder)
    names = list_image_files(root)
    skipped: list[str] = []
    if skip_corrupt:
        bad = unreadable_files([os.path.join(root, name) for name in names], max_pixels)
        skipped = [name for name in names if os.path.join(root, name) in bad]
        names = [name for name in names if os.path.join(root, name) not in bad]
        if not names:
            raise ValueError(f"image folder {root!r} holds no readable image; {len(skipped)} cannot be read.")
    labels = None
    if class_folders:
        class_names, labels = _labels_of_folders(root, names, class_names)
    return _FolderSource(root, names, labels, resolution, channels, class_names, skipped, max_pixels)


class _DatasetSource(ImageSource):
    def __init__(self, dataset: LabeledImages, resolution: int) -> None:
        super().__init__(
            dataset.name,
            split=dataset.split,
            num_images=dataset.num_examples,
            resolution=resolution,
            channels=dataset.channels,
            class_names=dataset.class_names,
            skipped=dataset.skipped,
        )
        self._dataset = dataset

    def batches(self, batch_size: int) -> Iterator[ImageBatch]:
        _check_batch_size(batch_size)
        stream = self._dataset.batches(
            resolution=self.resolution, batch_size=batch_size, seed=0, shuffle=False, repeat=False, drop_remainder=False
        )
        rows = stream.as_numpy_iterator()
        while True:
            try:
                images, labels = next(rows)
            except StopIteration:
                return
            except tf.errors.InvalidArgumentError as error:
                # A pipeline tells of an exception within it by a traceback in words.
                found = re.search(r"cannot read image .*", str(error))
                raise UnreadableImageError(found.group()) if found else error from None
            yield ImageBatch(to_8_bits(images), labels)

    def _stored(self) -> Iterable[tuple[str, bytes, int | None]]:
        return self._dataset.stored()

    def _is_native(self, name: str, content: bytes) -> bool:
        if self._dataset.native is not None:
            return self._dataset.native == (self.resolution, self.resolution)
        return super()._is_native(f"{self.name} {name}", content)


class _FolderSource(ImageSource):
    def __init__(
        self,
        root: str,
        names: Sequence[str],
        labels: np.ndarray | None,
        resolution: int,
        channels: int,
        class_names: Sequence[str] | None,
        skipped: Sequence[str],
        max_pixels: int,
    ) -> None:
        super().__init__(
            Path(root).resolve().name,
            split=None,
            num_images=len(names),
            resolution=resolution,
            channels=channels,
            class_names=class_names,
            skipped=skipped,
        )
        self._root = root
        self._names = names
        self._labels = labels
        self._max_pixels = max_pixels

    def batches(self, batch_size: int) -> Iterator[ImageBatch]:
        _check_batch_size(batch_size)
        for start in range(0, self.num_images, batch_size):
            rows = slice(start, start + batch_size)
            images = np.stack(map_in_threads(self._decoded, self._names[rows]))
            yield ImageBatch(images, None if self._labels is None else self._labels[rows])

    def _decoded(self, name: str) -> np.ndarray:
        path = os.path.join(self._root, name)
        return decode_image(path, resolution=self.resolution, channels=self.channels, max_pixels=self._max_pixels)

    def _stored(self) -> Iterable[tuple[str, bytes, int | None]]:
        for index, name in enumerate(self._names):
            label = None if self._labels is None else int(self._labels[index])
            yield name, read_file(os.path.join(self._root, name)), label

    def _is_native(self, name: str, content: bytes) -> bool:
        return super()._is_native(os.path.join(self._root, name), content)


def to_8_bits(images: np.ndarray) -> np.ndarray:
    """Float images in [-1, 1] to uint8, rounded to the nearest of the 256 values; values beyond are cut off."""
    return np.clip(np.rint((images + 1.0) * 127.5), 0, 255).astype(np.uint8)


def _labels_of_folders(
    root: str, names: Sequence[str], class_names: Sequence[str] | None
) -> tuple[list[str], np.ndarray]:
    """(class names, labels) of images by the first folder of their paths."""
    loose = [name for name in names if "/" not in name]
    if loose:
        raise ValueError(f"image folder {root!r}: {loose[0]!r} lies outside the class folders, as {len(loose)} do.")
    folders = [name.split("/", 1)[0] for name in names]
    known = sorted(set(folders)) if class_names is None else list(class_names)
    unknown = sorted(set(folders) - set(known))
    if unknown:
        raise ValueError(f"image folder {root!r}: folder {unknown[0]!r} is no class; classes are {', '.join(known)}.")
    numbers = {name: number for number, name in enumerate(known)}
    return known, np.array([numbers[folder] for folder in folders], np.int32)


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
