"""Image files of any mode and size to square 8-bit arrays, by Pillow."""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from typing import Callable, TypeVar, Union

import numpy as np
from PIL import Image, ImageOps

DEFAULT_MAX_PIXELS = 64_000_000
EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")

# Only these decoders may run, whatever the file is called.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
# Pillow itself refuses anything above twice its MAX_IMAGE_PIXELS.
_LARGEST_MAX_PIXELS = 178_956_970

ImageSource = Union[str, bytes]
_T = TypeVar("_T")
_R = TypeVar("_R")


class UnreadableImageError(ValueError):
    """An image that cannot be decoded, or that is larger than allowed; the message names it and says why."""


def check_max_pixels(max_pixels: int) -> None:
    """Raises ValueError unless `max_pixels` is one that `decode_image` can hold."""
    if not 1 <= max_pixels <= _LARGEST_MAX_PIXELS:
        raise ValueError(f"max_pixels must be in [1, {_LARGEST_MAX_PIXELS}], got {max_pixels}.")


def decode_image(
    source: ImageSource,
    *,
    resolution: int | None,
    channels: int = 3,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    name: str | None = None,
) -> np.ndarray:
    """Decodes, crops the centre square and resizes.

    The first frame of an animation; turned upright by its EXIF orientation; 16-bit grey scaled to 8 bits;
    transparent pixels over white; CMYK and palettes to RGB. Resizing is bilinear with antialiasing and rounds
    to 8 bits. The size is checked from the header, before any pixel is decoded.

    Args:
        source: path, or the bytes of a file.
        resolution: side of the result; None decodes only (square, of its own size).
        channels: 1 (grey, ITU-R 601) or 3.
        max_pixels: largest width * height that is decoded.
        name: what to call the image in errors; default the path.

    Returns:
        uint8 (resolution, resolution, channels).

    Raises:
        UnreadableImageError: not PNG, JPEG, BMP, GIF or WebP; corrupt; truncated; too large; missing.
    """
    return centre_square(read_image(source, channels=channels, max_pixels=max_pixels, name=name), resolution)


def read_image(
    source: ImageSource, *, channels: int = 3, max_pixels: int = DEFAULT_MAX_PIXELS, name: str | None = None
) -> Image.Image:
    """Decodes a whole image; see `decode_image`.

    Returns:
        An image of its own size in mode "L" (channels = 1) or "RGB" (3), in memory.
    """
    with _opened(source, max_pixels, name) as image:
        return _to_8_bits(ImageOps.exif_transpose(image), channels)


def image_size(
    source: ImageSource, *, max_pixels: int = DEFAULT_MAX_PIXELS, name: str | None = None
) -> tuple[int, int]:
    """(width, height) from the header, not turned by EXIF; no pixel is decoded. See `decode_image`."""
    with _opened(source, max_pixels, name) as image:
        return image.size


def centre_square(image: Image.Image, resolution: int | None) -> np.ndarray:
    """The largest square in the middle: uint8 (resolution, resolution, channels); None keeps its size."""
    width, height = image.size
    side = min(width, height)
    return resized_square(image, ((width - side) // 2, (height - side) // 2, side), resolution or side)


def resized_square(image: Image.Image, square: tuple[int, int, int], resolution: int) -> np.ndarray:
    """The square (left, top, side), resized with antialiasing: uint8 (resolution, resolution, channels)."""
    left, top, side = square
    image = image.crop((left, top, left + side, top + side))
    if side != resolution:
        image = image.resize((resolution, resolution), Image.Resampling.BILINEAR)
    return np.array(image, np.uint8).reshape(resolution, resolution, -1)


def map_in_threads(function: Callable[[_T], _R], items: Sequence[_T]) -> list[_R]:
    """`[function(item) for item in items]` on all cores: Pillow frees the interpreter lock while it works."""
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        try:
            results = pool.map(function, items)
        except RuntimeError:  # no new threads while the program ends
            return [function(item) for item in items]
        return list(results)


@contextlib.contextmanager
def _opened(source: ImageSource, max_pixels: int, name: str | None) -> Iterator[Image.Image]:
    """An image whose header was read and whose size is allowed; all that goes wrong inside names the image."""
    name = name or (source if isinstance(source, str) else "<bytes>")
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise UnreadableImageError(
                    f"cannot read image {name!r}: {width} x {height} pixels, more than max_pixels={max_pixels}."
                )
            yield image
    except (UnreadableImageError, MemoryError):
        raise
    except Image.UnidentifiedImageError as error:
        size = len(source) if isinstance(source, bytes) else os.path.getsize(source)
        reason = "not a PNG, JPEG, BMP, GIF or WebP image" if size else "the file is empty"
        raise UnreadableImageError(f"cannot read image {name!r}: {reason}.") from error
    # Decoders meet corrupt bytes with many kinds of exception.
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnreadableImageError(f"cannot read image {name!r}: {reason.rstrip('.')}.") from error


def _to_8_bits(image: Image.Image, channels: int) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion clips at 255
        values = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    elif image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(background, image)
    return image.convert("L" if channels == 1 else "RGB")
