"""Trains an inpainting network, then writes its pictures and its error on held-out photographs.

    python -m train.inpainting --config=train/configs/inpainting_photographs.py --workdir=runs/photographs

Any field of `attennorm_tf/config/inpainting.py` can be set as `--config.<section>.<field>`. The same command resumes.
"""

from __future__ import annotations

import train.quiet  # noqa: F401  (before anything else that imports TensorFlow)

# isort: split
import dataclasses
import signal
from pathlib import Path

from absl import flags
from ml_collections import config_flags
from tensorflow import keras

from attennorm_tf.cli.command import run_command
from attennorm_tf.cli.inpainting_report import write_report
from attennorm_tf.config import InpaintingConfig, field_names
from attennorm_tf.data.masks import make_masks
from attennorm_tf.data.photographs import load_photographs
from attennorm_tf.training import (
    CheckpointError,
    InpaintingTask,
    NonFiniteError,
    RunDirectory,
    make_strategy,
    run_training,
    validation_batch,
)
from attennorm_tf.training.strategy import check_global_batch

_CONFIG = config_flags.DEFINE_config_file("config", None, "experiment file with a get_config()")
_WORKDIR = flags.DEFINE_string("workdir", None, "folder for the run's checkpoints, metrics and pictures", required=True)


def main() -> int:
    """Trains, then reports."""
    config, workdir = _CONFIG.value, Path(_WORKDIR.value)
    config.validate()
    data, training = config.data, config.training
    photographs, held_out = (
        load_photographs(
            data.name, data.root or None, data.split, skip_corrupt=data.skip_corrupt,
            validation_fraction=data.validation_fraction, part=part,
        )
        for part in ("train", "validation")
    )  # fmt: skip
    print(f"{config.name}: {photographs.num_examples} photographs, {held_out.num_examples} held out", flush=True)
    masks = make_masks(**dataclasses.asdict(config.masks))
    strategy = make_strategy(training.strategy, training.deterministic)
    check_global_batch(training.batch_size, strategy)
    run = RunDirectory(workdir, config.logging.tensorboard)
    run.claim(config)
    keras.utils.set_random_seed(training.seed)
    with strategy.scope():
        task = InpaintingTask(config, *validation_batch(config, held_out, masks))

    outcome = run_training(
        task, run, strategy, training, config.logging,
        lambda context, first: photographs.batches(
            resolution=config.model.resolution, batch_size=training.batch_size, seed=training.seed, masks=masks,
            start_step=first, num_input_pipelines=context.num_input_pipelines,
            input_pipeline_id=context.input_pipeline_id,
            replicas_per_pipeline=context.num_replicas_in_sync // context.num_input_pipelines,
            horizontal_flip=data.horizontal_flip, min_crop_scale=data.min_crop_scale,
        ),
        {"task": "inpainting", "config": config.to_json()},
    )  # fmt: skip
    if outcome.stopped_by is not None:
        print(
            f"stopped by {outcome.stopped_by.name}, saved at step {outcome.step}; the same command goes on from there"
        )
        return 130 if outcome.stopped_by == signal.SIGINT else 0
    print(write_report(workdir, config, task))
    return 0


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    run_command(main, (CheckpointError, NonFiniteError), field_names(InpaintingConfig))
