"""The EXIF block of a photograph, changed in place: everything a camera wrote stays where it was."""

from __future__ import annotations

import logging
import struct

_PREFIX = b"Exif\0\0"
_ORIENTATION, _THUMBNAIL_OFFSET, _THUMBNAIL_LENGTH = 0x0112, 0x0201, 0x0202
_XMP_ORIENTATION = (b'tiff:Orientation="%s"', b"<tiff:Orientation>%s</tiff:Orientation>")

_logger = logging.getLogger(__name__)


def upright_exif(block: bytes, name: str) -> bytes:
    """The block of a picture that was turned upright and changed: orientation 1, and no preview of the old picture.

    The preview is overwritten with zeros, not only unlinked. All other tags keep their bytes and their place, which
    the makers' own notes need: these point to places in the block.

    Args:
        block: TIFF structure, with or without the six bytes "Exif", 0, 0 before it.
        name: of the file, for the log.

    Returns:
        The block, or b"" (and a warning) where it cannot be read.
    """
    start = len(_PREFIX) if block.startswith(_PREFIX) else 0
    changed = bytearray(block[start:])
    try:
        order = {b"II": "<", b"MM": ">"}[bytes(changed[:2])]
        (first,) = struct.unpack_from(order + "I", changed, 4)
        entries, end = _directory(changed, order, first)
        for entry in entries:
            if struct.unpack_from(order + "H", changed, entry)[0] == _ORIENTATION:
                struct.pack_into(order + "HIHH", changed, entry + 2, 3, 1, 1, 0)
        (second,) = struct.unpack_from(order + "I", changed, end)
        struct.pack_into(order + "I", changed, end, 0)
        if second:
            _blank_preview(changed, order, second)
    except (KeyError, struct.error):
        _logger.warning("%s: its EXIF block is damaged and left out.", name)
        return b""
    return block[:start] + bytes(changed)


def upright_xmp(packet: bytes) -> bytes:
    """An XMP packet with its orientation, if it has one, set to 1; some programs believe it before EXIF."""
    for pattern in _XMP_ORIENTATION:
        for value in b"2345678":
            packet = packet.replace(pattern % bytes([value]), pattern % b"1")
    return packet


def _directory(block: bytearray, order: str, start: int) -> tuple[list[int], int]:
    """Where each entry of a directory begins, and where its link to the next one stands."""
    (count,) = struct.unpack_from(order + "H", block, start)
    end = start + 2 + 12 * count
    struct.unpack_from(order + "I", block, end)  # all of it must be there
    return list(range(start + 2, end, 12)), end


def _blank_preview(block: bytearray, order: str, start: int) -> None:
    values: dict[int, int] = {}
    for entry in _directory(block, order, start)[0]:
        tag, kind, _, value = struct.unpack_from(order + "HHII", block, entry)
        if kind == 3:
            (value,) = struct.unpack_from(order + "H", block, entry + 8)
        values[tag] = value
    offset, length = values.get(_THUMBNAIL_OFFSET, 0), values.get(_THUMBNAIL_LENGTH, 0)
    if 8 <= offset <= len(block):
        length = min(length, len(block) - offset)
        block[offset : offset + length] = bytes(length)
