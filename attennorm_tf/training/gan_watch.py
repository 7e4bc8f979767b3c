"""What a GAN run shows of itself: the state of the attentive normalization, the spectral norms, pictures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from attennorm_tf.layers import SpectralNormalization
from attennorm_tf.training.attention_monitor import (
    AttentionSums,
    attention_layers,
    attention_scalars,
    layer_path,
    summarize,
    watch_attention,
    watch_features,
)
from attennorm_tf.training.gan_health import within_class_variance
from attennorm_tf.visualization import (
    class_blends,
    image_grid,
    interpolation_strip,
    layout_sheet,
    region_statistics,
    statistics_sheet,
)
from attennorm_tf.visualization.interpolation import followed_entity, three_classes

_BLEND_STEPS = 4


class GanWatch:
    """Looks at a task's networks, always with the same latents and classes.

    Args:
        task: the `GanTask`; its networks are built.
        seed: of the fixed latents.
        rows: images per class, at most.

    Attributes:
        real_variance: within the classes of the data, to compare with; NaN: not known.
    """

    def __init__(self, task: Any, seed: int, rows: int = 8):
        self._task = task
        self.real_variance = math.nan
        columns = min(task.num_classes, 10)
        self._columns, self._rows = columns, rows
        self._labels = tf.constant(np.tile(np.arange(columns), rows), tf.int32)
        self._latents = tf.random.stateless_normal(
            [rows * columns, task.config.model.latent_dim], [seed, 1], alg="philox"
        )
        self._layers = {**attention_layers(task.sampling_generator), **attention_layers(task.discriminator)}
        self._measured = tf.function(self._measure, autograph=False)
        self._images = tf.function(self._compute_images, autograph=False)

    def scalars(self) -> dict[str, float]:
        """The state of each attentive normalization, see `attention_scalars`, and the largest sigma of each network.

        `sample_variance` is that of a pixel between images of one class, `sample_variance_ratio` is it over the data's.
        The names of the others begin with the network's: `generator_rho`, `discriminator_largest_sigma`. The generator
        is the one that images are made with, the discriminator looks at its images.
        """
        values: dict[str, float] = {}
        images, sums, sigmas = self._measured()
        values["sample_variance"] = within_class_variance(images.numpy(), self._labels.numpy())
        if self.real_variance > 0:
            values["sample_variance_ratio"] = values["sample_variance"] / self.real_variance
        for name, parts in sums.items():
            prefix = name.split("/")[0] + "_"
            values.update(attention_scalars(self._layers[name], summarize([parts]), prefix))
        return {**values, **{name: float(sigma) for name, sigma in sigmas.items()}}

    def pictures(self) -> dict[str, np.ndarray]:
        """A grid of images, one column per class; with attentive normalization also what it does.

        That is: the layouts (Figure 5), the statistics of their regions (Figure 4), and, of several classes, an
        interpolation (Figure 8).
        """
        made, *rest = self._images()
        images, blended = np.split(made.numpy(), [len(self._labels)])
        pictures = {"samples": image_grid(images, self._rows, self._columns, scale=max(1, 48 // images.shape[1]))}
        if not rest:
            return pictures
        shown, features = images[: self._columns], rest[1].numpy()
        layouts, followed = np.split(rest[0].numpy(), [self._columns])
        pictures["layouts"] = layout_sheet(shown, layouts, over_images=True)
        pictures["statistics"] = statistics_sheet(shown, layouts, region_statistics(features, layouts))
        if len(blended):
            pictures["interpolation"] = interpolation_strip(blended, followed, followed_entity(followed))
        return pictures

    def _compute_images(self) -> list[tf.Tensor]:
        """Images; with attentive normalization layouts of the first row and the interpolation, the row's features."""
        generator = self._task.sampling_generator
        classes, attentive = self._task.num_classes, generator.attentive_normalization is not None
        latents, weights = self._latents, tf.one_hot(self._labels, classes)
        if attentive and classes > 1:  # in the same graph, which is traced once
            blends = class_blends(three_classes(classes), classes, _BLEND_STEPS)
            latents = tf.concat([latents, tf.repeat(latents[:1], len(blends), axis=0)], axis=0)
            weights = tf.concat([weights, blends], axis=0)
        if not attentive:
            return [generator([latents, weights], training=False)]
        images, seen = watch_features(
            attention_layers(generator), lambda: generator([latents, weights], training=False)
        )
        ((features, layouts),) = seen.values()
        count, columns = len(self._labels), self._columns
        layouts = tf.concat([layouts[:columns], layouts[count:]], axis=0)
        return [images, tf.cast(layouts, tf.float32), tf.cast(features[:columns], tf.float32)]

    def _measure(self) -> tuple[tf.Tensor, dict[str, AttentionSums], dict[str, tf.Tensor]]:
        task = self._task

        def run() -> tf.Tensor:
            images = task.sampling_generator([self._latents, self._labels], training=False)
            if self._layers:
                task.discriminator([images, self._labels], training=False)
            return images

        images, sums = watch_attention(self._layers, run)
        sigmas = {}
        for name, network in (("generator", task.generator), ("discriminator", task.discriminator)):
            found = [layer.sigma() for layer in spectral_layers(network).values()]
            if found:
                sigmas[f"{name}_largest_sigma"] = tf.reduce_max(tf.stack(found))
        return images, sums, sigmas


def spectral_layers(model: Any) -> dict[str, SpectralNormalization]:
    """The spectral normalizations inside a built model by their paths, "generator/block1/conv1"."""
    parts = tf.train.TrackableView(model).descendants()
    layers = [part for part in parts if isinstance(part, SpectralNormalization)]
    return {layer_path(layer.u): layer for layer in layers}
