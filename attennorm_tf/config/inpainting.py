"""Every setting of an inpainting experiment: its default, its range and what it means, once."""

# No `from __future__ import annotations`: config_flags reads the types of the fields to parse the command line.
from dataclasses import dataclass, field

from attennorm_tf.config.schema import (
    ExperimentConfig,
    LoggingConfig,
    LoopConfig,
    check,
    check_numbers,
    check_options,
    service_addresses,
)

MASK_KINDS = ("rectangle", "center", "free_form", "thin", "medium", "thick", "folder")


@dataclass
class InpaintingDataConfig:
    """Where the photographs come from."""

    name: str = "photographs"  # embedded in installed packages, or "image_folder" or "tfds:<name>"
    root: str = ""  # the folder of image_folder (searched with its subfolders), the data folder of TFDS
    split: str = "train"  # of TFDS
    validation_fraction: float = 0.1  # of the images, chosen by a hash of their names, never trained on
    min_crop_scale: float = 1.0  # the random square crop's least side, as a share of the short side
    horizontal_flip: bool = True
    skip_corrupt: bool = False  # leave out unreadable images (counted and named) instead of stopping
    service: str = (
        ""  # data services that decode, "grpc://host:5050,grpc://other:5050" (docs/scaling.md); "": decoded here
    )

    def validate(self) -> None:
        known = self.name in ("photographs", "image_folder") or (self.name.startswith("tfds:") and len(self.name) > 5)
        service_addresses(self.service)
        check("data.name", self.name, "'photographs', 'image_folder' or 'tfds:<name>'", known)
        check("data.root", self.root, "a folder of images", self.name != "image_folder" or bool(self.root))
        fraction = self.validation_fraction
        check("data.validation_fraction", fraction, "a number in (0, 1)", 0 < fraction < 1)
        check("data.min_crop_scale", self.min_crop_scale, "a number in (0, 1]", 0 < self.min_crop_scale <= 1)


@dataclass
class MaskConfig:
    """What is missing. Lengths in pixels of the training resolution."""

    kind: str = "rectangle"  # or "center", "free_form", "thin", "medium", "thick", "folder"
    height: int = 128  # of the rectangle, and of the local discriminator's crop
    width: int = 128
    shrink: int = 32  # each side of the rectangle is shorter by 0 to this
    root: str = ""  # the folder of kind "folder": white is the hole
    max_strokes: int = 4  # free_form: brush strokes,
    max_vertices: int = 12  # turns of a stroke,
    max_length: int = 64  # between turns,
    max_width: int = 24  # and thickness

    def validate(self) -> None:
        check_options("masks", self, {"kind": MASK_KINDS})
        names = ("height", "width", "max_strokes", "max_vertices", "max_length", "max_width")
        check_numbers("masks", self, names, "an int >= 1", 1)
        smallest = min(self.height, self.width)
        check("masks.shrink", self.shrink, f"an int in [0, {smallest})", 0 <= self.shrink < smallest)
        check("masks.root", self.root, "a folder of masks", self.kind != "folder" or bool(self.root))


@dataclass
class InpaintingModelConfig:
    """The generator, and the discriminators of phase two."""

    network: str = "attentive"  # or "contextual", DeepFill's
    preset: str = "paper"  # or "release", with more convolutions; of the attentive network
    resolution: int = 256  # of the training images, a multiple of 8
    width: float = 1.0  # multiplier of all channel counts
    stage2_input: str = "composite"  # or "concat", the supplement's
    num_entities: int = 16
    temperature: float = 0.1
    orthogonal_weight: float = 1e-3
    self_sampling: bool = True
    sampling_pool_size: int = 2
    value_projection: bool = True
    affine: str = "shared"  # or "per_entity", or "" for none
    statistics: str = "algorithm1"  # or "weighted"
    normalization: str = "instance"  # or "batch"
    discriminator_width: float = 1.0

    def validate(self) -> None:
        multiple = self.resolution >= 16 and self.resolution % 8 == 0
        check("model.resolution", self.resolution, "a multiple of 8 from 16 on", multiple)
        for name in ("width", "temperature", "discriminator_width"):
            check(f"model.{name}", getattr(self, name), "a number > 0", getattr(self, name) > 0)
        check_numbers("model", self, ("num_entities", "sampling_pool_size"), "an int >= 1", 1)
        check_numbers("model", self, ("orthogonal_weight",), "a number >= 0", 0)
        check_options(
            "model",
            self,
            {
                "network": ("attentive", "contextual"),
                "preset": ("paper", "release"),
                "stage2_input": ("composite", "concat"),
                "affine": ("shared", "per_entity", ""),
                "statistics": ("algorithm1", "weighted"),
                "normalization": ("instance", "batch"),
            },
        )


@dataclass
class InpaintingTrainingConfig(LoopConfig):
    """The optimisation: phase one by the reconstruction loss alone, phase two with the discriminators (Eqs. 9, 10)."""

    # `steps` counts the generator's, in both phases.
    phase_two_step: int = -1  # begins after this many steps; 0: no phase one; -1: when phase one stops improving
    validate_every_steps: int = 1000  # measure of phase one's progress, and logged
    validation_images: int = 64
    patience: int = 10  # validations without a new least error that end phase one, with phase_two_step=-1
    discriminator_steps: int = 5  # per generator step, in phase two
    learning_rate: float = 1e-4  # of all networks
    decay_steps: int = 0  # the generator's learning rate falls over these by half a cosine; 0: it stays
    final_learning_rate: float = 1e-4  # and stays at this
    beta_1: float = 0.5
    beta_2: float = 0.9
    reconstruction_weight: float = 1.2  # lambda_rec; DeepFill's, the paper gives none
    hole_weight: float = 1.0  # of pixels in the hole against known ones
    discount: float = 0.0  # gamma of DeepFill's weight gamma^(distance to known pixels) in the hole; 0: off
    adversarial_weight: float = 1e-3  # lambda_adv in phase two
    gradient_penalty_weight: float = 10.0
    gradient_penalty_mask: bool = True  # only the gradient in the hole counts, as in DeepFill
    ema_decay: float = 0.0  # of the generator's moving average; 0: none

    def validate(self) -> None:
        super().validate()
        names = ("discriminator_steps", "validate_every_steps", "patience", "validation_images")
        check_numbers("training", self, names, "an int >= 1", 1)
        check_numbers("training", self, ("phase_two_step",), "an int >= 0, or -1 for automatic", -1)
        check_numbers("training", self, ("decay_steps",), "an int >= 0", 0)
        for name in ("learning_rate", "final_learning_rate"):
            check(f"training.{name}", getattr(self, name), "a number > 0", getattr(self, name) > 0)
        for name in ("beta_1", "beta_2", "ema_decay", "discount"):
            check(f"training.{name}", getattr(self, name), "a number in [0, 1)", 0 <= getattr(self, name) < 1)
        weights = ("reconstruction_weight", "hole_weight", "adversarial_weight", "gradient_penalty_weight")
        check_numbers("training", self, weights, "a number >= 0", 0)


@dataclass
class InpaintingConfig(ExperimentConfig):
    """An inpainting experiment."""

    name: str = "inpainting_attennorm"
    data: InpaintingDataConfig = field(default_factory=InpaintingDataConfig)
    masks: MaskConfig = field(default_factory=MaskConfig)
    model: InpaintingModelConfig = field(default_factory=InpaintingModelConfig)
    training: InpaintingTrainingConfig = field(default_factory=InpaintingTrainingConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)

    def validate(self) -> None:
        super().validate()
        for name in ("height", "width"):
            fits = getattr(self.masks, name) <= self.model.resolution
            check(f"masks.{name}", getattr(self.masks, name), f"at most model.resolution={self.model.resolution}", fits)
        largest = self.masks.height * self.masks.width < self.model.resolution**2
        check("masks.height", self.masks.height, "smaller than the image, or masks.width is", largest)
        # The local discriminator's last convolution would see a map of one place. There TensorFlow's bfloat16 kernel on
        # CPUs (2.21, oneDNN) leaves the gradients of the weights that meet only padding unwritten: random numbers.
        for name in ("height", "width"):
            side = getattr(self.masks, name)
            wide = side > 8 or self.training.precision != "mixed_bfloat16"
            check(f"masks.{name}", side, "more than 8 with training.precision='mixed_bfloat16'", wide)
