"""Adversarial losses."""

from attennorm_tf.losses.hinge import discriminator_hinge_loss, generator_hinge_loss

__all__ = ["discriminator_hinge_loss", "generator_hinge_loss"]
