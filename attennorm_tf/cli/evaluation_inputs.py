"""What attennorm-evaluate-gan is given: what to score, the real images, the feature extractor."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any, Callable, NamedTuple

import tensorflow as tf
from tqdm import tqdm

from attennorm_tf.cli.command import UsageError
from attennorm_tf.data import (
    ImageSource,
    LabeledImages,
    dataset_names,
    dataset_source,
    folder_source,
    load_dataset,
)
from attennorm_tf.data.image_decoding import UnreadableImageError, image_size
from attennorm_tf.data.image_files import list_image_files, read_file
from attennorm_tf.inference import LoadedGenerator
from attennorm_tf.inference.evaluate_gan import Images
from attennorm_tf.metrics import FeatureExtractor, load_extractor, train_image_classifier
from attennorm_tf.metrics.image_classifier_training import EPOCHS


class Subject(NamedTuple):
    """What is scored.

    Attributes:
        resolution: of the images, real and not.
        channels: of the images; None: as many as the extractor takes.
        facts: for the result.
        images: of the real images and the extractor, what to score.
        loaded: the checkpoint, or None.
    """

    resolution: int
    channels: int | None
    facts: dict[str, Any]
    images: Callable[[ImageSource, FeatureExtractor], Images]
    loaded: LoadedGenerator | None = None


class RealImages:
    """A data set, or a folder of images, at a resolution that is known later.

    Args:
        dataset: opens the data set with some channels; None for a folder.
        folder: of images.
        class_names: of a folder of class folders; None: no labels are wanted.
        skip_corrupt: leave out files of the folder that cannot be read.
        is_digits: whether the embedded digits are meant.
    """

    def __init__(
        self,
        dataset: Callable[..., LabeledImages] | None = None,
        folder: str = "",
        class_names: list[str] | None = None,
        class_folders: bool = False,
        skip_corrupt: bool = False,
        is_digits: bool = False,
    ):
        self.dataset = dataset
        self.is_digits = is_digits
        self._folder = folder
        self._class_names = class_names
        self._class_folders = class_folders
        self._skip_corrupt = skip_corrupt

    def source(self, resolution: int, channels: int) -> ImageSource:
        if self.dataset is not None:
            return dataset_source(self.dataset(channels=channels), resolution)
        return folder_source(
            self._folder,
            resolution,
            channels,
            class_folders=self._class_folders,
            class_names=self._class_names,
            skip_corrupt=self._skip_corrupt,
        )


def real_images(
    subject: Subject,
    *,
    data: str | None,
    root: str | None,
    split: str | None,
    real_dir: str | None,
    labels: bool,
    skip_corrupt: bool,
) -> RealImages:
    """The real images that the flags name, or those that the checkpoint was trained on.

    Raises:
        UsageError: a folder is named twice.
        ValueError: labels are wanted, and the classes are not the checkpoint's.
    """
    if data is not None and data not in dataset_names() and os.path.isdir(data):
        if root is not None:
            raise UsageError(f"--data_root: the folder is --data={data} itself; leave one out.")
        data, root = "image_folder", data
    names = subject.loaded.class_names if subject.loaded is not None else None
    if real_dir is not None:
        if not os.path.isdir(real_dir):
            raise ValueError(f"--real_dir: {real_dir} is no folder.")
        return RealImages(folder=real_dir, class_names=names if labels else None, class_folders=labels,
                          skip_corrupt=skip_corrupt)  # fmt: skip
    if data is None and subject.loaded is not None:
        trained_on = subject.loaded.config.data
        data, root, split = trained_on.name, root or trained_on.root or None, split or trained_on.split
        skip_corrupt = skip_corrupt or trained_on.skip_corrupt
    name = data or ""
    options: dict[str, Any] = {"root": root, "skip_corrupt": skip_corrupt}

    def dataset(split: str = split or "train", channels: int | None = None) -> LabeledImages:
        found = load_dataset(name, **options, split=split, channels=channels)
        if labels and names is not None and list(found.class_names) != list(names):
            raise ValueError(
                f"--data: intra_fid needs the {len(names)} classes of the checkpoint in the same order; {name} has "
                f"{found.num_classes}: {', '.join(found.class_names[:5])}, ..."
            )
        return found

    return RealImages(dataset, is_digits=name == "digits")


def folder_subject(
    folder: str, name: str | None, resolution: int | None, class_folders: bool, skip_corrupt: bool
) -> Subject:
    """Finished images.

    Raises:
        ValueError: no such folder, or no images in it.
    """
    side = resolution or _most_frequent_side(folder)

    def images(source: ImageSource, extractor: FeatureExtractor) -> ImageSource:
        names = source.class_names if class_folders else None
        return folder_source(
            folder, side, source.channels, class_folders=class_folders, class_names=names, skip_corrupt=skip_corrupt
        )

    return Subject(side, None, {"name": name or Path(folder).resolve().name, "folder": str(folder)}, images)


def open_extractor(
    spec: str, real: RealImages, resolution: int, test_split: str, strategy: tf.distribute.Strategy
) -> FeatureExtractor:
    """The extractor of a specification; a classifier that is not there yet is trained first.

    Raises:
        ValueError: it cannot be opened, or there is no data set to train it on.
    """
    kind, _, folder = spec.partition(":")
    missing = not os.path.exists(folder) or (os.path.isdir(folder) and not os.listdir(folder))
    if kind == "classifier" and folder and missing:
        if real.dataset is None:
            raise ValueError(f"--extractor: {folder} is not there, and training a classifier needs --data.")
        train, test = real.dataset(split="train"), real.dataset(split=test_split)
        print(f"training a classifier of {train.num_examples} images of {train.name} for {folder}", flush=True)
        total = round(EPOCHS * train.num_examples)
        with tqdm(total=total, desc="classifier", unit="image", disable=None, leave=False) as bar:
            made = train_image_classifier(train, test, resolution, progress=bar.update)
        made.save(folder)
        print(f"{made.name}: {made.test_accuracy:.1%} of {test.num_examples} test images right", flush=True)
    return load_extractor(spec, strategy)


def default_cache() -> Path:
    """attennorm_tf in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attennorm_tf"


def _most_frequent_side(folder: str) -> int:
    """The shorter side of the size that most images of a folder have; of several, the largest."""
    sizes: Counter[int] = Counter()
    for name in list_image_files(folder):
        path = os.path.join(folder, name)
        try:
            sizes[min(image_size(read_file(path), max_pixels=2**62, name=path))] += 1
        except UnreadableImageError:
            continue  # told of when it is decoded
    if not sizes:
        raise ValueError(f"--fake_dir: no image in {folder} can be read.")
    return max(sizes, key=lambda side: (sizes[side], side))
