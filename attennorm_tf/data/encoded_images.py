"""Decoding of images that come as the bytes of files, a batch at a time."""

from __future__ import annotations

import numpy as np
from PIL import Image

from attennorm_tf.data.data_services import Decode
from attennorm_tf.data.image_decoding import decode_image, map_in_threads, read_image
from attennorm_tf.data.unlabeled_images import Crops


def decode_encoded(name: str, resolution: int, channels: int, max_pixels: int) -> Decode:
    """(encoded (b,), names (b,)) -> uint8 (b, resolution, resolution, channels), see `decode_image`.

    Args:
        name: of the data set, for errors.
        resolution: side of the results.
        channels: 1 or 3.
        max_pixels: largest image that is decoded.
    """

    def decode(encoded: np.ndarray, names: np.ndarray) -> np.ndarray:
        def one(row: tuple[bytes, bytes]) -> np.ndarray:
            return decode_image(
                row[0], resolution=resolution, channels=channels, max_pixels=max_pixels,
                name=f"{name} {row[1].decode()}",
            )  # fmt: skip

        images = map_in_threads(one, list(zip(encoded, names)))
        return np.stack(images) if images else np.zeros((0, resolution, resolution, channels), np.uint8)

    return decode


def crop_encoded(crops: Crops, name: str, max_pixels: int) -> Decode:
    """(encoded (b,), names (b,), words (b, 4)) -> uint8 (b, resolution, resolution, 3), see `Crops`."""

    def cut(encoded: np.ndarray, names: np.ndarray, words: np.ndarray) -> np.ndarray:
        def photograph(row: int) -> Image.Image:
            return crops.reduce(read_image(encoded[row], max_pixels=max_pixels, name=f"{name} {names[row].decode()}"))

        return crops.cut_all(photograph, words)

    return cut
