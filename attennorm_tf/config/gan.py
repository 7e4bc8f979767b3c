"""Every setting of a class-conditional experiment: its default, its range and what it means, once."""

# No `from __future__ import annotations`: config_flags reads the types of the fields to parse the command line.
from dataclasses import dataclass, field
from typing import Any

from attennorm_tf.config.schema import (
    ExperimentConfig,
    LoggingConfig,
    LoopConfig,
    check,
    check_numbers,
    check_options,
    filled,
    service_addresses,
)


@dataclass
class DataConfig:
    """Where the images come from."""

    name: str = "digits"  # "digits", "image_folder" or "tfds:<name>"
    root: str = ""  # the folder of image_folder, the data folder of TFDS
    split: str = "train"
    horizontal_flip: bool = False
    skip_corrupt: bool = False  # leave out unreadable images (counted and named) instead of stopping
    service: str = (
        ""  # data services that decode, "grpc://host:5050,grpc://other:5050" (docs/scaling.md); "": decoded here
    )

    def validate(self) -> None:
        known = self.name in ("digits", "image_folder") or (self.name.startswith("tfds:") and len(self.name) > 5)
        service_addresses(self.service)
        check("data.name", self.name, "'digits', 'image_folder' or 'tfds:<name>'", known)
        given = self.name != "image_folder" or bool(self.root)
        check("data.root", self.root, "a folder with one folder of images per class", given)


@dataclass
class ModelConfig:
    """The pair of networks."""

    resolution: int = 128  # 16, 32, 64 or 128
    width: float = 1.0  # multiplier of all channel counts
    latent_dim: int = 128
    attention: str = "attentive_normalization"  # or "self_attention", "none"
    attention_resolution: int = 0  # of the generator's block with attention; 0: 32, or the resolution if smaller
    attention_block: int = 2  # of the discriminator, 1 or 2
    num_entities: int = 16
    temperature: float = 0.1
    orthogonal_weight: float = 1e-3
    self_sampling: bool = True
    sampling_pool_size: int = 2
    value_projection: bool = True
    affine: str = "shared"  # or "per_entity", or "" for none
    statistics: str = "algorithm1"  # or "weighted"
    normalization: str = "instance"  # or "batch"
    conditioning: str = "concat"  # or "projection", "auxiliary_classifier"
    hidden_width: str = "wide"  # or "thin"
    embedding_dim: int = 128
    generator_spectral_normalization: bool = True
    discriminator_spectral_normalization: bool = True
    synchronized: bool = True  # batch normalization over all replicas

    def validate(self) -> None:
        check("model.resolution", self.resolution, "16, 32, 64 or 128", self.resolution in (16, 32, 64, 128))
        for name in ("width", "temperature"):
            check(f"model.{name}", getattr(self, name), "a number > 0", getattr(self, name) > 0)
        names = ("latent_dim", "num_entities", "sampling_pool_size", "embedding_dim")
        check_numbers("model", self, names, "an int >= 1", 1)
        check_numbers("model", self, ("orthogonal_weight",), "a number >= 0", 0)
        check_options(
            "model",
            self,
            {
                "attention": ("attentive_normalization", "self_attention", "none"),
                "attention_block": (1, 2),
                "affine": ("shared", "per_entity", ""),
                "statistics": ("algorithm1", "weighted"),
                "normalization": ("instance", "batch"),
                "conditioning": ("concat", "projection", "auxiliary_classifier"),
                "hidden_width": ("wide", "thin"),
            },
        )


@dataclass
class TrainingConfig(LoopConfig):
    """The optimisation."""

    batch_size: int = 256  # over all replicas
    discriminator_steps: int = 1  # per generator step
    generator_learning_rate: float = 1e-4
    discriminator_learning_rate: float = 4e-4
    beta_1: float = 0.0
    beta_2: float = 0.999
    auxiliary_weight: float = 1.0  # of the auxiliary classifier's cross entropy in both losses, where there is one
    ema_decay: float = 0.999  # of the generator's moving average; 0: none

    def validate(self) -> None:
        super().validate()
        check_numbers("training", self, ("discriminator_steps",), "an int >= 1", 1)
        for name in ("generator_learning_rate", "discriminator_learning_rate"):
            check(f"training.{name}", getattr(self, name), "a number > 0", getattr(self, name) > 0)
        check_numbers("training", self, ("auxiliary_weight",), "a number >= 0", 0)
        for name in ("beta_1", "beta_2", "ema_decay"):
            check(f"training.{name}", getattr(self, name), "a number in [0, 1)", 0 <= getattr(self, name) < 1)


@dataclass
class EvaluationConfig:
    """What is measured at the start and at the end of a run."""

    classifier: str = ""  # "digits": accuracy and Frechet distance by a small classifier of the embedded digits
    num_samples: int = 2000

    def validate(self) -> None:
        check("evaluation.classifier", self.classifier, "'digits' or ''", self.classifier in ("", "digits"))
        check("evaluation.num_samples", self.num_samples, "an int >= 2", self.num_samples >= 2)


@dataclass
class GanConfig(ExperimentConfig):
    """A class-conditional experiment."""

    name: str = "attennorm"
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)


# Preset -> the fields in which it differs from the defaults above: the paper's own networks and setting ("attennorm").
GAN_PRESETS: dict[str, dict[str, Any]] = {
    "attennorm": {},
    "sngan_star": {"model": {"attention": "none", "conditioning": "projection"}},
    "sagan": {"model": {"attention": "self_attention", "conditioning": "projection"}},
    "sngan": {
        "model": {
            "attention": "none",
            "conditioning": "projection",
            "generator_spectral_normalization": False,
        },
        "training": {
            "generator_learning_rate": 2e-4,
            "discriminator_learning_rate": 2e-4,
            "beta_2": 0.9,
            "discriminator_steps": 5,
        },
    },
    # The paper quotes AC-GAN's scores without a setting: here it has sngan_star's networks and setting, and differs in
    # the conditioning of the discriminator alone. Both weights of the cross entropy are 1, as in Odena et al.
    "acgan": {"model": {"attention": "none", "conditioning": "auxiliary_classifier"}},
    "attennorm_bn": {"model": {"normalization": "batch"}},
    "attennorm_no_orthogonal": {"model": {"orthogonal_weight": 0.0}},
    "attennorm_no_ssr": {"model": {"self_sampling": False}},
    "attennorm_n8": {"model": {"num_entities": 8}},
    "attennorm_n16": {"model": {"num_entities": 16}},
    "attennorm_n32": {"model": {"num_entities": 32}},
}
ATTENNORM_STEPS = 880_000  # the paper: 880k iterations against the baselines' 1M


def gan_preset_config(preset: str, **model: Any) -> GanConfig:
    """The config of a named preset.

    Args:
        preset: a key of `GAN_PRESETS`.
        **model: fields of `ModelConfig` that differ from the preset's.

    Returns:
        A fresh `GanConfig`, free to change.

    Raises:
        ValueError: an unknown preset or field.
    """
    if preset not in GAN_PRESETS:
        raise ValueError(f"preset must be one of {', '.join(sorted(GAN_PRESETS))}; got {preset!r}.")
    config = GanConfig(name=preset)
    if preset.startswith("attennorm"):
        config.training.steps = ATTENNORM_STEPS
    for section, fields in GAN_PRESETS[preset].items():
        filled(getattr(config, section), section, fields)
    filled(config.model, "model", model)
    return config
