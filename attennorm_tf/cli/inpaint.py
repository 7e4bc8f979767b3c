"""attennorm-inpaint: fills holes in photographs.

    attennorm-inpaint --model=runs/facades --image=photo.jpg --mask=mask.png --output=out.png
    attennorm-inpaint --model=runs/facades --images=photos --masks=holes --output=results
    attennorm-inpaint --model=runs/facades --images=photos --masks=logo.png --output=results --grow=4 --feather=3

White in a mask (128 and above) is the hole; a mask is as large as its photograph, as a viewer shows it. In folders, a
mask is called as its photograph, up to the extension, or one mask serves all; folders in folders are kept. Everything
outside the hole comes back bit for bit, and so do transparency, EXIF and colour profile: choose .png, .webp, .tif or
.bmp (no EXIF there) for the output; .jpg changes every pixel a little. Photographs turned by their EXIF orientation
are written upright. A file that cannot be used is reported with the reason, the others are done; the exit code is 1
then.
"""

from __future__ import annotations

from absl import flags

from attennorm_tf.cli.command import console_command
from attennorm_tf.cli.photo_jobs import note_on_jpeg, planned_jobs, show_outcomes
from attennorm_tf.data.image_decoding import DEFAULT_MAX_PIXELS
from attennorm_tf.inference.inpaint import DEFAULT_TILE, SCALES
from attennorm_tf.inference.inpaint_files import ENDINGS, Options, inpaint_files
from attennorm_tf.inference.inpainter import load_inpainter
from attennorm_tf.training import CheckpointError

# Of this command alone: other commands have flags of the same names.
_FLAGS = flags.FlagValues()
_MODEL = flags.DEFINE_string(
    "model", None, "work directory of train.inpainting, or one of its checkpoints", required=True, flag_values=_FLAGS
)
flags.DEFINE_alias("checkpoint", "model", flag_values=_FLAGS)
_IMAGE = flags.DEFINE_string("image", None, "one photograph; needs --mask", flag_values=_FLAGS)
_MASK = flags.DEFINE_string("mask", None, "its mask", flag_values=_FLAGS)
_IMAGES = flags.DEFINE_string("images", None, "folder of photographs; needs --masks", flag_values=_FLAGS)
_MASKS = flags.DEFINE_string("masks", None, "folder of masks, or one mask for all", flag_values=_FLAGS)
_OUTPUT = flags.DEFINE_string(
    "output", None, "file for the result of --image, folder for those of --images", required=True, flag_values=_FLAGS
)
_GROW = flags.DEFINE_float("grow", 0, "make holes larger by this many pixels", lower_bound=0, flag_values=_FLAGS)
_INVERT = flags.DEFINE_bool("invert", False, "black is the hole, not white", flag_values=_FLAGS)
_FEATHER = flags.DEFINE_float(
    "feather", 0, "width of the hole's rim that is blended with what was there; best with --grow at least as large",
    lower_bound=0, flag_values=_FLAGS,
)  # fmt: skip
_SCALE = flags.DEFINE_enum(
    "scale", "auto", list(SCALES), "auto: fill holes larger than those of training at a reduced scale; native: never",
    flag_values=_FLAGS,
)  # fmt: skip
_TILE = flags.DEFINE_integer(
    "tile", DEFAULT_TILE, "side in pixels of the largest part the network sees at once; memory grows with its square",
    flag_values=_FLAGS,
)  # fmt: skip
_FORMAT = flags.DEFINE_enum(
    "format", "png", list(ENDINGS), "of the results of --images; same: as the photograph's", flag_values=_FLAGS
)
_QUALITY = flags.DEFINE_integer("quality", 95, "of JPEG, 1 to 100", 1, 100, flag_values=_FLAGS)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "replace outputs that exist", flag_values=_FLAGS)
_AVERAGE = flags.DEFINE_bool(
    "average", True, "use the moving average of the weights, where there is one", flag_values=_FLAGS
)
_MAX_PIXELS = flags.DEFINE_integer(
    "max_pixels", DEFAULT_MAX_PIXELS, "largest width * height that is read", lower_bound=1, flag_values=_FLAGS
)


def run() -> int:
    """Completes as the flags say."""
    options = Options(
        _GROW.value, _INVERT.value, _FEATHER.value, _SCALE.value, _TILE.value, _MAX_PIXELS.value, _QUALITY.value,
        _OVERWRITE.value,
    )  # fmt: skip
    options.check()
    jobs = planned_jobs(_IMAGE.value, _MASK.value, _IMAGES.value, _MASKS.value, _OUTPUT.value, _FORMAT.value)
    inpainter = load_inpainter(_MODEL.value, average=_AVERAGE.value)
    note_on_jpeg(jobs)
    outcomes = inpaint_files(jobs, inpainter, options)
    return 1 if show_outcomes(outcomes, len(jobs), f"{inpainter.name}, step {inpainter.step}") else 0


main = console_command(__doc__, _FLAGS, run, (CheckpointError,))


if __name__ == "__main__":
    main()
