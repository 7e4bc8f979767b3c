"""Layouts as the page shows them."""

from __future__ import annotations

import numpy as np
from PIL import Image

from attennorm_tf.visualization import layout_sheet

_SIDE = 160


def entity_maps(images: np.ndarray, layouts: np.ndarray) -> np.ndarray:
    """Images, binarised layouts and one map for each entity, all large enough to be looked at.

    Args:
        images: float (b, H, W, 1 or 3) in [-1, 1].
        layouts: float (b, h, w, n).

    Returns:
        uint8 (H', W', 3).
    """
    height, width = images.shape[1:3]
    factor = _SIDE / max(height, width)
    if images.shape[-1] == 3 and 0.25 < factor < 4:  # photographs; pixels that can be counted stay squares
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        images = np.stack([_resized(image, size) for image in images])
    return layout_sheet(images, layouts, over_images=True)


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    channels = [Image.fromarray(plane.astype(np.float32)) for plane in np.moveaxis(image, -1, 0)]
    return np.stack([np.asarray(plane.resize(size, Image.Resampling.BICUBIC)) for plane in channels], axis=-1)
