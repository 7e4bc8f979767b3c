"""Completions of many images measured and compared: Table 3 of the paper, with the floors it lacks."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Callable, NamedTuple

import numpy as np
import PIL
from PIL import Image

from attennorm_tf.data.image_decoding import map_in_threads
from attennorm_tf.inference.hole_filling import HOLE_FILLERS
from attennorm_tf.inference.inpainting_cases import Case, InpaintingCases
from attennorm_tf.inference.inpainting_methods import FinishedImages, HoleFiller, Method
from attennorm_tf.inference.inpainting_scores import InpaintingScores
from attennorm_tf.inference.inpainting_tables import make_tables, markdown_tables, terminal_tables
from attennorm_tf.metrics import MAX_PSNR, ImageQuality, measure
from attennorm_tf.training.run_directory import describe_environment, write_text
from attennorm_tf.visualization import comparison_sheet, save_png

_SHEET_SIDE = 256  # of images of different sizes on the sheet
_MEASURED = {
    "composite": "result in the hole, original elsewhere, rounded to 8 bits",
    "psnr": f"dB, of values in [0, 1]; at most {MAX_PSNR:.0f}, so that identical images count as that",
    "ssim": "Gaussian window of 11 taps, sigma 1.5, mean over channels; whole: windows inside the image; hole: mean of "
    "the map over the missing pixels, image mirrored at its border",
    "ssim_grey": "uniform window of 7 x 7, sample covariance, ITU-R 601 grey; regions as for ssim",
    "mae": "of values in [0, 1]",
    "interval": "95%, Student's t over the images",
    "hole_psnr_over_best_opencv": "paired by image, against the OpenCV method with the higher mean PSNR in the hole",
}


class Evaluation(NamedTuple):
    """What came out.

    Attributes:
        scores: of every method on every image.
        protocol: on what and how, JSON values.
        sheet: uint8 picture of some of the images: input, every method, truth.
    """

    scores: InpaintingScores
    protocol: dict[str, Any]
    sheet: np.ndarray

    def table(self) -> str:
        """For a terminal of 80 columns."""
        return terminal_tables(make_tables(self.scores))


def evaluate_inpainting(
    cases: InpaintingCases,
    methods: Sequence[Method],
    *,
    batch_size: int = 8,
    sheet_rows: int = 8,
    save_to: str | os.PathLike[str] | None = None,
    progress: Callable[[int], object] = lambda count: None,
) -> Evaluation:
    """Completes every image by every method and measures the composites; the floors are always among the methods.

    Memory does not grow with the number of images, but for 100 bytes an image and method.

    Args:
        cases: images and holes.
        methods: besides the floors.
        batch_size: images at a time; 1 where they have different sizes.
        sheet_rows: images on the sheet, spread evenly over all.
        save_to: folder for PNG files of every image as evaluated (`images/`), its mask (`masks/`) and its completions
            (`completed/<method>/`); None: they are not kept.
        progress: told how many images were finished since it was last told.

    Returns:
        Scores, protocol, sheet.

    Raises:
        ValueError: two methods of one name, or a file that cannot be used; the message names it.
        ImportError: OpenCV is missing.
    """
    compared: list[Method] = [*(HoleFiller(name) for name in HOLE_FILLERS), *methods]
    names = [method.name for method in compared]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"methods must have different names, got {name!r} {names.count(name)} times.")
    if batch_size < 1 or sheet_rows < 1:
        raise ValueError(f"batch_size and sheet_rows must be at least 1, got {batch_size} and {sheet_rows}.")
    for method in methods:
        if isinstance(method, FinishedImages):
            method.files.check_none_missing(cases.images.names)
            method.files.check_none_unknown(cases.images.all_names())
    scores = InpaintingScores(names)
    shown = set(np.linspace(0, len(cases) - 1, min(sheet_rows, len(cases))).round().astype(int).tolist())
    pictures: list[dict[str, np.ndarray]] = []
    for batch in _batches(cases, batch_size if cases.resolution else 1):
        completed = [_composites(batch, method.complete(batch)) for method in compared]
        measured = _measure(batch, completed)
        for row, case in enumerate(batch):
            cases.note(case)
            if save_to is not None:
                _save(Path(save_to), case, {name: one[row] for name, one in zip(names, completed)})
            scores.add(case.name, float(case.hole.mean()), [one[row] for one in measured])
            if case.position in shown:
                pictures.append(_shown(case, {name: one[row] for name, one in zip(names, completed)}))
        progress(len(batch))
    return Evaluation(scores, _protocol(cases, compared), _sheet(scores, sorted(shown), pictures))


def write_evaluation(evaluation: Evaluation, folder: str | os.PathLike[str]) -> list[Path]:
    """Writes `sheet.png`, `table.txt`, `table.md` and `results.json` (last), each whole or not at all.

    Returns:
        The files.

    Raises:
        ValueError: `folder` is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output: {folder} is a file, expected a folder.")
    folder.mkdir(parents=True, exist_ok=True)
    results = {"protocol": evaluation.protocol, **evaluation.scores.to_json()}
    texts = {
        "table.txt": evaluation.table(),
        "table.md": _describe(evaluation.protocol) + "\n\n" + markdown_tables(make_tables(evaluation.scores)),
        "results.json": json.dumps(results, indent=2, allow_nan=False) + "\n",
    }
    save_png(folder / "sheet.png", evaluation.sheet)
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in ("sheet.png", *texts)]


def _batches(cases: InpaintingCases, batch_size: int) -> Iterator[list[Case]]:
    for start in range(0, len(cases), batch_size):
        yield map_in_threads(cases.__getitem__, range(start, min(start + batch_size, len(cases))))


def _composites(batch: Sequence[Case], results: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [np.where(case.hole[..., np.newaxis], result, case.truth) for case, result in zip(batch, results)]


def _measure(
    batch: Sequence[Case], completed: Sequence[Sequence[np.ndarray]]
) -> list[list[tuple[ImageQuality, ImageQuality]]]:
    """(whole, hole) of every method's every image, on all cores."""
    pairs = [(case, result) for results in completed for case, result in zip(batch, results)]
    flat = map_in_threads(lambda pair: measure(pair[0].truth, pair[1], pair[0].hole), pairs)
    return [flat[start : start + len(batch)] for start in range(0, len(flat), len(batch))]


def _save(folder: Path, case: Case, completed: dict[str, np.ndarray]) -> None:
    file = PurePosixPath(case.name).with_suffix(".png")
    save_png(folder / "images" / file, case.truth)
    save_png(folder / "masks" / file, case.hole.astype(np.uint8) * 255)
    for name, image in completed.items():
        save_png(folder / "completed" / re.sub(r"[^\w.@-]+", "_", name) / file, image)


def _protocol(cases: InpaintingCases, methods: Sequence[Method]) -> dict[str, Any]:
    environment = describe_environment()
    environment["packages"]["pillow"] = PIL.__version__
    return {
        "images": {**cases.images.facts, "enlarged": len(cases.enlarged)},
        "resolution": cases.resolution or "own",
        "masks": cases.masks.facts,
        "sha256_as_evaluated": cases.fingerprints(),
        "measures": _MEASURED,
        "methods": {method.name: method.facts() for method in methods},
        "environment": environment,
    }


def _describe(protocol: dict[str, Any]) -> str:
    """The protocol in a sentence, for readers of the table."""
    images, resolution = protocol["images"], protocol["resolution"]
    size = "their own size" if resolution == "own" else f"{resolution} x {resolution}"
    masks = ", ".join(f"{name} {value}" for name, value in protocol["masks"].items())
    return (
        f"{images['count']} images of {images['source']} at {size}; masks: {masks}. Means ± half of the 95% interval; "
        "everything else is in results.json."
    )


def _shown(case: Case, completed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    masked = np.where(case.hole[..., np.newaxis], 255, case.truth).astype(np.uint8)
    return {"input": masked, **completed, "truth": case.truth}


def _sheet(scores: InpaintingScores, rows: Sequence[int], pictures: Sequence[dict[str, np.ndarray]]) -> np.ndarray:
    if len({picture["truth"].shape for picture in pictures}) > 1:
        pictures = [{title: _letterboxed(image) for title, image in picture.items()} for picture in pictures]
    columns, captions = {}, {"input": [Path(scores.names[row]).name for row in rows]}
    for title in pictures[0]:
        head = title
        if title in scores.methods:
            values = scores.values(title, "hole", "psnr")
            head = f"{title}\n{values.mean():.2f} dB in the hole"
            captions[head] = [f"{values[row]:.2f} dB" for row in rows]
        columns[head] = np.stack([picture[title] for picture in pictures])
    return comparison_sheet(columns, captions=captions)


def _letterboxed(image: np.ndarray) -> np.ndarray:
    """In the middle of a white square of one size for all."""
    small = Image.fromarray(image)
    small.thumbnail((_SHEET_SIDE, _SHEET_SIDE))
    canvas = Image.new("RGB", (_SHEET_SIDE, _SHEET_SIDE), (255, 255, 255))
    canvas.paste(small, ((_SHEET_SIDE - small.width) // 2, (_SHEET_SIDE - small.height) // 2))
    return np.array(canvas)
