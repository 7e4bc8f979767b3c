"""Adam on gradients that are already summed over the replicas."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf

from attennorm_tf.training.local_variables import local_handle, read_local
from attennorm_tf.training.weight_table import weight_path, weight_table


class Adam(tf.Module):
    """Adam (Kingma and Ba 2015), in the form that Keras' and TensorFlow's optimizers compute:

        m <- beta_1 m + (1 - beta_1) g,    v <- beta_2 v + (1 - beta_2) g^2
        w <- w - rate sqrt(1 - beta_2^t) / (1 - beta_1^t) m / (sqrt(v) + epsilon)

    Each replica moves its own copy, all by the same gradient: nothing is communicated, so that it may stand inside a
    `tf.cond`, and nothing is summed twice. Its variables have the same names on both stacks, Keras' optimizers do not.

    Make it in the scope of the strategy that its weights were made in.

    Args:
        weights: to be trained; the slots of each are float32 and start at 0.
        learning_rate: a number, or a schedule: updates done, int64 -> rate.
        beta_1: in [0, 1).
        beta_2: in [0, 1).
        epsilon: > 0.

    Example:
        >>> weight = tf.Variable([1.0, -1.0], name="weight")
        >>> Adam([weight], learning_rate=0.1).apply([tf.constant([3.0, 0.0])], [weight])
        >>> weight.numpy().round(4)
        array([ 0.9, -1. ], dtype=float32)
    """

    def __init__(
        self,
        weights: Iterable[Any],
        learning_rate: float | Callable[[tf.Tensor], Any],
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
    ):
        super().__init__()
        self.learning_rate = learning_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        shapes = {path: weight.shape for path, weight in weight_table(weights).items()}
        self.iterations = tf.Variable(0, dtype=tf.int64, trainable=False, name="iterations")
        self.m = {path: tf.Variable(tf.zeros(shape), trainable=False, name="m") for path, shape in shapes.items()}
        self.v = {path: tf.Variable(tf.zeros(shape), trainable=False, name="v") for path, shape in shapes.items()}

    @property
    def variables(self) -> tuple[tf.Variable, ...]:
        """Number of updates done, then all slots m, then all slots v."""
        return (self.iterations, *self.m.values(), *self.v.values())

    def rate(self) -> tf.Tensor:
        """Learning rate of the next update, float32 scalar."""
        rate = self.learning_rate
        return tf.cast(rate(read_local(self.iterations)) if callable(rate) else rate, tf.float32)

    def apply(self, gradients: Sequence[tf.Tensor], weights: Sequence[Any]) -> None:
        """One update, in a replica context or outside any strategy.

        Args:
            gradients: float32, the same on all replicas.
            weights: what they belong to, all or some of those given at first.
        """
        rate = self.rate()
        number = tf.cast(read_local(self.iterations) + 1, tf.float32)
        powers = [tf.pow(tf.constant(beta, tf.float32), number) for beta in (self.beta_1, self.beta_2)]
        for gradient, weight in zip(gradients, weights):
            path = weight_path(weight)
            tf.raw_ops.ResourceApplyAdam(
                var=local_handle(weight),
                m=local_handle(self.m[path]),
                v=local_handle(self.v[path]),
                beta1_power=powers[0],
                beta2_power=powers[1],
                lr=rate,
                beta1=self.beta_1,
                beta2=self.beta_2,
                epsilon=self.epsilon,
                grad=gradient,
            )
        tf.raw_ops.AssignAddVariableOp(resource=local_handle(self.iterations), value=tf.constant(1, tf.int64))
