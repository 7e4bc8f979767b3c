"""attennorm-evaluate-inpainting: how close completed images are to the truth, for any number of methods at once.

    attennorm-evaluate-inpainting --images=photos --model=runs/a,runs/b --output=evaluation
    attennorm-evaluate-inpainting --images=photos --masks=holes --finished=theirs:folder --output=evaluation
    attennorm-evaluate-inpainting --images=photographs --model=runs/a --part=validation --output=evaluation

PSNR, SSIM in two forms and mean absolute error, in the hole and over the whole image, with 95% intervals, and the
difference to the better of OpenCV's methods. The holes filled with the mean of the known pixels, by Telea's and by the
Navier-Stokes method are always compared too. Holes are drawn from a seed, or files of `--masks` (white is the hole)
that are called as the images, up to the extension. Writes `results.json` (with everything that the numbers depend on),
`table.md`, `table.txt` and `sheet.png`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from absl import flags
from tqdm import tqdm

from attennorm_tf.cli.command import UsageError, console_command
from attennorm_tf.config.inpainting import MASK_KINDS, MaskConfig
from attennorm_tf.data.image_decoding import DEFAULT_MAX_PIXELS
from attennorm_tf.data.masks import MaskSource, make_masks
from attennorm_tf.inference.evaluate_inpainting import evaluate_inpainting, write_evaluation
from attennorm_tf.inference.inpainter import LoadedInpainter, load_inpainter
from attennorm_tf.inference.inpainting_cases import InpaintingCases, MatchedFiles, SeededMasks, open_images
from attennorm_tf.inference.inpainting_methods import FinishedImages, Method, Network
from attennorm_tf.training import CheckpointError

# Of this command alone: other commands have flags of the same names.
_FLAGS = flags.FlagValues()
_IMAGES = flags.DEFINE_string(
    "images",
    None,
    "folder of images, searched with its folders; or photographs, the embedded ones",
    required=True,
    flag_values=_FLAGS,
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "folder for the results; made if it is not there", required=True, flag_values=_FLAGS
)
_MODEL = flags.DEFINE_list(
    "model", [], "work directories of train.inpainting, or checkpoints; separated by commas", flag_values=_FLAGS
)
flags.DEFINE_alias("checkpoint", "model", flag_values=_FLAGS)
_NAME = flags.DEFINE_list(
    "name", [], "what to call the models in tables (default: as their experiments)", flag_values=_FLAGS
)
_AVERAGE = flags.DEFINE_bool(
    "average", True, "use the moving averages of the weights, where there are any", flag_values=_FLAGS
)
_FINISHED = flags.DEFINE_multi_string(
    "finished",
    [],
    "name:folder of images completed elsewhere, called as the originals; may be given several times",
    flag_values=_FLAGS,
)
_RESOLUTION = flags.DEFINE_integer(
    "resolution",
    None,
    "side to which centre squares are resized; 0: whole images of their own size (default: the "
    "models' training resolution, or 0 without models)",
    lower_bound=0,
    flag_values=_FLAGS,
)
_NUM_IMAGES = flags.DEFINE_integer(
    "num_images", None, "only the first so many (default: all)", lower_bound=1, flag_values=_FLAGS
)
_PART = flags.DEFINE_enum(
    "part",
    "all",
    ["all", "train", "validation"],
    "validation: what training with this fraction does not see",
    flag_values=_FLAGS,
)
_VALIDATION_FRACTION = flags.DEFINE_float("validation_fraction", 0.1, "as in training; for --part", flag_values=_FLAGS)
_MASKS = flags.DEFINE_string(
    "masks", None, "folder of masks; by name, or for --mask_kind=folder at random", flag_values=_FLAGS
)
_MASK_KIND = flags.DEFINE_enum(
    "mask_kind", None, list(MASK_KINDS), "of drawn masks (default: rectangle)", flag_values=_FLAGS
)
_MASK_HEIGHT = flags.DEFINE_integer(
    "mask_height",
    None,
    "of rectangle and center (default: half the images' shorter side)",
    lower_bound=1,
    flag_values=_FLAGS,
)
_MASK_WIDTH = flags.DEFINE_integer("mask_width", None, "likewise", lower_bound=1, flag_values=_FLAGS)
_MASK_SHRINK = flags.DEFINE_integer(
    "mask_shrink",
    None,
    "sides of rectangle are shorter by 0 to this (default: a quarter of its shorter side)",
    lower_bound=0,
    flag_values=_FLAGS,
)
_STROKES = {
    name: flags.DEFINE_integer(
        f"mask_{name}", getattr(MaskConfig, name), f"of free_form: {what}", lower_bound=1, flag_values=_FLAGS
    )
    for name, what in {
        "max_strokes": "brush strokes",
        "max_vertices": "turns of a stroke",
        "max_length": "pixels between turns",
        "max_width": "thickness in pixels",
    }.items()
}
_SEED = flags.DEFINE_integer(
    "seed", 0, "of drawn masks; the same seed gives the same masks", lower_bound=0, flag_values=_FLAGS
)
_MAX_PIXELS = flags.DEFINE_integer(
    "max_pixels", DEFAULT_MAX_PIXELS, "images with more are refused, not decoded", flag_values=_FLAGS
)
_SHEET_ROWS = flags.DEFINE_integer("sheet_rows", 8, "images on the picture sheet", lower_bound=1, flag_values=_FLAGS)
_SAVE_IMAGES = flags.DEFINE_bool(
    "save_images", False, "also write every image as evaluated, its mask and completions", flag_values=_FLAGS
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "images computed at a time", lower_bound=1, flag_values=_FLAGS)


def run() -> int:
    """Evaluates as the flags say."""
    inpainters = _inpainters()
    resolution = _resolution(inpainters)
    methods: list[Method] = [Network(model, name, as_a_tool=not resolution) for name, model in inpainters.items()]
    methods += map(_finished, _FINISHED.value)
    images = open_images(
        _IMAGES.value,
        part=_PART.value,
        validation_fraction=_VALIDATION_FRACTION.value,
        limit=_NUM_IMAGES.value,
        max_pixels=_MAX_PIXELS.value,
    )
    cases = InpaintingCases(images, _masks(resolution), resolution)
    output = Path(_OUTPUT.value)
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output: {output} is a file, expected a folder.")
    with tqdm(total=len(cases), desc="images", unit="image", disable=None, leave=False) as bar:
        evaluation = evaluate_inpainting(
            cases,
            methods,
            batch_size=_BATCH_SIZE.value,
            sheet_rows=_SHEET_ROWS.value,
            save_to=output if _SAVE_IMAGES.value else None,
            progress=bar.update,
        )
    files = write_evaluation(evaluation, output)
    size = f"{resolution} x {resolution}" if resolution else "their own size"
    print(f"{len(cases)} images of {_IMAGES.value} at {size}; means ± half of the 95% interval\n")
    print(evaluation.table())
    for path in files:
        print(f"  {path}")
    return 0


def _inpainters() -> dict[str, LoadedInpainter]:
    """The models by their names in tables."""
    names = _NAME.value
    if names and len(names) != len(_MODEL.value):
        raise UsageError(f"--name: expected one for each of {len(_MODEL.value)} models, got {len(names)}.")
    loaded = [load_inpainter(path, average=_AVERAGE.value) for path in _MODEL.value]
    own = [inpainter.name for inpainter in loaded]
    # Two checkpoints of one run differ by their steps.
    default = [f"{name}@{model.step}" if own.count(name) > 1 else name for name, model in zip(own, loaded)]
    chosen = names or default
    for name, path in zip(chosen, _MODEL.value):
        if chosen.count(name) > 1:
            raise ValueError(f"--name: several models are called {name!r}, {path} among them; give each a --name.")
    return dict(zip(chosen, loaded))


def _finished(value: str) -> FinishedImages:
    name, colon, folder = value.partition(":")
    if not (name and colon and folder):
        raise UsageError(f"--finished: expected name:folder, got {value!r}.")
    return FinishedImages(name, folder, _MAX_PIXELS.value)


def _resolution(inpainters: dict[str, LoadedInpainter]) -> int | None:
    """Side of the squares, or None for images of their own size."""
    if _RESOLUTION.value is not None:
        return _RESOLUTION.value or None
    found = {name: model.resolution for name, model in inpainters.items()}
    if len(set(found.values())) > 1:
        listed = ", ".join(f"{name!r} at {side}" for name, side in found.items())
        raise ValueError(f"--resolution: must be given for models trained at different ones ({listed}).")
    return next(iter(found.values()), None)


def _masks(resolution: int | None) -> SeededMasks | MatchedFiles:
    kind = _MASK_KIND.value
    if _MASKS.value is not None and kind is None:
        return MatchedFiles("mask", _MASKS.value, _MAX_PIXELS.value)
    kind = kind or "rectangle"
    if (_MASKS.value is not None) != (kind == "folder"):
        raise UsageError(
            f"--masks: a folder of masks and --mask_kind={kind} "
            + ("need each other." if kind == "folder" else "exclude each other; leave one out.")
        )
    given: dict[str, Any] = {
        "rectangle": {"height": _MASK_HEIGHT.value, "width": _MASK_WIDTH.value, "shrink": _MASK_SHRINK.value},
        "center": {"height": _MASK_HEIGHT.value, "width": _MASK_WIDTH.value},
        "free_form": {name: flag.value for name, flag in _STROKES.items()},
        "folder": {"root": _MASKS.value},
    }.get(kind, {})
    folder = make_masks(kind, **given) if kind == "folder" else None

    def options(height: int, width: int) -> dict[str, Any]:
        chosen = {name: value for name, value in given.items() if value is not None}
        if kind in ("rectangle", "center"):
            for name in ("height", "width"):
                chosen.setdefault(name, max(1, min(height, width) // 2))
        if kind == "rectangle":
            chosen.setdefault("shrink", min(chosen["height"], chosen["width"]) // 4)
        return chosen

    def source(height: int, width: int) -> MaskSource:
        return folder or make_masks(kind, **options(height, width))

    facts = options(resolution, resolution) if resolution else {}
    return SeededMasks(source, _SEED.value, {"kind": kind, **given, **facts})


main = console_command(__doc__, _FLAGS, run, (CheckpointError,))


if __name__ == "__main__":
    main()
