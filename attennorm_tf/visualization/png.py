"""PNG files that are whole or not there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image


def save_png(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Writes uint8 (H, W), (H, W, 1) or (H, W, 3) as PNG, atomically; makes the folder if there is none.

    Args:
        path: of the file.
        array: what is written; `image_grid` makes it of images in [-1, 1].

    Raises:
        ValueError: not uint8, or another shape.
        OSError: the disk is full or the folder cannot be written; a file that was at `path` stays as it was.
    """
    array = np.asarray(array)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[-1] == 3)):
        raise ValueError(
            f"array must be uint8 (H, W), (H, W, 1) or (H, W, 3), got {array.dtype} {array.shape}; "
            "image_grid makes one of images in [-1, 1]."
        )
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder: a rename is atomic only within one file system.
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            Image.fromarray(array).save(file, "PNG")
        os.chmod(temporary, 0o644)  # mkstemp makes a private file
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise
