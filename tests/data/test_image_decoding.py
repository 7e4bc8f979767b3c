"""Decoding of every mode and format, against NumPy and TensorFlow's own decoders and resize."""

from __future__ import annotations

import contextlib
import io
import re
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from attennorm_tf.data import UnreadableImageError, load_dataset
from attennorm_tf.data.image_decoding import decode_image


def _encoded(image, file_format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


@pytest.fixture
def pixels():
    return np.random.RandomState(0).randint(0, 256, (12, 12, 3)).astype(np.uint8)


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "WEBP"])
def test_lossless_formats_come_back_exactly(pixels, file_format):
    options = {"lossless": True} if file_format == "WEBP" else {}
    encoded = _encoded(Image.fromarray(pixels), file_format, **options)
    np.testing.assert_array_equal(decode_image(encoded, resolution=None), pixels)


def test_jpeg_agrees_with_tensorflow():
    gradient = np.tile(np.linspace(0, 255, 32).astype(np.uint8)[:, None, None], (1, 32, 3))
    encoded = _encoded(Image.fromarray(gradient), "JPEG", quality=95)
    expected = tf.io.decode_jpeg(encoded, dct_method="INTEGER_ACCURATE").numpy().astype(int)
    assert np.abs(decode_image(encoded, resolution=None).astype(int) - expected).max() <= 2


def test_gif_gives_its_first_frame():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    encoded = _encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode_image(encoded, resolution=None), np.full((4, 4, 3), (255, 0, 0), np.uint8))


def test_16_bit_grey_is_scaled_not_clipped():
    values = np.array([[0, 257, 32768, 65535]] * 4, np.uint16)
    encoded = _encoded(Image.fromarray(values))
    expected = np.round(values / 257.0).astype(np.uint8)
    np.testing.assert_array_equal(decode_image(encoded, resolution=None, channels=1)[..., 0], expected)
    np.testing.assert_array_equal(decode_image(encoded, resolution=None)[..., 2], expected)


def test_16_bit_colour(pixels):
    rows = b"".join(b"\0" + (row.astype(">u2") * 257).tobytes() for row in pixels)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    encoded = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 12, 12, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    np.testing.assert_array_equal(decode_image(encoded, resolution=None), pixels)


@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_transparent_pixels_lie_over_white(alpha):
    encoded = _encoded(Image.new("RGBA", (2, 2), (200, 100, 0, alpha)))
    expected = np.array([200, 100, 0]) * alpha / 255 + 255 * (1 - alpha / 255)
    assert np.abs(decode_image(encoded, resolution=None) - expected).max() <= 1


@pytest.mark.parametrize("transparency", [None, 1, b"\xff\x00"])
def test_palette(transparency):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 150, 100])
    image.putpixel((1, 0), 1)
    options = {} if transparency is None else {"transparency": transparency}
    image = image.resize((2, 2), Image.Resampling.NEAREST)
    decoded = decode_image(_encoded(image, **options), resolution=None)
    assert decoded[0, 0].tolist() == [10, 20, 30]
    assert decoded[0, 1].tolist() == ([200, 150, 100] if transparency is None else [255, 255, 255])


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_grey_modes(mode):
    decoded = decode_image(_encoded(Image.new("L", (3, 3), 255).convert(mode)), resolution=None)
    np.testing.assert_array_equal(decoded, np.full((3, 3, 3), 255, np.uint8))


def test_cmyk():
    encoded = _encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95)
    assert np.abs(decode_image(encoded, resolution=None).astype(int) - (255, 0, 0)).max() <= 3


def test_exif_orientation_turns_the_image_upright(pixels):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    encoded = _encoded(Image.fromarray(pixels), exif=exif)
    np.testing.assert_array_equal(decode_image(encoded, resolution=None), np.rot90(pixels, -1))


def test_grey_from_colour(pixels):
    decoded = decode_image(_encoded(Image.fromarray(pixels)), resolution=None, channels=1)[..., 0]
    assert np.abs(decoded - pixels @ [0.299, 0.587, 0.114]).max() <= 1


@pytest.mark.parametrize(("height", "width", "resolution"), [(40, 61, 16), (61, 40, 16), (9, 9, 32), (1, 5, 4)])
def test_resize_is_tensorflows_antialiased_bilinear_of_the_centre_square(height, width, resolution):
    image = np.random.RandomState(1).randint(0, 256, (height, width, 3)).astype(np.uint8)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side].astype(np.float32)
    expected = tf.image.resize(square, (resolution, resolution), "bilinear", antialias=True).numpy()
    decoded = decode_image(_encoded(Image.fromarray(image)), resolution=resolution)
    assert decoded.shape == (resolution, resolution, 3)
    assert np.abs(decoded - expected).max() <= 1.5  # Pillow rounds to 8 bits after each axis


def test_size_is_checked_before_any_pixel_is_decoded(tmp_path):
    # 60,000 x 60,000 according to its header, and no pixels at all behind it.
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    encoded = (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + b"IHDR"
        + header
        + struct.pack(">I", zlib.crc32(b"IHDR" + header))
        + struct.pack(">I", 10**9)
        + b"IDAT"
    )
    with pytest.raises(UnreadableImageError, match="3600000000 pixels"):
        decode_image(encoded, resolution=8, name="bomb.png")
    small = _encoded(Image.new("RGB", (10, 10)))
    with pytest.raises(UnreadableImageError, match=r"'small.png': 10 x 10 pixels, more than max_pixels=99"):
        decode_image(small, resolution=8, max_pixels=99, name="small.png")
    decode_image(small, resolution=8, max_pixels=100)


def test_max_pixels_is_checked():
    with pytest.raises(ValueError, match=r"max_pixels must be in \[1, 178956970\], got 0"):
        load_dataset("digits", max_pixels=0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"not an image", "not a PNG, JPEG, BMP, GIF or WebP image"),
        (b"II*\0" + bytes(100), "not a PNG, JPEG, BMP, GIF or WebP image"),  # a TIFF
    ],
)
def test_unreadable_files_are_named_with_the_reason(tmp_path, content, reason):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    for source, name in ((str(path), str(path)), (content, "<bytes>")):
        with pytest.raises(UnreadableImageError, match=re.escape(f"cannot read image {name!r}: {reason}")):
            decode_image(source, resolution=8)


def test_missing_file_is_named():
    with pytest.raises(UnreadableImageError, match=r"'/nowhere/a\.png': No such file or directory"):
        decode_image("/nowhere/a.png", resolution=8)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "BMP", "GIF", "WEBP"])
def test_truncated_or_scrambled_bytes_raise_nothing_but_the_named_error(pixels, file_format):
    encoded = _encoded(Image.fromarray(pixels), file_format)
    with pytest.raises(UnreadableImageError, match="cannot read image 'x'"):
        decode_image(encoded[: len(encoded) // 2], resolution=8, name="x")
    random = np.random.RandomState(0)
    for _ in range(100):
        damaged = bytearray(encoded)
        for position in random.randint(0, len(damaged), 4):
            damaged[position] = random.randint(0, 256)
        with contextlib.suppress(UnreadableImageError):
            assert decode_image(bytes(damaged), resolution=8).shape == (8, 8, 3)
