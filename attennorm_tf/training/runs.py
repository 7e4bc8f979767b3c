"""A configured experiment in its work directory, ready to be trained: what the training commands run."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable

import numpy as np
from tensorflow import keras

from attennorm_tf.config import GanConfig, InpaintingConfig
from attennorm_tf.data import LabeledImages, load_dataset
from attennorm_tf.data.masks import make_masks
from attennorm_tf.data.photographs import load_photographs
from attennorm_tf.training.gan import GanTask
from attennorm_tf.training.inpainting import InpaintingTask, validation_batch
from attennorm_tf.training.loop import Outcome, run_training
from attennorm_tf.training.profiling import StepRange
from attennorm_tf.training.rollbacks import data_seed
from attennorm_tf.training.run_directory import RunDirectory
from attennorm_tf.training.strategy import check_global_batch, make_strategy

_COMPARED = 500  # images of the data that the log compares generated ones with


class GanRun:
    """A class-conditional GAN: its data, networks (untrained) and work directory.

    Args:
        config: the experiment.
        workdir: of this experiment alone; where it holds a part of the run, `train` goes on from there.

    Attributes:
        dataset: the images.
        task: the networks; `train` trains them.

    Raises:
        ValueError: a field out of range, data that cannot be used, or another experiment's work directory.
    """

    def __init__(self, config: GanConfig, workdir: str | os.PathLike[str]):
        config.validate()
        data, training = config.data, config.training
        self.config = config
        self.dataset: LabeledImages = load_dataset(
            data.name, root=data.root or None, split=data.split, skip_corrupt=data.skip_corrupt
        )
        self._strategy = make_strategy(training.strategy, training.deterministic)
        check_global_batch(training.batch_size, self._strategy)
        self._run = RunDirectory(workdir, config.logging.tensorboard)
        self._run.claim(config)
        keras.utils.set_random_seed(training.seed)
        with self._strategy.scope():
            self.task = GanTask(config, self.dataset.num_classes, self.dataset.channels)

    def train(
        self, profile: StepRange | None = None, features: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> Outcome:
        """See `run_training`; `features` as `GanTask.compare_with` takes them, for precision and recall in the log."""
        config, dataset, training = self.config, self.dataset, self.config.training
        self.task.compare_with(*dataset.arrays(config.model.resolution, _COMPARED), features)
        return run_training(
            self.task, self._run, self._strategy, training, config.logging,
            lambda context, first: dataset.batches(
                resolution=config.model.resolution, batch_size=training.batch_size,
                seed=data_seed(training.seed, self.task.rollbacks),
                start_step=first, num_input_pipelines=context.num_input_pipelines,
                input_pipeline_id=context.input_pipeline_id,
                replicas_per_pipeline=context.num_replicas_in_sync // context.num_input_pipelines,
                horizontal_flip=config.data.horizontal_flip,
            ),
            {"config": config.to_json(), "class_names": list(dataset.class_names), "channels": dataset.channels},
            profile,
        )  # fmt: skip


class InpaintingRun:
    """An inpainting network: its photographs, networks (untrained) and work directory; as `GanRun`.

    Attributes:
        photographs: to learn from.
        held_out: to validate on.
        task: the networks; `train` trains them.
    """

    def __init__(self, config: InpaintingConfig, workdir: str | os.PathLike[str]):
        config.validate()
        data, training = config.data, config.training
        self.config = config
        self.photographs, self.held_out = (
            load_photographs(
                data.name, data.root or None, data.split, skip_corrupt=data.skip_corrupt,
                validation_fraction=data.validation_fraction, part=part,
            )
            for part in ("train", "validation")
        )  # fmt: skip
        self._masks = make_masks(**dataclasses.asdict(config.masks))
        self._strategy = make_strategy(training.strategy, training.deterministic)
        check_global_batch(training.batch_size, self._strategy)
        self._run = RunDirectory(workdir, config.logging.tensorboard)
        self._run.claim(config)
        keras.utils.set_random_seed(training.seed)
        with self._strategy.scope():
            self.task = InpaintingTask(config, *validation_batch(config, self.held_out, self._masks))

    def train(self, profile: StepRange | None = None) -> Outcome:
        """See `run_training`."""
        config, photographs, training = self.config, self.photographs, self.config.training
        return run_training(
            self.task, self._run, self._strategy, training, config.logging,
            lambda context, first: photographs.batches(
                resolution=config.model.resolution, batch_size=training.batch_size,
                seed=data_seed(training.seed, self.task.rollbacks),
                masks=self._masks, start_step=first, num_input_pipelines=context.num_input_pipelines,
                input_pipeline_id=context.input_pipeline_id,
                replicas_per_pipeline=context.num_replicas_in_sync // context.num_input_pipelines,
                horizontal_flip=config.data.horizontal_flip, min_crop_scale=config.data.min_crop_scale,
            ),
            {"task": "inpainting", "config": config.to_json()},
            profile,
        )  # fmt: skip
