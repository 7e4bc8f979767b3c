"""attennorm-inspect: what a checkpoint holds and what goes on in its attentive normalization.

    attennorm-inspect --checkpoint=runs/digits --output=inspected
    attennorm-inspect --checkpoint=runs/facades --images=photos --json=facades.json

Prints the networks with their sizes and largest spectral norms and, for each attentive normalization, rho, t, the
layout's entropy, the entities in use, and for each entity the standard deviation of the layer's input features inside
the region that it wins against the whole map's (the claim of the paper's Figure 4). A GAN is watched on images that it
generates, an inpainting network on photographs with holes as in its training. `--json` writes the same as a file,
`--output` a picture of the layouts (Figure 5).
"""

from __future__ import annotations

from pathlib import Path

from absl import flags
from tqdm import tqdm

from attennorm_tf.cli.command import console_command, print_files
from attennorm_tf.inference.inspect_checkpoint import inspect_checkpoint, inspection_json, inspection_text
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
_AVERAGE = flags.DEFINE_bool("average", True, "look at the moving average of the weights", flag_values=_FLAGS)
_NUM_IMAGES = flags.DEFINE_integer("num_images", 64, "images to watch it on", lower_bound=1, flag_values=_FLAGS)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "images computed at a time", lower_bound=1, flag_values=_FLAGS)
_SEED = flags.DEFINE_integer("seed", 0, "of the noise, or of the holes", lower_bound=0, flag_values=_FLAGS)
_IMAGES = flags.DEFINE_string(
    "images",
    "photographs",
    "for an inpainting network: folder of images, searched with its folders; or photographs, the embedded ones",
    flag_values=_FLAGS,
)
_JSON = flags.DEFINE_string("json", None, "file to write what was found to", flag_values=_FLAGS)
_OUTPUT = flags.DEFINE_string(
    "output", None, "folder for layouts.png, a picture of the layouts; made if it is not there", flag_values=_FLAGS
)


def run() -> int:
    """Inspects as the flags say."""
    output = None if _OUTPUT.value is None else Path(_OUTPUT.value)
    if output is not None and output.exists() and not output.is_dir():
        raise ValueError(f"--output: {output} is a file, expected a folder.")
    if _JSON.value is not None and Path(_JSON.value).is_dir():
        raise ValueError(f"--json: {_JSON.value} is a folder, expected a file.")
    with tqdm(desc="images", unit="image", disable=None, leave=False) as bar:
        inspection = inspect_checkpoint(
            _CHECKPOINT.value,
            average=_AVERAGE.value,
            num_images=_NUM_IMAGES.value,
            batch_size=_BATCH_SIZE.value,
            seed=_SEED.value,
            images=_IMAGES.value,
            progress=bar.update,
        )
    print(inspection_text(inspection.facts), end="")
    written = []
    if _JSON.value is not None:
        written.append(Path(_JSON.value))
        written[-1].parent.mkdir(parents=True, exist_ok=True)
        write_text(written[-1], inspection_json(inspection.facts))
    if output is not None and inspection.layouts is not None:
        output.mkdir(parents=True, exist_ok=True)
        written.append(output / "layouts.png")
        save_png(written[-1], inspection.layouts)
    if written:
        print_files("", written)
    return 0


main = console_command(__doc__, _FLAGS, run, (CheckpointError,))


if __name__ == "__main__":
    main()
