"""The inpainting networks, optimizers and phases, joined into a task for the training loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from attennorm_tf.config import InpaintingConfig
from attennorm_tf.models import build_inpainter, build_inpainting_discriminators
from attennorm_tf.training.adam import Adam
from attennorm_tf.training.compiled_steps import Phase
from attennorm_tf.training.health import HealthWatch
from attennorm_tf.training.inpainting_health import inpainting_conditions
from attennorm_tf.training.inpainting_schedule import PhaseProgress, learning_rate
from attennorm_tf.training.inpainting_steps import critic_step, inpainter_step
from attennorm_tf.training.inpainting_watch import InpaintingWatch
from attennorm_tf.training.precision import make_loss_scales, precision_policy
from attennorm_tf.training.rollbacks import noise_seed, rollback_counter
from attennorm_tf.training.updates import StepResult, add_metrics, guarded_names, update_moving_average

if TYPE_CHECKING:
    from attennorm_tf.data import MaskSource, Photographs


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
        with precision_policy(training.precision):
            self.generator = build_inpainter(config.model)
        with precision_policy("float32"):  # as it will be used
            self.average = build_inpainter(config.model)
        crop = (config.masks.height, config.masks.width)
        with precision_policy(training.precision):
            self.discriminators = build_inpainting_discriminators(config.model, config.masks.kind, crop)
        self.average.set_weights(self.generator.get_weights())
        networks = list(self.discriminators.values())
        betas = training.beta_1, training.beta_2
        self.generator_optimizer = Adam(self.generator.trainable_weights, learning_rate(training), *betas)
        self.discriminator_optimizer = Adam(
            [weight for network in networks for weight in network.trainable_weights],
            training.learning_rate if training.decay_steps == 0 else training.final_learning_rate,
            *betas,
        )
        self.loss_scales = make_loss_scales(training.precision)
        self.progress = PhaseProgress()
        self.watch = InpaintingWatch(self.sampling_generator, photographs, masks, training.batch_size)
        self._health = HealthWatch(inpainting_conditions(training))
        progress = {"reconstruction_loss": "L1", "coarse_loss": "coarse"}
        self.rollbacks = rollback_counter()
        guarded = guarded_names("generator", self.generator)
        self._one = Phase(self.train_step, 1, guarded, progress, final=False)
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
            **{f"{name}_loss_scale": scale for name, scale in self.loss_scales.items()},
            "rollbacks": self.rollbacks,
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

    def look(self, step: int, values: Mapping[str, float]) -> None:
        self._health.look(step, values)

    @tf.autograph.experimental.do_not_convert  # plain Python: it need not be translated
    def train_step(self, step: tf.Tensor, batches: Sequence[tuple[tf.Tensor, tf.Tensor]]) -> StepResult:
        """One step of phase one; in a replica context.

        Args:
            step: steps done before, int64 scalar.
            batches: one (images, masks) of this replica.
        """
        return self._inpainter_step(step, batches[0], {})

    @tf.autograph.experimental.do_not_convert  # plain Python: it need not be translated
    def adversarial_train_step(self, step: tf.Tensor, batches: Sequence[tuple[tf.Tensor, tf.Tensor]]) -> StepResult:
        """One step of phase two: the discriminators' updates, a batch each, then the generator's; see `train_step`."""
        seeds = tf.random.experimental.stateless_split(
            tf.stack([noise_seed(self.config.training.seed, self.rollbacks), step]), len(batches), alg="philox"
        )
        guarded: list[tf.Tensor] = []
        metrics: dict[str, tf.Tensor] = {}
        for index, (images, masks) in enumerate(batches[:-1]):
            result = critic_step(
                self.generator, self.discriminators, self.discriminator_optimizer, images, masks, seeds[index],
                self.config.training, self.loss_scales.get("discriminator"),
            )  # fmt: skip
            guarded += result.guarded
            metrics = add_metrics(metrics, result.metrics)
        result = self._inpainter_step(step, batches[-1], self.discriminators)
        return StepResult(add_metrics(metrics, result.metrics), guarded + result.guarded)

    def _inpainter_step(
        self, step: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor], discriminators: Mapping[str, Any]
    ) -> StepResult:
        training = self.config.training
        scale = self.loss_scales.get("generator")
        result = inpainter_step(self.generator, discriminators, self.generator_optimizer, *batch, training, scale)
        if training.ema_decay:
            update_moving_average(self.average, self.generator, training.ema_decay, step, result.applied)
        return result

    def _phase_one_steps(self) -> float:
        """Length of phase one; infinite while its end is not known."""
        given = self.config.training.phase_two_step
        return given if given >= 0 else self.progress.phase_one_steps
