"""What a GAN run shows of itself: the state of the attentive normalization, the spectral norms, pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from attennorm_tf.layers import AttentiveNormalization, SpectralNormalization
from attennorm_tf.visualization import image_grid, layout_sheet

_IN_USE = 0.01  # an entity is in use if it wins at least this share of the places


class GanWatch:
    """Looks at a task's networks, always with the same latents and classes.

    Args:
        task: the `GanTask`; its networks are built.
        seed: of the fixed latents.
        rows: images per class, at most.
    """

    def __init__(self, task: Any, seed: int, rows: int = 8):
        self._task = task
        columns = min(task.num_classes, 10)
        self._columns, self._rows = columns, rows
        self._labels = tf.constant(np.tile(np.arange(columns), rows), tf.int32)
        self._latents = tf.random.stateless_normal(
            [rows * columns, task.config.model.latent_dim], [seed, 1], alg="philox"
        )
        self._values = tf.function(self._compute_values)
        self._images = tf.function(self._compute_images)

    def scalars(self) -> dict[str, float]:
        """Rho and t of each attentive normalization, largest sigma, layout entropy (nats), entities in use."""
        return {name: float(value) for name, value in self._values().items()}

    def pictures(self) -> dict[str, np.ndarray]:
        """A grid of images, one column per class, and the sheet of layouts (Figure 5) where there are any."""
        images, layouts = self._images()
        pictures = {
            "samples": image_grid(images.numpy(), self._rows, self._columns, scale=max(1, 48 // images.shape[1]))
        }
        if layouts is not None:
            shown = self._columns
            pictures["layouts"] = layout_sheet(images.numpy()[:shown], layouts.numpy()[:shown])
        return pictures

    def _compute_images(self) -> tuple[tf.Tensor, Any]:
        generator = self._task.sampling_generator
        inputs = [self._latents, self._labels]
        if generator.attentive_normalization is None:
            return generator(inputs, training=False), None
        return generator(inputs, training=False, return_layout=True)

    def _compute_values(self) -> dict[str, tf.Tensor]:
        values: dict[str, tf.Tensor] = {}
        sigmas = []
        for name in ("generator", "discriminator"):
            for layer in tf.train.TrackableView(getattr(self._task, name)).descendants():
                if isinstance(layer, AttentiveNormalization):
                    values[f"{name}_rho"] = tf.convert_to_tensor(layer.rho)
                    if layer.self_sampling:
                        values[f"{name}_t"] = tf.reduce_mean(layer.t)
                elif isinstance(layer, SpectralNormalization):
                    sigmas.append(layer.sigma())
        if sigmas:
            values["largest_sigma"] = tf.reduce_max(tf.stack(sigmas))
        layouts = self._compute_images()[1]
        if layouts is not None:
            entropy = -tf.reduce_sum(tf.math.xlogy(layouts, layouts), axis=-1)
            winners = tf.one_hot(tf.argmax(layouts, axis=-1), layouts.shape[-1])
            shares = tf.reduce_mean(winners, axis=[0, 1, 2])
            values["layout_entropy"] = tf.reduce_mean(entropy)
            values["entities_in_use"] = tf.reduce_sum(tf.cast(shares >= _IN_USE, tf.float32))
        return values
