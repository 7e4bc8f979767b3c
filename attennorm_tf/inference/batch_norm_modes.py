"""Which statistics the batch normalizations of a generator use when its images are evaluated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from attennorm_tf.inference.replicas import run_on_replicas
from attennorm_tf.models import ClassConditionalGenerator

BN_MODES = ("moving", "batch", "standing")


class EvaluationGenerator:
    """A copy of a generator whose batch normalizations work in one of three modes; the original is left alone.

    "moving": the moving averages of training, as at any inference. An image does not depend on the others.

    "batch": mean and variance of each batch, over all replicas, as in training; nothing is assigned.

    "standing": standing statistics (Brock et al. 2019, BigGAN): the moving averages are replaced by the plain mean of
    the statistics (mean and biased variance) of several batches, each normalized by its own as in "batch".

    Conditional, plain and, with `normalization="batch"`, attentive normalization alike. Self-sampling, the random
    branch of attentive normalization, stays off in every mode.

    Args:
        generator: built; its weights are copied.
        mode: one of `BN_MODES`.
        strategy: that its calls will be distributed by; the copy's variables are made in its scope.

    Attributes:
        network: the copy.
        training: what to call it with.

    Raises:
        ValueError: an unknown mode.
    """

    def __init__(self, generator: ClassConditionalGenerator, mode: str, strategy: tf.distribute.Strategy):
        if mode not in BN_MODES:
            raise ValueError(f"bn_mode must be one of {', '.join(map(repr, BN_MODES))}; got {mode!r}.")
        self._strategy = strategy
        self.training = mode == "batch"
        with strategy.scope():
            # Statistics are those of the global batch, however the network was trained.
            config = {**generator.get_config(), "synchronized": True}
            self.network = type(generator).from_config(config)
            self.network.build()
            self.network.set_weights(generator.get_weights())
        if self.network.attentive_normalization is not None:
            self.network.attentive_normalization.self_sampling = False
        for layer in _batch_normalizations(self.network):
            layer.momentum = 1.0  # keeps the moving averages where a call in training mode assigns them

    def take_standing_statistics(self, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
        """Replaces the moving averages by the mean of the statistics of `batches` of (latents, labels).

        Each batch is shared out over the replicas, whose number divides it.

        Raises:
            ValueError: no batches.
        """
        layers = list(_batch_normalizations(self.network))
        for layer in layers:
            layer.momentum = 0.0  # a call leaves the statistics of its batch

        # Traced anew: momentum is a constant of the graph.
        @tf.function
        def call(latents: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            return tf.reduce_sum(self.network([latents, labels], training=True), axis=(1, 2, 3))

        sums: list[Any] = []
        count = 0
        for latents, labels in batches:
            run_on_replicas(self._strategy, call, (latents, labels))
            found = [tf.convert_to_tensor(weight).numpy().astype(np.float64) for weight in _moving(layers)]
            sums = [total + value for total, value in zip(sums, found)] if count else found
            count += 1
        if not count:
            raise ValueError("standing statistics need at least one batch.")
        with self._strategy.scope():
            for weight, total in zip(_moving(layers), sums):
                weight.assign((total / count).astype(np.float32))
        for layer in layers:
            layer.momentum = 1.0


def _batch_normalizations(network: ClassConditionalGenerator) -> Iterator[Any]:
    """The layers that keep moving averages."""
    layers = [layer for block in network.blocks for layer in (block.norm1, block.norm2)]
    yield from (layer for layer in [*layers, network.norm] if hasattr(layer, "moving_mean"))


def _moving(layers: Iterable[Any]) -> list[Any]:
    return [weight for layer in layers for weight in (layer.moving_mean, layer.moving_variance)]
