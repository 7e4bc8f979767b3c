"""Trains a class-conditional GAN, then writes its pictures, scores and SavedModel.

    python -m train.gan --config=train/configs/digits_attennorm.py --workdir=runs/digits [--config.training.steps=500]

Any field of `attennorm_tf/config/gan.py` can be set as `--config.<section>.<field>`. The same command resumes a run.
"""

from __future__ import annotations

from train.prompt_stop import stop_at_once

if __name__ == "__main__":
    stop_at_once()

# isort: split
import train.quiet  # noqa: F401  (before anything else that imports TensorFlow)

# isort: split
import json
import signal
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from attennorm_tf.cli.command import run_command
from attennorm_tf.cli.gan_report import write_report
from attennorm_tf.config import GanConfig, field_names
from attennorm_tf.export import ExportError
from attennorm_tf.inference import DigitsJudge
from attennorm_tf.training import CheckpointError, NonFiniteError, WorkerLostError
from attennorm_tf.training.profiling import parse_step_range
from attennorm_tf.training.run_directory import write_text
from attennorm_tf.training.runs import GanRun
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
    run = GanRun(config, workdir)
    dataset = run.dataset
    say = chief_speaks(run.workers)
    say(f"{config.name}: {dataset.num_examples} images, {dataset.num_classes} classes from {dataset.name}")
    judge = DigitsJudge(dataset, config.model.resolution) if config.evaluation.classifier else None
    start = workdir / "scores_at_start.json"
    scored = run.workers.gather(str(start.exists()))[0] == "True"
    if judge is not None and not scored:
        with run.workers.named_when_lost():
            scores = judge.score(run.task.sampling_generator, config.evaluation.num_samples)
        if run.workers.is_chief:
            write_text(start, json.dumps(scores._asdict()) + "\n")

    outcome = run.train(profile, None if judge is None else judge.classifier.features)
    if outcome.stopped_by is not None:
        say(f"stopped by {outcome.stopped_by.name}, saved at step {outcome.step}; the same command goes on from there")
        return 130 if outcome.stopped_by == signal.SIGINT else 0
    if run.workers.is_chief:
        say(write_report(workdir, config, judge))
    return 0


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    run_command(main, (CheckpointError, NonFiniteError, WorkerLostError, ExportError), field_names(GanConfig))
