"""Data sets by name."""

from __future__ import annotations

from attennorm_tf.data.image_decoding import DEFAULT_MAX_PIXELS, check_max_pixels
from attennorm_tf.data.labeled_images import DatasetRequest, LabeledImages
from attennorm_tf.data.sources import digits, image_folder, tfds_images

# A new data set: one module with a `load(request)` in sources/, one line here, one case in tests/data.
_LOADERS = {
    "digits": digits.load,
    "image_folder": image_folder.load,
    "tfds": tfds_images.load,
}


def dataset_names() -> tuple[str, ...]:
    """Names that `load_dataset` knows; "tfds" is used as "tfds:<name>"."""
    return tuple(_LOADERS)


def load_dataset(
    name: str,
    *,
    root: str | None = None,
    split: str = "train",
    channels: int | None = None,
    skip_corrupt: bool = False,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    download: bool = False,
) -> LabeledImages:
    """Opens a data set of labelled images.

    Args:
        name: "digits" (ships with scikit-learn), "image_folder" (class folders under `root`), or
            "tfds:<name>" (any classification data set of TensorFlow Datasets, e.g. "tfds:cifar10" or
            "tfds:mnist:3.0.1").
        root: the folder of an image_folder; the data_dir of tfds (None: its default); unused by digits.
        split: "train", "test", or what the data set offers (tfds: also slices as "train[:90%]").
        channels: 1 or 3; None takes the data set's own (image_folder: 3).
        skip_corrupt: drop images that cannot be read, count and log them, instead of stopping at the first.
            Every image is then decoded once before the first batch.
        max_pixels: images with more are refused by their header, before they are decoded.
        download: let tfds fetch and prepare a data set that is not in `root` yet.

    Returns:
        The data set.

    Raises:
        ValueError: unknown name, bad argument, or data that cannot serve (each message says which and why).
        ImportError: the package that holds the data set is missing.

    Example:
        >>> digits = load_dataset("digits")
        >>> digits.num_classes, digits.num_examples, digits.channels, digits.native
        (10, 1438, 1, (8, 8))
        >>> images, labels = next(iter(digits.batches(resolution=16, batch_size=32, seed=0)))
        >>> images.shape, labels.shape
        (TensorShape([32, 16, 16, 1]), TensorShape([32]))
    """
    kind, _, argument = name.partition(":")
    if kind not in _LOADERS:
        known = ", ".join(repr(known) for known in _LOADERS).replace("'tfds'", "'tfds:<name>'")
        raise ValueError(f"unknown data set {name!r}; known are {known}.")
    if argument and kind != "tfds":
        raise ValueError(f"data set {kind!r} takes nothing after a colon, got {name!r}.")
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be None, 1 or 3, got {channels!r}.")
    check_max_pixels(max_pixels)
    request = DatasetRequest(
        name=name,
        argument=argument,
        root=str(root) if root else None,
        split=split,
        channels=channels,
        skip_corrupt=skip_corrupt,
        max_pixels=max_pixels,
        download=download,
    )
    dataset = _LOADERS[kind](request)
    dataset.request = request
    return dataset
