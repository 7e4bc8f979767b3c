"""Encoded photographs and masks to pixels and back, inside the graph, after all that their headers tell was checked."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from attennorm_tf.export.image_headers import PROBLEMS, Header, read_header
from attennorm_tf.export.request_checks import Limits, after, batch_checks, pixel_checks, require_rows

_DEEP = 4  # in a mask half the bits are enough


class Decoded(NamedTuple):
    """Photographs (b, h, w, 4), red, green, blue and alpha, and holes (b, h, w, 1), bool."""

    rgba: tf.Tensor
    holes: tf.Tensor


def decode_requests(image_bytes: tf.Tensor, mask_bytes: tf.Tensor, limits: Limits) -> Decoded:
    """Decodes a batch of PNG or JPEG files, all of one size.

    JPEG is turned upright by its EXIF orientation. Grey and palettes become RGB, transparency is kept. White (from 128
    on, of ITU-R 601 luma as Pillow computes it) in a mask is the hole; its transparent places are not.

    What is wrong is told with the row. Of damaged pixels only that they cannot be decoded: why, a decoder says to
    its log alone. A JPEG has no checksums; many a damaged one is decoded, to other pixels.

    Args:
        image_bytes: (b,) string.
        mask_bytes: (b,) string.
        limits: of the request; checked by sizes in the headers, before pixels are decoded.

    Raises:
        tf.errors.InvalidArgumentError: (when run) the message names the row and says what was wrong.
    """
    batch = tf.size(image_bytes)
    checks = batch_checks(batch, ("image_bytes", "mask_bytes"), [tf.size(mask_bytes)], limits)
    for name, data in (("image_bytes", image_bytes), ("mask_bytes", mask_bytes)):
        sizes = tf.strings.length(data)
        most = limits.max_file_bytes
        checks.append(require_rows(sizes <= most, name, sizes, f" bytes; at most {most} are allowed."))
    image_bytes, mask_bytes = after(checks, image_bytes, mask_bytes)
    images, masks = _headers(image_bytes), _headers(mask_bytes)
    table = tf.constant(PROBLEMS)
    checks = [
        require_rows(tf.equal(images.problem, 0), "image_bytes", tf.gather(table, images.problem)),
        require_rows(
            tf.equal(masks.problem, 0) | tf.equal(masks.problem, _DEEP), "mask_bytes", tf.gather(table, masks.problem)
        ),
    ]
    image_bytes, mask_bytes, *sizes = after(checks, image_bytes, mask_bytes, images.width, images.height)
    width, height = sizes
    checks = pixel_checks("image_bytes", batch, tf.reduce_max(height), tf.reduce_max(width), limits)
    checks.append(
        require_rows(
            tf.equal(width, width[0]) & tf.equal(height, height[0]),
            "image_bytes", width, " x ", height, " pixels, row 0 has another size; a batch must be of one size.",
        )
    )  # fmt: skip
    checks.append(
        require_rows(
            tf.equal(masks.width, width) & tf.equal(masks.height, height),
            "mask_bytes", masks.width, " x ", masks.height, " pixels, its image is ", width, " x ", height,
            "; they must be of one size.",
        )
    )  # fmt: skip
    image_bytes, mask_bytes = after(checks, image_bytes, mask_bytes)
    rgba = _decoded(image_bytes, images, "image_bytes", height[0], width[0])
    return Decoded(rgba, _holes(_decoded(mask_bytes, masks, "mask_bytes", height[0], width[0])))


def encode_results(rgb: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
    """PNG files (b,) of uint8 (b, h, w, 3) and (b, h, w, 1); with an alpha channel where one is not all opaque."""

    def encode(parts: Any) -> tf.Tensor:
        colours, opacity = parts
        return tf.cond(
            tf.reduce_all(tf.equal(opacity, 255)),
            lambda: tf.io.encode_png(colours),
            lambda: tf.io.encode_png(tf.concat([colours, opacity], axis=-1)),
        )

    return tf.map_fn(encode, (rgb, alpha), fn_output_signature=tf.TensorSpec([], tf.string))


def _headers(data: tf.Tensor) -> Header:
    spec = tf.TensorSpec([], tf.int32)
    return Header(*tf.map_fn(lambda one: tuple(read_header(one)), data, fn_output_signature=(spec,) * 6))


def _decoded(data: tf.Tensor, headers: Header, name: str, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """(b, h, w, 4).

    By way of tf.data, whose `ignore_errors` leaves a row out where a decoder fails: an error of TensorFlow's own would
    end the request without a word on which file it was.
    """

    def decoded(row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        is_png, orientation, opaque = (values[row] for values in (headers.is_png, headers.orientation, headers.opaque))
        pixels = _turned(_rgba(data[row], tf.equal(is_png, 1), tf.equal(opaque, 1)), orientation)
        # Decoders do not always believe the header that was checked.
        right = tf.reduce_all(tf.equal(tf.shape(pixels)[:2], [height, width]))
        return right, tf.cond(right, lambda: pixels, black)

    def black() -> tf.Tensor:
        return tf.zeros([height, width, 4], tf.uint8)

    def numbered(row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return (row, *tf.cond(row >= 0, lambda: decoded(row), lambda: (tf.constant(True), black())))

    batch = tf.size(data, out_type=tf.int64)
    # Row -1 is always there: an empty data set has no single element.
    found = tf.data.Dataset.range(-1, batch).map(numbered).ignore_errors().batch(batch + 1).get_single_element()
    present = tf.reduce_any(tf.equal(tf.range(batch)[:, tf.newaxis], found[0]), axis=1)
    # Known only when all rows are there: otherwise `right` belongs to others.
    right, pixels = after(
        [require_rows(present, name, "its pixels cannot be decoded; the file is damaged.")], *found[1:]
    )
    wrong = require_rows(right[1:], name, "its pixels are not of the size that its header says.")
    return tf.ensure_shape(after([wrong], pixels)[0][1:], [None, None, None, 4])


def _rgba(encoded: tf.Tensor, is_png: tf.Tensor, opaque: tf.Tensor) -> tf.Tensor:
    full = tf.constant(255, tf.uint8)

    def of_png() -> tf.Tensor:
        pixels = tf.io.decode_png(encoded, channels=4)
        return tf.concat([pixels[..., :3], tf.where(opaque, full, pixels[..., 3:])], axis=-1)

    def of_jpeg() -> tf.Tensor:
        pixels = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
        return tf.concat([pixels, tf.fill([*tf.unstack(tf.shape(pixels)[:2]), 1], full)], axis=-1)

    return tf.ensure_shape(tf.cond(is_png, of_png, of_jpeg), [None, None, 4])


def _holes(rgba: tf.Tensor) -> tf.Tensor:
    """Where a mask is white; its transparent places lie over black."""
    values = tf.cast(rgba, tf.int32)
    colours = (values[..., :3] * values[..., 3:] + 127) // 255
    weighted = tf.reduce_sum(colours * [19595, 38470, 7471], axis=-1, keepdims=True)
    return weighted + 0x8000 >= 128 << 16


def _turned(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Upright by EXIF's orientation."""

    def turn() -> tf.Tensor:
        turned = tf.cond(orientation >= 5, lambda: tf.transpose(pixels, [1, 0, 2]), lambda: pixels)
        mirrored = tf.reduce_any(tf.equal(orientation, [2, 3, 6, 7]))
        turned = tf.cond(mirrored, lambda: tf.reverse(turned, [1]), lambda: turned)
        upside_down = tf.reduce_any(tf.equal(orientation, [3, 4, 7, 8]))
        return tf.cond(upside_down, lambda: tf.reverse(turned, [0]), lambda: turned)

    return tf.cond(tf.equal(orientation, 1), lambda: pixels, turn)
