"""Pictures of any kind as 8-bit colour for a network, and back without touching a known pixel."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple

import numpy as np
from PIL import Image

_LUMA = np.array([299, 587, 114], np.int64)  # ITU-R 601, in thousandths
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I")
ARRAYS = "an array of uint8 (H, W), (H, W, 1), (H, W, 3), (H, W, 4) or uint16 (H, W)"


class Picture(NamedTuple):
    """rgb: uint8 (H, W, 3). replaced(rgb, hole): the picture in its own kind, with the pixels where `hole` from `rgb`.

    Everything else is bit-exact: the other pixels, and all transparency. In the hole, grey is the brightness of the
    colour (16-bit grey has 8 bits' precision there), black and white the nearer one, a palette's index its nearest
    colour of the same transparency, CMYK Pillow's conversion.
    """

    rgb: np.ndarray
    replaced: Callable[[np.ndarray, np.ndarray], Any]


def picture_of(image: Any, name: str = "image") -> Picture:
    """The colours of a picture, and the way back.

    Args:
        image: a PIL image of mode 1, L, LA, P, RGB, RGBA, CMYK, I;16 or I (of 16-bit values; comes back as I;16 unless
            it was I), or an array of uint8 (H, W), (H, W, 1), (H, W, 3), (H, W, 4) or uint16 (H, W). A PIL image of
            mode L or RGB with a transparent colour comes back as LA or RGBA.
        name: what to call it in errors.

    Returns:
        The picture.

    Raises:
        ValueError: of another kind, or without pixels.
    """
    if isinstance(image, Image.Image):
        return _of_pil(image, name)
    array = np.asarray(image)
    if array.dtype == np.uint16 and array.ndim == 2 and array.size:
        return _of_array(array)
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or channels not in (1, 3, 4) or not array.size:
        raise ValueError(f"{name} must be a path, a PIL image or {ARRAYS}; got {_described(image)}.")
    return _of_array(array)


def _described(image: Any) -> str:
    return f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__


def _of_array(array: np.ndarray) -> Picture:
    """Grey, grey with alpha, colour, colour with alpha; 1, 2, 3 or 4 channels."""
    channels = 1 if array.ndim == 2 else array.shape[2]

    def replaced(rgb: np.ndarray, hole: np.ndarray) -> np.ndarray:
        result = array.copy()
        colours = rgb[hole]
        if channels >= 3:
            result[..., :3][hole] = colours
        else:
            grey = (colours @ _LUMA + 500) // 1000
            grey = (grey * 257 if array.dtype == np.uint16 else grey).astype(array.dtype)
            (result if array.ndim == 2 else result[..., 0])[hole] = grey
        return result

    if channels >= 3:
        return Picture(array[..., :3], replaced)
    grey = array if array.ndim == 2 else array[..., 0]
    if array.dtype == np.uint16:
        grey = ((grey.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return Picture(np.repeat(grey[..., np.newaxis], 3, axis=2), replaced)


def _of_pil(image: Image.Image, name: str) -> Picture:
    if 0 in image.size:
        raise ValueError(f"{name} has no pixels: {image.width} x {image.height}.")
    if image.mode in ("L", "RGB") and "transparency" in image.info:
        image = _with_alpha(image)
    special = {"1": _of_bilevel, "P": _of_palette, "CMYK": _of_cmyk}.get(image.mode)
    if special is not None:
        return special(image)
    array = np.asarray(image)
    if image.mode[0] == "I":
        if array.min() < 0 or array.max() > 65535:
            raise ValueError(f"{name}: grey of more than 16 bits, values from {array.min()} to {array.max()}.")
        array = array.astype(np.uint16)
    elif image.mode not in MODES:
        raise ValueError(f"{name} has mode {image.mode!r}; expected one of {', '.join(MODES)}.")
    inner = _of_array(array)

    def replaced(rgb: np.ndarray, hole: np.ndarray) -> Image.Image:
        values = inner.replaced(rgb, hole)
        return _like(image, Image.fromarray(values.astype(np.int32) if image.mode == "I" else values))

    return Picture(inner.rgb, replaced)


def _with_alpha(image: Image.Image) -> Image.Image:
    changed = image.convert("LA" if image.mode == "L" else "RGBA")
    changed.info = {key: value for key, value in image.info.items() if key != "transparency"}
    return changed


def _like(image: Image.Image, made: Image.Image) -> Image.Image:
    made.info = dict(image.info)
    return made


def _of_bilevel(image: Image.Image) -> Picture:
    grey = _of_array(np.asarray(image).astype(np.uint8) * np.uint8(255))

    def replaced(rgb: np.ndarray, hole: np.ndarray) -> Image.Image:
        return _like(image, Image.fromarray(grey.replaced(rgb, hole) >= 128))

    return Picture(grey.rgb, replaced)


def _of_cmyk(image: Image.Image) -> Picture:
    def replaced(rgb: np.ndarray, hole: np.ndarray) -> Image.Image:
        values = np.array(image)
        if hole.any():
            values[hole] = np.asarray(Image.fromarray(rgb[hole][np.newaxis]).convert("CMYK"))[0]
        return _like(image, Image.frombytes("CMYK", image.size, values.tobytes()))

    return Picture(np.asarray(image.convert("RGB")), replaced)


def _of_palette(image: Image.Image) -> Picture:
    indices = np.asarray(image)
    table = _palette_table(image)

    def replaced(rgb: np.ndarray, hole: np.ndarray) -> Image.Image:
        values = indices.copy()
        old, colours = indices[hole], rgb[hole]
        new = np.empty_like(old)
        for alpha in np.unique(table[old, 3]):
            allowed = np.flatnonzero(table[:, 3] == alpha)
            wanted = np.flatnonzero(table[old, 3] == alpha)
            new[wanted] = allowed[_nearest(colours[wanted], table[allowed, :3])]
        values[hole] = new
        made = Image.frombytes("P", image.size, values.tobytes())
        mode = image.palette.mode if image.palette is not None else "RGB"
        made.putpalette(image.getpalette(mode) or [], mode)
        return _like(image, made)

    return Picture(table[indices, :3], replaced)


def _palette_table(image: Image.Image) -> np.ndarray:
    """(n, 4) uint8, red, green, blue and alpha of every index; n covers all that occur."""
    entries = max(len(image.getpalette() or []) // 3, int(np.asarray(image).max()) + 1)
    every = Image.frombytes("P", (entries, 1), bytes(range(entries)))
    if image.palette is not None:
        every.putpalette(image.getpalette(image.palette.mode) or [], image.palette.mode)
    if "transparency" in image.info:
        every.info["transparency"] = image.info["transparency"]
    return np.asarray(every.convert("RGBA"))[0]


def _nearest(colours: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Index of the nearest row of the table for every colour, by Euclidean distance in RGB."""
    rows = table.astype(np.float32)
    found = np.empty(len(colours), np.int64)
    for start in range(0, len(colours), 1 << 14):
        part = colours[start : start + (1 << 14)].astype(np.float32)
        found[start : start + (1 << 14)] = np.argmin((rows**2).sum(axis=1) - 2 * part @ rows.T, axis=1)
    return found
