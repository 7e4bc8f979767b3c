"""The class-conditional GAN's two step functions, and the task that joins them for the training loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow import keras

from attennorm_tf.config import GanConfig
from attennorm_tf.layers.spectral_normalization import update_spectral_norms
from attennorm_tf.losses import discriminator_hinge_loss, generator_hinge_loss
from attennorm_tf.models import build_gan
from attennorm_tf.replica_random import replica_integers, replica_normal
from attennorm_tf.training.gan_watch import GanWatch
from attennorm_tf.training.loop import Phase
from attennorm_tf.training.updates import (
    StepResult,
    apply_gradients,
    global_mean,
    guarded_names,
    regularization,
    rows,
    update_moving_average,
)


class Noise(NamedTuple):
    """What the generator draws an image from: z (B, latent_dim) and class ids (B,)."""

    latents: tf.Tensor
    labels: tf.Tensor


def draw_noise(seed: tf.Tensor, batch_size: Any, latent_dim: int, num_classes: int) -> Noise:
    """Fresh z ~ N(0, I) and y ~ U{0..K-1} for this replica's rows of the global batch."""
    latents, labels = tf.unstack(tf.random.experimental.stateless_split(seed, 2, alg="philox"))
    return Noise(replica_normal([batch_size, latent_dim], latents), replica_integers([batch_size], labels, num_classes))


def discriminator_step(
    generator: Any,
    discriminator: Any,
    optimizer: Any,
    images: tf.Tensor,
    labels: tf.Tensor,
    noise: Noise,
    joint_batch: bool = True,
) -> StepResult:
    """One update of the discriminator by the hinge loss, in a replica context.

    Args:
        generator: runs in training mode but is not updated.
        discriminator: what is updated.
        optimizer: the discriminator's, built.
        images: (B, R, R, C) in [-1, 1], this replica's real images.
        labels: (B,) their class ids.
        noise: for as many generated images.
        joint_batch: real and generated images in one pass, interleaved so that the rows of a replica are the same
            rows of the global batch however many replicas there are; False where the statistics of a batch must not
            mix them.

    Returns:
        Losses, mean logits, gradient norm; the guarded tensors match `guarded_names`.
    """
    fakes = generator([noise.latents, noise.labels], training=True)
    update_spectral_norms(discriminator)
    with tf.GradientTape() as tape:
        if joint_batch:
            both = tf.reshape(tf.stack([images, fakes], axis=1), [-1, *images.shape[1:]])
            both_labels = tf.reshape(tf.stack([labels, noise.labels], axis=1), [-1])
            logits = tf.reshape(discriminator([both, both_labels], training=True), [-1, 2])
            real_logits, fake_logits = logits[:, 0], logits[:, 1]
        else:
            real_logits = discriminator([images, labels], training=True)
            fake_logits = discriminator([fakes, noise.labels], training=True)
        hinge = global_mean(discriminator_hinge_loss(real_logits, fake_logits))
        loss = hinge + regularization(discriminator)
    norms, norm = apply_gradients(tape, loss, discriminator.trainable_variables, optimizer)
    metrics = {
        "discriminator_loss": hinge,
        "real_logit": global_mean(real_logits),
        "fake_logit": global_mean(fake_logits),
        "discriminator_gradient_norm": norm,
    }
    return StepResult(metrics, [loss, *norms])


def generator_step(generator: Any, discriminator: Any, optimizer: Any, noise: Noise) -> StepResult:
    """One update of the generator by the hinge loss, in a replica context; arguments as in `discriminator_step`."""
    update_spectral_norms(generator)
    with tf.GradientTape() as tape:
        fakes = generator([noise.latents, noise.labels], training=True)
        hinge = global_mean(generator_hinge_loss(discriminator([fakes, noise.labels], training=True)))
        loss = hinge + regularization(generator)
    norms, norm = apply_gradients(tape, loss, generator.trainable_variables, optimizer)
    metrics = {"generator_loss": hinge, "generator_gradient_norm": norm}
    return StepResult(metrics, [loss, *norms])


class GanTask:
    """Networks, optimizers and moving average of one experiment; made inside the strategy's scope.

    One phase; see `attennorm_tf.training.loop.Task` for what the loop asks of a task.
    """

    def __init__(self, config: GanConfig, num_classes: int, channels: int):
        training = config.training
        self.config = config
        self.num_classes = num_classes
        self.generator, self.discriminator = build_gan(config.model, num_classes, channels)
        self.average, _ = build_gan(config.model, num_classes, channels)
        self.average.set_weights(self.generator.get_weights())
        self.generator_optimizer = keras.optimizers.Adam(
            training.generator_learning_rate, training.beta_1, training.beta_2
        )
        self.discriminator_optimizer = keras.optimizers.Adam(
            training.discriminator_learning_rate, training.beta_1, training.beta_2
        )
        self.generator_optimizer.build(self.generator.trainable_variables)
        self.discriminator_optimizer.build(self.discriminator.trainable_variables)
        guarded = guarded_names("discriminator", self.discriminator) * training.discriminator_steps
        progress = {
            "discriminator_loss": "loss D",
            "generator_loss": "G",
            "real_logit": "D(real)",
            "fake_logit": "D(fake)",
        }
        self._phase = Phase(
            self.train_step,
            training.discriminator_steps,
            guarded + guarded_names("generator", self.generator),
            progress,
        )
        self._watch = GanWatch(self, training.seed)

    @property
    def checkpoint_items(self) -> dict[str, Any]:
        return {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "average": self.average,
            "generator_optimizer": self.generator_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
        }

    def phase(self, step: int) -> Phase:
        return self._phase

    def batches_before(self, step: int) -> int:
        return step * self._phase.batches_per_step

    def next_control(self, step: int) -> int | None:
        return None

    def control(self, step: int) -> dict[str, float]:
        raise NotImplementedError("next_control names no step.")

    def scalars(self) -> dict[str, float]:
        return self._watch.scalars()

    def pictures(self) -> dict[str, np.ndarray]:
        return self._watch.pictures()

    @property
    def sampling_generator(self) -> Any:
        """The generator to make images with: the moving average where there is one."""
        return self.average if self.config.training.ema_decay else self.generator

    def train_step(self, step: tf.Tensor, batches: Sequence[tuple[tf.Tensor, tf.Tensor]]) -> StepResult:
        """All discriminator updates of one generator step, that step, and the moving average; in a replica context.

        Args:
            step: steps done before, int64 scalar; with the seed it determines all noise.
            batches: (images, labels) of this replica, one per discriminator update.
        """
        config = self.config
        seeds = tf.random.experimental.stateless_split(
            tf.stack([tf.constant(config.training.seed, tf.int64), step]), len(batches) + 1, alg="philox"
        )
        guarded = []
        for index, (images, labels) in enumerate(batches):
            noise = draw_noise(seeds[index], rows(images), config.model.latent_dim, self.num_classes)
            result = discriminator_step(
                self.generator, self.discriminator, self.discriminator_optimizer, images, labels, noise,
                joint_batch=config.model.normalization == "instance",
            )  # fmt: skip
            guarded += result.guarded
        metrics = dict(result.metrics)
        noise = draw_noise(seeds[-1], rows(images), config.model.latent_dim, self.num_classes)
        result = generator_step(self.generator, self.discriminator, self.generator_optimizer, noise)
        metrics.update(result.metrics)
        if config.training.ema_decay:
            update_moving_average(self.average, self.generator, config.training.ema_decay, step)
        return StepResult(metrics, guarded + result.guarded)
