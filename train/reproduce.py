"""A table of the paper: its experiments trained and measured, the numbers beside the paper's.

    python -m train.reproduce --table=4 --scale=smoke
    python -m train.reproduce --table=1 --scale=small --workdir=runs/small --data=image_folder --data_root=cifar10
    python -m train.reproduce --table=1 --scale=full --workdir=runs/full --data_root=path/to/tensorflow_datasets

`full` is the paper's setting, for several GPUs; `small` is of CIFAR-10's size, for a CPU; `smoke` takes minutes and
only shows that everything works. The same command goes on where it was stopped and skips what is finished. Tables share
a work directory of one scale: a run that stands in two tables is trained once. The experiments are those of
`train/configs/paper/`.
"""

from __future__ import annotations

from train.prompt_stop import stop_at_once

if __name__ == "__main__":
    stop_at_once()

# isort: split
import train.quiet  # noqa: F401  (before anything else that imports TensorFlow)

# isort: split
from pathlib import Path

from absl import flags

from attennorm_tf.cli.command import run_command
from attennorm_tf.training import CheckpointError, NonFiniteError
from train.paper_tables import PAPER_TABLES
from train.reproduction.experiments import SCALES, Options
from train.reproduction.report import terminal_text
from train.reproduction.stopping import StoppedError
from train.reproduction.tables import chosen_rows, reproduce

_TABLE = flags.DEFINE_enum("table", None, [str(number) for number in PAPER_TABLES], "of the paper", required=True)
_SCALE = flags.DEFINE_enum("scale", "smoke", SCALES, "how large everything is")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "folder for this scale's runs and tables (default: runs/reproduce-<scale>)"
)
_ROWS = flags.DEFINE_list("rows", [], "experiments of the table to do, e.g. sngan,attennorm (default: all)")
_DATA = flags.DEFINE_string("data", None, "image_folder or tfds:<name> in place of the scale's own data set")
_DATA_ROOT = flags.DEFINE_string("data_root", None, "folder of the data set; for table 3, of photographs")
_EXTRACTOR = flags.DEFINE_string("extractor", None, "what judges the images, as for attennorm-evaluate-gan")
_MAX_STEPS = flags.DEFINE_integer("max_steps", None, "training ends after so many", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "of training", lower_bound=1)
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", None, "generated images that are scored", lower_bound=2)
_SEED = flags.DEFINE_integer("seed", 0, "of training and samples", lower_bound=0)


def main() -> int:
    """Reproduces as the flags say."""
    table = PAPER_TABLES[int(_TABLE.value)]
    workdir = Path(_WORKDIR.value or f"runs/reproduce-{_SCALE.value}")
    options = Options(
        _SCALE.value, workdir, _DATA.value, _DATA_ROOT.value, _EXTRACTOR.value, _MAX_STEPS.value, _BATCH_SIZE.value,
        _NUM_SAMPLES.value, _SEED.value,
    )  # fmt: skip
    try:
        measured, files = reproduce(table, chosen_rows(table, _ROWS.value), options)
    except StoppedError as stopped:
        print(stopped)
        return stopped.exit_code
    print(f"\n{terminal_text(measured)}")
    for path in files:
        print(f"  {path}")
    return 0


if __name__ == "__main__":
    run_command(main, (CheckpointError, NonFiniteError))
