"""Networks as `keras.Model` subclasses, and named presets of them."""

from attennorm_tf.models.class_conditional import ClassConditionalGenerator
from attennorm_tf.models.discriminators import ClassConditionalDiscriminator
from attennorm_tf.models.presets import build_gan, gan_preset

__all__ = ["ClassConditionalDiscriminator", "ClassConditionalGenerator", "build_gan", "gan_preset"]


def __dir__() -> list:
    return sorted(__all__)
