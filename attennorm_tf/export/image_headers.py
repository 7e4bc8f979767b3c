"""What the header of an encoded image says, read inside the graph before any pixel is decoded.

All by substrings and whole numbers, in loops that end: hostile bytes cannot make it read elsewhere or for ever.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

# Values of `Header.problem`, and what they say; 0 is none.
PROBLEMS = (
    "",
    "the file is empty.",
    "not a PNG or JPEG image.",
    "its header is damaged or cut short.",
    "16 bits per channel would be cut to 8; convert it to 8 bits first.",
    "it is stored as CMYK or otherwise not as grey or RGB; convert it to RGB first.",
    "the file is cut short: the end of the image is missing.",
    "progressive JPEG of too many scans.",
)
_EMPTY, _OTHER_FORMAT, _DAMAGED, _DEEP, _CMYK, _CUT, _SCANS = range(1, len(PROBLEMS))

_MOST_SEGMENTS = 1024  # of a JPEG; 255 may hold its colour profile
_MOST_CHUNKS = 256  # of a PNG before its pixels
_MOST_SCANS = 64  # of a progressive JPEG, whose pixels are gone over once a scan; encoders make 10
_MOST_TAGS = 512  # of an EXIF directory
_TAIL = 1 << 16  # bytes in which the end marker must lie


class Header(NamedTuple):
    """int32 scalars (vectors, of a batch).

    Attributes:
        problem: index into `PROBLEMS`.
        width: of the image as it is shown, turned by `orientation`.
        height: likewise.
        is_png: 1 or 0.
        orientation: of EXIF, 1 to 8; 1 for PNG.
        opaque: 1 for a PNG of fewer than 8 bits without transparency: TensorFlow decodes its alpha as 1, 3 or 15.
    """

    problem: Any
    width: Any
    height: Any
    is_png: Any
    orientation: Any
    opaque: Any


def read_header(data: tf.Tensor) -> Header:
    """The header of a PNG or JPEG, a scalar string."""
    start = _bytes_at(data, 0, 8)
    is_png = tf.reduce_all(tf.equal(start, [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]))
    is_jpeg = tf.reduce_all(tf.equal(start[:3], [0xFF, 0xD8, 0xFF]))

    def neither() -> Header:
        empty = tf.equal(tf.strings.length(data), 0)
        return _header(tf.where(empty, _EMPTY, _OTHER_FORMAT))

    return Header(*tf.cond(is_png, lambda: _png(data), lambda: tf.cond(is_jpeg, lambda: _jpeg(data), neither)))


def _header(
    problem: Any, width: Any = 0, height: Any = 0, is_png: Any = 0, orientation: Any = 1, opaque: Any = 0
) -> Header:
    values = (problem, width, height, is_png, orientation, opaque)
    return Header(*(tf.cast(value, tf.int32) for value in values))


def _bytes_at(data: tf.Tensor, position: Any, count: int) -> tf.Tensor:
    """(count,) int32 in [0, 256); 0 beyond the end."""
    position = tf.clip_by_value(position, 0, tf.strings.length(data))
    piece = tf.strings.substr(data, position, count)
    return tf.cast(tf.io.decode_raw(piece, tf.uint8, fixed_length=count), tf.int32)


def _big_endian(values: tf.Tensor) -> tf.Tensor:
    """Of 2 or 4 bytes; negative from 2^31 on."""
    total = values[0]
    for index in range(1, values.shape[0]):
        total = total * 256 + values[index]
    return total


def _png(data: tf.Tensor) -> Header:
    first = _bytes_at(data, 8, 17)  # length, "IHDR", width, height, bits
    right = tf.reduce_all(tf.equal(first[:8], [0, 0, 0, 13, 0x49, 0x48, 0x44, 0x52]))
    width, height, bits = _big_endian(first[8:12]), _big_endian(first[12:16]), first[16]
    right &= (width >= 1) & (height >= 1)
    ended = _holds(_tail(data), (0x49, 0x45, 0x4E, 0x44))  # "IEND"
    problem = tf.where(right, tf.where(bits > 8, _DEEP, tf.where(ended, 0, _CUT)), _DAMAGED)
    opaque = tf.cond((bits < 8) & right, lambda: ~_has_transparency(data), lambda: tf.constant(False))
    return _header(problem, width, height, 1, 1, opaque)


def _has_transparency(data: tf.Tensor) -> tf.Tensor:
    """Whether a PNG has a tRNS chunk before its pixels."""
    size = tf.strings.length(data)

    def look(position: Any, found: Any) -> Any:
        head = _bytes_at(data, position, 8)
        length = _big_endian(head[:4])
        is_it = tf.reduce_all(tf.equal(head[4:], [0x74, 0x52, 0x4E, 0x53]))
        pixels = tf.reduce_all(tf.equal(head[4:], [0x49, 0x44, 0x41, 0x54]))
        stop = is_it | pixels | (length < 0) | (length > size)
        return tf.where(stop, size, position + 12 + length), is_it

    return tf.while_loop(
        lambda position, found: position < size,
        look,
        (tf.constant(8), tf.constant(False)),
        maximum_iterations=_MOST_CHUNKS,
        parallel_iterations=1,
    )[1]


def _jpeg(data: tf.Tensor) -> Header:
    size = tf.strings.length(data)

    def segment(position: Any, frame: Any, exif: Any, done: Any) -> Any:
        """One marker: `frame` is where the first frame header is, `exif` the first EXIF block."""
        head = _bytes_at(data, position, 10)
        marker, length = head[1], _big_endian(head[2:4])
        filling = tf.equal(marker, 0xFF)
        alone = ((marker >= 0xD0) & (marker <= 0xD7)) | tf.equal(marker, 0x01)
        is_frame = (marker >= 0xC0) & (marker <= 0xCF) & tf.reduce_all(tf.not_equal(marker, [0xC4, 0xC8, 0xCC]))
        is_exif = tf.equal(marker, 0xE1) & tf.reduce_all(tf.equal(head[4:], [0x45, 0x78, 0x69, 0x66, 0, 0]))
        # Pixels (or the end); anything that is no marker; a length that leads nowhere.
        wrong = tf.not_equal(head[0], 0xFF) | (~filling & ~alone & (length < 2))
        done = wrong | tf.equal(marker, 0xDA) | tf.equal(marker, 0xD9)
        frame = tf.where(is_frame & (frame < 0) & ~wrong, position, frame)
        exif = tf.where(is_exif & (exif < 0) & ~wrong, position, exif)
        step = tf.where(filling, 1, tf.where(alone, 2, 2 + length))
        pixels = tf.equal(marker, 0xDA) & ~wrong
        return tf.where(pixels, -1, tf.where(done, size, position + step)), frame, exif, done

    position, frame, exif, _ = tf.while_loop(
        lambda position, frame, exif, done: (position < size) & ~done,
        segment,
        (tf.constant(2), tf.constant(-1), tf.constant(-1), tf.constant(False)),
        maximum_iterations=_MOST_SEGMENTS,
        parallel_iterations=1,
    )
    shape = _bytes_at(data, tf.maximum(frame, 0) + 4, 6)  # bits, height, width, components
    height, width = _big_endian(shape[1:3]), _big_endian(shape[3:5])
    right = tf.equal(position, -1) & (frame >= 0) & (width >= 1) & (height >= 1)
    progressive = tf.equal(_bytes_at(data, tf.maximum(frame, 0), 2)[1] % 4, 2) & right
    scans = tf.cond(progressive, lambda: _count(data, (0xFF, 0xDA)), lambda: tf.constant(0))
    problem = tf.where(_holds(_tail(data), (0xFF, 0xD9)), 0, _CUT)
    problem = tf.where(scans > _MOST_SCANS, _SCANS, problem)
    problem = tf.where(tf.equal(shape[5], 1) | tf.equal(shape[5], 3), problem, _CMYK)
    problem = tf.where(tf.equal(shape[0], 8), problem, _DEEP)
    problem = tf.where(right, problem, _DAMAGED)
    orientation = tf.cond(exif >= 0, lambda: _orientation(data, exif + 10), lambda: tf.constant(1))
    turned = orientation >= 5
    return _header(problem, tf.where(turned, height, width), tf.where(turned, width, height), 0, orientation)


def _orientation(data: tf.Tensor, start: Any) -> tf.Tensor:
    """EXIF's, 1 where there is none; `start` is the block's own, after "Exif"."""
    head = _bytes_at(data, start, 8)
    little = tf.reduce_all(tf.equal(head[:4], [0x49, 0x49, 42, 0]))
    right = little | tf.reduce_all(tf.equal(head[:4], [0x4D, 0x4D, 0, 42]))

    def number(values: tf.Tensor) -> tf.Tensor:
        return tf.where(little, _big_endian(values[::-1]), _big_endian(values))

    directory = number(head[4:8])
    right &= (directory >= 8) & (directory < _TAIL)
    directory = start + tf.clip_by_value(directory, 0, _TAIL)
    count = number(_bytes_at(data, directory, 2))
    entries = tf.reshape(_bytes_at(data, directory + 2, 12 * _MOST_TAGS), [_MOST_TAGS, 12])
    low, high = entries[:, 0] + 256 * entries[:, 1], entries[:, 1] + 256 * entries[:, 0]
    is_it = tf.equal(tf.where(little, low, high), 0x0112) & (tf.range(_MOST_TAGS) < count)
    entry = entries[tf.argmax(tf.cast(is_it, tf.int32), output_type=tf.int32)]
    value = number(entry[8:10])
    right &= tf.reduce_any(is_it) & (value >= 1) & (value <= 8)
    return tf.where(right, value, 1)


def _tail(data: tf.Tensor) -> tf.Tensor:
    size = tf.strings.length(data)
    return tf.io.decode_raw(tf.strings.substr(data, tf.maximum(size - _TAIL, 0), _TAIL), tf.uint8)


def _matches(raw: tf.Tensor, pattern: tuple[int, ...]) -> tf.Tensor:
    last = tf.maximum(tf.size(raw) - len(pattern) + 1, 0)
    found = tf.fill([last], True)
    for index, value in enumerate(pattern):
        found &= tf.equal(raw[index : index + last], tf.constant(value, tf.uint8))
    return found


def _holds(raw: tf.Tensor, pattern: tuple[int, ...]) -> tf.Tensor:
    return tf.reduce_any(_matches(raw, pattern))


def _count(data: tf.Tensor, pattern: tuple[int, ...]) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(_matches(tf.io.decode_raw(data, tf.uint8), pattern), tf.int32))
