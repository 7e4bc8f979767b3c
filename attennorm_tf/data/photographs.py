"""Photographs by name, for inpainting."""

from __future__ import annotations

from attennorm_tf.data.image_decoding import DEFAULT_MAX_PIXELS, check_max_pixels
from attennorm_tf.data.photograph_sources import embedded, image_folder, tfds_images
from attennorm_tf.data.unlabeled_images import Photographs, PhotographsRequest

__all__ = ["Photographs", "load_photographs", "photographs_names"]

# A new data set: one module with a `load(request)` in photograph_sources/, one line here, one case in tests/data.
_LOADERS = {
    "photographs": embedded.load,
    "image_folder": image_folder.load,
    "tfds": tfds_images.load,
}


def photographs_names() -> tuple[str, ...]:
    """Names that `load_photographs` knows; "tfds" is used as "tfds:<name>"."""
    return tuple(_LOADERS)


def load_photographs(
    name: str = "photographs",
    root: str | None = None,
    split: str = "train",
    skip_corrupt: bool = False,
    validation_fraction: float = 0.1,
    part: str = "train",
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    download: bool = False,
) -> Photographs:
    """Opens a data set of photographs; labels, where there are any, are passed over.

    Args:
        name: "photographs" (those that ship inside scikit-learn and scikit-image), "image_folder" (all image files
            under `root`), or "tfds:<name>" (any data set of TensorFlow Datasets with one 8-bit image feature).
        root: the folder of an image_folder; the data_dir of tfds (None: its default); not used by photographs.
        split: of tfds: "train", "test[:50%]", ...
        skip_corrupt: drop photographs that cannot be read, count and log them, instead of stopping at the first.
            Every one is then decoded once before the first batch.
        validation_fraction: share of the photographs held out, chosen by a hash of each one's path below `root` (of its
            number in tfds), so that new ones move no other. The photographs of "photographs" are divided for all time.
        part: "train" (those not held out), "validation", or "all".
        max_pixels: photographs with more are refused by their header, before they are decoded.
        download: let tfds fetch and prepare a data set that is not in `root` yet.

    Returns:
        The photographs.

    Raises:
        ValueError: unknown name, bad argument, or data that cannot serve (each message says which and why).
        ImportError: the package that holds the photographs is missing.

    Example:
        >>> from attennorm_tf.data.masks import make_masks
        >>> photographs = load_photographs("photographs", part="validation")
        >>> photographs.file_names
        ['skimage/chelsea.png', 'skimage/rocket.jpg', 'sklearn/flower.jpg']
        >>> masks = make_masks("rectangle", height=32, width=32, shrink=8)
        >>> images, holes = next(iter(photographs.batches(64, 16, seed=0, masks=masks)))
        >>> images.shape, holes.shape
        (TensorShape([16, 64, 64, 3]), TensorShape([16, 64, 64, 1]))
    """
    kind, _, argument = name.partition(":")
    if kind not in _LOADERS:
        known = ", ".join(repr(known) for known in _LOADERS).replace("'tfds'", "'tfds:<name>'")
        raise ValueError(f"unknown data set of photographs {name!r}; known are {known}.")
    if argument and kind != "tfds":
        raise ValueError(f"data set {kind!r} takes nothing after a colon, got {name!r}.")
    if split != "train" and kind != "tfds":
        raise ValueError(f"data set {kind!r} has no splits, got split={split!r}; part selects what is held out.")
    check_max_pixels(max_pixels)
    request = PhotographsRequest(
        name=name,
        argument=argument,
        root=str(root) if root else None,
        split=split,
        skip_corrupt=skip_corrupt,
        validation_fraction=validation_fraction,
        part=part,
        max_pixels=max_pixels,
        download=download,
    )
    photographs = _LOADERS[kind](request)
    photographs.request = request
    return photographs
