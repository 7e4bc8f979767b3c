"""attennorm-sample: images from a trained class-conditional generator.

    attennorm-sample --checkpoint=runs/digits --classes=3,7 --count=64 --output=samples
    attennorm-sample --checkpoint=runs/digits --interpolate=1,7,4 --output=samples

Writes a grid (`grid.png`, one column per class), every image as a file of its own (`images/`), and with attentive
normalization the layouts under them (`layouts.png`). `--interpolate` blends classes with the noise fixed (Figure 8).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from absl import flags
from tqdm import tqdm

from attennorm_tf.cli.command import class_ids, console_command, print_files
from attennorm_tf.inference import draw_interpolation, draw_latents, load_generator, sample
from attennorm_tf.training import CheckpointError
from attennorm_tf.visualization import image_grid, layout_sheet, save_png

# Of this command alone: other commands have flags of the same names.
_FLAGS = flags.FlagValues()
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "work directory of a run, or one of its checkpoints", required=True, flag_values=_FLAGS
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "folder for the pictures; made if it is not there", required=True, flag_values=_FLAGS
)
_CLASSES = flags.DEFINE_list(
    "classes", [], "class ids or names, e.g. 3,7 (default: all, at most 10)", flag_values=_FLAGS
)
_COUNT = flags.DEFINE_integer(
    "count", 64, "images in all, shared out over the classes", lower_bound=1, flag_values=_FLAGS
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "of the noise; the same seed gives the same images", lower_bound=0, flag_values=_FLAGS
)
_TRUNCATION = flags.DEFINE_float(
    "truncation",
    None,
    "noise beyond +-this is drawn again: less variety, cleaner images",
    lower_bound=0.01,
    flag_values=_FLAGS,
)
_AVERAGE = flags.DEFINE_bool("average", True, "use the moving average of the weights", flag_values=_FLAGS)
_INTERPOLATE = flags.DEFINE_list(
    "interpolate", [], "class ids or names to blend, in order, e.g. 1,7,4", flag_values=_FLAGS
)
_STEPS = flags.DEFINE_integer(
    "steps", 6, "images from one blended class to the next", lower_bound=1, flag_values=_FLAGS
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "images computed at a time", lower_bound=1, flag_values=_FLAGS)


def run() -> int:
    """Samples as the flags say."""
    loaded = load_generator(_CHECKPOINT.value, average=_AVERAGE.value)
    generator, names = loaded.generator, loaded.class_names
    output = Path(_OUTPUT.value)
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output: {output} is a file, expected a folder.")
    output.mkdir(parents=True, exist_ok=True)
    written = []
    if _INTERPOLATE.value:
        ids = class_ids("interpolate", _INTERPOLATE.value, names)
        latent = draw_latents(1, generator.latent_dim, _SEED.value, _TRUNCATION.value)[0]
        written.append(output / "interpolation.png")
        save_png(written[-1], draw_interpolation(generator, latent, ids, _STEPS.value, names))
    if _CLASSES.value or not _INTERPOLATE.value:
        ids = class_ids("classes", _CLASSES.value, names) or list(range(min(10, len(names))))
        count = _COUNT.value
        labels = np.resize(np.asarray(ids, np.int32), count)
        latents = draw_latents(count, generator.latent_dim, _SEED.value, _TRUNCATION.value)
        with_layouts = generator.attentive_normalization is not None
        images, layouts = sample(generator, latents, labels, _BATCH_SIZE.value, with_layouts)
        columns = min(len(ids), count)
        written.append(output / "grid.png")
        shown = [names[label] for label in labels]
        save_png(written[-1], image_grid(images, -(-count // columns), columns, labels=shown))
        if layouts is not None:
            written.append(output / "layouts.png")
            save_png(written[-1], layout_sheet(images[:10], layouts[:10]))
        folder = output / "images"
        folder.mkdir(exist_ok=True)
        for index, image in enumerate(tqdm(images, "images", unit="file", disable=None, leave=False)):
            save_png(folder / f"{index:05d}-class{labels[index]}.png", image_grid(image[None], 1, 1, padding=0))
        written.append(folder)
    print_files(f"{loaded.config.name}, step {loaded.step}:", written)
    return 0


main = console_command(__doc__, _FLAGS, run, (CheckpointError,))


if __name__ == "__main__":
    main()
