"""Holes filled without learning: the floors that every learnt result is held against."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np

OPENCV_RADIUS = 3  # pixels around each missing one that OpenCV's methods look at, as in its own examples


def fill_with_mean(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The hole in one colour, the mean of the known pixels, rounded.

    Args:
        image: uint8 (H, W, 3); what is in the hole does not matter.
        mask: (H, W) or (H, W, 1) of 0 and 1 or bool, 1 = missing.

    Returns:
        uint8 (H, W, 3), known pixels as they were.

    Raises:
        ValueError: other shapes or types, or no known pixel.

    Example:
        >>> image = np.array([[[10, 0, 200], [20, 0, 100], [0, 0, 0]]], np.uint8)
        >>> fill_with_mean(image, np.array([[0, 0, 1]]))[0, 2].tolist()
        [15, 0, 150]
    """
    hole = _checked(image, mask)
    filled = image.copy()
    filled[hole] = np.round(image[~hole].mean(axis=0))
    return filled


def fill_telea(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Telea's fast marching method (2004) as OpenCV has it, radius 3; arguments and errors as `fill_with_mean`.

    At the image's border OpenCV reads a few pixels of the hole; they hold the mean of the known pixels.

    Raises:
        ImportError: OpenCV is not installed.
    """
    return _opencv_inpaint(image, mask, "INPAINT_TELEA")


def fill_navier_stokes(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Bertalmio et al.'s Navier-Stokes method (2001) as OpenCV has it; otherwise as `fill_telea`."""
    return _opencv_inpaint(image, mask, "INPAINT_NS")


# Name in tables -> method.
HOLE_FILLERS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "mean of known": fill_with_mean,
    "Telea": fill_telea,
    "Navier-Stokes": fill_navier_stokes,
}
OPENCV_METHODS = ("Telea", "Navier-Stokes")


def _opencv_inpaint(image: np.ndarray, mask: np.ndarray, method: str) -> np.ndarray:
    hole = _checked(image, mask)
    cv2 = import_opencv()
    # Where a hole reaches the image's border, OpenCV reads what is in it: it must not be the truth.
    filled = cv2.inpaint(fill_with_mean(image, hole), hole.astype(np.uint8), OPENCV_RADIUS, getattr(cv2, method))
    return np.where(hole[..., np.newaxis], filled, image)


def import_opencv() -> Any:
    """The module `cv2`.

    Raises:
        ImportError: it is not installed; the message says how to.
    """
    try:
        import cv2
    except ImportError as error:
        raise ImportError(
            "Telea's and the Navier-Stokes method need OpenCV: pip install 'attennorm_tf[evaluation]'."
        ) from error
    return cv2


def _checked(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The mask as bool (H, W)."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(f"image must be uint8 (height, width, 3), got {image.dtype} {image.shape}.")
    if np.shape(mask) not in (image.shape[:2], (*image.shape[:2], 1)):
        raise ValueError(f"mask must be {image.shape[:2]} as the image, got {np.shape(mask)}.")
    hole = np.asarray(mask).reshape(image.shape[:2]).astype(bool)
    if hole.all():
        raise ValueError("mask must leave at least one known pixel, got 1 everywhere.")
    return hole
