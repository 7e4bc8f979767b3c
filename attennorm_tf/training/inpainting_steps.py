"""The inpainting networks' two step functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from attennorm_tf.config import InpaintingTrainingConfig
from attennorm_tf.losses import (
    discriminator_wasserstein_loss,
    generator_wasserstein_loss,
    gradient_penalty,
    reconstruction_loss,
    reconstruction_weights,
)
from attennorm_tf.replica_random import replica_uniform
from attennorm_tf.training.adam import Adam
from attennorm_tf.training.precision import LossScale
from attennorm_tf.training.updates import StepResult, Update, UpdateOptions, global_mean, regularization, rows


def reconstruction_terms(
    coarse: tf.Tensor, fine: tf.Tensor, images: tf.Tensor, masks: tf.Tensor, training: InpaintingTrainingConfig
) -> tuple[tf.Tensor, tf.Tensor]:
    """This replica's shares of the reconstruction losses of both stages, before `reconstruction_weight`."""
    weights = reconstruction_weights(masks, training.hole_weight, training.discount)
    return tuple(global_mean(reconstruction_loss(output, images, weights)) for output in (coarse, fine))


def composite(outputs: tf.Tensor, images: tf.Tensor, masks: tf.Tensor) -> tf.Tensor:
    """Outputs in the hole, the photograph elsewhere."""
    return outputs * masks + images * (1.0 - masks)


def inpainter_step(
    generator: Any,
    discriminators: Mapping[str, Any],
    optimizer: Adam,
    images: tf.Tensor,
    masks: tf.Tensor,
    training: InpaintingTrainingConfig,
    loss_scale: LossScale | None = None,
) -> StepResult:
    """One update of the generator by Eq. 9, in a replica context.

    Args:
        generator: what is updated.
        discriminators: name -> network; empty in phase one, whose lambda_adv is 0.
        optimizer: the generator's.
        images: (B, R, R, 3) in [-1, 1], this replica's photographs.
        masks: (B, R, R, 1), 1 in the hole.
        training: weights of the loss, and how the update is computed.
        loss_scale: with float16, else None.

    Returns:
        Losses, gradient norm; the guarded tensors match `guarded_names("generator", generator)`.
    """
    networks = [generator, *discriminators.values()]
    update = Update(optimizer, networks, UpdateOptions.of(training), loss_scale)

    def compute(images: tf.Tensor, masks: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        coarse, fine = generator([images, masks], training=True)
        coarse_loss, fine_loss = reconstruction_terms(coarse, fine, images, masks, training)
        loss = training.reconstruction_weight * (coarse_loss + fine_loss) + regularization(generator)
        metrics = {"coarse_loss": coarse_loss, "reconstruction_loss": fine_loss}
        if discriminators:
            fakes = composite(fine, images, masks)
            scores = [discriminator([fakes, masks], training=True) for discriminator in discriminators.values()]
            adversarial = tf.add_n([global_mean(generator_wasserstein_loss(score)) for score in scores])
            loss += training.adversarial_weight * adversarial
            metrics["adversarial_loss"] = adversarial
        return loss, metrics

    return update.apply(compute, [images, masks], generator.trainable_weights, "generator", networks)


def critic_step(
    generator: Any,
    discriminators: Mapping[str, Any],
    optimizer: Adam,
    images: tf.Tensor,
    masks: tf.Tensor,
    seed: tf.Tensor,
    training: InpaintingTrainingConfig,
    loss_scale: LossScale | None = None,
) -> StepResult:
    """One update of all discriminators by Eq. 10, summed over them, in a replica context.

    Args:
        generator: runs in training mode, on the whole batch at once, but is not updated.
        discriminators: name -> network; what is updated.
        optimizer: of all their weights.
        images: (B, R, R, 3) in [-1, 1], this replica's photographs.
        masks: (B, R, R, 1), 1 in the hole.
        seed: (2,) of the interpolation, equal on all replicas.
        training: weight and mask of the penalty, and how the update is computed.
        loss_scale: with float16, else None.

    Returns:
        Losses, scores, gradient norm; the guarded tensors match `guarded_names("discriminator", *discriminators)`.
    """
    networks = list(discriminators.values())
    update = Update(optimizer, [generator, *networks], UpdateOptions.of(training), loss_scale)
    fine = generator([images, masks], training=True)[1]
    t = replica_uniform([rows(images), 1, 1, 1], seed)

    def compute(
        images: tf.Tensor, masks: tf.Tensor, fine: tf.Tensor, t: tf.Tensor
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        fakes = composite(fine, images, masks)
        between = t * fakes + (1.0 - t) * images
        metrics = {}
        loss = tf.constant(0.0)
        for name, discriminator in discriminators.items():
            real = discriminator([images, masks], training=True)
            fake = discriminator([fakes, masks], training=True)

            def score(pictures: tf.Tensor, network: Any = discriminator) -> tf.Tensor:
                return network([pictures, masks], training=True)

            weights = masks if training.gradient_penalty_mask else None
            penalty = global_mean(gradient_penalty(score, between, weights))
            distance = global_mean(discriminator_wasserstein_loss(real, fake))
            loss += distance + training.gradient_penalty_weight * penalty
            metrics[f"{name}_distance"] = -distance
            metrics[f"{name}_penalty"] = penalty
        return loss, {**metrics, "discriminator_loss": loss}

    weights = [weight for network in networks for weight in network.trainable_weights]
    return update.apply(compute, [images, masks, fine, t], weights, "discriminator", networks)
