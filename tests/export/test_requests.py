"""What an exported model takes and refuses, in the graph: every refusal by its message, and the next request works."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from attennorm_tf.export import Limits, write_saved_model
from attennorm_tf.export.image_bytes import decode_requests
from attennorm_tf.export.image_headers import PROBLEMS, read_header
from attennorm_tf.inference.holes import hole_of
from tests.export.exported import decoded, encoded, shaken_inpainter
from tests.inference.gan_runs import tiny_generator

LIMITS = Limits(max_batch=3, max_pixels=32 * 32, max_request_pixels=2 * 32 * 32, max_file_bytes=20_000)
RANDOM = np.random.RandomState(3)
PHOTO = RANDOM.randint(0, 256, (20, 28, 3)).astype(np.uint8)
MASK = np.zeros((20, 28), np.uint8)
MASK[5:12, 4:20] = 255
PNG, JPEG, HOLE = encoded(PHOTO), encoded(PHOTO, "JPEG"), encoded(MASK)


@pytest.fixture(scope="module")
def inpainting(tmp_path_factory) -> Any:
    folder = tmp_path_factory.mktemp("inpainting") / "1"
    write_saved_model(shaken_inpainter(), folder, LIMITS)
    return tf.saved_model.load(str(folder)).signatures


@pytest.fixture(scope="module")
def generation(tmp_path_factory) -> Any:
    folder = tmp_path_factory.mktemp("generation") / "1"
    write_saved_model(tiny_generator(1), folder, LIMITS)
    return tf.saved_model.load(str(folder)).signatures


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int, bits: int = 8, colour: int = 2) -> bytes:
    """A PNG that says it is of some size, with hardly any pixels."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def jpeg_header(width: int, height: int, marker: int = 0xC0, bits: int = 8, components: int = 3) -> bytes:
    frame = struct.pack(">BHHB", bits, height, width, components) + bytes([1, 0x11, 0] * components)
    segment = bytes([0xFF, marker]) + struct.pack(">H", len(frame) + 2) + frame
    return b"\xff\xd8" + segment + b"\xff\xda\x00\x02" + b"\xff\xd9"


def message(call: Any) -> str:
    """What a refused request is told."""
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        call()
    return str(error.value)


def resized(data: Any, *size: int) -> bytes:
    return encoded(Image.fromarray(data).resize(size))


BYTES = {
    "empty batch": ([], [], "image_bytes: the batch is empty; expected at least 1 row."),
    "batch": ([PNG] * 4, [HOLE] * 4, "image_bytes: 4 rows; at most 3 are allowed."),
    "rows": ([PNG, PNG], [HOLE], "mask_bytes: 1 rows, image_bytes: 2; expected as many."),
    "empty file": ([PNG, b""], [HOLE] * 2, "image_bytes[1]: the file is empty."),
    "file size": ([bytes(20_001)], [HOLE], "image_bytes[0]: 20001 bytes; at most 20000 are allowed."),
    "text": ([b"<svg/>"], [HOLE], "image_bytes[0]: not a PNG or JPEG image."),
    "gif": ([encoded(PHOTO, "GIF")], [HOLE], "image_bytes[0]: not a PNG or JPEG image."),
    "gif mask": ([PNG], [encoded(MASK, "GIF")], "mask_bytes[0]: not a PNG or JPEG image."),
    "png signature alone": ([PNG[:8]], [HOLE], "image_bytes[0]: its header is damaged or cut short."),
    "png of no width": ([png_header(0, 9)], [HOLE], "image_bytes[0]: its header is damaged or cut short."),
    "png of 2^31": ([png_header(1 << 31, 1)], [HOLE], "image_bytes[0]: its header is damaged or cut short."),
    "jpeg start alone": ([JPEG[:3]], [HOLE], "image_bytes[0]: its header is damaged or cut short."),
    "jpeg without frame": ([b"\xff\xd8\xff\xda\0\2\xff\xd9"], [HOLE], "image_bytes[0]: its header is damaged"),
    "jpeg of no height": ([jpeg_header(9, 0)], [HOLE], "image_bytes[0]: its header is damaged or cut short."),
    "cut png": ([PNG, PNG[:-20]], [HOLE] * 2, "image_bytes[1]: the file is cut short: the end of"),
    "cut jpeg": ([JPEG[:-20]], [HOLE], "image_bytes[0]: the file is cut short: the end of the image is missing."),
    "cut mask": ([PNG], [HOLE[:-20]], "mask_bytes[0]: the file is cut short: the end of the image is missing."),
    "16 bits": ([png_header(28, 20, 16)], [HOLE], "image_bytes[0]: 16 bits per channel would be cut to 8"),
    "12-bit jpeg": ([jpeg_header(28, 20, bits=12)], [HOLE], "image_bytes[0]: 16 bits per channel would be cut to 8"),
    "cmyk": ([encoded(Image.new("CMYK", (28, 20)), "JPEG")], [HOLE], "image_bytes[0]: it is stored as CMYK"),
    "bomb": ([png_header(60_000, 60_000)], [HOLE], "image_bytes: 60000 x 60000 pixels; at most 1024 are allowed."),
    "jpeg bomb": ([jpeg_header(65_500, 65_500)], [HOLE], "image_bytes: 65500 x 65500 pixels; at most 1024 are"),
    "mixed": ([PNG, resized(PHOTO, 20, 28)], [HOLE, resized(MASK, 20, 28)],
              "image_bytes[1]: 20 x 28 pixels, row 0 has another size; a batch must be of one size."),
    "mask size": ([PNG], [resized(MASK, 20, 28)],
                  "mask_bytes[0]: 20 x 28 pixels, its image is 28 x 20; they must be of one size."),
    "request": ([resized(PHOTO, 32, 32)] * 3, [resized(MASK, 32, 32)] * 3,
                "image_bytes: 3 images of 32 x 32 pixels; at most 2048 in a request are allowed"),
    "scans": ([jpeg_header(28, 20, 0xC2)[:-2] + b"\xff\xda\0\2" * 65 + b"\xff\xd9"], [HOLE],
              "image_bytes[0]: progressive JPEG of too many scans."),
    "pixels": ([PNG, PNG[:60] + b"\0\1\2\3" + PNG[64:]], [HOLE] * 2,
               "image_bytes[1]: its pixels cannot be decoded; the file is damaged."),
    "jpeg pixels": ([PNG, PNG, JPEG[:24] + b"\x77" + JPEG[25:]], [HOLE] * 3,
                    "image_bytes[2]: its pixels cannot be decoded; the file is damaged."),
    "mask pixels": ([PNG], [HOLE[:-30] + b"\0\1\2\3" + HOLE[-26:]],
                    "mask_bytes[0]: its pixels cannot be decoded; the file is damaged."),
    "all pixels": ([PNG[:60] + b"\0\1\2\3" + PNG[64:]] * 3, [HOLE] * 3,
                   "image_bytes[0]: its pixels cannot be decoded; the file is damaged."),
}  # fmt: skip


def test_bytes(inpainting: Any) -> None:
    """In one test: for each, TensorFlow would prepare the graph anew."""
    for name, (images, masks, expected) in BYTES.items():
        values = [tf.constant(part, tf.string, [len(part)]) for part in (images, masks)]
        told = message(lambda: inpainting["serving_default"](image_bytes=values[0], mask_bytes=values[1]))  # noqa: B023
        assert expected in told, name
    good = inpainting["serving_default"](image_bytes=tf.constant([PNG, JPEG]), mask_bytes=tf.constant([HOLE, HOLE]))
    first = decoded(good["inpainted_bytes"].numpy()[0])
    np.testing.assert_array_equal(first[MASK == 0], PHOTO[MASK == 0])
    # Transparency comes back.
    picture = kinds()["RGBA"]
    values = tf.constant([encoded(picture), PNG]), tf.constant([HOLE, HOLE])
    found = inpainting["serving_default"](image_bytes=values[0], mask_bytes=values[1])["inpainted_bytes"].numpy()
    result = decoded(found[0])
    np.testing.assert_array_equal(result[..., 3], np.asarray(picture)[..., 3])
    np.testing.assert_array_equal(result[MASK == 0], np.asarray(picture)[MASK == 0])
    assert not np.array_equal(result[MASK > 0], np.asarray(picture)[MASK > 0])
    assert decoded(found[1]).shape == (20, 28, 3)


def images(*shape: int, value: float = 0.0) -> tf.Tensor:
    return tf.fill(shape, value)


def with_value(shape: tuple[int, ...], value: float) -> tf.Tensor:
    values = np.zeros(shape, np.float32)
    values[-1, ..., 0] = value
    return tf.constant(values)


TENSORS = {
    "empty": (images(0, 8, 8, 3), images(0, 8, 8, 1), "images: the batch is empty; expected at least 1 row."),
    "batch": (images(4, 8, 8, 3), images(4, 8, 8, 1), "images: 4 rows; at most 3 are allowed."),
    "rows": (images(2, 8, 8, 3), images(1, 8, 8, 1), "masks: 1 rows, images: 2; expected as many."),
    "size": (images(1, 8, 9, 3), images(1, 9, 8, 1), "masks: 8 x 9 pixels, the images are 9 x 8; they must be of"),
    "no pixel": (images(1, 0, 8, 3), images(1, 0, 8, 1), "images: 8 x 0 pixels; expected at least 1 x 1."),
    "pixels": (images(1, 32, 40, 3), images(1, 32, 40, 1), "images: 40 x 32 pixels; at most 1024 are allowed."),
    "nan": (with_value((2, 8, 8, 3), np.nan), images(2, 8, 8, 1), "images[1]: holds NaN or infinite values."),
    "inf": (with_value((2, 8, 8, 3), -np.inf), images(2, 8, 8, 1), "images[1]: holds NaN or infinite values."),
    "range": (images(1, 8, 8, 3, value=255.0), images(1, 8, 8, 1),
              "images[0]: values must be in [-1, 1], got from 255 to 255."),
    "grey mask": (images(2, 8, 8, 3), with_value((2, 8, 8, 1), 0.5), "masks[1]: values must be 1 (missing) or 0"),
    "nan mask": (images(2, 8, 8, 3), with_value((2, 8, 8, 1), np.nan), "masks[1]: values must be 1 (missing) or 0"),
}  # fmt: skip


def test_tensors_that_are_refused(inpainting: Any) -> None:
    for name, (photographs, masks, expected) in TENSORS.items():
        told = message(lambda: inpainting["tensors"](images=photographs, masks=masks))  # noqa: B023
        assert expected in told, name
    good = inpainting["tensors"](images=images(1, 3, 9, 3), masks=images(1, 3, 9, 1, value=1.0))
    assert sorted(good) == ["inpainted", "layout", "outputs"]
    assert good["layout"].shape == (1, 1, 3, 4)


Z = np.zeros((2, 8), np.float32)
GENERATION = {
    "empty": ("serving_default", [], [], [], "class_ids: the batch is empty; expected at least 1 row."),
    "batch": ("serving_default", [0] * 4, [0] * 4, [1.0] * 4, "class_ids: 4 rows; at most 3 are allowed."),
    "seeds": ("serving_default", [0, 1], [0], [1.0, 1.0], "seeds: 1 rows, class_ids: 2; expected as many."),
    "class": ("serving_default", [0, 3], [0, 0], [1.0, 1.0], "class_ids[1]: must be in [0, 3), got 3."),
    "negative": ("serving_default", [-1], [0], [1.0], "class_ids[0]: must be in [0, 3), got -1."),
    "truncation": ("serving_default", [0, 0], [0, 0], [1.0, 0.0], "truncation[1]: must be a number >= 0.01, got 0."),
    "nan truncation": ("serving_default", [0], [0], [np.nan], "truncation[0]: must be a number >= 0.01, got nan."),
    "latents": ("latents", Z * np.nan, [0, 1], None, "latents[0]: holds NaN or infinite values."),
    "latent class": ("latents", Z, [0, 7], None, "class_ids[1]: must be in [0, 3), got 7."),
    "rows": ("latents", Z, [0], None, "class_ids: 1 rows, latents: 2; expected as many."),
    "weights": ("blend", Z, [[1, 0, 0], [0.5, 0.4, 0]], None, "class_weights[1]: must sum to 1, got 0.9."),
    "negative weight": ("blend", Z, [[1, 0, 0], [2, -1, 0]], None, "class_weights[1]: must not be negative, got -1."),
    "nan weight": ("blend", Z, [[np.nan, 0, 0], [1, 0, 0]], None, "class_weights[0]: holds NaN or infinite values."),
}


def test_generation_requests_that_are_refused(generation: Any) -> None:
    types = {"class_ids": tf.int32, "seeds": tf.int64, "truncation": tf.float32, "latents": tf.float32}
    names = {"latents": ("latents", "class_ids"), "blend": ("latents", "class_weights")}
    for name, (signature, *values, expected) in GENERATION.items():
        keys = names.get(signature, ("class_ids", "seeds", "truncation"))
        inputs = {key: tf.constant(np.array(value), types.get(key, tf.float32)) for key, value in zip(keys, values)}
        told = message(lambda: generation[signature](**inputs))  # noqa: B023
        assert expected in told, name
    good = generation["serving_default"](
        class_ids=tf.constant([2]), seeds=tf.constant([-5], tf.int64), truncation=tf.constant([np.inf], tf.float32)
    )
    assert decoded(good["image_bytes"].numpy()[0]).shape == (16, 16)


def kinds() -> dict[str, Image.Image]:
    rgba = RANDOM.randint(0, 256, (20, 28, 4)).astype(np.uint8)
    colour = Image.fromarray(rgba[..., :3])
    return {
        "RGB": colour,
        "RGBA": Image.fromarray(rgba, "RGBA"),
        "L": Image.fromarray(rgba[..., 0]),
        "LA": Image.fromarray(rgba[..., :2], "LA"),
        "1": Image.fromarray(rgba[..., 0] > 127),
        "P": colour.quantize(16),
    }


@pytest.fixture(scope="module")
def decode() -> Any:
    return tf.function(
        lambda data, mask: decode_requests(data, mask, Limits()),
        input_signature=[tf.TensorSpec([None], tf.string)] * 2,
        autograph=False,
    )


def test_files_are_decoded_as_by_the_package(decode: Any) -> None:
    """Pillow's RGBA, and `hole_of`'s holes, of every kind of PNG; of half-transparent ones but for roundings."""
    for mode, image in kinds().items():
        for option in [{}, {"transparency": 3}] if mode == "P" else [{}]:
            data = encoded(image, **option)
            opened = Image.open(io.BytesIO(data))
            rgba, holes = decode(tf.constant([data]), tf.constant([data]))
            np.testing.assert_array_equal(rgba[0], np.asarray(opened.convert("RGBA")), err_msg=mode)
            wrong = np.mean(holes[0, ..., 0].numpy() != hole_of(opened))
            assert wrong <= (0.02 if mode in ("RGBA", "LA") else 0), mode
    values = np.full((20, 28), 0x7FFF, np.uint16)  # 16 bits: a mask may, by its upper half
    values[3] = 0x8000
    _, holes = decode(tf.constant([PNG]), tf.constant([encoded(Image.fromarray(values))]))
    np.testing.assert_array_equal(holes[0, ..., 0], values >= 0x8000)
    _check_orientations(decode)


def _check_orientations(decode: Any) -> None:
    """JPEG is turned upright, as Pillow does it."""
    picture = Image.fromarray(np.kron(PHOTO[:5, :7], np.ones((8, 8, 1), np.uint8)))  # 40 x 56
    for orientation in range(9):
        for order in ("MM", "II"):
            exif = Image.Exif()
            exif.endian = {"MM": ">", "II": "<"}[order]
            exif[0x010F], exif[0x0112] = "maker", orientation
            data = encoded(picture, "JPEG", quality=95, subsampling=0, exif=exif.tobytes())
            assert data[data.index(b"Exif") + 6 :][:2] == order.encode()
            upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
            rgba, _ = decode(tf.constant([data]), tf.constant([encoded(np.zeros(upright.size[::-1], np.uint8))]))
            assert rgba.shape[1:3] == upright.size[::-1]
            # Two decoders, of which one may round otherwise.
            assert np.abs(rgba[0, ..., :3].numpy().astype(int) - np.asarray(upright)).max() <= 2


@pytest.fixture(scope="module")
def header() -> Any:
    return tf.function(read_header, input_signature=[tf.TensorSpec([], tf.string)], autograph=False)


def test_no_bytes_break_the_header_reader(header: Any) -> None:
    """Prefixes, and 300 damaged files of both kinds: always an answer, and never a size of 0 that passes."""
    for data in (PNG, JPEG):
        _damage(header, data)
    # Segments before the frame, 255 of a colour profile, and 0xFF fill bytes, which the format allows.
    profile = b"\xff\xe2" + struct.pack(">H", 302) + b"ICC_PROFILE\0" + bytes(288)
    data = JPEG[:2] + profile * 255 + b"\xff\xff\xff" + JPEG[2:]
    found = header(tf.constant(data))
    assert [int(part) for part in (found.problem, found.width, found.height)] == [0, 28, 20]


def _damage(header: Any, data: bytes) -> None:
    for length in range(200):
        found = header(tf.constant(data[:length]))
        assert int(found.problem) != 0
    random = np.random.RandomState(0)
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(random.randint(1, 6)):
            damaged[random.randint(0, min(len(data), 700))] = random.randint(0, 256)
        found = header(tf.constant(bytes(damaged)))
        assert 0 <= int(found.problem) < len(PROBLEMS)
        assert int(found.problem) or min(int(found.width), int(found.height)) >= 1
