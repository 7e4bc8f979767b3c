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
from attennorm_tf.replica_random import replica_integers, replica_normal, replica_position
from attennorm_tf.training.gan_watch import GanWatch


class Noise(NamedTuple):
    """What the generator draws an image from: z (B, latent_dim) and class ids (B,)."""

    latents: tf.Tensor
    labels: tf.Tensor


class StepResult(NamedTuple):
    """Metrics whose sum over replicas is their value for the global batch, and what must be finite, in order."""

    metrics: dict[str, tf.Tensor]
    guarded: list[tf.Tensor]


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
        hinge = _global_mean(discriminator_hinge_loss(real_logits, fake_logits))
        loss = hinge + _regularization(discriminator)
    norms, norm = _apply_gradients(tape, loss, discriminator, optimizer)
    metrics = {
        "discriminator_loss": hinge,
        "real_logit": _global_mean(real_logits),
        "fake_logit": _global_mean(fake_logits),
        "discriminator_gradient_norm": norm,
    }
    return StepResult(metrics, [loss, *norms])


def generator_step(generator: Any, discriminator: Any, optimizer: Any, noise: Noise) -> StepResult:
    """One update of the generator by the hinge loss, in a replica context; arguments as in `discriminator_step`."""
    update_spectral_norms(generator)
    with tf.GradientTape() as tape:
        fakes = generator([noise.latents, noise.labels], training=True)
        hinge = _global_mean(generator_hinge_loss(discriminator([fakes, noise.labels], training=True)))
        loss = hinge + _regularization(generator)
    norms, norm = _apply_gradients(tape, loss, generator, optimizer)
    metrics = {"generator_loss": hinge, "generator_gradient_norm": norm}
    return StepResult(metrics, [loss, *norms])


def guarded_names(model: Any, prefix: str) -> list[str]:
    """Names of what a step function guards: the loss, then the gradient of every trainable weight."""
    return [f"{prefix} loss"] + [f"gradient of {_plain_name(w)} ({prefix})" for w in model.trainable_weights]


def update_moving_average(average: Any, model: Any, decay: float, step: tf.Tensor) -> None:
    """Moves the averaged generator towards the trained one.

    Weights and the batch statistics that belong to them are averaged, everything else (spectral vectors, counters) is
    copied. The decay grows from 0.1 to `decay`, so that the start is forgotten.

    Args:
        average: generator to update, built.
        model: generator of the same architecture, as trained.
        decay: in [0, 1).
        step: steps done before this one, int64 scalar.
    """
    done = tf.cast(step, tf.float32)
    decay = tf.minimum(decay, (1.0 + done) / (10.0 + done))
    for target, source in zip(average.weights, model.weights):
        value = tf.convert_to_tensor(source)
        averaged = source.trainable or _plain_name(source).split("/")[-1].startswith("moving_")
        if averaged and value.dtype.is_floating:
            value = decay * tf.convert_to_tensor(target) + (1.0 - decay) * value
        target.assign(value)


class GanTask:
    """Networks, optimizers and moving average of one experiment; made inside the strategy's scope.

    What the loop asks of a task: `checkpoint_items`, `batches_per_step`, `train_step`, `guarded`.
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
        self.batches_per_step = training.discriminator_steps
        self.progress_metrics = {
            "discriminator_loss": "loss D",
            "generator_loss": "G",
            "real_logit": "D(real)",
            "fake_logit": "D(fake)",
        }
        self._watch = GanWatch(self, config.training.seed)
        self.guarded = guarded_names(self.discriminator, "discriminator") * self.batches_per_step
        self.guarded += guarded_names(self.generator, "generator")

    @property
    def checkpoint_items(self) -> dict[str, Any]:
        return {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "average": self.average,
            "generator_optimizer": self.generator_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
        }

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
            noise = draw_noise(seeds[index], _rows(images), config.model.latent_dim, self.num_classes)
            result = discriminator_step(
                self.generator, self.discriminator, self.discriminator_optimizer, images, labels, noise,
                joint_batch=config.model.normalization == "instance",
            )  # fmt: skip
            guarded += result.guarded
        metrics = dict(result.metrics)
        noise = draw_noise(seeds[-1], _rows(images), config.model.latent_dim, self.num_classes)
        result = generator_step(self.generator, self.discriminator, self.generator_optimizer, noise)
        metrics.update(result.metrics)
        if config.training.ema_decay:
            update_moving_average(self.average, self.generator, config.training.ema_decay, step)
        return StepResult(metrics, guarded + result.guarded)


def _apply_gradients(
    tape: tf.GradientTape, loss: tf.Tensor, model: Any, optimizer: Any
) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Applies the gradient summed over replicas; returns each weight's squared norm here, and a share of the norm."""
    variables = model.trainable_variables
    # Dense: optimizers of the two stacks treat the rows of a table that a batch did not touch differently.
    gradients = [tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, variables)]
    norms = [tf.reduce_sum(tf.square(tf.cast(g, tf.float32))) for g in gradients]
    replicas = replica_position()[1]
    if replicas == 1:
        total = norms
    else:
        gradients = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        total = [tf.reduce_sum(tf.square(tf.cast(g, tf.float32))) for g in gradients]
        # The optimizer sums over replicas once more.
        gradients = [g / replicas for g in gradients]
    optimizer.apply_gradients(zip(gradients, variables))
    return norms, tf.sqrt(tf.add_n(total)) / replicas


def _global_mean(per_example: tf.Tensor) -> tf.Tensor:
    """This replica's share of the mean over the global batch: shares sum up to it, as gradients do."""
    return tf.reduce_mean(per_example) / replica_position()[1]


def _regularization(model: Any) -> tf.Tensor:
    losses = model.losses
    return tf.add_n(losses) / replica_position()[1] if losses else tf.constant(0.0)


def _rows(images: tf.Tensor) -> Any:
    return tf.shape(images)[0] if images.shape[0] is None else images.shape[0]


def _plain_name(weight: Any) -> str:
    """The weight's place in its network where Keras knows it ("generator/block3/attention/rho")."""
    return str(getattr(weight, "path", weight.name)).split(":")[0]
