"""attennorm-visualize: pictures of the layouts that a trained network finds, and of its training.

    attennorm-visualize --checkpoint=runs/digits --output=pictures
    attennorm-visualize --checkpoint=runs/digits --kind=interpolation --interpolate=1,7,4 --strips=3 --output=pictures
    attennorm-visualize --checkpoint=runs/facades --images=photos --masks=holes --output=pictures

Writes a PNG for each kind, by default for all that the checkpoint has:

    layouts        images, the binarised layouts in colour, both in one; a legend
    entities       one attention map for each entity over the image (the paper's Figure 5)
    statistics     the regions, and mean and standard deviation of the features inside each and over the whole map
                   (Figure 4); the numbers also as statistics.json
    interpolation  from class to class with the noise fixed, and one entity's map followed (Figure 8); GANs only
    curves         every scalar of the run's metrics.jsonl over the step

An entity has one colour in all pictures of all runs; colour-blind readers can tell the colours apart. A GAN is shown on
images that it generates, an inpainting network on photographs: of --images with the holes of --masks (white is the
hole; a folder with a mask called as its photograph, or one mask for all), by default with holes as in its training.
"""

from __future__ import annotations

import functools
from pathlib import Path

from absl import flags

from attennorm_tf.cli.command import check_choices, class_ids, console_command, print_files
from attennorm_tf.inference.visualize import KINDS, statistics_json, visualize_checkpoint
from attennorm_tf.training import CheckpointError
from attennorm_tf.training.run_directory import write_text
from attennorm_tf.visualization import save_png

# Of this command alone: other commands have flags of the same names.
_FLAGS = flags.FlagValues()
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    None,
    "work directory of train.gan or train.inpainting, or one of its checkpoints",
    required=True,
    flag_values=_FLAGS,
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "folder for the pictures; made if it is not there", required=True, flag_values=_FLAGS
)
_KIND = flags.DEFINE_list("kind", [], f"which pictures, of {', '.join(KINDS)} (default: all)", flag_values=_FLAGS)
_NUM_IMAGES = flags.DEFINE_integer("num_images", 8, "images to show", lower_bound=1, flag_values=_FLAGS)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "images computed at a time", lower_bound=1, flag_values=_FLAGS)
_SEED = flags.DEFINE_integer("seed", 0, "of the noise, or of the holes", lower_bound=0, flag_values=_FLAGS)
_AVERAGE = flags.DEFINE_bool("average", True, "use the moving average of the weights", flag_values=_FLAGS)
_CLASSES = flags.DEFINE_list(
    "classes", [], "for a GAN: class ids or names of the images, e.g. 3,7 (default: all)", flag_values=_FLAGS
)
_INTERPOLATE = flags.DEFINE_list(
    "interpolate", [], "class ids or names to blend, in order, e.g. 1,7,4 (default: three)", flag_values=_FLAGS
)
_STEPS = flags.DEFINE_integer(
    "steps", 6, "images from one blended class to the next", lower_bound=1, flag_values=_FLAGS
)
_STRIPS = flags.DEFINE_integer("strips", 1, "interpolations, each of other noise", lower_bound=1, flag_values=_FLAGS)
_ENTITY = flags.DEFINE_integer(
    "entity",
    None,
    "entity to follow through an interpolation (default: the one whose map varies most)",
    lower_bound=0,
    flag_values=_FLAGS,
)
_IMAGES = flags.DEFINE_string(
    "images",
    "photographs",
    "for an inpainting network: folder of images, searched with its folders; or photographs, the embedded ones",
    flag_values=_FLAGS,
)
_MASKS = flags.DEFINE_string("masks", None, "folder of their masks, or one mask for all", flag_values=_FLAGS)


def run() -> int:
    """Draws as the flags say."""
    check_choices("kind", _KIND.value, KINDS)
    output = Path(_OUTPUT.value)
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output: {output} is a file, expected a folder.")
    made = visualize_checkpoint(
        _CHECKPOINT.value,
        _KIND.value,
        average=_AVERAGE.value,
        num_images=_NUM_IMAGES.value,
        batch_size=_BATCH_SIZE.value,
        seed=_SEED.value,
        classes=functools.partial(class_ids, "classes", _CLASSES.value) if _CLASSES.value else None,
        interpolate=functools.partial(class_ids, "interpolate", _INTERPOLATE.value) if _INTERPOLATE.value else None,
        steps=_STEPS.value,
        strips=_STRIPS.value,
        entity=_ENTITY.value,
        images=_IMAGES.value,
        masks=_MASKS.value,
    )
    output.mkdir(parents=True, exist_ok=True)
    written = [output / f"{kind}.png" for kind in made.pictures]
    for path, picture in zip(written, made.pictures.values()):
        save_png(path, picture)
    if made.statistics is not None:
        written.append(output / "statistics.json")
        write_text(written[-1], statistics_json(made.statistics))
    print_files(f"{made.name}, step {made.step}:", written)
    return 0


main = console_command(__doc__, _FLAGS, run, (CheckpointError,))


if __name__ == "__main__":
    main()
