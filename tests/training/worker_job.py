"""A worker of a job that trains something tiny: run by the tests, several processes at a time.

worker_job.py <folder> <steps> [unshared] [rolling]
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow import keras

from attennorm_tf.cli.command import run_command
from attennorm_tf.config import LoggingConfig
from attennorm_tf.data import load_dataset
from attennorm_tf.training import RunDirectory, WorkerLostError, make_strategy, run_training, workers
from attennorm_tf.training.workers import Workers
from tests.training.test_loop import AddingTask, Pace, Result


class NormalizingTask(AddingTask):
    """Also keeps moving statistics, which several workers read and save together."""

    def __init__(self, bad_step: int = -1) -> None:
        super().__init__(bad_step, bad_rollbacks=1)
        self.sum = tf.Variable(0.0, aggregation=tf.VariableAggregation.SUM)
        self.normalization = keras.layers.BatchNormalization(momentum=0.5, synchronized=True)
        self.normalization.build((None, 1))

    @property
    def checkpoint_items(self) -> dict[str, Any]:
        return {**super().checkpoint_items, "normalization": self.normalization}

    def train_step(self, step: tf.Tensor, batches: Any) -> Result:
        self.normalization(batches[0][:, tf.newaxis], training=True)
        return super().train_step(step, batches)

    def scalars(self) -> dict[str, float]:
        moving_mean = tf.convert_to_tensor(self.normalization.moving_mean)
        return {**super().scalars(), "moving_mean": float(tf.reduce_sum(moving_mean))}


def batches(context: tf.distribute.InputContext, first: int) -> tf.data.Dataset:
    """Worker k's share of every global batch is (k + 1,)."""
    return tf.data.Dataset.from_tensors([context.input_pipeline_id + 1.0]).repeat()


def epoch(strategy: tf.distribute.Strategy) -> list[str]:
    """Hashes of the examples that this worker gets in one epoch."""
    dataset = load_dataset("digits")

    def own(context: tf.distribute.InputContext) -> tf.data.Dataset:
        return dataset.batches(
            resolution=8, batch_size=480, seed=0, repeat=False, drop_remainder=False,
            num_input_pipelines=context.num_input_pipelines, input_pipeline_id=context.input_pipeline_id,
            replicas_per_pipeline=context.num_replicas_in_sync // context.num_input_pipelines,
        )  # fmt: skip

    got = []
    for images, _ in strategy.distribute_datasets_from_function(own):
        for part in strategy.experimental_local_results(images):
            got += [hashlib.sha256(image.tobytes()).hexdigest() for image in part.numpy()]
    return got


def main(arguments: list[str]) -> int:
    folder, steps = Path(arguments[0]), int(arguments[1])
    strategy = make_strategy("multi_worker")
    job = Workers(strategy)
    if "unshared" in arguments:
        workers._VISIBLE_WITHIN = 0.5
        folder /= str(job.index)
    with job.named_when_lost():
        job.check_shared(folder / "run")
        if not (folder / "run" / "checkpoints").exists():
            (folder / f"epoch-{job.index}.json").write_text(json.dumps(epoch(strategy)))
        job.barrier()
        with strategy.scope():
            task = NormalizingTask(7 if "rolling" in arguments else -1)
        outcome = run_training(
            task,
            RunDirectory(folder / "run", tensorboard=False, writes=job.is_chief),
            strategy,
            Pace(steps, job.count, 10**6, "roll_back" if "rolling" in arguments else "stop"),
            LoggingConfig(log_every_steps=20, image_every_steps=0, checkpoint_every_steps=20),
            batches,
            {},
        )
        job.leave()
    stopped_by = outcome.stopped_by.name if outcome.stopped_by else "nothing"
    sys.stdout.write(f"step {outcome.step} sum {float(task.sum.numpy())} {stopped_by}\n")
    return 0


if __name__ == "__main__":
    logging.getLogger("attennorm_tf").setLevel(logging.INFO)
    run_command(main, (WorkerLostError,), takes_arguments=True)
