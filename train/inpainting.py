"""Trains an inpainting network, then writes its pictures and its error on held-out photographs.

    python -m train.inpainting --config=train/configs/inpainting_photographs.py --workdir=runs/photographs

Any field of `attennorm_tf/config/inpainting.py` can be set as `--config.<section>.<field>`. The same command resumes.
"""

from __future__ import annotations

from train.prompt_stop import stop_at_once

if __name__ == "__main__":
    stop_at_once()

# isort: split
import train.quiet  # noqa: F401  (before anything else that imports TensorFlow)

# isort: split
import signal
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from attennorm_tf.cli.command import run_command
from attennorm_tf.cli.inpainting_report import write_report
from attennorm_tf.config import InpaintingConfig, field_names
from attennorm_tf.inference.inpainter import load_inpainter
from attennorm_tf.training import CheckpointError, NonFiniteError, WorkerLostError
from attennorm_tf.training.profiling import parse_step_range
from attennorm_tf.training.runs import InpaintingRun
from train.chief import chief_speaks

_CONFIG = config_flags.DEFINE_config_file("config", None, "experiment file with a get_config()")
_WORKDIR = flags.DEFINE_string("workdir", None, "folder for the run's checkpoints, metrics and pictures", required=True)
_PROFILE = flags.DEFINE_string(
    "profile", None, "FIRST:COUNT: profile COUNT steps once FIRST are done, and tell how long they waited for data"
)


def main() -> int:
    """Trains, then reports."""
    config, workdir = _CONFIG.value, Path(_WORKDIR.value)
    profile = None if _PROFILE.value is None else parse_step_range(_PROFILE.value)
    run = InpaintingRun(config, workdir)
    counts = run.photographs.num_examples, run.held_out.num_examples
    say = chief_speaks(run.workers)
    say(f"{config.name}: {counts[0]} photographs, {counts[1]} held out")
    outcome = run.train(profile)
    if outcome.stopped_by is not None:
        say(f"stopped by {outcome.stopped_by.name}, saved at step {outcome.step}; the same command goes on from there")
        return 130 if outcome.stopped_by == signal.SIGINT else 0
    if run.workers.is_chief:
        # The run's own variables are those of all workers together, who have left by now.
        alone = run.workers.count == 1
        watch = run.task.watch if alone else run.task.watch.of(load_inpainter(workdir).model)
        say(write_report(workdir, config, watch))
    return 0


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    run_command(main, (CheckpointError, NonFiniteError, WorkerLostError), field_names(InpaintingConfig))
