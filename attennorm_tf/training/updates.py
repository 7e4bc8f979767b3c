"""What the step functions of all tasks share: gradients over replicas, moving average, what is guarded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from attennorm_tf.replica_random import replica_position


class StepResult(NamedTuple):
    """Metrics whose sum over replicas is their value for the global batch, and what must be finite, in order."""

    metrics: dict[str, tf.Tensor]
    guarded: list[tf.Tensor]


def guarded_names(prefix: str, *models: Any) -> list[str]:
    """Names of what a step function guards: the loss, then the gradient of every trainable weight."""
    weights = [weight for model in models for weight in model.trainable_weights]
    return [f"{prefix} loss"] + [f"gradient of {_plain_name(weight)} ({prefix})" for weight in weights]


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


def apply_gradients(
    tape: tf.GradientTape, loss: tf.Tensor, variables: Sequence[Any], optimizer: Any
) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Applies the gradient summed over replicas; returns each weight's squared norm here, and a share of the norm."""
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


def global_mean(per_example: tf.Tensor) -> tf.Tensor:
    """This replica's share of the mean over the global batch: shares sum up to it, as gradients do."""
    return tf.reduce_mean(per_example) / replica_position()[1]


def regularization(model: Any) -> tf.Tensor:
    """This replica's share of the model's regularization losses."""
    losses = model.losses
    return tf.add_n(losses) / replica_position()[1] if losses else tf.constant(0.0)


def rows(images: tf.Tensor) -> Any:
    """Images on this replica, static where known."""
    return tf.shape(images)[0] if images.shape[0] is None else images.shape[0]


def _plain_name(weight: Any) -> str:
    """The weight's place in its network where Keras knows it ("generator/block3/attention/rho")."""
    return str(getattr(weight, "path", weight.name)).split(":")[0]
