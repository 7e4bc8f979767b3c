"""Finding image files in a folder, and which of them can be read."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from attennorm_tf.data.image_decoding import EXTENSIONS, UnreadableImageError, decode_image, map_in_threads

_logger = logging.getLogger(__name__)


def list_image_files(root: str) -> list[str]:
    """Image files under a folder and the folders in it, as sorted paths relative to it ("a/b.jpg").

    Hidden files and folders, and files that do not end in .png, .jpg, .jpeg, .bmp, .gif or .webp, are passed over and
    counted in the log. Symbolic links are followed, a folder that was met before is not entered again.

    Raises:
        ValueError: no such folder, one that cannot be read, or none of its files is an image.
    """
    if not os.path.isdir(root):
        problem = "is a file" if os.path.exists(root) else "does not exist"
        raise ValueError(f"image folder {root!r} {problem}; expected a folder of images.")
    found: list[str] = []
    ignored = 0
    met: set[str] = set()
    folders = [""]
    while folders:
        folder = folders.pop()
        place = os.path.join(root, folder) if folder else root
        if os.path.realpath(place) in met:
            continue
        met.add(os.path.realpath(place))
        for entry in scan_folder(place):
            name = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                folders.append(name)
            elif entry.name.lower().endswith(EXTENSIONS):
                found.append(name)
            else:
                ignored += 1
    if not found:
        raise ValueError(f"image folder {root!r} holds no images ({', '.join(EXTENSIONS)}).")
    if ignored:
        _logger.warning("image folder %s: passed over %d files that are not images.", root, ignored)
    return sorted(found)


def unreadable_files(paths: Sequence[str], max_pixels: int) -> set[str]:
    """Those of `paths` that cannot be decoded; each is logged with the reason. Decodes everything, on all cores."""

    def problem(path: str) -> str | None:
        try:
            decode_image(path, resolution=1, max_pixels=max_pixels)
        except UnreadableImageError as error:
            return str(error)
        return None

    problems = map_in_threads(problem, paths)
    for found in filter(None, problems):
        _logger.warning("skipped: %s", found)
    bad = {path for path, found in zip(paths, problems) if found}
    if bad:
        _logger.warning("skipped %d of %d images that cannot be read.", len(bad), len(paths))
    return bad


def read_file(path: str) -> bytes:
    """The bytes of an image file.

    Raises:
        UnreadableImageError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UnreadableImageError(f"cannot read image {path!r}: {error.strerror}.") from error


def scan_folder(folder: str) -> list[os.DirEntry[str]]:
    """What is in a folder, sorted by name.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise ValueError(f"folder {folder!r} cannot be read: {error.strerror}.") from error
