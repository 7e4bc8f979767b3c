"""The class-conditional GAN's two step functions, and the task that joins them for the training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from attennorm_tf.config import GanConfig
from attennorm_tf.layers.spectral_normalization import update_spectral_norms
from attennorm_tf.losses import auxiliary_classifier_loss, discriminator_hinge_loss, generator_hinge_loss
from attennorm_tf.models import build_gan
from attennorm_tf.replica_random import replica_integers, replica_normal
from attennorm_tf.training.adam import Adam
from attennorm_tf.training.compiled_steps import Phase
from attennorm_tf.training.gan_health import SampleQuality, gan_conditions, within_class_variance
from attennorm_tf.training.gan_watch import GanWatch
from attennorm_tf.training.health import HealthWatch
from attennorm_tf.training.precision import LossScale, make_loss_scales, precision_policy
from attennorm_tf.training.rollbacks import noise_seed, rollback_counter
from attennorm_tf.training.updates import (
    PLAIN,
    StepResult,
    Update,
    UpdateOptions,
    add_metrics,
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


class Verdict(NamedTuple):
    """What the discriminator says of images: logits (B, 1), and where it classifies them, how well.

    `class_losses` (B,) is the cross entropy with the class that was asked for, `class_hits` (B,) is 1 where that class
    comes first; both None without an auxiliary classifier.
    """

    logits: tf.Tensor
    class_losses: tf.Tensor | None = None
    class_hits: tf.Tensor | None = None


def judge(discriminator: Any, images: tf.Tensor, labels: tf.Tensor) -> Verdict:
    """The discriminator's verdict in training mode on images of class ids `labels` (B,)."""
    if discriminator.conditioning != "auxiliary_classifier":
        return Verdict(discriminator([images, labels], training=True))
    logits, class_logits = discriminator([images, labels], training=True, return_classes=True)
    hits = tf.argmax(class_logits, axis=-1, output_type=labels.dtype) == labels
    return Verdict(logits, auxiliary_classifier_loss(class_logits, labels), tf.cast(hits, tf.float32))


def discriminator_step(
    generator: Any,
    discriminator: Any,
    optimizer: Adam,
    images: tf.Tensor,
    labels: tf.Tensor,
    noise: Noise,
    joint_batch: bool = True,
    auxiliary_weight: float = 1.0,
    options: UpdateOptions = PLAIN,
    loss_scale: LossScale | None = None,
) -> StepResult:
    """One update of the discriminator by the hinge loss, in a replica context.

    With an auxiliary classifier, the cross entropy of its answers on real and on generated images is added (AC-GAN).

    Args:
        generator: runs in training mode, on the whole batch at once, but is not updated.
        discriminator: what is updated.
        optimizer: the discriminator's.
        images: (B, R, R, C) in [-1, 1], this replica's real images.
        labels: (B,) their class ids.
        noise: for as many generated images.
        joint_batch: real and generated images in one pass, interleaved so that the rows of a replica are the same
            rows of the global batch however many replicas there are; False where the statistics of a batch must not
            mix them.
        auxiliary_weight: of each of the two cross entropies.
        options: how the update is computed.
        loss_scale: with float16, else None.

    Returns:
        Losses, mean logits, share of images classified right, gradient norm; the guarded tensors match `guarded_names`.
    """
    update = Update(optimizer, [generator, discriminator], options, loss_scale)
    fakes = generator([noise.latents, noise.labels], training=True)
    update_spectral_norms(discriminator)

    def compute(
        images: tf.Tensor, labels: tf.Tensor, fakes: tf.Tensor, fake_labels: tf.Tensor
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        if joint_batch:
            both = tf.reshape(tf.stack([images, fakes], axis=1), [-1, *images.shape[1:]])
            both_labels = tf.reshape(tf.stack([labels, fake_labels], axis=1), [-1])
            verdict = judge(discriminator, both, both_labels)
            real, fake = (Verdict(*(v if v is None else v[row::2] for v in verdict)) for row in (0, 1))
        else:
            real, fake = judge(discriminator, images, labels), judge(discriminator, fakes, fake_labels)
        hinge = global_mean(discriminator_hinge_loss(real.logits, fake.logits))
        metrics = {
            "discriminator_loss": hinge,
            "real_logit": global_mean(real.logits),
            "fake_logit": global_mean(fake.logits),
        }
        loss = hinge + regularization(discriminator)
        for name, verdict in (("real", real), ("fake", fake)):
            if verdict.class_losses is not None:
                class_loss = global_mean(verdict.class_losses)
                loss += auxiliary_weight * class_loss
                metrics[f"{name}_class_loss"] = class_loss
                metrics[f"{name}_class_accuracy"] = global_mean(verdict.class_hits)
        return loss, metrics

    inputs = [images, labels, fakes, noise.labels]
    return update.apply(compute, inputs, discriminator.trainable_weights, "discriminator", [discriminator])


def generator_step(
    generator: Any,
    discriminator: Any,
    optimizer: Adam,
    noise: Noise,
    auxiliary_weight: float = 1.0,
    options: UpdateOptions = PLAIN,
    loss_scale: LossScale | None = None,
) -> StepResult:
    """One update of the generator by the hinge loss, in a replica context; arguments as in `discriminator_step`.

    With an auxiliary classifier, the cross entropy of its answers on the generated images is added (AC-GAN).
    """
    update = Update(optimizer, [generator, discriminator], options, loss_scale)
    update_spectral_norms(generator)

    def compute(latents: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        fakes = generator([latents, labels], training=True)
        verdict = judge(discriminator, fakes, labels)
        hinge = global_mean(generator_hinge_loss(verdict.logits))
        loss = hinge + regularization(generator)
        metrics = {"generator_loss": hinge}
        if verdict.class_losses is not None:
            class_loss = global_mean(verdict.class_losses)
            loss += auxiliary_weight * class_loss
            metrics["generator_class_loss"] = class_loss
        return loss, metrics

    return update.apply(compute, noise, generator.trainable_weights, "generator", [generator, discriminator])


class GanTask:
    """Networks, optimizers and moving average of one experiment; made inside the strategy's scope.

    One phase; see `attennorm_tf.training.task.Task` for what the loop asks of a task.

    Args:
        config: the experiment.
        num_classes: K of the data.
        channels: of the images, 1 or 3.
    """

    def __init__(self, config: GanConfig, num_classes: int, channels: int):
        training = config.training
        self.config = config
        self.num_classes = num_classes
        with precision_policy(training.precision):
            self.generator, self.discriminator = build_gan(config.model, num_classes, channels)
        with precision_policy("float32"):  # as it will be used
            self.average, _ = build_gan(config.model, num_classes, channels)
        self.average.set_weights(self.generator.get_weights())
        betas = training.beta_1, training.beta_2
        self.generator_optimizer = Adam(self.generator.trainable_weights, training.generator_learning_rate, *betas)
        self.discriminator_optimizer = Adam(
            self.discriminator.trainable_weights, training.discriminator_learning_rate, *betas
        )
        self.loss_scales = make_loss_scales(training.precision)
        self._options = UpdateOptions.of(training)
        self.rollbacks = rollback_counter()
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
        self._health = HealthWatch(gan_conditions())
        self._quality: SampleQuality | None = None

    @property
    def checkpoint_items(self) -> dict[str, Any]:
        return {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "average": self.average,
            "generator_optimizer": self.generator_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
            **{f"{name}_loss_scale": scale for name, scale in self.loss_scales.items()},
            "rollbacks": self.rollbacks,
        }

    def phase(self, step: int) -> Phase:
        return self._phase

    def batches_before(self, step: int) -> int:
        return step * self._phase.batches_per_step

    def next_control(self, step: int) -> int | None:
        every = self.config.logging.image_every_steps
        return (step // every + 1) * every if every and self._quality is not None else None

    def control(self, step: int) -> dict[str, float]:
        """Precision and recall, whenever pictures are drawn and there are features to tell them by."""
        return {} if self._quality is None else self._quality.scalars()

    def compare_with(
        self, images: np.ndarray, labels: np.ndarray, features: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> None:
        """Gives what the log compares generated images with.

        Args:
            images: (n, R, R, C) in [-1, 1], some of the data.
            labels: (n,) their class ids.
            features: of a network that knows the data, (n, R, R, C) -> (n, d), for precision and recall; None: neither.
        """
        self._watch.real_variance = within_class_variance(images, labels)
        if features is not None:
            self._quality = SampleQuality(self.sampling_generator, features, images, self.config.training.seed)

    def look(self, step: int, values: Mapping[str, float]) -> None:
        self._health.look(step, values)

    def scalars(self) -> dict[str, float]:
        return self._watch.scalars()

    def pictures(self) -> dict[str, np.ndarray]:
        return self._watch.pictures()

    @property
    def sampling_generator(self) -> Any:
        """The generator to make images with: the moving average where there is one."""
        return self.average if self.config.training.ema_decay else self.generator

    @tf.autograph.experimental.do_not_convert  # plain Python: it need not be translated
    def train_step(self, step: tf.Tensor, batches: Sequence[tuple[tf.Tensor, tf.Tensor]]) -> StepResult:
        """All discriminator updates of one generator step, that step, and the moving average; in a replica context.

        Args:
            step: steps done before, int64 scalar; with the seed it determines all noise.
            batches: (images, labels) of this replica, one per discriminator update.
        """
        config = self.config
        seeds = tf.random.experimental.stateless_split(
            tf.stack([noise_seed(config.training.seed, self.rollbacks), step]), len(batches) + 1, alg="philox"
        )
        guarded: list[tf.Tensor] = []
        metrics: dict[str, tf.Tensor] = {}
        for index, (images, labels) in enumerate(batches):
            noise = draw_noise(seeds[index], rows(images), config.model.latent_dim, self.num_classes)
            result = discriminator_step(
                self.generator, self.discriminator, self.discriminator_optimizer, images, labels, noise,
                joint_batch=config.model.normalization == "instance",
                auxiliary_weight=config.training.auxiliary_weight,
                options=self._options, loss_scale=self.loss_scales.get("discriminator"),
            )  # fmt: skip
            guarded += result.guarded
            metrics = add_metrics(metrics, result.metrics)
        noise = draw_noise(seeds[-1], rows(images), config.model.latent_dim, self.num_classes)
        result = generator_step(
            self.generator, self.discriminator, self.generator_optimizer, noise, config.training.auxiliary_weight,
            options=self._options, loss_scale=self.loss_scales.get("generator"),
        )  # fmt: skip
        if config.training.ema_decay:
            update_moving_average(self.average, self.generator, config.training.ema_decay, step, result.applied)
        return StepResult(add_metrics(metrics, result.metrics), guarded + result.guarded)
