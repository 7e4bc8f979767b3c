"""Files and folders of photographs: what comes out, and that what cannot is named while the rest is done."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from attennorm_tf.inference.inpaint import inpaint
from attennorm_tf.inference.inpaint_files import Job, Options, inpaint_files, plan_file, plan_folder
from attennorm_tf.inference.inpainter import LoadedInpainter
from tests.inference.inpainters import tiny_inpainter


@pytest.fixture(scope="module")
def inpainter() -> LoadedInpainter:
    return tiny_inpainter()


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def photo(height: int = 20, width: int = 30) -> np.ndarray:
    return np.random.RandomState(height).randint(0, 256, (height, width, 3)).astype(np.uint8)


def mask(height: int = 20, width: int = 30, value: int = 255) -> np.ndarray:
    pixels = np.zeros((height, width), np.uint8)
    pixels[5:12, 6:20] = value
    return pixels


def problems(jobs: list[Job], inpainter: LoadedInpainter, options: Options | None = None) -> list[str]:
    return [problem for _, problem in inpaint_files(jobs, inpainter, options or Options())]


def test_a_file_is_what_python_gives(tmp_path: Path, inpainter: LoadedInpainter) -> None:
    image, hole = save(tmp_path / "a.png", photo()), save(tmp_path / "m.png", mask())
    output = tmp_path / "new" / "out.tif"
    options = Options(grow=2, feather=1)
    assert problems([plan_file(str(image), str(hole), str(output))], inpainter, options) == [""]
    expected = inpaint(photo(), mask(), inpainter, grow=2, feather=1)
    np.testing.assert_array_equal(np.asarray(Image.open(output)), expected)


def test_a_mask_lies_on_the_photograph_as_a_viewer_shows_it(tmp_path: Path, inpainter: LoadedInpainter) -> None:
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = 6, "Maker"
    image = save(tmp_path / "a.png", np.rot90(photo(), 1).copy(), exif=tags.tobytes())  # shown upright as photo()
    hole = save(tmp_path / "m.png", mask())
    assert problems([plan_file(str(image), str(hole), str(tmp_path / "out.png"))], inpainter) == [""]
    with Image.open(tmp_path / "out.png") as written:
        np.testing.assert_array_equal(np.asarray(written), inpaint(photo(), mask(), inpainter))
        assert (written.getexif().get(0x0112), written.getexif()[0x010F]) == (1, "Maker")


def test_folders(tmp_path: Path, inpainter: LoadedInpainter) -> None:
    for name in ("a.png", "sub/b.jpg", "sub/c.v2.webp"):
        save(tmp_path / "photos" / name, photo())
    for name in ("a.png", "sub/b.png", "sub/c.v2.bmp", "sub/d.png"):
        save(tmp_path / "photos" / "masks" / name, mask())
    (tmp_path / "photos" / "notes.txt").write_text("")
    (tmp_path / "photos" / ".hidden.png").write_text("")
    (tmp_path / "photos" / "sub" / "loop").symlink_to(tmp_path / "photos")
    images, masks, output = (str(tmp_path / name) for name in ("photos", "photos/masks", "photos/out"))
    for overwrite in (False, True):  # the second time there are results in the folder
        plan = plan_folder(images, masks, output)
        assert [str(job.output.relative_to(output)) for job in plan.jobs] == ["a.png", "sub/b.png", "sub/c.v2.png"]
        assert plan.unused == [Path(masks) / "sub" / "d.png"]
        assert problems(plan.jobs, inpainter, Options(overwrite=overwrite)) == ["", "", ""]
    for name in ("a.png", "sub/b.jpg", "sub/c.v2.webp"):
        before = np.asarray(Image.open(Path(images) / name))
        after = np.asarray(Image.open((Path(output) / name).with_suffix(".png")))
        np.testing.assert_array_equal(after[mask() == 0], before[mask() == 0])
        assert (after != before).any()
    assert not [path for path in Path(output).rglob("*") if path.name.startswith(".")]


def test_one_mask_for_all(tmp_path: Path, inpainter: LoadedInpainter) -> None:
    for name in ("a.png", "b.png"):
        save(tmp_path / "photos" / name, photo())
    save(tmp_path / "photos" / "c.png", photo(21))
    hole = save(tmp_path / "m.png", mask())
    plan = plan_folder(str(tmp_path / "photos"), str(hole), str(tmp_path / "out"), "same")
    found = problems(plan.jobs, inpainter)
    assert found[:2] == ["", ""]
    assert f"mask '{hole}' is 30 x 20 pixels, image '{tmp_path}/photos/c.png' is 30 x 21" in found[2]
    assert plan.unused == []


def test_what_is_wrong_is_named_and_the_rest_is_done(tmp_path: Path, inpainter: LoadedInpainter) -> None:
    photos, masks, output = tmp_path / "photos", tmp_path / "masks", tmp_path / "out"
    cmyk = Image.frombytes("CMYK", (30, 20), bytes(2400))
    large = save(tmp_path / "large.png", photo()).read_bytes()
    expected = {
        "all.png": "every pixel is missing; some must be known",
        "ambiguous.png": "more than one mask is called like it: 'ambiguous.jpg', 'ambiguous.png'",
        "cmyk.jpg": "PNG cannot hold CMYK; choose TIFF",
        "cut.png": "image file is truncated",
        "empty.png": "the file is empty",
        "good1.png": "",
        "large.png": "30 x 20 pixels, more than max_pixels=1000",
        "maskless.png": "no mask called",
        "none.png": "no pixel is missing; the hole is where it is white (128 or more)",
        "odd.png": "its values are 0 and 1 of 255",
        "one.png": "every pixel is missing",
        "size.png": "they must be of one size",
        "text.png": "not a PNG, JPEG, WebP, BMP, TIFF or GIF image",
        "twice.bmp": "",
        "twice.jpg": "too.",
        "zgood.png": "",
    }
    for name in expected:
        save(photos / name, photo(20, 30))
        save((masks / name).with_suffix(".png"), mask())
    save(masks / "all.png", np.full((20, 30), 255, np.uint8))
    save(masks / "ambiguous.jpg", mask())
    cmyk.save(photos / "cmyk.jpg")
    (photos / "cut.png").write_bytes(large[: len(large) // 2])
    (photos / "empty.png").write_bytes(b"")
    save(photos / "large.png", photo(40, 60))
    (masks / "maskless.png").unlink()
    save(masks / "none.png", mask(value=127))
    save(masks / "odd.png", mask(value=1))
    save(photos / "one.png", photo(1, 1))
    save(masks / "one.png", np.full((1, 1), 255, np.uint8))
    save(masks / "size.png", mask(20, 31))
    (photos / "text.png").write_text("no image")
    plan = plan_folder(str(photos), str(masks), str(output))
    outcomes = list(inpaint_files(plan.jobs, inpainter, Options(max_pixels=1000)))
    assert [job.image.name for job, _ in outcomes] == sorted(expected)
    for job, problem in outcomes:
        reason = expected[job.image.name]
        assert (reason in problem) if reason != "30 x 20 pixels, more than max_pixels=1000" else "60 x 40" in problem
        assert bool(problem) == bool(reason)
        assert not problem or str(job.image) in problem or str(job.mask) in problem, problem
        assert "\n" not in problem
    assert sorted(os.listdir(output)) == ["good1.png", "twice.png", "zgood.png"]


def test_outputs_are_replaced_only_when_asked_and_never_the_mask(tmp_path: Path, inpainter: LoadedInpainter) -> None:
    image, hole = save(tmp_path / "a.png", photo()), save(tmp_path / "m.png", mask())
    before = image.read_bytes()
    job = plan_file(str(image), str(hole), str(image))
    assert problems([job], inpainter) == [f"output '{image}' exists; it is replaced only with overwrite."]
    assert image.read_bytes() == before
    assert problems([plan_file(str(image), str(hole), str(hole))], inpainter, Options(overwrite=True)) == [
        f"output '{hole}' is the mask itself."
    ]
    assert problems([job], inpainter, Options(overwrite=True)) == [""]
    np.testing.assert_array_equal(np.asarray(Image.open(image)), inpaint(photo(), mask(), inpainter))


def test_a_failure_within_the_network_is_one_files(tmp_path: Path, inpainter: LoadedInpainter) -> None:
    jobs = []
    for name in "abcd":
        image = save(tmp_path / f"{name}.png", photo())
        jobs.append(plan_file(str(image), str(save(tmp_path / "m.png", mask())), str(tmp_path / f"out_{name}.png")))

    class Failing(LoadedInpainter):
        errors = [MemoryError(), tf.errors.ResourceExhaustedError(None, None, "OOM when allocating\nmore"), None, None]

        def complete(self, images: np.ndarray, masks: np.ndarray, batch_size: int = 8) -> np.ndarray:
            error = self.errors.pop(0)
            if error is not None:
                raise error
            return super().complete(images, masks, batch_size)

    (tmp_path / "out_d.png").mkdir()
    found = problems(jobs, Failing(inpainter.model, inpainter.config), Options(overwrite=True))
    assert found[:3] == [
        f"image '{jobs[0].image}': out of memory.",
        f"image '{jobs[1].image}': OOM when allocating",
        "",
    ]
    assert found[3].startswith(f"output '{tmp_path}/out_d.png' cannot be written: ")
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(quality=101), r"quality must be in \[1, 100\], got 101"),
        (Options(max_pixels=0), r"max_pixels must be >= 1, got 0"),
        (Options(tile=8), r"tile must be a multiple of 8 from 64 on, got 8"),
    ],
)
def test_options_out_of_range(inpainter: LoadedInpainter, options: Options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(inpaint_files([], inpainter, options))


def test_plans_that_cannot_be(tmp_path: Path) -> None:
    save(tmp_path / "photos" / "a.png", photo())
    shutil.copytree(tmp_path / "photos", tmp_path / "masks")
    (tmp_path / "empty").mkdir()
    photos, masks, output = (str(tmp_path / name) for name in ("photos", "masks", "out"))
    for arguments, message in (
        ((photos, photos, output), r"images and masks must be different folders"),
        ((str(tmp_path / "nowhere"), masks, output), r"images: '.*nowhere' does not exist; expected a folder"),
        ((f"{photos}/a.png", masks, output), r"images: '.*a.png' is a file; expected a folder"),
        ((photos, str(tmp_path / "nowhere"), output), r"masks '.*nowhere': there is no such file or folder"),
        ((str(tmp_path / "empty"), masks, output), r"images: folder '.*empty' holds no images \(.png, .jpg"),
        ((photos, masks, f"{photos}/a.png"), r"output '.*a.png' is a file, expected a folder"),
        ((photos, masks, output, "gif"), r"format must be one of png, webp, tif, bmp, jpg, same; got 'gif'"),
    ):
        with pytest.raises(ValueError, match=message):
            plan_folder(*arguments)
    with pytest.raises(ValueError, match=r"output '.*photos' is a folder, expected a file name"):
        plan_file(f"{photos}/a.png", f"{masks}/a.png", photos)
    with pytest.raises(ValueError, match=r"output 'out.gif' must end in one of"):
        plan_file(f"{photos}/a.png", f"{masks}/a.png", "out.gif")
    save(tmp_path / "photos" / "b.gif", photo())
    (job, *_), _ = plan_folder(photos, masks, output, "same")
    assert job.problem == ""
    assert "no mask called" in plan_folder(photos, masks, output, "same").jobs[1].problem
    save(tmp_path / "masks" / "b.png", mask())
    assert ".gif is read, not written" in plan_folder(photos, masks, output, "same").jobs[1].problem
