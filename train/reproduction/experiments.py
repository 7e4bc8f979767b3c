"""The experiments of the paper's tables at three scales."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from attennorm_tf.config import GanConfig, InpaintingConfig
from train.configs import inpainting_photographs

SCALES = ("full", "small", "smoke")
INCEPTION = "tfgan_inception"
PAPER_SAMPLES = 50_000

_Config = TypeVar("_Config", GanConfig, InpaintingConfig)


@dataclass(frozen=True)
class Options:
    """What the user asked for; None: the scale's own.

    Attributes:
        scale: "full", the paper's setting; "small", CIFAR-10's size, for a CPU; "smoke", minutes for a test.
        workdir: of this scale alone; holds `<experiment>/`, the cache of reference statistics and the tables.
        data: name of the data set.
        data_root: its folder; for table 3 a folder of photographs.
        extractor: see `load_extractor`.
        max_steps: training ends after so many.
        batch_size: of training.
        num_samples: generated images that are scored; for table 2, of each class.
        seed: of training and of the samples.
    """

    scale: str
    workdir: Path
    data: str | None = None
    data_root: str | None = None
    extractor: str | None = None
    max_steps: int | None = None
    batch_size: int | None = None
    num_samples: int | None = None
    seed: int = 0


def paper_config(experiment: str) -> Any:
    """The config of `train/configs/paper/<experiment>.py`."""
    return importlib.import_module(f"train.configs.paper.{experiment}").get_config()


def gan_config(experiment: str, options: Options) -> GanConfig:
    """A row of tables 1, 2 and 4.

    "small": 32x32, a quarter of the paper's width, batch 64, 4000 steps, everything else as in the paper. "smoke": the
    embedded digits at 16x16, 20 steps.
    """
    config: GanConfig = paper_config(experiment)
    if options.scale == "small":
        _set(config.model, resolution=32, width=0.25)
        _set(config.training, steps=4000, batch_size=64)
        _set(config.logging, log_every_steps=200, image_every_steps=1000, checkpoint_every_steps=500)
        config.data.name = "tfds:cifar10"
    elif options.scale == "smoke":
        _set(config.model, resolution=16, width=0.125, latent_dim=16)
        _set(config.training, steps=20, batch_size=16, steps_per_call=10, ema_decay=0.8)
        _set(config.logging, log_every_steps=10, image_every_steps=0, checkpoint_every_steps=10, tensorboard=False)
        _set(config.data, name="digits", horizontal_flip=False)
    if options.data is not None:
        config.data.name = options.data
    if options.data_root is not None:
        config.data.root = options.data_root
    return _finished(config, experiment, options)


def inpainting_config(experiment: str, options: Options) -> InpaintingConfig:
    """A row of table 3.

    "full" needs a folder of photographs. "small": 64x64 at a quarter of the width, phase one only, on the photographs
    of scikit-learn and scikit-image or a folder, as in `inpainting_photographs`. "smoke": 32x32, both phases, 4 steps.
    """
    config: InpaintingConfig = paper_config(experiment)
    network = config.model.network
    if options.scale == "full" and options.data_root is None:
        raise ValueError("--data_root: table 3 at full scale needs the folder of Paris StreetView's photographs.")
    if options.scale != "full":
        config = inpainting_photographs.get_config()
        config.model.network = network
    if options.scale == "smoke":
        _set(config.model, resolution=32, width=0.0625, discriminator_width=0.0625)
        _set(config.masks, height=16, width=16, shrink=4)
        _set(config.training, steps=4, phase_two_step=2, discriminator_steps=1, batch_size=4, validate_every_steps=4)
        _set(config.logging, log_every_steps=2, image_every_steps=0, checkpoint_every_steps=2, tensorboard=False)
    if options.data_root is not None:
        _set(config.data, name="image_folder", root=options.data_root, skip_corrupt=True)
    return _finished(config, experiment, options)


def samples(options: Options) -> int:
    """How many generated images are scored."""
    return options.num_samples or {"full": PAPER_SAMPLES, "small": 10_000, "smoke": 200}[options.scale]


def _set(section: Any, **fields: Any) -> None:
    for name, value in fields.items():
        setattr(section, name, value)


def _finished(config: _Config, experiment: str, options: Options) -> _Config:
    training: Any = config.training
    config.name = experiment
    training.seed = options.seed
    if options.max_steps is not None:
        training.steps = min(training.steps, options.max_steps)
    if options.batch_size is not None:
        training.batch_size = options.batch_size
    config.validate()
    return config
