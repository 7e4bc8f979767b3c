"""Photographs in files and folders with their holes filled; a file that cannot be is named, and the others are done."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable, NamedTuple

import numpy as np
import tensorflow as tf

from attennorm_tf.data.image_decoding import DEFAULT_MAX_PIXELS
from attennorm_tf.data.photo_files import (
    READABLE,
    WRITABLE,
    check_output,
    output_format,
    read_mask,
    read_photo,
    write_photo,
)
from attennorm_tf.inference.holes import hole_of
from attennorm_tf.inference.inpaint import (
    DEFAULT_TILE,
    check_options,
    check_sizes,
    fill_holes,
    prepared_hole,
)
from attennorm_tf.inference.inpainter import LoadedInpainter
from attennorm_tf.inference.pixel_modes import picture_of

# Fills a hole: colours uint8 (H, W, 3) and where the hole is, bool (H, W), to colours; only those in the hole are used.
Fill = Callable[[np.ndarray, np.ndarray], np.ndarray]

ENDINGS = ("png", "webp", "tif", "bmp", "jpg", "same")


class NotFilledError(RuntimeError):
    """Why a fill function could not fill this photograph's hole, though it may those of others."""


class Job(NamedTuple):
    """One photograph to complete; `problem` says why it cannot even be tried, or is empty."""

    image: Path
    mask: Path
    output: Path
    problem: str = ""


class Outcome(NamedTuple):
    """What became of a job: `problem` names the file and says why there is no output, or is empty."""

    job: Job
    problem: str


class Options(NamedTuple):
    """How holes are filled (see `attennorm_tf.inpaint`) and files written (quality: of JPEG)."""

    grow: float = 0
    invert: bool = False
    feather: float = 0
    scale: str = "auto"
    tile: int = DEFAULT_TILE
    max_pixels: int = DEFAULT_MAX_PIXELS
    quality: int = 95
    overwrite: bool = False

    def check(self) -> None:
        """Raises ValueError for the first option out of range."""
        check_options(self.grow, self.feather, self.scale, self.tile)
        for name, value, most in (("max_pixels", self.max_pixels, None), ("quality", self.quality, 100)):
            if value < 1 or (most is not None and value > most):
                raise ValueError(f"{name} must be {'>= 1' if most is None else f'in [1, {most}]'}, got {value}.")


class FolderPlan(NamedTuple):
    """jobs: one for each photograph, in the order of their names; unused: masks that none of them has."""

    jobs: list[Job]
    unused: list[Path]


def plan_file(image: str, mask: str, output: str) -> Job:
    """One photograph.

    Raises:
        ValueError: `output` is a folder or its ending names no format, or is the mask.
    """
    if Path(output).is_dir():
        raise ValueError(f"output {output!r} is a folder, expected a file name like the image.")
    output_format(output)
    return Job(Path(image), Path(mask), Path(output), _clash(Path(mask), Path(output)))


def plan_folder(images: str, masks: str, output: str, ending: str = "png") -> FolderPlan:
    """All photographs in a folder and the folders in it.

    A photograph's mask lies at the same place under `masks` and has the same name up to the ending: `a/b.jpg` belongs
    to `a/b.png`. Hidden files, files that are no images by their ending, and `masks` and `output` where they lie in
    `images`, are passed over.

    Args:
        images: the folder.
        masks: a folder, or one file for all.
        output: folder for the results, laid out like `images`.
        ending: of the results: "png", "webp", "tif", "bmp", "jpg", or "same" as the photograph's.

    Returns:
        The plan.

    Raises:
        ValueError: a folder is not there or holds no images, or both are one.
    """
    if ending not in ENDINGS:
        raise ValueError(f"format must be one of {', '.join(ENDINGS)}; got {ending!r}.")
    if Path(output).exists() and not Path(output).is_dir():
        raise ValueError(f"output {output!r} is a file, expected a folder.")
    if not Path(masks).exists():
        raise ValueError(f"masks {masks!r}: there is no such file or folder.")
    if os.path.realpath(images) == os.path.realpath(masks):
        raise ValueError(f"images and masks must be different folders, both are {images!r}.")
    photographs = _image_files(images, "images", (masks, output))
    by_stem: dict[Path, list[Path]] = {}
    if Path(masks).is_dir():
        for file in _image_files(masks, "masks", (images, output)):
            by_stem.setdefault(file.with_suffix(""), []).append(file)
    else:
        by_stem = {file.with_suffix(""): [Path()] for file in photographs}
    jobs: list[Job] = []
    written: dict[Path, Path] = {}
    for file in photographs:
        target = Path(output) / (file if ending == "same" else file.with_suffix(f".{ending}"))
        found = by_stem.get(file.with_suffix(""), [])
        mask = Path(masks) / found[0] if found else Path(masks)
        problem = ""
        if not found:
            problem = f"image '{Path(images) / file}': no mask called '{Path(masks) / file.with_suffix('')}.*'."
        elif len(found) > 1:
            names = ", ".join(repr(path.name) for path in found)
            problem = f"image '{Path(images) / file}': more than one mask is called like it: {names}."
        elif target in written:
            problem = f"image '{Path(images) / file}': its output '{target}' is that of '{written[target]}', too."
        elif target.suffix.lower() not in WRITABLE:
            problem = f"image '{Path(images) / file}': {target.suffix} is read, not written; choose another format."
        written.setdefault(target, Path(images) / file)
        jobs.append(Job(Path(images) / file, mask, target, problem or _clash(mask, target)))
    stems = {file.with_suffix("") for file in photographs}
    unused = [Path(masks) / file for stem, files in sorted(by_stem.items()) if stem not in stems for file in files]
    return FolderPlan(jobs, unused)


def inpaint_files(jobs: Iterable[Job], inpainter: LoadedInpainter, options: Options) -> Iterator[Outcome]:
    """Completes photographs one after the other; whatever is wrong with one is reported, and the next is done.

    Args:
        jobs: what to do.
        inpainter: the network.
        options: how.

    Yields:
        An outcome for each job, in order. A file is written whole or not at all.

    Raises:
        ValueError: an option is out of range; before anything is read.
    """

    def fill(rgb: np.ndarray, hole: np.ndarray) -> np.ndarray:
        return fill_holes(rgb, hole, inpainter, options.feather, options.scale, options.tile)

    yield from fill_files(jobs, fill, options)


def fill_files(jobs: Iterable[Job], fill: Fill, options: Options, parallel: int = 1) -> Iterator[Outcome]:
    """The same by any function that fills holes.

    Args:
        jobs: what to do.
        fill: the function. Its ValueError and NotFilledError are reported for the photograph, anything else ends all.
        options: of the files; feather, scale and tile are for `fill` to know.
        parallel: photographs worked on at a time; above 1, `fill` is called by several threads.

    Yields:
        An outcome for each job, in order. A file is written whole or not at all.

    Raises:
        ValueError: an option is out of range; before anything is read.
    """
    options.check()
    if parallel < 1:
        raise ValueError(f"parallel must be >= 1, got {parallel}.")

    @functools.lru_cache(maxsize=1)  # one mask may serve all
    def hole_in(mask: Path) -> np.ndarray:
        return hole_of(read_mask(mask, options.max_pixels), f"mask '{mask}'")

    def outcome(job: Job) -> Outcome:
        return Outcome(job, job.problem or _problem_of(job, fill, options, hole_in))

    if parallel == 1:
        yield from map(outcome, jobs)
        return
    pool = ThreadPoolExecutor(parallel)
    try:
        yield from pool.map(outcome, jobs)
    finally:
        pool.shutdown(cancel_futures=True)


def _problem_of(job: Job, fill: Fill, options: Options, hole_in: Callable[[Path], np.ndarray]) -> str:
    """Does a job; what went wrong, or nothing."""
    try:
        _fill_file(job, fill, options, hole_in)
    except MemoryError:
        return f"image '{job.image}': out of memory."
    except NotFilledError as error:
        return f"image '{job.image}': {error}"
    except tf.errors.OpError as error:
        return f"image '{job.image}': {(error.message or type(error).__name__).splitlines()[0]}"
    except OSError as error:
        return f"output '{job.output}' cannot be written: {error.strerror or error}."
    except ValueError as error:
        return str(error)
    return ""


def _fill_file(job: Job, fill: Fill, options: Options, hole_in: Callable[[Path], np.ndarray]) -> None:
    if job.output.exists() and not options.overwrite:
        raise ValueError(f"output '{job.output}' exists; it is replaced only with overwrite.")
    image_name, mask_name = f"image '{job.image}'", f"mask '{job.mask}'"
    photo = read_photo(job.image, options.max_pixels)
    try:
        check_output(job.output, photo)
    except ValueError as error:
        raise ValueError(f"{image_name}: {error}") from error
    mask = hole_in(job.mask)
    picture = picture_of(photo, image_name)
    check_sizes(picture.rgb, mask, image_name, mask_name)
    hole = prepared_hole(mask, options.grow, options.invert, mask_name)
    write_photo(job.output, picture.replaced(fill(picture.rgb, hole), hole), options.quality)


def _clash(mask: Path, output: Path) -> str:
    same = mask.exists() and output.exists() and mask.samefile(output)
    return f"output '{output}' is the mask itself." if same else ""


def _image_files(root: str, argument: str, without: tuple[str, ...]) -> list[Path]:
    """Image files under a folder, relative to it and sorted."""
    if not os.path.isdir(root):
        problem = "is a file" if os.path.exists(root) else "does not exist"
        raise ValueError(f"{argument}: {root!r} {problem}; expected a folder.")
    met = {os.path.realpath(path) for path in (root, *without)}  # links may lead back
    found = []
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".") and _is_new(Path(folder) / name, met)]
        for name in files:
            if not name.startswith(".") and name.lower().endswith(READABLE):
                found.append((Path(folder) / name).relative_to(root))
    if not found:
        raise ValueError(f"{argument}: folder {root!r} holds no images ({', '.join(READABLE)}).")
    return sorted(found)


def _is_new(folder: Path, met: set[str]) -> bool:
    real = os.path.realpath(folder)
    new = real not in met
    met.add(real)
    return new
