"""Evaluations: what is measured, against plain computation; what is refused, by its message."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from attennorm_tf.data.masks import make_masks
from attennorm_tf.data.photographs import load_photographs
from attennorm_tf.inference.evaluate_inpainting import evaluate_inpainting, write_evaluation
from attennorm_tf.inference.hole_filling import HOLE_FILLERS
from attennorm_tf.inference.inpaint import inpaint
from attennorm_tf.inference.inpainter import LoadedInpainter
from attennorm_tf.inference.inpainting_cases import InpaintingCases, MatchedFiles, SeededMasks, open_images
from attennorm_tf.inference.inpainting_methods import FinishedImages, Network
from attennorm_tf.inference.inpainting_scores import InpaintingScores
from attennorm_tf.inference.inpainting_tables import make_tables, markdown_tables, terminal_tables
from attennorm_tf.metrics import ImageQuality, mae, psnr, ssim
from attennorm_tf.training.inpainting_watch import InpaintingWatch
from attennorm_tf.visualization import to_uint8
from tests.inference.inpainters import tiny_inpainter

NAMES = ["a.png", "b.jpg", "sub/c.png", "sub/d.png", "z.png"]


def picture(seed: int, height: int, width: int) -> np.ndarray:
    """Smooth, so that JPEG and resizing keep it."""
    rows, columns = np.mgrid[:height, :width]
    waves = [127 + 90 * np.sin(rows / (6 + channel) + seed) * np.cos(columns / 9 - channel) for channel in range(3)]
    return np.stack(waves, axis=-1).round().astype(np.uint8)


@pytest.fixture(scope="module")
def inpainter() -> LoadedInpainter:
    return tiny_inpainter()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five photographs of different sizes, and a file that is none."""
    root = tmp_path / "photos"
    (root / "sub").mkdir(parents=True)
    for seed, name in enumerate(NAMES):
        Image.fromarray(picture(seed, 40 + 4 * seed, 52)).save(root / name, quality=95)
    (root / "notes.txt").write_text("not an image")
    return root


def rectangles(seed: int = 0) -> SeededMasks:
    return SeededMasks(
        lambda height, width: make_masks("rectangle", height=16, width=16, shrink=8), seed, {"kind": "x"}
    )


def cases_of(folder: Path, masks: SeededMasks | MatchedFiles | None = None, resolution: int | None = 32, **options):
    return InpaintingCases(open_images(str(folder), **options), masks or rectangles(), resolution)


class Brightened:
    """Completes with the truth made brighter, which is known only to it; wrong outside the hole."""

    def __init__(self, name: str, by: int):
        self.name, self.by = name, by
        self.batches: list[int] = []

    def complete(self, cases):
        self.batches.append(len(cases))
        results = [np.where(case.hole[..., None], case.truth + self.by, 0) for case in cases]
        return [np.clip(result, 0, 255).astype(np.uint8) for result in results]

    def facts(self):
        return {"kind": "test", "by": self.by}


def test_scores_are_those_of_the_composites(folder):
    cases = cases_of(folder)
    evaluation = evaluate_inpainting(cases, [Brightened("five", 5), Brightened("perfect", 0)], batch_size=2)
    scores = evaluation.scores
    assert scores.names == NAMES
    assert scores.methods == ["mean of known", "Telea", "Navier-Stokes", "five", "perfect"]
    for position in range(5):
        case = cases[position]
        assert scores.hole_shares[position] == case.hole.mean()
        for name, fill in HOLE_FILLERS.items():
            filled = fill(case.truth, case.hole)
            assert scores.values(name, "hole", "psnr")[position] == psnr(case.truth, filled, case.hole)
            assert scores.values(name, "whole", "psnr")[position] == psnr(case.truth, filled)
            assert scores.values(name, "hole", "ssim")[position] == ssim(case.truth, filled, case.hole)
            assert scores.values(name, "whole", "ssim")[position] == ssim(case.truth, filled)
        assert scores.values("five", "hole", "psnr")[position] == pytest.approx(-20 * np.log10(5 / 255))
        share = case.hole.mean()
        assert scores.values("five", "whole", "mae")[position] == pytest.approx(5 / 255 * share)
    # Identical images have no infinite place in a mean.
    assert set(scores.values("perfect", "hole", "psnr")) == {100.0}
    assert set(scores.values("perfect", "whole", "ssim")) == {1.0}


def test_images_are_read_in_batches(folder):
    counted = Brightened("x", 1)
    progress: list[int] = []
    evaluate_inpainting(cases_of(folder), [counted], batch_size=2, progress=progress.append)
    assert counted.batches == progress == [2, 2, 1]
    counted = Brightened("x", 1)
    evaluate_inpainting(cases_of(folder, resolution=None), [counted], batch_size=2)
    assert counted.batches == [1] * 5


def test_what_training_holds_out_is_evaluated_as_training_sees_it(folder, inpainter):
    """The network's PSNR in the hole is the one that training logs, but for rounding to 8 bits."""
    cases = cases_of(folder, rectangles(seed=7), part="validation", validation_fraction=0.5)
    held_out = load_photographs("image_folder", str(folder), part="validation", validation_fraction=0.5)
    images = held_out.arrays(32)
    assert cases.images.names == held_out.file_names
    assert 1 <= len(cases) < 5
    np.testing.assert_array_equal(np.stack([case.truth for case in cases]) / np.float32(127.5) - 1, images)
    holes = make_masks("rectangle", height=16, width=16, shrink=8)(np.arange(len(images)), 7, (32, 32)).numpy()
    np.testing.assert_array_equal([case.hole for case in cases], holes[..., 0] == 1)
    scores = evaluate_inpainting(cases, [Network(inpainter, "tiny")], batch_size=2).scores
    watch = InpaintingWatch(inpainter.model, images, holes, batch_size=4)
    assert scores.values("tiny", "hole", "psnr").mean() == pytest.approx(
        watch.validate()["validation_hole_psnr"], abs=0.01
    )
    # 8-bit fill against an exact one
    assert scores.values("mean of known", "hole", "psnr").mean() == pytest.approx(watch.mean_fill_psnr(), abs=0.05)


def test_own_sizes_are_evaluated_whole(folder, tmp_path, inpainter):
    cases = cases_of(folder, resolution=None)
    for case, seed in zip(cases, range(5)):
        assert case.truth.shape == (40 + 4 * seed, 52, 3)
        if case.name.endswith("png"):
            np.testing.assert_array_equal(case.truth, picture(seed, 40 + 4 * seed, 52))
    methods = [Network(inpainter, "whole"), Network(inpainter, "tool", as_a_tool=True)]
    evaluation = evaluate_inpainting(cases, methods, sheet_rows=2)
    for case in cases:
        images = case.truth[None] / np.float32(127.5) - 1
        whole = to_uint8(inpainter.complete(images, case.hole[None, ..., None].astype(np.float32)))[0]
        tool = inpaint(case.truth, case.hole, inpainter)
        for name, result in (("whole", whole), ("tool", tool)):
            assert evaluation.scores.values(name, "hole", "mae")[case.position] == mae(case.truth, result, case.hole)
    assert evaluation.sheet.shape[0] > 2 * 256
    assert evaluation.protocol["resolution"] == "own"
    write_evaluation(evaluation, tmp_path / "out")


def test_masks_of_files(folder, tmp_path):
    """White from 128 on; of the image's own size, treated as it, or of the evaluation's size."""
    (tmp_path / "masks" / "sub").mkdir(parents=True)
    resized = {}
    for seed, name in enumerate(NAMES):
        size = (32, 32) if seed == 3 else (40 + 4 * seed, 52)
        mask = np.random.RandomState(seed).randint(127, 129, size).astype(np.uint8)
        Image.fromarray(mask).save(tmp_path / "masks" / Path(name).with_suffix(".bmp"))
        side = min(size)
        left, top = (size[1] - side) // 2, (size[0] - side) // 2
        nearest = ((np.arange(32) + 0.5) * side / 32).astype(int)  # centres of the pixels
        resized[name] = mask[top : top + side, left : left + side][nearest][:, nearest] == 128
    cases = cases_of(folder, MatchedFiles("mask", str(tmp_path / "masks")))
    for case in cases:
        np.testing.assert_array_equal(case.hole, resized[case.name], case.name)
    # More masks than images are no mistake.
    cases_of(folder, MatchedFiles("mask", str(tmp_path / "masks")), limit=2)


def test_finished_images(folder, tmp_path, caplog):
    """Scored in the hole only, whatever they hold elsewhere; found by name; of own or of evaluated size."""
    cases = cases_of(folder)
    for case in cases:
        result = np.where(case.hole[..., None], np.minimum(case.truth, 250) + 5, 255 - case.truth).astype(np.uint8)
        path = tmp_path / "theirs" / Path(case.name).with_suffix(".bmp")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(result).save(path)
    evaluation = evaluate_inpainting(cases, [FinishedImages("theirs", str(tmp_path / "theirs")), Brightened("five", 5)])
    np.testing.assert_array_equal(
        evaluation.scores.values("theirs", "hole", "psnr"), evaluation.scores.values("five", "hole", "psnr")
    )
    np.testing.assert_array_equal(
        evaluation.scores.values("theirs", "whole", "ssim"), evaluation.scores.values("five", "whole", "ssim")
    )
    assert "theirs: outside the holes, the images of" in caplog.text
    # Copies of the photographs are perfect, at every size.
    for resolution in (32, None):
        scores = evaluate_inpainting(
            cases_of(folder, resolution=resolution), [FinishedImages("copies", str(folder))]
        ).scores
        assert set(scores.values("copies", "whole", "psnr")) == {100.0}


def test_files(folder, tmp_path):
    def run(output: Path) -> dict[str, bytes]:
        cases = cases_of(folder, part="train", validation_fraction=0.3, limit=3)
        evaluation = evaluate_inpainting(cases, [Brightened("five", 5), Brightened("perfect", 0)], save_to=output)
        files = write_evaluation(evaluation, output)
        assert [file.name for file in files] == ["sheet.png", "table.txt", "table.md", "results.json"]
        return {file.name: file.read_bytes() for file in files}

    first, second = run(tmp_path / "one"), run(tmp_path / "two")
    assert first == second

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    results = json.loads(first["results.json"], parse_constant=refuse)
    protocol = results["protocol"]
    assert protocol["images"] == {
        "source": str(folder), "part": "train", "count": 3, "validation_fraction": 0.3, "enlarged": 0,
    }  # fmt: skip
    assert protocol["masks"] == {"kind": "x", "seed": 0}
    assert protocol["methods"]["five"] == {"kind": "test", "by": 5}
    assert protocol["methods"]["Telea"]["radius"] == 3
    assert protocol["environment"]["packages"]["tensorflow"]
    assert set(protocol["sha256_as_evaluated"]) == {"images", "masks"}
    best = results["best_opencv"]
    differences = [
        image["methods"]["five"]["hole"]["psnr"] - image["methods"][best]["hole"]["psnr"] for image in results["images"]
    ]
    interval = stats.t.interval(0.95, 2, np.mean(differences), stats.sem(differences))
    over = results["methods"]["five"]["hole_psnr_over_best_opencv"]
    assert (over["mean"], over["low"], over["high"]) == pytest.approx((np.mean(differences), *interval))
    assert results["methods"][best]["hole_psnr_over_best_opencv"] is None
    assert sum(one["images"] for one in results["bins"].values()) == 3
    assert "| five |" in first["table.md"].decode()
    names = [Path(image["name"]).with_suffix(".png") for image in results["images"]]
    # What was saved can be evaluated: by the same masks, and as finished images.
    saved = tmp_path / "one"
    again = InpaintingCases(open_images(str(saved / "images")), MatchedFiles("mask", str(saved / "masks")), 32)
    assert again.images.names == [name.as_posix() for name in names]
    finished = FinishedImages("five", str(saved / "completed" / "five"))
    scores = json.loads(json.dumps(evaluate_inpainting(again, [finished]).scores.to_json()))
    assert scores["methods"]["five"] == results["methods"]["five"]
    assert finished.facts()["known_mae"] == 0


def test_fingerprints_tell_what_was_evaluated(folder):
    def prints(**options):
        cases = cases_of(folder, **options)
        for case in cases:
            cases.note(case)
        return cases.fingerprints()

    first = prints()
    assert evaluate_inpainting(cases_of(folder), [], batch_size=2).protocol["sha256_as_evaluated"] == first
    assert prints(masks=rectangles(seed=1))["images"] == first["images"]
    assert prints(masks=rectangles(seed=1))["masks"] != first["masks"]
    assert prints(limit=4)["images"] != first["images"]
    changed = picture(0, 40, 52)
    changed[20, 26] ^= 255
    Image.fromarray(changed).save(folder / "a.png")
    assert prints()["images"] != first["images"]
    assert prints()["masks"] == first["masks"]


def quality(value: float) -> ImageQuality:
    return ImageQuality(value, min(value, 99) / 100, min(value, 99) / 200, 1 / value)


def test_best_opencv_and_bins():
    scores = InpaintingScores(["Telea", "Navier-Stokes", "network_a_with_a_long_name", "network_b_with_a_long_name"])
    shares = [0.05, 0.1, 0.100001, 0.25, 0.99]
    for row, share in enumerate(shares):
        values = (10 if row else 16, 11 + row if row else 9, 12 + 2 * row, np.inf)
        scores.add(f"{row}.png", share, [(quality(1), quality(value)) for value in values])
    assert scores.best_opencv() == "Navier-Stokes"  # though not on the first image, the best of all
    over = scores.over_opencv("network_a_with_a_long_name")
    assert over is not None
    assert over.mean == pytest.approx(np.mean([3, 2, 3, 4, 5]))
    assert scores.over_opencv("Navier-Stokes") is None
    assert {name: rows.tolist() for name, rows in scores.bins().items()} == {
        "0-10%": [0, 1], "10-20%": [2], "20-30%": [3], "60-100%": [4],
    }  # fmt: skip
    tables = make_tables(scores)
    text = terminal_tables(tables)
    assert max(map(len, text.splitlines())) <= 80
    assert "over N.-S." in text
    cells = text.splitlines()[2].split()
    assert cells[:2] == ["Telea", "11.20"]
    shown = {line.split()[0] for line in text.splitlines() if line.startswith("netwo")}
    assert len(shown) == 2, "names that are cut remain distinct"
    markdown = markdown_tables(tables)
    assert "| network_a_with_a_long_name | 16.00 ±3.93 |" in markdown
    assert "| images | 2 | 1 | 1 | 1 |" in markdown


def test_without_opencv_among_the_methods_nothing_is_compared():
    scores = InpaintingScores(["a"])
    scores.add("x", 0.5, [(quality(1), quality(2))])
    assert scores.best_opencv() is None
    assert scores.over_opencv("a") is None
    assert scores.summary("a")["hole"]["psnr"] == (2, None, None)
    assert "over" not in terminal_tables(make_tables(scores))


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "I;16", "RGBA", "1"])
def test_images_of_any_mode(folder, mode):
    grey = picture(0, 40, 52)[..., :1].repeat(3, axis=-1)
    image = Image.fromarray(grey)
    if mode == "I;16":
        image = Image.fromarray(grey[..., 0].astype(np.uint16) * 257)
    elif mode != "RGB":
        image = image.convert(mode, palette=Image.Palette.ADAPTIVE, colors=256)
    (folder / "a.png").unlink()
    path = folder / ("a.jpg" if mode == "CMYK" else "a.png")
    image.save(path, quality=100)
    truth = cases_of(folder, resolution=None)[0].truth
    assert truth.shape == (40, 52, 3)
    if mode != "1":
        assert np.abs(truth.astype(int) - grey).max() <= 6


def damage(folder: Path, name: str) -> None:
    """One of the ways in which an image is of no use."""
    path = folder / "sub" / "c.png"
    if name == "no image":
        path.write_text("hello")
    elif name == "truncated":
        path.write_bytes(path.read_bytes()[:300])
    elif name == "empty":
        path.write_bytes(b"")
    else:
        Image.fromarray(np.zeros((1, 1, 3), np.uint8)).save(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no image", "c.png': not a PNG"),
        ("truncated", "c.png': "),
        ("empty", "c.png': the file is empty"),
        ("1 x 1", "image 'sub/c.png' is 1 x 1 pixels, too small to be measured: expected at least 11 x 11"),
    ],
)
def test_unusable_images_are_named(folder, name, message):
    damage(folder, name)
    with pytest.raises(ValueError, match=re.escape(message)):
        evaluate_inpainting(cases_of(folder), [])


def test_too_large_images_are_refused_before_they_are_decoded(folder):
    with pytest.raises(ValueError, match=r"a\.png': 52 x 40 pixels, more than max_pixels=2079"):
        evaluate_inpainting(cases_of(folder, max_pixels=2079), [])
    evaluate_inpainting(cases_of(folder, max_pixels=52 * 56), [])


def save_masks(folder: Path, root: Path) -> Path:
    for case in cases_of(folder, resolution=None):
        path = root / Path(case.name).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(case.hole.astype(np.uint8) * 255).save(path)
    return root


@pytest.mark.parametrize(
    ("resolution", "mask", "message"),
    [
        (None, np.zeros((44, 52)), "c.png' is 0 everywhere (nothing is missing) at 48 x 52 pixels"),
        (32, np.full((48, 52), 255), "c.png' is 1 everywhere (nothing is known) at 32 x 32 pixels"),
        (None, np.eye(32) * 255, "c.png' is 32 x 32 pixels (height x width), but image 'sub/c.png' is 48 x 52."),
        (32, np.eye(52) * 255, "is 52 x 52 pixels (height x width), but image 'sub/c.png' is 48 x 52 (and is"),
        (32, None, "image 'sub/c.png' has no mask 'sub/c.*' in '"),
    ],
)  # fmt: skip
def test_unusable_masks_are_named(folder, tmp_path, resolution, mask, message):
    masks = save_masks(folder, tmp_path / "masks")
    if mask is None:
        (masks / "sub" / "c.png").unlink()
    else:
        if mask.shape[0] == 44:
            mask = np.zeros((48, 52))
        Image.fromarray(mask.astype(np.uint8)).save(masks / "sub" / "c.png")
    with pytest.raises(ValueError, match=re.escape(message)):
        evaluate_inpainting(cases_of(folder, MatchedFiles("mask", str(masks)), resolution), [])


def test_finished_folders_that_do_not_fit(folder, tmp_path):
    finished = save_masks(folder, tmp_path / "finished")

    def evaluate(**options):
        evaluate_inpainting(cases_of(folder, **options), [FinishedImages("x", str(finished))])

    evaluate(limit=2)  # the rest belongs to images that are left out
    Image.new("RGB", (9, 9)).save(finished / "other.png")
    with pytest.raises(ValueError, match=r"finished image '.*other\.png' belongs to none of the images"):
        evaluate()
    (finished / "other.png").rename(finished / "b.bmp")
    with pytest.raises(ValueError, match=r"'b\.bmp' and 'b\.png' belong to one image; remove one"):
        evaluate()
    (finished / "b.png").unlink()
    with pytest.raises(ValueError, match=r"finished image '.*b\.bmp' is 9 x 9 pixels .* image 'b\.jpg' is 44 x 52"):
        evaluate()
    (finished / "b.bmp").unlink()
    with pytest.raises(ValueError, match=re.escape("image 'b.jpg' has no finished image 'b.*' in ")):
        evaluate()
    Image.new("RGB", (52, 40)).save(folder / "a.jpg")
    with pytest.raises(ValueError, match=r"images 'a\.jpg' and 'a\.png' would share one finished image"):
        evaluate()


def test_drawn_masks_that_do_not_fit_name_the_image(folder):
    masks = SeededMasks(lambda height, width: make_masks("center", height=44, width=16), 0, {})
    with pytest.raises(ValueError, match=r"image 'a\.png': masks of kind 'center' with height=44"):
        evaluate_inpainting(cases_of(folder, masks, None), [])


def test_bad_arguments(folder, tmp_path):
    with pytest.raises(ValueError, match="different names, got 'Telea' 2 times"):
        evaluate_inpainting(cases_of(folder), [Brightened("Telea", 1)])
    with pytest.raises(ValueError, match="must be at least 1, got 0 and 8"):
        evaluate_inpainting(cases_of(folder), [], batch_size=0)
    with pytest.raises(ValueError, match="resolution must be at least 11, got 8"):
        cases_of(folder, resolution=8)
    with pytest.raises(ValueError, match="number of images must be at least 1, got 0"):
        cases_of(folder, limit=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"output: .*file is a file"):
        write_evaluation(evaluate_inpainting(cases_of(folder, limit=1), []), tmp_path / "file")


def test_small_images_are_counted(folder):
    assert evaluate_inpainting(cases_of(folder, resolution=48), []).protocol["images"]["enlarged"] == 2
