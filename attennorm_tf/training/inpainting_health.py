"""Whether an inpainting network is learning: its critics stay in bounds, its error falls."""

from __future__ import annotations

from attennorm_tf.config import InpaintingTrainingConfig
from attennorm_tf.training.health import Condition, Explodes, Rises, Stalls


def inpainting_conditions(training: InpaintingTrainingConfig) -> list[Condition]:
    """What to warn of."""
    critic = (
        "the critics diverge. Lower training.learning_rate, raise training.gradient_penalty_weight, or set "
        "training.gradient_clip_norm"
    )
    conditions: list[Condition] = [
        Explodes("discriminator_gradient_norm", critic),
        Explodes("discriminator_loss", critic, floor=10.0),
        Explodes(
            "generator_gradient_norm",
            "the generator diverges. Lower training.learning_rate or training.adversarial_weight, or set "
            "training.gradient_clip_norm",
        ),
        Rises(
            "validation_l1",
            "the reconstruction of held-out photographs is lost again. Lower training.adversarial_weight or "
            "training.learning_rate, or raise training.reconstruction_weight; logging.keep_best with "
            "logging.best_metric=validation_l1 and logging.best_mode=min keeps the best",
            factor=1.5,
        ),
    ]
    if training.phase_two_step >= 0:  # otherwise the end of progress is what begins phase two
        conditions.append(
            Stalls(
                "validation_l1",
                "the reconstruction of held-out photographs stands still. In phase one, begin phase two sooner "
                "(training.phase_two_step) or change training.learning_rate; more photographs help most",
                training.patience,
            )
        )
    return conditions
