"""A folder of class folders of image files."""

from __future__ import annotations

import logging
import os

import numpy as np

from attennorm_tf.data.image_decoding import EXTENSIONS, decode_image, map_in_threads
from attennorm_tf.data.image_files import read_file, scan_folder, unreadable_files
from attennorm_tf.data.labeled_images import DatasetRequest, IndexedImages, LabeledImages

_logger = logging.getLogger(__name__)


def load(request: DatasetRequest) -> LabeledImages:
    """root/<class>/<images>, or root/<split>/<class>/<images> where root/<split> is a folder of folders.

    Classes are the folders in order of their names (by code point: "10" before "2"); files likewise. Hidden
    files and folders, folders within class folders, and files that do not end in .png, .jpg, .jpeg, .bmp,
    .gif or .webp (Thumbs.db, notes) are passed over, and counted in the log. Symbolic links are followed; a
    broken one is an unreadable image.

    Listing costs one pass over the directory. With skip_corrupt every file is also decoded once, on all cores
    (measured on two busy cores: 3,500 JPEGs of 32x32 or 500 of 288x384 a second, 0.5 s for one of 12 Mpixel),
    so that the examples are fixed before the first step and a resumed run sees the same ones. Data sets that
    fit into 256 MiB when resized are decoded once more, before the first batch, and kept: 12 s for 50,000
    images of 32x32.
    """
    root = _class_root(request)
    class_names, paths, labels = _list_images(root)
    skipped: list[str] = []
    channels = request.channels or 3
    if request.skip_corrupt:
        bad = unreadable_files(paths, request.max_pixels)
        skipped = [path for path in paths if path in bad]
        kept = [(path, label) for path, label in zip(paths, labels) if path not in bad]
        paths, labels = [path for path, _ in kept], [label for _, label in kept]
        for label, name in enumerate(class_names):
            if label not in labels:
                raise ValueError(f"class folder {os.path.join(root, name)!r} holds no readable image.")

    def decode(indices: np.ndarray, resolution: int) -> np.ndarray:
        def one(index: int) -> np.ndarray:
            return decode_image(paths[index], resolution=resolution, channels=channels, max_pixels=request.max_pixels)

        images = map_in_threads(one, [int(index) for index in indices])
        return np.stack(images) if images else np.zeros((0, resolution, resolution, channels), np.uint8)

    def read(index: int) -> tuple[str, bytes]:
        return os.path.relpath(paths[index], root).replace(os.sep, "/"), read_file(paths[index])

    return IndexedImages(
        request.name,
        labels=np.array(labels, np.int32),
        decode=decode,
        read=read,
        names=lambda: (os.path.relpath(path, root) for path in paths),
        split=request.split,
        class_names=class_names,
        channels=channels,
        skipped=skipped,
    )


def _class_root(request: DatasetRequest) -> str:
    """The folder that holds the class folders."""
    root = request.root
    if root is None:
        raise ValueError("data set 'image_folder' needs root, the folder that holds the class folders.")
    if not os.path.isdir(root):
        problem = "is a file" if os.path.exists(root) else "does not exist"
        raise ValueError(f"image folder {root!r} {problem}; root must be a folder of class folders.")
    split_root = os.path.join(root, request.split)
    # root/train may also be a class of its own, of trains: then it holds images, not folders.
    if request.split and os.path.isdir(split_root) and _folders(split_root):
        return split_root
    if request.split != "train":
        raise ValueError(
            f"image folder {root!r} has no split folder {request.split!r}; without split folders all "
            "images are the split 'train'."
        )
    return root


def _list_images(root: str) -> tuple[list[str], list[str], list[int]]:
    class_names = _folders(root)
    if not class_names:
        raise ValueError(f"image folder {root!r} holds no class folders; expected {root}/<class>/<image files>.")
    paths: list[str] = []
    labels: list[int] = []
    ignored = 0
    for label, name in enumerate(class_names):
        folder = os.path.join(root, name)
        entries = scan_folder(folder)
        files = [
            entry.path
            for entry in entries
            if not entry.name.startswith(".") and entry.name.lower().endswith(EXTENSIONS) and not entry.is_dir()
        ]
        ignored += len(entries) - len(files)
        if not files:
            nested = ", but folders: expected <class>/<image files>" if _folders(folder) else ""
            raise ValueError(f"class folder {folder!r} holds no images ({', '.join(EXTENSIONS)}){nested}.")
        paths += files
        labels += [label] * len(files)
    if len(class_names) == 1:
        raise ValueError(
            f"image folder {root!r} holds one class only, {class_names[0]!r}; class-conditional training "
            "needs at least two."
        )
    if ignored:
        _logger.warning("image folder %s: passed over %d entries that are not images.", root, ignored)
    return class_names, paths, labels


def _folders(root: str) -> list[str]:
    return [entry.name for entry in scan_folder(root) if entry.is_dir() and not entry.name.startswith(".")]
