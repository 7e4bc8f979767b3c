"""What an evaluation is made on: images with their holes, one after the other, from folders or from a seed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, Callable, NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from attennorm_tf.data.image_decoding import DEFAULT_MAX_PIXELS, centre_square, check_max_pixels, read_image
from attennorm_tf.data.image_files import list_image_files
from attennorm_tf.data.masks import MaskSource
from attennorm_tf.data.photographs import load_photographs
from attennorm_tf.data.unlabeled_images import IndexedPhotographs
from attennorm_tf.metrics.image_quality import GAUSSIAN_TAPS

_THRESHOLD = 128  # grey level from which on a mask is a hole


class Case(NamedTuple):
    """One image to complete.

    Attributes:
        position: its place among the images.
        name: its file name, for messages.
        own_size: (height, width) before it was brought to the resolution of the evaluation.
        truth: uint8 (H, W, 3).
        hole: bool (H, W), True where it is missing.
    """

    position: int
    name: str
    own_size: tuple[int, int]
    truth: np.ndarray
    hole: np.ndarray


class NamedImages:
    """Images by position, read when they are asked for.

    Args:
        names: of the images.
        read: position -> RGB image of its own size; its errors name the file.
        facts: where they come from, as JSON values.
        all_names: lists all images at their place, where `names` are some of them; None: `names`.
    """

    def __init__(
        self,
        names: Sequence[str],
        read: Callable[[int], Image.Image],
        facts: dict[str, Any],
        all_names: Callable[[], list[str]] | None = None,
    ):
        self.names = list(names)
        self.read = read
        self.facts = facts
        self.all_names = all_names or (lambda: self.names)


def open_images(
    source: str,
    *,
    part: str = "all",
    validation_fraction: float = 0.1,
    limit: int | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> NamedImages:
    """The images of a folder and the folders in it, or the embedded photographs, in the order of their names.

    Args:
        source: a folder, or "photographs".
        part: "all", or what training with the same `validation_fraction` learns from ("train") or not ("validation").
        validation_fraction: share of the images held out.
        limit: at most so many, the first ones; None: all.
        max_pixels: largest width * height that is decoded.

    Raises:
        ValueError: no such folder, no images in it, or an argument out of range.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"the number of images must be at least 1, got {limit}.")
    name, root = (source, None) if source == "photographs" else ("image_folder", source)
    chosen = load_photographs(name, root, part=part, validation_fraction=validation_fraction, max_pixels=max_pixels)
    assert isinstance(chosen, IndexedPhotographs)  # both kinds are read by index

    def all_names() -> list[str]:
        return load_photographs(name, root, part="all").file_names

    names = chosen.file_names[:limit]
    facts = {"source": source, "part": part, "count": len(names)}
    if part != "all":
        facts["validation_fraction"] = validation_fraction
    return NamedImages(names, chosen._read, facts, all_names)


class MatchedFiles:
    """The files of a folder that belong to images, by their names: "a/b.png" to the image "a/b.jpg".

    Args:
        kind: what the files are, for messages: "mask".
        root: the folder.
        max_pixels: largest width * height that is decoded.

    Raises:
        ValueError: no such folder, no image files, or two that differ in their extensions only.
    """

    def __init__(self, kind: str, root: str, max_pixels: int = DEFAULT_MAX_PIXELS):
        check_max_pixels(max_pixels)
        self.kind = kind
        self.root = root
        self._max_pixels = max_pixels
        self._files: dict[str, str] = {}
        for name in list_image_files(root):
            before = self._files.setdefault(_stem(name), name)
            if before != name:
                raise ValueError(f"{kind} folder {root!r}: {before!r} and {name!r} belong to one image; remove one.")

    @property
    def facts(self) -> dict[str, Any]:
        return {"kind": f"{self.kind} files, matched by name", "folder": self.root}

    def check_none_missing(self, names: Sequence[str]) -> None:
        """Raises ValueError, naming the first, if an image has no file here or shares one with another image."""
        owners: dict[str, str] = {}
        for name in names:
            owner = owners.setdefault(_stem(name), name)
            if owner != name:
                raise ValueError(f"images {owner!r} and {name!r} would share one {self.kind}; rename one of them.")
            if _stem(name) not in self._files:
                raise ValueError(f"image {name!r} has no {self.kind} {_stem(name) + '.*'!r} in {self.root!r}.")

    def check_none_unknown(self, names: Sequence[str]) -> None:
        """Raises ValueError, naming the first, if a file belongs to none of these images."""
        known = {_stem(name) for name in names}
        for stem, file in self._files.items():
            if stem not in known:
                raise ValueError(f"{self.kind} {os.path.join(self.root, file)!r} belongs to none of the images.")

    def path(self, name: str) -> str:
        return os.path.join(self.root, self._files[_stem(name)])

    def fitted(self, name: str, own_size: tuple[int, int], size: tuple[int, int], *, channels: int) -> np.ndarray:
        """The file of the image `name`, uint8 (*size) or (*size, 3).

        It must have `size` already, or the image's own size, and is then brought to `size` as the image was.

        Raises:
            ValueError: another size.
            UnreadableImageError: it cannot be decoded.
        """
        picture = read_image(self.path(name), channels=channels, max_pixels=self._max_pixels)
        found = (picture.height, picture.width)
        if found not in (size, own_size):
            evaluated = "" if size == own_size else f" (and is evaluated at {size[0]} x {size[1]})"
            raise ValueError(
                f"{self.kind} {self.path(name)!r} is {found[0]} x {found[1]} pixels (height x width), but image "
                f"{name!r} is {own_size[0]} x {own_size[1]}{evaluated}."
            )
        if channels == 1:
            return _fitted_hole(picture, size)
        return np.asarray(picture) if found == size else centre_square(picture, size[0])


class SeededMasks:
    """Masks drawn for an image by its position and a seed.

    Args:
        source: of one size of image: (height, width) -> masks.
        seed: of the masks.
        facts: what they are, as JSON values.
    """

    def __init__(self, source: Callable[[int, int], MaskSource], seed: int, facts: dict[str, Any]):
        self.facts = {**facts, "seed": seed}
        self._source = source
        self._seed = seed
        self._made: dict[tuple[int, int], MaskSource] = {}

    def __call__(self, index: int, size: tuple[int, int]) -> np.ndarray:
        """Bool (H, W) of the image at this position."""
        if size not in self._made:
            self._made[size] = self._source(*size)
        masks = self._made[size](tf.constant([index], tf.int64), self._seed, size)
        return masks.numpy()[0, :, :, 0] > 0


class InpaintingCases:
    """Images with their holes.

    Args:
        images: whose names are matched, and which are read one by one.
        masks: drawn, or files.
        resolution: side to which centre squares are resized; None: every image whole, of its own size.

    Attributes:
        images: as given.
        masks: as given.
        resolution: as given.
        enlarged: names of the images so far that were smaller than the resolution.
    """

    def __init__(self, images: NamedImages, masks: SeededMasks | MatchedFiles, resolution: int | None):
        if resolution is not None and resolution < GAUSSIAN_TAPS:
            raise ValueError(f"resolution must be at least {GAUSSIAN_TAPS}, got {resolution}.")
        self.images = images
        self.resolution = resolution
        self.enlarged: set[str] = set()
        self.masks = masks
        self._digests = {"images": hashlib.sha256(), "masks": hashlib.sha256()}
        if isinstance(masks, MatchedFiles):
            masks.check_none_missing(images.names)

    def __len__(self) -> int:
        return len(self.images.names)

    def __getitem__(self, index: int) -> Case:
        """Raises ValueError, naming the file, where image or mask cannot be used."""
        name = self.images.names[index]
        picture = self.images.read(index)
        own_size = (picture.height, picture.width)
        if min(own_size) < GAUSSIAN_TAPS:
            raise ValueError(
                f"image {name!r} is {own_size[0]} x {own_size[1]} pixels, too small to be measured: expected at least "
                f"{GAUSSIAN_TAPS} x {GAUSSIAN_TAPS}."
            )
        if self.resolution is not None and min(own_size) < self.resolution:
            self.enlarged.add(name)
        truth = np.asarray(picture) if self.resolution is None else centre_square(picture, self.resolution)
        size = truth.shape[:2]
        if isinstance(self.masks, MatchedFiles):
            hole = self.masks.fitted(name, own_size, size, channels=1) >= _THRESHOLD
            described = f"mask {self.masks.path(name)!r}"
        else:
            try:
                hole = self.masks(index, size)
            except ValueError as error:
                raise ValueError(f"image {name!r}: {error}") from error
            described = f"the mask drawn for image {name!r}"
        if hole.all() or not hole.any():
            found = "1 everywhere (nothing is known)" if hole.all() else "0 everywhere (nothing is missing)"
            raise ValueError(f"{described} is {found} at {size[0]} x {size[1]} pixels; expected both.")
        return Case(index, name, own_size, truth, hole)

    def note(self, case: Case) -> None:
        """Takes a case into the hashes of `fingerprints`; to be called in order."""
        for kind, values in (("images", case.truth), ("masks", np.packbits(case.hole))):
            self._digests[kind].update(f"{case.name} {case.truth.shape}\n".encode())
            self._digests[kind].update(np.ascontiguousarray(values).tobytes())

    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of names and pixels as evaluated: results that agree in both were measured on the same."""
        return {kind: digest.hexdigest() for kind, digest in self._digests.items()}


def _fitted_hole(mask: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Grey uint8 of a mask brought to `size` (height, width) as `centre_square` brings an image, to nearest pixels."""
    if (mask.height, mask.width) != size:
        side = min(mask.size)
        left, top = (mask.width - side) // 2, (mask.height - side) // 2
        mask = mask.resize(size[::-1], Image.Resampling.NEAREST, box=(left, top, left + side, top + side))
    return np.asarray(mask)


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))
