"""Networks as `keras.Model` subclasses, and named presets of them."""

from attennorm_tf.models.class_conditional import ClassConditionalGenerator
from attennorm_tf.models.contextual_inpainting import ContextualAttentionInpainter
from attennorm_tf.models.discriminators import ClassConditionalDiscriminator
from attennorm_tf.models.inpainting import InpaintingGenerator
from attennorm_tf.models.inpainting_discriminators import (
    GlobalDiscriminator,
    LocalDiscriminator,
    MaskedPatchDiscriminator,
)
from attennorm_tf.models.inpainting_presets import build_inpainter, build_inpainting_discriminators
from attennorm_tf.models.presets import build_gan, gan_preset

__all__ = [
    "ClassConditionalDiscriminator",
    "ClassConditionalGenerator",
    "ContextualAttentionInpainter",
    "GlobalDiscriminator",
    "InpaintingGenerator",
    "LocalDiscriminator",
    "MaskedPatchDiscriminator",
    "build_gan",
    "build_inpainter",
    "build_inpainting_discriminators",
    "gan_preset",
]


def __dir__() -> list:
    return sorted(__all__)
