"""What an inpainting run shows of itself: its error on held-out photographs, pictures, the attentive normalization."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from attennorm_tf.training.attention_monitor import (
    AttentionSums,
    attention_layers,
    attention_scalars,
    summarize,
    watch_attention,
    watch_features,
)
from attennorm_tf.visualization import comparison_sheet, layout_sheet, region_statistics, statistics_sheet

_SHOWN = 6


class InpaintingWatch:
    """Looks at a generator, always with the same photographs and holes.

    Args:
        generator: built.
        photographs: (N, R, R, 3) in [-1, 1].
        masks: (N, R, R, 1), 1 in the hole.
        batch_size: photographs at a time.
    """

    def __init__(self, generator: Any, photographs: np.ndarray, masks: np.ndarray, batch_size: int):
        self._generator = generator
        self._photographs, self._masks = photographs, masks
        self._batch_size = batch_size
        self._errors = tf.function(self._generator_errors, autograph=False)
        self._outputs = tf.function(self._compute_outputs, autograph=False)
        self._layers = attention_layers(generator)
        self._sums = tf.function(self._compute_sums, autograph=False)

    def of(self, generator: Any) -> InpaintingWatch:
        """The same looks at another generator."""
        return InpaintingWatch(generator, self._photographs, self._masks, self._batch_size)

    @property
    def count(self) -> int:
        """Photographs that `validate` averages over."""
        return len(self._photographs)

    def validate(self) -> dict[str, float]:
        """Means over the photographs.

        Returns:
            `validation_l1`, the absolute error in the hole, of values in [-1, 1]; `validation_hole_psnr` in dB.
        """
        sums = np.zeros(2)
        for start in range(0, len(self._photographs), self._batch_size):
            part = slice(start, start + self._batch_size)
            sums += self._errors(self._photographs[part], self._masks[part]).numpy().sum(axis=0)
        absolute, psnr = sums / len(self._photographs)
        return {"validation_l1": float(absolute), "validation_hole_psnr": float(psnr)}

    def mean_fill_psnr(self) -> float:
        """`validation_hole_psnr` of holes filled with the mean of the known pixels: what every network must beat."""
        known = 1.0 - self._masks
        means = (self._photographs * known).sum(axis=(1, 2), keepdims=True) / known.sum(axis=(1, 2), keepdims=True)
        filled = np.broadcast_to(means, self._photographs.shape)
        return float(_hole_errors(filled, self._photographs, self._masks).numpy()[:, 1].mean())

    def scalars(self) -> dict[str, float]:
        """The state of the attentive normalization on the photographs of the pictures, see `attention_scalars`."""
        photographs, masks = self._photographs[:_SHOWN], self._masks[:_SHOWN]
        values: dict[str, float] = {}
        for name, sums in (self._sums(photographs, masks) if self._layers else {}).items():
            values.update(attention_scalars(self._layers[name], summarize([sums])))
        return values

    def pictures(self) -> dict[str, np.ndarray]:
        """Input, coarse output, result and truth side by side; with attentive normalization also what it does.

        That is: the layouts over the results (Figure 5) and the statistics of their regions (Figure 4).
        """
        photographs, masks = self._photographs[:_SHOWN], self._masks[:_SHOWN]
        outputs = [output.numpy() for output in self._outputs(photographs, masks)]  # coarse, fine, features, layouts
        shown = {
            "input": photographs * (1 - masks) + masks,
            "coarse": photographs * (1 - masks) + outputs[0] * masks,
            "result": photographs * (1 - masks) + outputs[1] * masks,
            "truth": photographs,
        }
        pictures = {"inpainted": comparison_sheet(shown)}
        if len(outputs) > 2:
            features, layouts = outputs[2:]
            pictures["layouts"] = layout_sheet(shown["result"], layouts, over_images=True)
            pictures["statistics"] = statistics_sheet(shown["result"], layouts, region_statistics(features, layouts))
        return pictures

    def _compute_outputs(self, images: tf.Tensor, masks: tf.Tensor) -> Any:
        outputs, seen = watch_features(self._layers, lambda: self._generator([images, masks], training=False))
        return [*outputs, *(tf.cast(part, tf.float32) for both in seen.values() for part in both)]

    def _compute_sums(self, images: tf.Tensor, masks: tf.Tensor) -> dict[str, AttentionSums]:
        return watch_attention(self._layers, lambda: self._generator([images, masks], training=False))[1]

    def _generator_errors(self, images: tf.Tensor, masks: tf.Tensor) -> tf.Tensor:
        return _hole_errors(self._generator([images, masks], training=False)[1], images, masks)


def _hole_errors(outputs: Any, images: Any, masks: Any) -> tf.Tensor:
    """(B, 2): mean absolute error and PSNR (dB) in each image's hole."""
    values = 3.0 * tf.reduce_sum(masks, axis=[1, 2, 3])
    difference = (outputs - images) * masks
    absolute = tf.reduce_sum(tf.abs(difference), axis=[1, 2, 3]) / values
    # In [0, 1] a difference is half as large; the tiny term keeps a perfect hole finite.
    square = tf.reduce_sum(tf.square(0.5 * difference), axis=[1, 2, 3]) / values
    psnr = -10.0 / tf.math.log(10.0) * tf.math.log(square + 1e-10)
    return tf.stack([absolute, psnr], axis=1)
