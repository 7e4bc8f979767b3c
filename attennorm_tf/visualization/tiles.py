"""Images of one size as the tiles of a sheet."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from attennorm_tf.visualization.image_grid import enlarge, scale_to

_LARGEST = 256  # a sheet of larger ones fits no screen


class TileSize(NamedTuple):
    """height and width of a tile; column: what it takes of a sheet's width, so that there is room for a label."""

    height: int
    width: int
    column: int


def tile_size(images: np.ndarray, smallest: int = 80, largest: int = _LARGEST) -> TileSize:
    """How large images (b, H, W, C) are shown: small ones enlarged by a whole factor, large ones made smaller."""
    height, width = np.shape(images)[1:3]
    longer = max(height, width)
    if longer > largest:
        height, width = (max(1, round(side * largest / longer)) for side in (height, width))
    else:
        scale = scale_to(longer, smallest)
        height, width = height * scale, width * scale
    return TileSize(height, width, max(width, smallest))


def tiles(pixels: np.ndarray, size: TileSize, smooth: bool = False) -> np.ndarray:
    """uint8 (b, h, w, 3) as tiles: exactly enlarged where that is a whole factor, otherwise to nearest pixels.

    Args:
        pixels: the pictures, of any size (a layout is often smaller than its image).
        size: of `tile_size`.
        smooth: whether what must become smaller is averaged, as photographs should be and colours of entities not.
    """
    height, width = pixels.shape[1:3]
    scale = size.height // height
    if (height * scale, width * scale) == size[:2]:
        return enlarge(pixels, scale)
    method = Image.Resampling.LANCZOS if smooth and height > size.height else Image.Resampling.NEAREST
    return np.stack([np.array(Image.fromarray(one).resize((size.width, size.height), method)) for one in pixels])
