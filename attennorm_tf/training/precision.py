"""Mixed precision: the policy that networks are built under, and the loss scale of float16."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf
from tensorflow import keras

from attennorm_tf.training.local_variables import read_local, write_local

INITIAL = 2.0**15
GROWTH_STEPS = 2000
MINIMUM = 1.0


@contextlib.contextmanager
def precision_policy(name: str) -> Iterator[None]:
    """Keras' global dtype policy within: networks built there compute so; their weights are float32 in any case."""
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(name)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def make_loss_scales(precision: str) -> dict[str, LossScale]:
    """A loss scale for the generator's updates and one for the discriminators', or none where none is needed."""
    names = ("generator", "discriminator") if precision == "mixed_float16" else ()
    return {name: LossScale() for name in names}


class LossScale(tf.Module):
    """A loss is multiplied by it before its gradient is taken, and the gradient divided by it, in float32.

    float16 has no numbers between 0 and 6e-8. The scale doubles after 2000 finite updates in a row and halves after one
    that was not finite, down to 1 (Micikevicius et al. 2018). Part of a checkpoint; a scale for each optimizer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.value = tf.Variable(INITIAL, trainable=False, name="value")
        self.good_updates = tf.Variable(0, dtype=tf.int64, trainable=False, name="good_updates")

    def read(self) -> tf.Tensor:
        """The scale on this replica, float32 scalar."""
        return read_local(self.value)

    def move(self, finite: tf.Tensor) -> None:
        """Notes an update; `finite` (bool scalar) is the same on all replicas, and so is the scale then."""
        scale, good = self.read(), read_local(self.good_updates) + 1
        grown = good >= GROWTH_STEPS
        larger = tf.where(grown, tf.minimum(2.0 * scale, tf.float32.max), scale)
        write_local(self.value, tf.where(finite, larger, tf.maximum(0.5 * scale, MINIMUM)))
        write_local(self.good_updates, tf.where(finite & ~grown, good, tf.zeros_like(good)))
