"""Losses: adversarial ones and the reconstruction of photographs."""

from attennorm_tf.losses.auxiliary_classifier import auxiliary_classifier_loss
from attennorm_tf.losses.hinge import discriminator_hinge_loss, generator_hinge_loss
from attennorm_tf.losses.reconstruction import reconstruction_loss, reconstruction_weights
from attennorm_tf.losses.wasserstein import (
    discriminator_wasserstein_loss,
    generator_wasserstein_loss,
    gradient_penalty,
)

__all__ = [
    "auxiliary_classifier_loss",
    "discriminator_hinge_loss",
    "discriminator_wasserstein_loss",
    "generator_hinge_loss",
    "generator_wasserstein_loss",
    "gradient_penalty",
    "reconstruction_loss",
    "reconstruction_weights",
]
