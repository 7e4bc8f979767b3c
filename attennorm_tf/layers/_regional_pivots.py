"""Pivots for channels far from 0, see `_regional_gradient`."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple

import tensorflow as tf

# Adds up what several replicas hold; the identity where there is one.
Total = Callable[[tf.Tensor], tf.Tensor]
# Channels with |mean| > FAR * std are centred; the others lose FAR^2 roundings of their variance at most. Centring
# them too would lose mean^2 / variance roundings in a region about 0 of a channel that is far from 0 elsewhere.
FAR = 16.0


class Centred(NamedTuple):
    """Features about a pivot."""

    pivot: tf.Tensor  # g, (b, 1, c)
    features: tf.Tensor  # Y = X - g, (b, p, c)
    squares: tf.Tensor  # W = X^2 - g^2, (b, p, c)
    any_far: tf.Tensor  # any pivot not 0, scalar


def pixel_mean(maps: tf.Tensor, total: Total = tf.identity) -> tf.Tensor:
    """Mean over the pixels, (b, 1, c), good enough for a pivot, hence constant to the gradient.

    A matrix product: on a CPU a third of the time of `reduce_mean`, which sums over a middle axis.
    """
    pixels = tf.shape(maps)[1]
    summed = total(tf.linalg.matmul(tf.ones([1, 1, pixels], maps.dtype), maps))
    return tf.stop_gradient(summed / total(tf.cast(pixels, maps.dtype)))


def centre(features: tf.Tensor, total: Total = tf.identity) -> Centred:
    """Centres channels that are far from 0, leaves the others; bit by bit the same whatever the other images hold."""
    squares = features * features
    mean = pixel_mean(features, total)
    far = pixel_mean(squares, total) < (1.0 + FAR**-2) * mean * mean  # no for NaN
    pivot = mean
    if total is tf.identity:  # a pixel of a constant channel is its exact mean; replicas hold different pixels
        pixel = tf.stop_gradient(features[:, :1])
        pivot = tf.where(tf.abs(mean - pixel) < 1e-4 * tf.abs(mean), pixel, mean)
    pivot = tf.where(far, pivot, tf.zeros_like(pivot))

    def about_pivot() -> tuple[tf.Tensor, tf.Tensor]:
        centred = features - pivot
        return centred, centred * (features + pivot)

    any_far = tf.reduce_any(far)
    y, w = where_needed(any_far, about_pivot, lambda: (features, squares))
    return Centred(pivot, y, w, any_far)


def where_needed(needed: tf.Tensor, general: Callable[[], Any], cheap: Callable[[], Any]) -> Any:
    """`general()`, or `cheap()` where that gives the same; with a GPU always the former.

    A branch on data is free on a CPU, but makes the host wait for a GPU in the middle of a step.
    """
    return general() if tf.config.list_physical_devices("GPU") else tf.cond(needed, general, cheap)
