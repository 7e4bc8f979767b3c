"""Photographs through files: every bit of them, their metadata, and every way in which a file can be bad."""

from __future__ import annotations

import io
import logging
import os
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from attennorm_tf.data.exif_block import upright_exif
from attennorm_tf.data.image_decoding import UnreadableImageError
from attennorm_tf.data.photo_files import check_output, output_format, read_mask, read_photo, write_photo

MODES = ("1", "L", "LA", "P", "P transparent", "RGB", "RGBA", "CMYK", "I;16")
LOSSLESS = {
    "png": ("1", "L", "LA", "P", "P transparent", "RGB", "RGBA", "I;16"),
    "webp": ("1", "L", "LA", "P", "P transparent", "RGB", "RGBA"),
    "bmp": ("1", "L", "P", "RGB"),
    "tif": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"),
}


def picture(mode: str, width: int = 13, height: int = 9) -> Image.Image:
    random = np.random.RandomState(0)
    pixels = random.randint(0, 256, (height, width, 4)).astype(np.uint8)
    if mode == "I;16":
        return Image.fromarray(random.randint(0, 65536, (height, width)).astype(np.uint16))
    if mode == "LA":
        return Image.fromarray(pixels[..., :2])
    if mode == "CMYK":
        return Image.frombytes("CMYK", (width, height), pixels.tobytes())
    if mode.startswith("P"):
        image = Image.fromarray(pixels[..., :3]).quantize(16)
        if mode == "P transparent":
            image.info["transparency"] = 3
        return image
    return Image.fromarray(pixels).convert(mode)


def seen(image: Image.Image) -> np.ndarray:
    """What an image shows, whatever its mode."""
    if image.mode in ("I;16", "CMYK"):
        return np.asarray(image)
    return np.asarray(image.convert("RGBA"))


def exif(orientation: int = 1) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    tags[0x010F] = "Maker"
    tags.get_ifd(0x8769)[0x9003] = "2020:06:14 00:00:00"
    tags.get_ifd(0x8825)[1] = "N"
    return tags


@pytest.mark.parametrize("ending", LOSSLESS)
def test_lossless_formats_keep_every_bit(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"photo.{ending}"
    for mode in LOSSLESS[ending]:
        image = picture(mode)
        write_photo(path, image)
        back = read_photo(path)
        assert np.array_equal(seen(back), seen(image)), mode
        if ending != "webp":
            assert back.mode == image.mode, mode
            assert np.array_equal(np.asarray(back), np.asarray(image)), mode
    assert os.listdir(tmp_path) == [path.name]
    assert path.stat().st_mode & 0o777 == 0o644


def test_formats_refuse_what_they_would_lose(tmp_path: Path) -> None:
    for ending, kept in LOSSLESS.items():
        path = tmp_path / f"photo.{ending}"
        for mode in set(MODES) - set(kept):
            with pytest.raises(ValueError, match=rf"output '{path}': \w+ cannot hold .*; choose (PNG|TIFF|WEBP)"):
                write_photo(path, picture(mode))
    for mode in ("LA", "RGBA", "P transparent", "I;16"):
        with pytest.raises(ValueError, match=r"JPEG cannot hold"):
            check_output("a.jpg", picture(mode))
    with pytest.raises(ValueError, match=r"output 'a.gif' must end in one of .png, .jpg"):
        output_format("a.gif")
    assert os.listdir(tmp_path) == []


def test_jpeg_is_near_and_the_better_the_higher_the_quality(tmp_path: Path) -> None:
    for mode in ("1", "L", "P", "RGB", "CMYK"):
        image = picture(mode).resize((64, 64), Image.Resampling.NEAREST)
        path = tmp_path / "photo.jpg"
        sizes, errors = [], []
        for quality in (60, 99):
            write_photo(path, image, quality=quality)
            back = read_photo(path)
            sizes.append(path.stat().st_size)
            errors.append(np.abs(seen(back.convert("RGB")).astype(int) - seen(image.convert("RGB"))).mean())
        assert sizes[0] < sizes[1], mode
        assert errors[1] < errors[0], mode
        assert errors[1] < 4, mode


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_upright_once(tmp_path: Path, orientation: int) -> None:
    stored = picture("RGB")
    turns = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.transpose(1, 0, 2),
             6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
             8: np.rot90}  # fmt: skip
    expected = turns[orientation](np.asarray(stored))
    for ending in ("png", "webp", "tif"):
        path = tmp_path / f"photo.{ending}"
        options: dict[str, Any] = {"lossless": True} if ending == "webp" else {}
        stored.save(path, exif=exif(orientation).tobytes(), **options)
        photo = read_photo(path)
        np.testing.assert_array_equal(np.asarray(photo), expected)
        np.testing.assert_array_equal(np.asarray(read_mask(path)), expected)
        write_photo(tmp_path / f"again.{ending}", photo)
        np.testing.assert_array_equal(np.asarray(read_photo(tmp_path / f"again.{ending}")), expected)


def test_metadata_goes_along_and_says_upright(tmp_path: Path) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
    tags = exif(6).tobytes()
    picture("RGB").save(tmp_path / "in.jpg", exif=tags, icc_profile=b"profile" * 30, dpi=(300, 300), xmp=xmp)
    photo = read_photo(tmp_path / "in.jpg")
    assert photo.size == (9, 13)
    for ending in ("png", "jpg", "webp", "tif"):
        path = tmp_path / f"out.{ending}"
        write_photo(path, photo)
        with Image.open(path) as written:
            found = written.getexif()
            assert found.get(0x0112, 1) == 1
            assert found[0x010F] == "Maker"
            assert found.get_ifd(0x8769)[0x9003] == "2020:06:14 00:00:00"
            assert found.get_ifd(0x8825)[1] == "N"
            assert written.info["icc_profile"] == b"profile" * 30
            if ending != "webp":
                assert round(float(written.info["dpi"][0])) == 300
            if ending != "tif":
                packet = written.info.get("xmp") or written.info["XML:com.adobe.xmp"].encode()
                assert packet == xmp.replace(b'"6"', b'"1"')


def block_with_preview(order: str) -> tuple[bytes, bytes]:
    """An EXIF block whose maker's note points into itself, with a preview; and the preview."""
    mark, preview = {"<": b"II", ">": b"MM"}[order], b"\xff\xd8 the old picture \xff\xd9"
    note = b"maker's own note, at place 38 of the block"
    second = 38 + len(note)
    data = second + 2 + 2 * 12 + 4
    first = struct.pack(order + "H", 2) + struct.pack(order + "HHIHH", 0x0112, 3, 1, 8, 0)
    first += struct.pack(order + "HHII", 0x927C, 7, len(note), 38) + struct.pack(order + "I", second)
    preview_entries = struct.pack(order + "H", 2) + struct.pack(order + "HHII", 0x0201, 4, 1, data)
    preview_entries += struct.pack(order + "HHII", 0x0202, 4, 1, len(preview)) + struct.pack(order + "I", 0)
    return mark + struct.pack(order + "HI", 42, 8) + first + note + preview_entries + preview, preview


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_preview_of_the_old_picture_is_gone_and_nothing_else_moves(order: str) -> None:
    block, preview = block_with_preview(order)
    for prefix in (b"", b"Exif\0\0"):
        changed = upright_exif(prefix + block, "photo.jpg")
        assert len(changed) == len(prefix + block)
        assert preview[2:-2] not in changed
        tags = Image.Exif()
        tags.load(changed)
        assert tags[0x0112] == 1
        different = [i for i, (a, b) in enumerate(zip(changed[len(prefix) :], block)) if a != b]
        entries = [*range(18, 22), *range(34, 38)]  # the orientation's value, the link to the second directory
        assert set(different) <= {*entries, *range(len(block) - len(preview), len(block))}


def test_a_damaged_block_is_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    block, _ = block_with_preview("<")
    for damaged in (b"", b"XX", block[:9], block[:30], block[:4] + b"\xff" * 4 + block[8:]):
        with caplog.at_level(logging.WARNING):
            assert upright_exif(damaged, "photo.jpg") == b""
        assert "photo.jpg: its EXIF block is damaged" in caplog.text
        caplog.clear()
    picture("RGB").save(tmp_path / "a.png", exif=b"Exif\0\0" + block[:30])
    assert "exif" not in read_photo(tmp_path / "a.png").info


def test_metadata_behind_the_pixels_of_a_png(tmp_path: Path) -> None:
    whole = io.BytesIO()
    picture("RGB").save(whole, "PNG", exif=exif(6).tobytes())
    data = whole.getvalue()
    start = data.index(b"eXIf") - 4
    end = start + 12 + struct.unpack(">I", data[start : start + 4])[0]
    last = data.index(b"IEND") - 4
    (tmp_path / "a.png").write_bytes(data[:start] + data[end:last] + data[start:end] + data[last:])
    photo = read_photo(tmp_path / "a.png")
    assert photo.size == (9, 13)
    tags = Image.Exif()
    tags.load(photo.info["exif"])
    assert (tags[0x0112], tags[0x010F]) == (1, "Maker")


def test_a_transparent_colour_becomes_alpha(tmp_path: Path) -> None:
    for mode, key, expected in (("L", 7, "LA"), ("RGB", (1, 2, 3), "RGBA")):
        image = Image.new(mode, (4, 4), key)
        image.putpixel((0, 0), 9 if mode == "L" else (9, 9, 9))
        image.save(tmp_path / "a.png", transparency=key)
        photo = read_photo(tmp_path / "a.png")
        assert photo.mode == expected
        assert np.asarray(photo)[..., -1].tolist()[0] == [255, 0, 0, 0]
        assert "transparency" not in photo.info


def png_16(colour_type: int, channels: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + np.arange(4 * channels, dtype=">u2").tobytes() for _ in range(3))
    header = struct.pack(">IIBBBBB", 4, 3, 16, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_sixteen_bits_are_kept_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    path.write_bytes(png_16(0, 1))
    np.testing.assert_array_equal(np.asarray(read_photo(path)), [[0, 1, 2, 3]] * 3)
    for colour_type, channels in ((2, 3), (4, 2), (6, 4)):
        path.write_bytes(png_16(colour_type, channels))
        with pytest.raises(UnreadableImageError, match=r"deep.png': 16 bits per colour would be cut to 8"):
            read_photo(path)
        assert read_mask(path).size == (4, 3)
    Image.fromarray(np.full((3, 4), 70_000, np.int32)).save(tmp_path / "deeper.tif")
    with pytest.raises(UnreadableImageError, match=r"deeper.tif': grey of more than 16 bits"):
        read_photo(tmp_path / "deeper.tif")
    Image.fromarray(np.full((3, 4), 40_000, np.int32)).save(tmp_path / "fits.tif")
    assert np.asarray(read_photo(tmp_path / "fits.tif")).tolist() == [[40_000] * 4] * 3
    Image.fromarray(np.zeros((3, 4), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(UnreadableImageError, match=r"float.tif': mode 'F', expected"):
        read_photo(tmp_path / "float.tif")


def test_files_of_several_pictures(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    for ending in ("gif", "png", "webp", "tif"):
        path = tmp_path / f"moving.{ending}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        with pytest.raises(UnreadableImageError, match=rf"moving.{ending}': it holds 3 pictures, expected one"):
            read_photo(path)
    frames[0].save(tmp_path / "telephone.jpg", "MPO", save_all=True, append_images=frames[1:])
    assert read_photo(tmp_path / "telephone.jpg").size == (4, 4)


def test_the_size_is_checked_before_any_pixel_is_decoded_and_the_limit_is_the_users(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    whole = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(whole, "PNG")
    path.write_bytes(whole.getvalue()[:200])  # a header, and pixels that would not decode
    with pytest.raises(UnreadableImageError, match=r"large.png': 20000 x 20000 pixels, more than max_pixels=64000000"):
        read_photo(path)
    with pytest.raises(UnreadableImageError, match=r"large.png': .*truncated"):
        read_photo(path, max_pixels=400_000_000)
    with pytest.raises(ValueError, match=r"max_pixels must be >= 1, got 0"):
        read_photo(path, max_pixels=0)
    assert Image.MAX_IMAGE_PIXELS is not None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"not an image", "not a PNG, JPEG, WebP, BMP, TIFF or GIF image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a PNG"),  # Pillow would start another program
    ],
)
def test_unreadable_files_are_named_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    for read in (read_photo, read_mask):
        with pytest.raises(UnreadableImageError, match=re.escape(f"cannot read image '{path}': {reason}")):
            read(path)


def test_missing_files_folders_and_truncated_files(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match=r"nowhere.png': No such file or directory"):
        read_photo(tmp_path / "nowhere.png")
    with pytest.raises(UnreadableImageError, match=r"Is a directory"):
        read_photo(tmp_path)
    for ending in ("png", "jpg", "webp", "bmp", "tif", "gif"):
        path = tmp_path / f"cut.{ending}"
        picture("RGB", 64, 64).convert("P" if ending == "gif" else "RGB").save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(UnreadableImageError, match=rf"cannot read image '{path}'"):
            read_photo(path)


def test_nothing_is_left_of_a_file_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "photo.png"
    write_photo(path, picture("L"))
    before = path.read_bytes()

    def fail(self: Image.Image, file: Any, *arguments: Any, **options: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match=r"No space left"):
        write_photo(path, picture("RGB"))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["photo.png"]
