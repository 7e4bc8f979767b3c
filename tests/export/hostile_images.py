"""Encoded images that nobody should send: damaged, lying about their size, or far larger than they look."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 24, 32


def pictures() -> list[bytes]:
    """Whole files of one size in the kinds that are taken."""
    noise = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 4), np.uint8)
    colour = Image.fromarray(noise[..., :3])
    kinds = [colour, Image.fromarray(noise), Image.fromarray(noise[..., 0]), colour.quantize(16)]
    files = [_saved(kind, "PNG") for kind in kinds]
    files += [_saved(colour, "JPEG", quality=90), _saved(colour, "JPEG", progressive=True), _saved(kinds[2], "JPEG")]
    return files


def holes() -> list[bytes]:
    """Whole masks for `pictures`."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[6:18, 8:20] = 255
    return [_saved(Image.fromarray(mask), "PNG"), _saved(Image.fromarray(mask), "JPEG", quality=95)]


def damaged(file: bytes, source: random.Random) -> bytes:
    """Some bytes flipped, cut off, left out, doubled or overwritten."""
    data = bytearray(file)
    kind = source.randrange(6)
    if kind == 0:
        for _ in range(source.randint(1, 8)):
            data[source.randrange(len(data))] ^= 1 << source.randrange(8)
    elif kind == 1:
        del data[source.randrange(len(data)) :]
    elif kind == 2:
        start = source.randrange(len(data))
        del data[start : start + source.randint(1, 40)]
    elif kind == 3:
        start = source.randrange(len(data))
        data[start:start] = data[start : start + source.randint(1, 40)]
    elif kind == 4:
        start = source.randrange(len(data))
        data[start : start + 16] = source.randbytes(16)
    else:  # the header, where the sizes are
        for _ in range(source.randint(1, 4)):
            data[source.randrange(min(len(data), 40))] = source.randrange(256)
    return bytes(data)


def hostile(source: random.Random) -> Iterator[tuple[str, bytes]]:
    """(what it is, file) of every kind that must be refused."""
    jpeg, png = pictures()[4], pictures()[0]
    for width, height in ((2**31 - 1, 2**31 - 1), (65535, 65535), (1, 2**31 - 1), (0, 5), (2**32 - 1, 1), (100, 100)):
        yield f"PNG that says {width} x {height}", png_of(width, height, b"\0" * 100)
    for width, height in ((65535, 65535), (65535, 1), (0, 24), (32, 0), (500, 500)):
        yield f"JPEG that says {width} x {height}", jpeg_of_size(jpeg, width, height)
    yield "PNG of 16 bits", _saved(Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint16)), "PNG")
    yield "CMYK JPEG", _saved(Image.new("CMYK", (WIDTH, HEIGHT)), "JPEG")
    yield "PNG without pixels", png_of(WIDTH, HEIGHT, None)
    yield "palette PNG without a palette", png_of(WIDTH, HEIGHT, b"\0" * 900, colour=3)
    yield "nothing", b""
    yield "a signature", png[:8]
    yield "half a header", png[:20]
    yield "JPEG's first marker", jpeg[:2]
    for kind in ("GIF", "BMP", "WEBP", "TIFF"):
        yield kind, _saved(Image.new("RGB", (WIDTH, HEIGHT), (9, 9, 9)), kind)
    yield "text", b"<svg xmlns='http://www.w3.org/2000/svg'/>"
    yield "noise", source.randbytes(source.randint(1, 3000))
    yield "noise after PNG's signature", png[:8] + source.randbytes(500)
    yield "noise after JPEG's marker", b"\xff\xd8\xff" + source.randbytes(500)
    yield "a file over the limit", png + b"\0" * 70_000
    yield "JPEG of empty segments", b"\xff\xd8" + b"\xff\xe0\x00\x02" * 12_000


def bombs() -> list[tuple[str, bytes]]:
    """(what it is, file): small files that unpack to 60 MB; may be refused or answered, but never unpacked whole."""
    zeros = b"\0" * 60_000_000
    packed = zlib.compress(zeros, 9)
    return [
        ("PNG with too many pixels behind its size", png_of(WIDTH, HEIGHT, None, packed=packed)),
        ("PNG with a large text", png_of(WIDTH, HEIGHT, b"\0" * 2328, before=_chunk(b"zTXt", b"a\0\0" + packed))),
        ("PNG with a large profile", png_of(WIDTH, HEIGHT, b"\0" * 2328, before=_chunk(b"iCCP", b"a\0\0" + packed))),
    ]


def png_of(
    width: int, height: int, rows: bytes | None, colour: int = 2, packed: bytes | None = None, before: bytes = b""
) -> bytes:
    """A PNG with a header that says what is asked for, right checksums, and these rows (None: no pixels)."""
    header = struct.pack(">IIBBBBB", width & 0xFFFFFFFF, height & 0xFFFFFFFF, 8, colour, 0, 0, 0)
    packed = zlib.compress(rows) if rows is not None else packed
    data = _chunk(b"IDAT", packed) if packed is not None else b""
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + before + data + _chunk(b"IEND", b"")


def jpeg_of_size(file: bytes, width: int, height: int) -> bytes:
    """A baseline JPEG whose frame header says another size."""
    start = file.index(b"\xff\xc0")
    return file[: start + 5] + struct.pack(">HH", height, width) + file[start + 9 :]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
