"""What the step functions of all tasks share: from a loss to updated weights, over parts of a batch and replicas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from attennorm_tf._compat import raw_variable
from attennorm_tf.replica_random import replica_position, share_position
from attennorm_tf.training.adam import Adam
from attennorm_tf.training.gradients import Gradients, loss_and_gradients
from attennorm_tf.training.local_variables import read_local, write_local
from attennorm_tf.training.precision import MINIMUM, LossScale
from attennorm_tf.training.weight_table import weight_path


class StepResult(NamedTuple):
    """What a step did.

    Attributes:
        metrics: their sum over replicas is their value for the global batch.
        guarded: what must be finite, in order.
        applied: of a single update: bool scalar, whether it was applied; or True.
    """

    metrics: dict[str, tf.Tensor]
    guarded: list[tf.Tensor]
    applied: tf.Tensor | bool = True


class UpdateOptions(NamedTuple):
    """How updates are computed; see `attennorm_tf.config.schema.LoopConfig` for the fields of the same names."""

    accumulation_steps: int = 1
    gradient_clip_norm: float = 0.0
    skip_non_finite: bool = False
    jit_compile: bool = False

    @classmethod
    def of(cls, training: Any) -> UpdateOptions:
        """Those of a config's training section."""
        return cls(
            training.accumulation_steps,
            training.gradient_clip_norm,
            training.non_finite == "skip",
            training.jit_compile,
        )


PLAIN = UpdateOptions()


class Update:
    """One update of some weights, in a replica context; begun before anything of it is computed.

    Args:
        optimizer: of the weights.
        networks: whose batch statistics, spectral vectors and counters the update may move.
        options: how it is computed.
        loss_scale: with float16, else None.
    """

    def __init__(
        self,
        optimizer: Adam,
        networks: Sequence[Any],
        options: UpdateOptions = PLAIN,
        loss_scale: LossScale | None = None,
    ):
        self._optimizer = optimizer
        self._options = options
        self._loss_scale = loss_scale
        self.may_skip = options.skip_non_finite or loss_scale is not None
        state = [weight for network in networks for weight in network.non_trainable_weights] if self.may_skip else []
        self._before = [(weight, read_local(weight)) for weight in state]

    def apply(
        self,
        compute: Callable[..., tuple[tf.Tensor, dict[str, tf.Tensor]]],
        inputs: Sequence[tf.Tensor],
        weights: Sequence[Any],
        name: str,
        networks: Sequence[Any],
    ) -> StepResult:
        """Computes loss and gradients, sums them over the replicas, clips, and updates the weights.

        Where updates may be left out, one whose loss or gradient is not finite changes nothing but the loss scale.

        Args:
            compute: inputs -> (loss, metrics), shares as of `global_mean`; called on parts of the batch.
            inputs: this replica's, rows first, of static shape where the batch is cut into parts.
            weights: to be updated, trainable.
            name: of what is updated, "generator".
            networks: that `compute` runs.

        Returns:
            The metrics, with the norm of the gradient before clipping, `<name>_gradient_norm`, and where updates may
            be left out their number, `skipped_updates`; the loss and the squared norm of each weight's gradient.
        """
        options, scale = self._options, self._loss_scale
        factor = tf.constant(1.0) if scale is None else scale.read()
        loss, metrics, gradients = self._over_replicas(
            loss_and_gradients(
                compute, inputs, [raw_variable(weight) for weight in weights], factor,
                networks=networks, parts=options.accumulation_steps, jit_compile=options.jit_compile, name=name,
            )
        )  # fmt: skip
        if scale is not None:
            gradients = [gradient / factor for gradient in gradients]
        squares = [tf.reduce_sum(tf.square(gradient)) for gradient in gradients]
        norm = tf.sqrt(tf.add_n(squares))
        replicas = replica_position()[1]
        metrics = {**metrics, f"{name}_gradient_norm": norm / replicas}
        guarded = [loss, *squares]
        if options.gradient_clip_norm:
            limit = options.gradient_clip_norm
            gradients = [gradient * (limit / tf.maximum(norm, limit)) for gradient in gradients]
        if not self.may_skip:
            self._optimizer.apply(gradients, weights)
            return StepResult(metrics, guarded)

        finite = tf.reduce_all(tf.math.is_finite(tf.stack(guarded)))
        tf.cond(finite, lambda: self._optimizer.apply(gradients, weights), lambda: None)
        for weight, value in self._before:
            write_local(weight, tf.where(finite, read_local(weight), value))
        excused = ~finite
        if scale is not None:
            scale.move(finite)
            metrics["loss_scale" if name == "generator" else f"{name}_loss_scale"] = factor / replicas
            if not options.skip_non_finite:
                excused &= factor > MINIMUM  # a smaller scale may cure it
        metrics["skipped_updates"] = tf.where(finite, 0.0, 1.0) / replicas
        return StepResult(metrics, [tf.where(excused, tf.zeros_like(value), value) for value in guarded], finite)

    def _over_replicas(self, computed: Gradients) -> Gradients:
        """Loss and gradients summed over the replicas."""
        if replica_position()[1] == 1:
            return computed
        context = tf.distribute.get_replica_context()
        loss, *gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, [computed.loss, *computed.gradients])
        return Gradients(loss, computed.metrics, gradients)


def add_metrics(metrics: dict[str, tf.Tensor], more: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Those of a step's updates so far and of the next: what it has in common with them is the next one's, but that
    updates left out are counted.
    """
    both = {**metrics, **more}
    if "skipped_updates" in metrics and "skipped_updates" in more:
        both["skipped_updates"] = metrics["skipped_updates"] + more["skipped_updates"]
    return both


def guarded_names(prefix: str, *models: Any) -> list[str]:
    """Names of what a step function guards: the loss, then the gradient of every trainable weight."""
    weights = [weight for model in models for weight in model.trainable_weights]
    return [f"{prefix} loss"] + [f"gradient of {weight_path(weight)} ({prefix})" for weight in weights]


def update_moving_average(
    average: Any, model: Any, decay: float, step: tf.Tensor, applied: tf.Tensor | bool = True
) -> None:
    """Moves the averaged generator towards the trained one.

    Weights and the batch statistics that belong to them are averaged, everything else (spectral vectors, counters) is
    copied. The decay grows from 0.1 to `decay`, so that the start is forgotten.

    Args:
        average: generator to update, built.
        model: generator of the same architecture, as trained.
        decay: in [0, 1).
        step: steps done before this one, int64 scalar.
        applied: bool scalar; where false, the average stays as it is.
    """
    done = tf.cast(step, tf.float32)
    decay = tf.minimum(decay, (1.0 + done) / (10.0 + done))
    for target, source in zip(average.weights, model.weights):
        value, before = read_local(source), read_local(target)
        averaged = source.trainable or weight_path(source).split("/")[-1].startswith("moving_")
        if averaged and value.dtype.is_floating:
            value = decay * before + (1.0 - decay) * value
        write_local(target, value if applied is True else tf.where(applied, value, before))


def global_mean(per_example: tf.Tensor) -> tf.Tensor:
    """This share of the mean over the global batch: shares sum up to it, as gradients do."""
    return tf.reduce_mean(per_example) / share_position()[1]


def regularization(model: Any) -> tf.Tensor:
    """This share of the model's regularization losses."""
    losses = model.losses
    return tf.add_n(losses) / share_position()[1] if losses else tf.constant(0.0)


def rows(images: tf.Tensor) -> Any:
    """Images on this replica, static where known."""
    return tf.shape(images)[0] if images.shape[0] is None else images.shape[0]
