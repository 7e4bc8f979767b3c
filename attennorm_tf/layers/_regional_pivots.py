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
    first: tf.Tensor  # sum S Y, (b, n, c)
    second: tf.Tensor  # sum S^2 W, (b, n, c)
    any_far: tf.Tensor  # any pivot not 0, scalar


def pixel_mean(maps: tf.Tensor, total: Total = tf.identity) -> tf.Tensor:
    """Mean over the pixels, (b, 1, c), good enough for a pivot, hence constant to the gradient.

    A matrix product: on a CPU a third of the time of `reduce_mean`, which sums over a middle axis.
    """
    batch, pixels = tf.unstack(tf.shape(maps)[:2])
    # One row of ones an image: TensorFlow Lite of TensorFlow 2.15 repeats a single one wrongly.
    summed = total(tf.linalg.matmul(tf.ones([batch, 1, pixels], maps.dtype), maps))
    return tf.stop_gradient(summed / total(tf.cast(pixels, maps.dtype)))


def centre(features: tf.Tensor, layout: tf.Tensor, total: Total = tf.identity, branch: bool = True) -> Centred:
    """Centres channels that are far from 0, leaves the others; bit by bit the same whatever the other images hold.

    The pixels are summed by one more column of the products with the layout, which reads the map once for both.

    Args:
        features: (b, p, c).
        layout: (b, p, n).
        total: adds up what several replicas hold.
        branch: whether the work is left out where no channel is far. False where TensorFlow is to derive the gradient:
            its memory optimizer gives the sums inside a branch's gradient temporary variables of one name, which clash
            when a network is called twice in a step (AlreadyExistsError).
    """
    ones = tf.ones_like(layout[..., :1])
    layout_one = tf.concat([layout, ones], axis=2)
    squared_one = tf.concat([layout * layout, ones], axis=2)
    pixels = total(tf.cast(tf.shape(features)[1], features.dtype))

    def products(y: tf.Tensor, w: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        first = tf.linalg.matmul(layout_one, y, transpose_a=True)
        return first, tf.linalg.matmul(squared_one, w, transpose_a=True)

    first, second = products(features, features * features)
    mean, mean_square = (tf.stop_gradient(total(sums[:, -1:]) / pixels) for sums in (first, second))
    far = mean_square < (1.0 + FAR**-2) * mean * mean  # no for NaN
    pivot = mean
    if total is tf.identity:  # a pixel of a constant channel is its exact mean; replicas hold different pixels
        pixel = tf.stop_gradient(features[:, :1])
        pivot = tf.where(tf.abs(mean - pixel) < 1e-4 * tf.abs(mean), pixel, mean)
    pivot = tf.where(far, pivot, tf.zeros_like(pivot))

    def about_pivot() -> tuple[tf.Tensor, ...]:
        y = features - pivot
        return (y, *products(y, y * (features + pivot)))

    any_far = tf.reduce_any(far)
    if branch:
        y, first, second = where_needed(any_far, about_pivot, lambda: (features, first, second))
    else:
        y, first, second = about_pivot()
    return Centred(pivot, y, total(first[:, :-1]), total(second[:, :-1]), any_far)


def where_needed(needed: tf.Tensor, general: Callable[[], Any], cheap: Callable[[], Any]) -> Any:
    """`general()`, or `cheap()` where that gives the same; with a GPU always the former.

    A branch on data is free on a CPU, but makes the host wait for a GPU in the middle of a step.
    """
    return general() if tf.config.list_physical_devices("GPU") else tf.cond(needed, general, cheap)
