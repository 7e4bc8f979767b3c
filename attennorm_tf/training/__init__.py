"""Training: the loop, the step functions of a task, checkpoints, and the work directory of a run."""

from attennorm_tf.training.adam import Adam
from attennorm_tf.training.checkpointing import CheckpointError, CheckpointStore, find_checkpoint
from attennorm_tf.training.compiled_steps import Phase
from attennorm_tf.training.gan import GanTask, discriminator_step, generator_step
from attennorm_tf.training.inpainting import InpaintingTask, validation_batch
from attennorm_tf.training.inpainting_steps import critic_step, inpainter_step
from attennorm_tf.training.loop import NonFiniteError, Outcome, run_training
from attennorm_tf.training.peer_watch import WorkerLostError
from attennorm_tf.training.run_directory import RunDirectory
from attennorm_tf.training.strategy import make_strategy
from attennorm_tf.training.updates import StepResult

__all__ = [
    "Adam",
    "CheckpointError",
    "CheckpointStore",
    "GanTask",
    "InpaintingTask",
    "NonFiniteError",
    "Outcome",
    "Phase",
    "RunDirectory",
    "StepResult",
    "WorkerLostError",
    "critic_step",
    "discriminator_step",
    "find_checkpoint",
    "generator_step",
    "inpainter_step",
    "make_strategy",
    "run_training",
    "validation_batch",
]


def __dir__() -> list:
    return sorted(__all__)
