"""Photographs on the page, without a browser: views, holes at full size, results that keep what is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from attennorm_tf.demo.in_words import in_words, model_line, notice
from attennorm_tf.demo.networks import DemoInpainter
from attennorm_tf.demo.photo import fill, hole_at_full_size, open_mask, open_photo, shown_in
from attennorm_tf.export.serving_errors import ServingError

LEVEL = 77


def _inpainter(layouts: Any = None) -> DemoInpainter:
    """Fills with one grey level."""
    return DemoInpainter("grey", lambda images, masks: np.full_like(images, LEVEL / 127.5 - 1), layouts)


def _saved(path: Path, pixels: np.ndarray, **options: Any) -> str:
    Image.fromarray(pixels).save(path, **options)
    return str(path)


def _noise(height: int, width: int, *channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, *channels), np.uint8)


def _box(shape: tuple[int, int]) -> np.ndarray:
    hole = np.zeros(shape, bool)
    hole[shape[0] // 4 : shape[0] // 2, shape[1] // 3 : shape[1] // 2] = True
    return hole


def test_exif_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer turns it to the right
    pixels = _noise(24, 40, 3)
    photo = open_photo(_saved(tmp_path / "a.png", pixels, exif=exif), 10**6)
    upright = np.rot90(pixels, -1)
    assert photo.size == (40, 24)
    np.testing.assert_array_equal(photo.view, upright)
    hole = _box((40, 24))
    result = fill(photo, hole, _inpainter(), 0, 0, tmp_path)
    with Image.open(result.file) as made:
        assert made.getexif().get(0x0112, 1) == 1
        np.testing.assert_array_equal(np.asarray(made)[~hole], upright[~hole])
        assert (np.asarray(made)[hole] == LEVEL).all()
    assert result.pixels == hole.sum()


@pytest.mark.parametrize("kind", ["grey", "grey16", "alpha", "bilevel"])
def test_kinds_of_pictures(tmp_path: Path, kind: str) -> None:
    """Every known value comes back, and the file is of the same kind."""
    pixels = {
        "grey": _noise(30, 20),
        "grey16": np.random.default_rng(0).integers(0, 65536, (30, 20)).astype(np.uint16),
        "alpha": _noise(30, 20, 4),
        "bilevel": _noise(30, 20) > 127,
    }[kind]
    photo = open_photo(_saved(tmp_path / "a.png", pixels), 10**6)
    hole = _box((30, 20))
    result = fill(photo, hole, _inpainter(), 0, 0, tmp_path)
    with Image.open(result.file) as made:
        values = np.asarray(made)
    assert values.dtype == (np.uint16 if kind == "grey16" else pixels.dtype)
    np.testing.assert_array_equal(values[~hole], pixels[~hole])
    expected = {"grey": LEVEL, "grey16": LEVEL * 257, "alpha": LEVEL, "bilevel": False}[kind]
    assert (values[hole][..., :3] == expected).all()
    if kind == "alpha":
        np.testing.assert_array_equal(values[..., 3], pixels[..., 3])
    assert photo.view.mode == "RGB"


def test_transparent_places_are_chequered(tmp_path: Path) -> None:
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[:16] = (200, 0, 0, 255)
    photo = open_photo(_saved(tmp_path / "a.png", pixels), 10**6)
    view = np.asarray(photo.view)
    assert (view[:16] == (200, 0, 0)).all()
    assert {tuple(colour) for colour in view[16:].reshape(-1, 3)} == {(215, 215, 215), (255, 255, 255)}


def test_png_cannot_hold_cmyk(tmp_path: Path) -> None:
    Image.fromarray(_noise(20, 20, 3)).convert("CMYK").save(tmp_path / "a b.jpg")
    photo = open_photo(str(tmp_path / "a b.jpg"), 10**6)
    result = fill(photo, _box((20, 20)), _inpainter(), 0, 0, tmp_path)
    assert result.file.name == "a_b-inpainted.tif"
    with Image.open(result.file) as made:
        assert made.mode == "CMYK"


def test_a_large_photo_is_painted_on_smaller_and_filled_at_its_size(tmp_path: Path) -> None:
    pixels = np.repeat(np.repeat(_noise(130, 200, 3), 10, axis=0), 10, axis=1)
    photo = open_photo(_saved(tmp_path / "a.png", pixels), 10**7)
    assert photo.view.size == (1024, round(1300 * 1024 / 2000))
    seen = np.zeros(photo.view.size[::-1], bool)
    seen[100:160, 300:380] = True
    hole = hole_at_full_size(photo, seen)
    rows, columns = np.nonzero(hole)
    scale = 2000 / 1024
    edges = [rows.min() / scale, (rows.max() + 1) / scale, columns.min() / scale, (columns.max() + 1) / scale]
    np.testing.assert_allclose(edges, [100, 160, 300, 380], atol=0.6)
    assert abs(hole.sum() / scale**2 / seen.sum() - 1) < 0.02
    result = fill(photo, hole, _inpainter(), 0, 0, tmp_path)
    with Image.open(result.file) as made:
        values = np.asarray(made)
    assert values.shape == pixels.shape
    np.testing.assert_array_equal(values[~hole], pixels[~hole])
    assert result.after.size == result.before.size == photo.view.size


def test_a_mask_is_kept_exactly_but_for_what_is_painted(tmp_path: Path) -> None:
    photo = open_photo(_saved(tmp_path / "a.png", np.zeros((2048, 2048), np.uint8)), 10**7)
    base = np.zeros((2048, 2048), bool)
    base[501, 333] = True  # a quarter of a pixel of the view
    base[1000:1100, 1000:1101] = True
    seen = shown_in(photo, base)
    assert seen[250, 166]
    np.testing.assert_array_equal(hole_at_full_size(photo, seen, base), base)
    added = seen.copy()
    added[0:10, 0:10] = True
    expected = base.copy()
    expected[0:20, 0:20] = True
    np.testing.assert_array_equal(hole_at_full_size(photo, added, base), expected)
    erased = seen.copy()
    erased[250, 166] = False
    expected = base.copy()
    expected[501, 333] = False
    np.testing.assert_array_equal(hole_at_full_size(photo, erased, base), expected)
    np.testing.assert_array_equal(hole_at_full_size(photo, np.zeros_like(seen), base), np.zeros_like(base))


def test_layouts_are_those_of_what_the_network_saw_with_the_largest_hole(tmp_path: Path) -> None:
    calls = []

    def layouts(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
        calls.append((images, masks))
        return np.ones((1, 2, 2, 3), np.float32)

    pixels = _noise(600, 900, 3)
    photo = open_photo(_saved(tmp_path / "a.png", pixels), 10**7)
    hole = np.zeros((600, 900), bool)
    hole[10:20, 10:20] = hole[500:540, 800:840] = True
    images, found = fill(photo, hole, _inpainter(layouts), 0, 0, tmp_path).layouts
    ((seen, masks),) = calls
    assert masks.sum() == 1600
    np.testing.assert_array_equal(images[0][masks[0, ..., 0] == 0], seen[0][masks[0, ..., 0] == 0])
    assert np.allclose(images[0][masks[0, ..., 0] > 0], LEVEL / 127.5 - 1)
    assert found.shape == (1, 2, 2, 3)


def test_grow_and_feather(tmp_path: Path) -> None:
    pixels = np.full((60, 60), 255, np.uint8)
    photo = open_photo(_saved(tmp_path / "a.png", pixels), 10**6)
    hole = np.zeros((60, 60), bool)
    hole[20:40, 20:40] = True
    result = fill(photo, hole, _inpainter(), 4, 3, tmp_path)
    with Image.open(result.file) as made:
        values = np.asarray(made)
    assert values[30, 30] == values[21, 21] == LEVEL
    assert values[30, 15] == 255
    assert LEVEL < values[30, 16] < 255
    assert result.pixels > 400


def test_errors_name_the_file_and_not_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "letter.png").write_text("Dear Sir")
    path = _saved(tmp_path / "a.png", _noise(20, 30, 3))
    photo = open_photo(path, 600)
    cases: list[tuple[Any, str]] = [
        (lambda: open_photo(str(tmp_path / "letter.png"), 600),
         r"^cannot read image 'letter.png': not a PNG, JPEG, WebP, BMP, TIFF or GIF image\.$"),
        (lambda: open_photo(path, 599), r"^cannot read image 'a.png': 30 x 20 pixels, more than max_pixels=599\.$"),
        (lambda: open_mask(_saved(tmp_path / "m.png", _noise(20, 20)), photo, 600),
         r"^mask 'm.png' is 20 x 20 pixels, the photo 'a.png' is 30 x 20; they must be of one size\.$"),
        (lambda: fill(photo, np.zeros((20, 30), bool), _inpainter(), 0, 0, tmp_path), r"^No hole is painted\. Paint"),
        (lambda: fill(photo, np.ones((20, 30), bool), _inpainter(), 0, 0, tmp_path), r"^The whole photo is painted"),
    ]  # fmt: skip
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()


def test_in_words(caplog: pytest.LogCaptureFixture) -> None:
    assert in_words(ValueError("a: b")) == "a: b"
    assert in_words(ServingError("server x", "UNAVAILABLE", "refused")).startswith("server x: UNAVAILABLE: refused.")
    assert in_words(OSError(28, "No space left on device")) == (
        "A file cannot be read or written: No space left on device."
    )
    assert in_words(MemoryError()).startswith("There is not enough memory")
    assert not caplog.records
    assert in_words(KeyError("x")) == "The program has failed: KeyError. The terminal shows where."
    assert caplog.records[0].exc_info is not None


def test_what_comes_from_files_is_no_html() -> None:
    assert "<b>" not in notice("<b>", "error") + model_line("<b>")
    assert 'role="alert"' in notice("x", "error")
    assert notice("") == ""
