"""Every setting of an experiment: its default, its range and what it means, once.

An experiment file (`train/configs/*.py`) has a `get_config()` that returns a `GanConfig` or an `InpaintingConfig`,
usually a preset with a few fields changed; any field can be set on the command line (`--config.training.steps=500`).
"""

from attennorm_tf.config.gan import (
    ATTENNORM_STEPS,
    GAN_PRESETS,
    GanConfig,
    ModelConfig,
    TrainingConfig,
    gan_preset_config,
)
from attennorm_tf.config.inpainting import (
    InpaintingConfig,
    InpaintingModelConfig,
    InpaintingTrainingConfig,
    MaskConfig,
)
from attennorm_tf.config.schema import (
    PRECISIONS,
    STRATEGIES,
    ExperimentConfig,
    LoggingConfig,
    LoopConfig,
    config_difference,
    field_names,
)

__all__ = [
    "ATTENNORM_STEPS",
    "GAN_PRESETS",
    "PRECISIONS",
    "STRATEGIES",
    "ExperimentConfig",
    "GanConfig",
    "InpaintingConfig",
    "InpaintingModelConfig",
    "InpaintingTrainingConfig",
    "LoggingConfig",
    "LoopConfig",
    "MaskConfig",
    "ModelConfig",
    "TrainingConfig",
    "config_difference",
    "field_names",
    "gan_preset_config",
]
