"""Photographs as files: read without losing a bit of what they hold, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from attennorm_tf.data.exif_block import upright_exif, upright_xmp
from attennorm_tf.data.image_decoding import DEFAULT_MAX_PIXELS, UnreadableImageError

READABLE = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
WRITABLE = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")

# Only these decoders may run, whatever the file is called.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
_FORMAT_OF = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF",
}  # fmt: skip
_KEPT = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "WEBP": ("1", "L", "LA", "P", "RGB", "RGBA"),
    "BMP": ("1", "L", "P", "RGB"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"),
    "JPEG": ("1", "L", "P", "RGB", "CMYK"),
}
_NAMES = {"LA": "grey with transparency", "RGBA": "colour with transparency", "I;16": "16-bit grey", "CMYK": "CMYK",
          "P": "a palette with transparency"}  # fmt: skip
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Tags of a TIFF that say something about the picture, not about where its pixels are; among them the directories
# of EXIF and GPS.
_DESCRIPTIVE = (270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 33432, 34665, 34853)
_opening = threading.Lock()


def read_photo(path: str | os.PathLike[str], max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
    """Reads a photograph with every bit of its pixels, and its metadata.

    PNG, JPEG, WebP, BMP, TIFF and GIF. Turned upright by its EXIF orientation; the mode is the file's (a colour that
    is transparent in a grey or colour picture becomes an alpha channel). The size is checked from the header, before
    any pixel is decoded.

    Args:
        path: the file.
        max_pixels: largest width * height that is decoded.

    Returns:
        A loaded image of mode 1, L, LA, P, RGB, RGBA, CMYK or I;16. `info` holds what there is of "exif" (bytes,
        orientation 1, without the preview picture), "icc_profile", "xmp" (orientation 1), "dpi", and of palettes
        "transparency".

    Raises:
        UnreadableImageError: missing, of no such format, corrupt, truncated, too large; an animation or several pages;
            16-bit colour, which Pillow would cut to 8; float or 32-bit values; another colour space.
    """
    name = os.fspath(path)
    with _opened(name, max_pixels) as image:
        if _raw_mode(image).find(";16") > 0 and not image.mode.startswith("I"):
            raise UnreadableImageError(
                f"cannot read image {name!r}: 16 bits per colour would be cut to 8; convert it to 8 bits first."
            )
        return _checked_mode(_upright(image, name), name)


def read_mask(path: str | os.PathLike[str], max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
    """Reads a mask of any mode that these formats have, turned upright; see `read_photo`."""
    name = os.fspath(path)
    with _opened(name, max_pixels) as image:
        return _upright(image, name)


def output_format(path: str | os.PathLike[str]) -> str:
    """The format that a file's ending means: "PNG", "JPEG", "WEBP", "BMP" or "TIFF".

    Raises:
        ValueError: none of them.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMAT_OF:
        raise ValueError(f"output {os.fspath(path)!r} must end in one of {', '.join(WRITABLE)}.")
    return _FORMAT_OF[suffix]


def check_output(path: str | os.PathLike[str], image: Image.Image) -> None:
    """Raises ValueError unless the format that `path` ends in can hold the pixels of the image."""
    kind = output_format(path)
    transparent_palette = image.mode == "P" and "transparency" in image.info
    able = [name for name, modes in _KEPT.items() if image.mode in modes]
    if transparent_palette:
        able = ["PNG", "WEBP"]
    if kind not in able:
        raise ValueError(
            f"output {os.fspath(path)!r}: {kind} cannot hold {_NAMES.get(image.mode, image.mode)}; "
            f"choose {' or '.join(name for name in able if name not in ('JPEG', 'BMP'))}."
        )


def write_photo(path: str | os.PathLike[str], image: Image.Image, quality: int = 95) -> None:
    """Writes a photograph and the metadata in its `info`, atomically; makes the folder if there is none.

    PNG, WebP (lossless), BMP and TIFF (with EXIF not compressed, else by deflate) hold every pixel's exact value; JPEG
    does not. WebP has colour only, grey becomes colour of the same value. BMP holds no metadata.

    Args:
        path: the file; its ending names the format.
        image: as from `read_photo`.
        quality: of JPEG, 1 to 100.

    Raises:
        ValueError: the ending is unknown, or its format cannot hold this mode.
        OSError: it cannot be written; a file that was there stays as it was.
    """
    check_output(path, image)
    kind = output_format(path)
    if kind == "JPEG" and image.mode in ("1", "P"):
        image = _converted(image, "L" if image.mode == "1" else "RGB")
    elif kind == "WEBP" and image.mode not in ("RGB", "RGBA"):
        transparent = image.mode == "LA" or "transparency" in image.info
        image = _converted(image, "RGBA" if transparent else "RGB")
    options = _save_options(image, kind, quality)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder: a rename is atomic only within one file system.
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "w+b") as file:
            image.save(file, kind, **options)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes a private file
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


@contextlib.contextmanager
def _opened(name: str, max_pixels: int) -> Iterator[Image.Image]:
    """An image whose header was read and whose size is allowed; all that goes wrong inside names the file."""
    if max_pixels < 1:
        raise ValueError(f"max_pixels must be >= 1, got {max_pixels}.")
    try:
        with _open_any_size(name) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise UnreadableImageError(
                    f"cannot read image {name!r}: {width} x {height} pixels, more than max_pixels={max_pixels}."
                )
            frames = getattr(image, "n_frames", 1)
            # Telephones store a second picture (depth, another exposure) behind a JPEG: MPO.
            if frames > 1 and image.format in ("PNG", "WEBP", "GIF", "TIFF"):
                raise UnreadableImageError(f"cannot read image {name!r}: it holds {frames} pictures, expected one.")
            yield image
    except (UnreadableImageError, MemoryError):
        raise
    except Image.UnidentifiedImageError as error:
        reason = "not a PNG, JPEG, WebP, BMP, TIFF or GIF image" if os.path.getsize(name) else "the file is empty"
        raise UnreadableImageError(f"cannot read image {name!r}: {reason}.") from error
    # Decoders meet corrupt bytes with many kinds of exception.
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnreadableImageError(f"cannot read image {name!r}: {reason.rstrip('.')}.") from error


def _open_any_size(name: str) -> Image.Image:
    """Opens a file with Pillow's own limit of the size out of force: the caller has one that the user can change."""
    with _opening:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            return Image.open(name, formats=_FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _raw_mode(image: Image.Image) -> str:
    """How the pixels are stored, in Pillow's words: "RGB;16B", ..."""
    tiles = getattr(image, "tile", None)
    arguments: Any = tiles[0][3] if tiles else ""
    while isinstance(arguments, tuple):
        arguments = arguments[0] if arguments else ""
    return str(arguments)


def _upright(image: Image.Image, name: str) -> Image.Image:
    """The pixels, turned by the orientation, with the metadata that is kept."""
    image.load()  # a PNG's metadata may stand behind its pixels; a TIFF Pillow turns here, and forgets the tag
    block = image.info.get("exif", b"")
    try:
        tags = image.getexif()
        turn = _TURNS.get(tags.get(_ORIENTATION, 1))
        if image.format == "TIFF":
            block = _tiff_block(tags)
    except Exception:  # a damaged block: the picture itself may be whole
        turn, block = None, b"damaged"
    info: dict[str, Any] = {
        "exif": upright_exif(block, name) if block else b"",
        "icc_profile": image.info.get("icc_profile"),
        "xmp": _xmp(image),
        "dpi": image.info.get("dpi"),
        "transparency": image.info.get("transparency"),
    }
    upright = image.transpose(turn) if turn is not None else image.copy()
    upright.info = {key: value for key, value in info.items() if value not in (None, b"")}
    return upright


def _tiff_block(tags: Image.Exif) -> bytes:
    """What a TIFF says about its picture, as an EXIF block; b"" if nothing."""
    kept = Image.Exif()
    for tag in _DESCRIPTIVE:
        if tag in (34665, 34853):
            kept.get_ifd(tag).update(tags.get_ifd(tag))
        elif tag in tags:
            kept[tag] = tags[tag]
    return kept.tobytes() if len(kept) or kept.get_ifd(34665) or kept.get_ifd(34853) else b""


def _xmp(image: Image.Image) -> bytes:
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    return upright_xmp(packet.encode("utf-8") if isinstance(packet, str) else packet)


def _checked_mode(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "I":
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise UnreadableImageError(f"cannot read image {name!r}: grey of more than 16 bits.")
        return _same_info(image, Image.fromarray(values.astype(np.uint16)))
    if image.mode.startswith("I;16") and image.mode != "I;16":
        return _same_info(image, Image.fromarray(np.asarray(image).astype(np.uint16)))
    if image.mode in ("L", "RGB") and "transparency" in image.info:
        return _converted(image, "LA" if image.mode == "L" else "RGBA")
    if image.mode not in _KEPT["TIFF"]:
        raise UnreadableImageError(
            f"cannot read image {name!r}: mode {image.mode!r}, expected black and white, grey of 8 or 16 bits, a "
            "palette, colour or CMYK."
        )
    return image


def _converted(image: Image.Image, mode: str) -> Image.Image:
    return _same_info(image, image.convert(mode), without=("transparency",))


def _same_info(image: Image.Image, made: Image.Image, without: tuple[str, ...] = ()) -> Image.Image:
    made.info = {key: value for key, value in image.info.items() if key not in without}
    return made


def _save_options(image: Image.Image, kind: str, quality: int) -> dict[str, Any]:
    given: dict[str, Any] = {
        name: image.info[name] for name in ("exif", "icc_profile", "dpi", "xmp") if name in image.info
    }
    if kind == "BMP":
        return {"dpi": given["dpi"]} if "dpi" in given else {}
    if kind == "TIFF":
        given.pop("xmp", None)
        if "exif" not in given:
            return {**given, "compression": "tiff_deflate"}
        # Pillow writes the directories of EXIF and GPS into uncompressed files only.
        return {**given, "exif": _tiff_tags(given["exif"]), "compression": "raw"}
    if kind == "PNG":
        if "xmp" in given:
            text = PngImagePlugin.PngInfo()
            text.add_itxt("XML:com.adobe.xmp", given.pop("xmp").decode("utf-8", "replace"))
            given["pnginfo"] = text
        if "transparency" in image.info:
            given["transparency"] = image.info["transparency"]
        return given
    if kind == "WEBP":
        given.pop("dpi", None)
        return {**given, "lossless": True, "exact": True}  # exact: colours under full transparency too
    if len(given.get("xmp", b"")) > 60_000:
        del given["xmp"]  # more than a JPEG's segment holds
    return {**given, "quality": quality, "subsampling": 0}


def _tiff_tags(block: bytes) -> bytes:
    """The block without the tags that would say where the pixels of another file are."""
    tags = Image.Exif()
    tags.load(block)
    return _tiff_block(tags)
