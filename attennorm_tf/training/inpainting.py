"""The inpainting networks' two step functions, and the task that joins them for the training loop."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from attennorm_tf.config import InpaintingConfig, InpaintingTrainingConfig
from attennorm_tf.losses import (
    discriminator_wasserstein_loss,
    generator_wasserstein_loss,
    gradient_penalty,
    reconstruction_loss,
    reconstruction_weights,
)
from attennorm_tf.models import build_inpainter, build_inpainting_discriminators
from attennorm_tf.replica_random import replica_uniform
from attennorm_tf.training.inpainting_watch import InpaintingWatch
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

if TYPE_CHECKING:
    from attennorm_tf.data import MaskSource, Photographs


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
    optimizer: Any,
    images: tf.Tensor,
    masks: tf.Tensor,
    training: InpaintingTrainingConfig,
) -> StepResult:
    """One update of the generator by Eq. 9, in a replica context.

    Args:
        generator: what is updated.
        discriminators: name -> network; empty in phase one, whose lambda_adv is 0.
        optimizer: the generator's, built.
        images: (B, R, R, 3) in [-1, 1], this replica's photographs.
        masks: (B, R, R, 1), 1 in the hole.
        training: weights of the loss.

    Returns:
        Losses, gradient norm; the guarded tensors match `guarded_names("generator", generator)`.
    """
    with tf.GradientTape() as tape:
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
    norms, norm = apply_gradients(tape, loss, generator.trainable_variables, optimizer)
    metrics["generator_gradient_norm"] = norm
    return StepResult(metrics, [loss, *norms])


def critic_step(
    generator: Any,
    discriminators: Mapping[str, Any],
    optimizer: Any,
    images: tf.Tensor,
    masks: tf.Tensor,
    seed: tf.Tensor,
    training: InpaintingTrainingConfig,
) -> StepResult:
    """One update of all discriminators by Eq. 10, summed over them, in a replica context.

    Args:
        generator: runs in training mode but is not updated.
        discriminators: name -> network; what is updated.
        optimizer: of all their weights, in the order of the mapping; built.
        images: (B, R, R, 3) in [-1, 1], this replica's photographs.
        masks: (B, R, R, 1), 1 in the hole.
        seed: (2,) of the interpolation, equal on all replicas.
        training: weight and mask of the penalty.

    Returns:
        Losses, scores, gradient norm; the guarded tensors match `guarded_names("discriminator", *discriminators)`.
    """
    fine = generator([images, masks], training=True)[1]
    fakes = composite(fine, images, masks)
    t = replica_uniform([rows(images), 1, 1, 1], seed)
    between = t * fakes + (1.0 - t) * images
    metrics = {}
    with tf.GradientTape() as tape:
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
    variables = [weight for discriminator in discriminators.values() for weight in discriminator.trainable_variables]
    norms, norm = apply_gradients(tape, loss, variables, optimizer)
    metrics["discriminator_loss"] = loss
    metrics["discriminator_gradient_norm"] = norm
    return StepResult(metrics, [loss, *norms])


def validation_batch(
    config: InpaintingConfig, photographs: Photographs, masks: MaskSource
) -> tuple[np.ndarray, np.ndarray]:
    """The photographs and holes that a run is validated on, always the same.

    Args:
        config: how many, and their resolution.
        photographs: those held out.
        masks: draws the holes, by the config's seed.

    Returns:
        (N, R, R, 3) float32 in [-1, 1] and (N, R, R, 1).
    """
    side = config.model.resolution
    images = photographs.arrays(side, config.training.validation_images)
    positions = tf.range(len(images), dtype=tf.int64)
    return images, masks(positions, config.training.seed, (side, side)).numpy()


class InpaintingTask:
    """Networks, optimizers, moving average and phases of one experiment; made inside the strategy's scope.

    Phase one is the reconstruction alone. Phase two, with the discriminators, begins at `training.phase_two_step`, or,
    with -1, at the validation that is the `patience`-th in a row without a new least error.

    Args:
        config: the experiment.
        photographs: (N, R, R, 3) in [-1, 1], held out for validation.
        masks: (N, R, R, 1), theirs.
    """

    def __init__(self, config: InpaintingConfig, photographs: np.ndarray, masks: np.ndarray):
        training = config.training
        self.config = config
        self.generator = build_inpainter(config.model)
        self.average = build_inpainter(config.model)
        self.average.set_weights(self.generator.get_weights())
        crop = (config.masks.height, config.masks.width)
        self.discriminators = build_inpainting_discriminators(config.model, config.masks.kind, crop)
        self.generator_optimizer = keras.optimizers.Adam(learning_rate(training), training.beta_1, training.beta_2)
        self.discriminator_optimizer = keras.optimizers.Adam(
            training.learning_rate if training.decay_steps == 0 else training.final_learning_rate,
            training.beta_1,
            training.beta_2,
        )
        networks = list(self.discriminators.values())
        self.generator_optimizer.build(self.generator.trainable_variables)
        self.discriminator_optimizer.build([w for network in networks for w in network.trainable_variables])
        self.progress = PhaseProgress()
        self.watch = InpaintingWatch(self.sampling_generator, photographs, masks, training.batch_size)
        progress = {"reconstruction_loss": "L1", "coarse_loss": "coarse"}
        guarded = guarded_names("generator", self.generator)
        self._one = Phase(self.train_step, 1, guarded, progress)
        self._two = Phase(
            self.adversarial_train_step,
            training.discriminator_steps + 1,
            guarded_names("discriminator", *networks) * training.discriminator_steps + guarded,
            {**progress, "discriminator_loss": "loss D", "discriminator_gradient_norm": "grad D"},
        )

    @property
    def checkpoint_items(self) -> dict[str, Any]:
        return {
            "generator": self.generator,
            "average": self.average,
            **{f"{name}_discriminator": network for name, network in self.discriminators.items()},
            "generator_optimizer": self.generator_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
            "phase_progress": self.progress,
        }

    @property
    def sampling_generator(self) -> Any:
        """The generator to inpaint with: the moving average where there is one."""
        return self.average if self.config.training.ema_decay else self.generator

    def phase(self, step: int) -> Phase:
        return self._one if step < self._phase_one_steps() else self._two

    def batches_before(self, step: int) -> int:
        first = min(step, self._phase_one_steps())
        return int(first + (step - first) * self._two.batches_per_step)

    def next_control(self, step: int) -> int | None:
        every = self.config.training.validate_every_steps
        validation = (step // every + 1) * every
        given = self.config.training.phase_two_step
        return given if step < given < validation else validation

    def control(self, step: int) -> dict[str, float]:
        """Validates; with an automatic switch, counts validations without progress and begins phase two."""
        training = self.config.training
        if step % training.validate_every_steps:
            return {}
        values = self.watch.validate()
        if training.phase_two_step < 0 and self.phase(step) is self._one:
            self.progress.note(step, values["validation_l1"], training.patience)
        return values

    def scalars(self) -> dict[str, float]:
        return self.watch.scalars()

    def pictures(self) -> dict[str, np.ndarray]:
        return self.watch.pictures()

    def train_step(self, step: tf.Tensor, batches: Sequence[tuple[tf.Tensor, tf.Tensor]]) -> StepResult:
        """One step of phase one; in a replica context.

        Args:
            step: steps done before, int64 scalar.
            batches: one (images, masks) of this replica.
        """
        return self._inpainter_step(step, batches[0], {})

    def adversarial_train_step(self, step: tf.Tensor, batches: Sequence[tuple[tf.Tensor, tf.Tensor]]) -> StepResult:
        """One step of phase two: the discriminators' updates, a batch each, then the generator's; see `train_step`."""
        seeds = tf.random.experimental.stateless_split(
            tf.stack([tf.constant(self.config.training.seed, tf.int64), step]), len(batches), alg="philox"
        )
        guarded: list[tf.Tensor] = []
        metrics: dict[str, tf.Tensor] = {}
        for index, (images, masks) in enumerate(batches[:-1]):
            result = critic_step(
                self.generator, self.discriminators, self.discriminator_optimizer, images, masks, seeds[index],
                self.config.training,
            )  # fmt: skip
            guarded += result.guarded
            metrics.update(result.metrics)
        result = self._inpainter_step(step, batches[-1], self.discriminators)
        return StepResult({**metrics, **result.metrics}, guarded + result.guarded)

    def _inpainter_step(
        self, step: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor], discriminators: Mapping[str, Any]
    ) -> StepResult:
        training = self.config.training
        result = inpainter_step(self.generator, discriminators, self.generator_optimizer, *batch, training)
        if training.ema_decay:
            update_moving_average(self.average, self.generator, training.ema_decay, step)
        return result

    def _phase_one_steps(self) -> float:
        """Length of phase one; infinite while its end is not known."""
        given = self.config.training.phase_two_step
        return given if given >= 0 else self.progress.phase_one_steps


class PhaseProgress(tf.Module):
    """How phase one has gone so far; part of every checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self._least_error = tf.Variable(math.inf, trainable=False, name="least_error")
        self._stale = tf.Variable(0, trainable=False, name="stale")
        self._end = tf.Variable(-1, dtype=tf.int64, trainable=False, name="phase_one_end")

    @property
    def phase_one_steps(self) -> float:
        end = int(self._end.numpy())
        return math.inf if end < 0 else end

    def note(self, step: int, error: float, patience: int) -> None:
        """One more validation; ends phase one after `patience` in a row without a new least error."""
        if error < float(self._least_error.numpy()):
            self._least_error.assign(error)
            self._stale.assign(0)
        else:
            self._stale.assign_add(1)
        if int(self._stale.numpy()) >= patience:
            self._end.assign(step)


def learning_rate(training: InpaintingTrainingConfig) -> Any:
    """The generator's learning rate: constant, or half a cosine down to the final one."""
    if training.decay_steps == 0:
        return training.learning_rate
    return keras.optimizers.schedules.CosineDecay(
        training.learning_rate, training.decay_steps, alpha=training.final_learning_rate / training.learning_rate
    )
