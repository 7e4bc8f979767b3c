"""A configured experiment in its work directory, ready to be trained: what the training commands run."""

from __future__ import annotations

import abc
import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow import keras

from attennorm_tf.config import GanConfig, InpaintingConfig
from attennorm_tf.data import LabeledImages, load_dataset
from attennorm_tf.data.data_services import DataServices, broken_streams_explained
from attennorm_tf.data.masks import make_masks
from attennorm_tf.data.photographs import load_photographs
from attennorm_tf.data.unlabeled_images import Crops
from attennorm_tf.training.cluster import names_a_cluster
from attennorm_tf.training.gan import GanTask
from attennorm_tf.training.inpainting import InpaintingTask, validation_batch
from attennorm_tf.training.loop import Outcome, run_training
from attennorm_tf.training.port_watch import PortWatch
from attennorm_tf.training.profiling import StepRange
from attennorm_tf.training.rollbacks import data_seed
from attennorm_tf.training.run_directory import RunDirectory, describe_environment
from attennorm_tf.training.signals import StopSignals
from attennorm_tf.training.strategy import check_global_batch, make_strategy
from attennorm_tf.training.task import MakeBatches
from attennorm_tf.training.workers import Workers

_COMPARED = 500  # images of the data that the log compares generated ones with


class _Run(abc.ABC):
    """The beginning of every run: devices, data and work directory, on which all workers agree, then the networks.

    Attributes:
        workers: that train together; mostly one, this process.
    """

    def __init__(self, config: Any, workdir: str | os.PathLike[str]):
        config.validate()
        training = config.training
        self._config = config
        # Where TF_CONFIG names several processes, each training by itself would write into the one work directory.
        strategy = "multi_worker" if training.strategy == "auto" and names_a_cluster() else training.strategy
        self._strategy = make_strategy(strategy, training.deterministic)
        check_global_batch(training.batch_size, self._strategy, training.accumulation_steps)
        self.workers = Workers(self._strategy)
        self._signals = StopSignals()
        self._services = DataServices.of(config.data.service)
        if self.workers.count > 1:  # the others wait for this worker: it must not leave without them
            self._signals.__enter__()
        with self.workers.named_when_lost():
            self.workers.check_equal(_settings(config))
            self.workers.together(self._load_data)
            self.workers.check_equal(self._data_facts())
            self.workers.check_shared(Path(workdir))
            self.workers.together(lambda: self._claim(workdir))
            keras.utils.set_random_seed(training.seed)
            with self._strategy.scope():
                self._make_task()

    def train(self, profile: StepRange | None = None) -> Outcome:
        """See `run_training`; afterwards the workers may end one by one."""
        config = self._config
        watch = self._watch_services()
        with self.workers.named_when_lost(), broken_streams_explained():
            outcome = run_training(
                self._task, self._run, self._strategy, config.training, config.logging, self._batches(),
                self._metadata(), profile, self._signals,
            )  # fmt: skip
            self.workers.leave()
        watch.stop()
        return outcome

    @abc.abstractmethod
    def _load_data(self) -> None: ...

    @abc.abstractmethod
    def _data_facts(self) -> dict[str, Any]:
        """What must be the same on all workers."""

    @abc.abstractmethod
    def _make_task(self) -> None: ...

    @property
    @abc.abstractmethod
    def _task(self) -> Any: ...

    @abc.abstractmethod
    def _batches(self) -> MakeBatches: ...

    @abc.abstractmethod
    def _metadata(self) -> dict[str, Any]: ...

    def _watch_services(self) -> PortWatch:
        """Of the data services, for whose answers TensorFlow waits for ever."""
        addresses = () if self._services is None else self._services.addresses

        def message(gone: list[int]) -> str:
            return (
                f"data.service {', '.join(addresses[index] for index in gone)} ended or cannot be reached. Start it "
                "again, then this command, which goes on from the last checkpoint"
            )

        watch = PortWatch({n: address.partition("://")[2] for n, address in enumerate(addresses)}, message)
        if addresses:
            watch.start()
        return watch

    def _claim(self, workdir: str | os.PathLike[str]) -> None:
        self._run = RunDirectory(workdir, self._config.logging.tensorboard, writes=self.workers.is_chief)
        self._run.claim(self._config)


class GanRun(_Run):
    """A class-conditional GAN: its data, networks (untrained) and work directory.

    Args:
        config: the experiment.
        workdir: of this experiment alone; where it holds a part of the run, `train` goes on from there.

    Attributes:
        config: as given.
        dataset: the images.
        task: the networks; `train` trains them.

    Raises:
        ValueError: a field out of range, data that cannot be used, another experiment's work directory, devices that
            are not there, or workers that do not fit together.
        WorkerLostError: another worker ended or cannot be reached.
    """

    dataset: LabeledImages
    task: GanTask

    def __init__(self, config: GanConfig, workdir: str | os.PathLike[str]):
        self.config = config
        super().__init__(config, workdir)

    def train(
        self, profile: StepRange | None = None, features: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> Outcome:
        """See `run_training`; `features` as `GanTask.compare_with` takes them, for precision and recall in the log."""
        self.task.compare_with(*self.dataset.arrays(self.config.model.resolution, _COMPARED), features)
        return super().train(profile)

    def _load_data(self) -> None:
        data = self.config.data
        self.dataset = load_dataset(data.name, root=data.root or None, split=data.split, skip_corrupt=data.skip_corrupt)
        if self._services is not None:
            self._services.check(self.dataset.decoding_request(self.config.model.resolution))

    def _data_facts(self) -> dict[str, Any]:
        return {"images": self.dataset.num_examples, "classes": list(self.dataset.class_names)}

    def _make_task(self) -> None:
        self.task = GanTask(self.config, self.dataset.num_classes, self.dataset.channels)

    @property
    def _task(self) -> GanTask:
        return self.task

    def _batches(self) -> MakeBatches:
        config, dataset, training = self.config, self.dataset, self.config.training
        return lambda context, first: dataset.batches(
            resolution=config.model.resolution, batch_size=training.batch_size,
            seed=data_seed(training.seed, self.task.rollbacks),
            start_step=first, num_input_pipelines=context.num_input_pipelines,
            input_pipeline_id=context.input_pipeline_id,
            replicas_per_pipeline=context.num_replicas_in_sync // context.num_input_pipelines,
            horizontal_flip=config.data.horizontal_flip, services=self._services,
        )  # fmt: skip

    def _metadata(self) -> dict[str, Any]:
        dataset = self.dataset
        return {
            "config": self.config.to_json(),
            "class_names": list(dataset.class_names),
            "channels": dataset.channels,
        }


class InpaintingRun(_Run):
    """An inpainting network: its photographs, networks (untrained) and work directory; as `GanRun`.

    Attributes:
        config: as given.
        photographs: to learn from.
        held_out: to validate on.
        task: the networks; `train` trains them.
    """

    task: InpaintingTask

    def __init__(self, config: InpaintingConfig, workdir: str | os.PathLike[str]):
        self.config = config
        super().__init__(config, workdir)

    def _load_data(self) -> None:
        data = self.config.data
        self.photographs, self.held_out = (
            load_photographs(
                data.name, data.root or None, data.split, skip_corrupt=data.skip_corrupt,
                validation_fraction=data.validation_fraction, part=part,
            )
            for part in ("train", "validation")
        )  # fmt: skip
        self._masks = make_masks(**dataclasses.asdict(self.config.masks))
        if self._services is not None:
            crops = Crops(self.config.model.resolution, data.min_crop_scale, data.horizontal_flip, 0)
            self._services.check(self.photographs.decoding_request(crops))

    def _data_facts(self) -> dict[str, Any]:
        return {"photographs": self.photographs.num_examples, "held out": self.held_out.num_examples}

    def _make_task(self) -> None:
        self.task = InpaintingTask(self.config, *validation_batch(self.config, self.held_out, self._masks))

    @property
    def _task(self) -> InpaintingTask:
        return self.task

    def _batches(self) -> MakeBatches:
        config, photographs, training = self.config, self.photographs, self.config.training
        return lambda context, first: photographs.batches(
            resolution=config.model.resolution, batch_size=training.batch_size,
            seed=data_seed(training.seed, self.task.rollbacks),
            masks=self._masks, start_step=first, num_input_pipelines=context.num_input_pipelines,
            input_pipeline_id=context.input_pipeline_id,
            replicas_per_pipeline=context.num_replicas_in_sync // context.num_input_pipelines,
            horizontal_flip=config.data.horizontal_flip, min_crop_scale=config.data.min_crop_scale,
            services=self._services,
        )  # fmt: skip

    def _metadata(self) -> dict[str, Any]:
        return {"task": "inpainting", "config": self.config.to_json()}


def _settings(config: Any) -> dict[str, Any]:
    """Every field of a config and the versions that a run depends on, by name."""
    environment = describe_environment()
    facts = {"python": environment["python"], **environment["packages"]}
    for section, fields in json.loads(config.to_json()).items():
        if isinstance(fields, dict):
            facts.update({f"{section}.{name}": value for name, value in fields.items()})
    return facts
