"""When inpainting's phase one ends, and the generator's learning rate."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf
from tensorflow import keras

from attennorm_tf.config import InpaintingTrainingConfig


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
