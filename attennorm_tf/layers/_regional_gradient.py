"""The arithmetic of fused regional normalization: sums, moments and the hand-written gradient.

Maps are flattened here: features `X` are (b, p, c), the layout `S` is (b, p, n), p = H * W pixels. Everything
an entity knows about a channel is (b, n, c); the five-dimensional tensor of Algorithm 1 never exists.

Why not `sum S^2 X^2 - 2 mean sum S X + p mean^2`: it cancels to nothing when |mean| >> std or when an entity
owns nearly all pixels. So a pivot g, close to the channel's mean, is subtracted first, Y = X - g, and with
`sbar` the mean of S over the pixels and `Sc = S - sbar` the masked map is split into parts whose sums of squares
only add up:

    S X - mean = (S Y - mean_p(S Y)) + g Sc + (mean_p(S X) - mean)
    sum (S X - mean)^2 = sum (S Y)^2 - (sum S Y)^2 / p + 2 g sum S Sc Y + g^2 sum Sc^2 + (mean q)^2 / p

with q = p - cnt = sum (1 - S) - epsilon. The pivot drops out of the result, so it is a constant to the gradient.
"""

from __future__ import annotations

from typing import Callable, NamedTuple

import tensorflow as tf

class LayoutSums(NamedTuple):
    """What the layout alone contributes. Everything is summed from `centred`, which keeps it exact near 0 and 1."""

    pixels: tf.Tensor  # p, scalar
    level: tf.Tensor  # s0, (b, 1, n)
    centred: tf.Tensor  # S - s0, (b, p, n)
    residue: tf.Tensor  # sum (S - s0), (b, n, 1); 0 but for rounding
    total: tf.Tensor  # sum S, (b, n, 1)
    count: tf.Tensor  # sum S + epsilon, (b, n, 1)
    count_rest: tf.Tensor  # sum (1 - S) - epsilon, (b, n, 1)
    spread: tf.Tensor  # sum (S - mean_p S)^2, (b, n, 1)


class Moments(NamedTuple):
    """Statistics of each entity in each channel, (b or 1, n, c)."""

    mean: tf.Tensor
    difference: tf.Tensor  # mean - pivot, computed without subtracting them
    variance: tf.Tensor


def pixel_mean(maps: tf.Tensor, total: Callable[[tf.Tensor], tf.Tensor] = tf.identity) -> tf.Tensor:
    """Mean over the pixels, (b, 1, c), good enough for a pivot, hence constant to the gradient.

    A matrix product: on a CPU a third of the time of `reduce_mean`, which sums over a middle axis.
    """
    pixels = tf.shape(maps)[1]
    summed = total(tf.linalg.matmul(tf.ones([1, 1, pixels], maps.dtype), maps))
    return tf.stop_gradient(summed / total(tf.cast(pixels, maps.dtype)))


def safe_sqrt(variance: tf.Tensor) -> tf.Tensor:
    """Square root whose gradient at 0 is 0 and not infinite."""
    positive = variance > 0
    return tf.where(
        positive, tf.sqrt(tf.where(positive, variance, tf.ones_like(variance))), tf.zeros_like(variance)
    )


def layout_sums(
    layout: tf.Tensor, epsilon: float, total: Callable[[tf.Tensor], tf.Tensor] = tf.identity
) -> LayoutSums:
    """Sums over the pixels of a layout (b, p, n); `total` adds up what several replicas hold."""
    pixels = total(tf.cast(tf.shape(layout)[1], layout.dtype))
    level = pixel_mean(layout, total)
    centred = layout - level
    residue = tf.linalg.matrix_transpose(total(tf.reduce_sum(centred, axis=1, keepdims=True)))
    squares = tf.linalg.matrix_transpose(total(tf.reduce_sum(centred * centred, axis=1, keepdims=True)))
    column = tf.linalg.matrix_transpose(level)
    owned = pixels * column + residue
    rest = pixels * (1.0 - column) - residue
    spread = squares - residue * residue / pixels
    return LayoutSums(pixels, level, centred, residue, owned, owned + epsilon, rest - epsilon, spread)


def region_sums(
    y: tf.Tensor, layout: tf.Tensor, about_layout: LayoutSums, statistics: str
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """What the moments are made of, from centred features Y (b, p, c); each sum (b, n, c).

    algorithm1: sum S Y, sum S^2 Y^2, sum S Sc Y. weighted: sum S Y, sum S Y^2, and 0.
    """
    if statistics == "weighted":
        first = tf.linalg.matmul(layout, y, transpose_a=True)
        return first, tf.linalg.matmul(layout, y * y, transpose_a=True), tf.zeros_like(first)
    first = tf.linalg.matmul(layout, y, transpose_a=True)
    second = tf.linalg.matmul(layout * layout, y * y, transpose_a=True)
    return first, second, tf.linalg.matmul(layout * about_layout.centred, y, transpose_a=True)


def moments_from_sums(
    first: tf.Tensor,
    second: tf.Tensor,
    cross: tf.Tensor,
    g: tf.Tensor,
    about_layout: LayoutSums,
    epsilon: float,
    statistics: str,
) -> Moments:
    """Moments from the sums of `region_sums` and the pivot g (b, 1, c)."""
    pixels, count = about_layout.pixels, about_layout.count
    difference = (first - g * epsilon) / count
    mean = (first + g * about_layout.total) / count
    if statistics == "weighted":
        deviation = second + difference * (difference * about_layout.total - 2.0 * first)
    else:  # the module docstring's expansion
        deviation = (
            second
            - tf.square(first) / pixels
            + g * (2.0 * (cross - first * about_layout.residue / pixels) + g * about_layout.spread)
            + tf.square(mean * about_layout.count_rest) / pixels
        )
    return Moments(mean, difference, tf.maximum(deviation, tf.zeros_like(deviation)) / count)


def _reduce_like(gradient: tf.Tensor, parameter: tf.Tensor) -> tf.Tensor:
    """Sums a (b, n, c) gradient down to the (n or 1, c) of the parameter it belongs to."""
    summed = tf.reduce_sum(gradient, axis=0)
    return tf.reduce_sum(summed, axis=0, keepdims=True) if parameter.shape[0] == 1 else summed


def normalize_regions(
    features: tf.Tensor,
    layout: tf.Tensor,
    scale: tf.Tensor | None,
    offset: tf.Tensor | None,
    epsilon: float,
    statistics: str,
) -> tf.Tensor:
    """Regional normalization of flattened maps with a gradient written by hand.

    Args:
        features: (b, p, c), float32 or float64.
        layout: (b, p, n), same dtype.
        scale: (1, c) or (n, c), same dtype, or None for 1.
        offset: (1, c) or (n, c), same dtype, or None for 0.
        epsilon: added to the counts and to the standard deviations.
        statistics: "algorithm1" or "weighted".

    Returns:
        (b, p, c). The gradient consists of differentiable operations, so it can be differentiated again.
    """
    core = _algorithm1 if statistics == "algorithm1" else _weighted
    channels = tf.shape(features)[2]
    beta = tf.ones([1, channels], features.dtype) if scale is None else scale
    alpha = tf.zeros([1, channels], features.dtype) if offset is None else offset

    @tf.custom_gradient
    def fused(x: tf.Tensor, s: tf.Tensor, beta: tf.Tensor, alpha: tf.Tensor):
        return core(x, s, beta, alpha, epsilon)

    return fused(features, layout, beta, alpha)


def _affine_gradients(moments, std, slope, epsilon, d_slope_sum, d_intercept):
    """Gradients of the variance and of beta, (b, n, c); that of alpha is `d_intercept`."""
    d_slope = d_slope_sum - moments.difference * d_intercept
    inverse = 1.0 / (std + epsilon)
    d_std = -d_slope * slope * inverse
    positive = std > 0
    d_variance = tf.where(positive, d_std / (2.0 * tf.where(positive, std, tf.ones_like(std))), 0.0)
    return d_variance, d_slope * inverse


def _algorithm1(x, s, beta, alpha, epsilon):
    g = pixel_mean(x)
    y = x - g
    yy = y * y
    sums = layout_sums(s, epsilon)
    s_sc = s * sums.centred
    s_s = s * s
    first = tf.linalg.matmul(s, y, transpose_a=True)
    cross = tf.linalg.matmul(s_sc, y, transpose_a=True)
    second = tf.linalg.matmul(s_s, yy, transpose_a=True)
    moments = moments_from_sums(first, second, cross, g, sums, epsilon, "algorithm1")
    std = safe_sqrt(moments.variance)
    slope = beta / (std + epsilon)
    intercept = alpha - moments.difference * slope
    s_slope = tf.linalg.matmul(s, slope)
    out = y * s_slope + tf.linalg.matmul(s, intercept)

    def gradient(upstream):
        y_up = y * upstream
        d_intercept = tf.linalg.matmul(s, upstream, transpose_a=True)
        d_slope_sum = tf.linalg.matmul(s, y_up, transpose_a=True)
        d_variance, d_beta = _affine_gradients(moments, std, slope, epsilon, d_slope_sum, d_intercept)
        v = 2.0 * d_variance / sums.count
        d_mean = (v * moments.mean * sums.count_rest) - slope * d_intercept
        # S X - mean = S Y + g Sc + rest, rest = g s0 - mean without subtracting them
        rest = -(first + g * (sums.total * sums.count_rest / sums.pixels)) / sums.count
        rest -= g * (sums.residue / sums.pixels)
        vg = v * g
        w = v * rest + d_mean / sums.count
        w_vg = tf.concat([w, vg], axis=1)
        dx = tf.add_n(
            [
                upstream * s_slope,
                y * tf.linalg.matmul(s_s, v),
                tf.linalg.matmul(tf.concat([s, s_sc], axis=2), w_vg),
            ]
        )
        from_y = tf.linalg.matmul(y, w_vg, transpose_b=True)
        y_w, y_vg = tf.split(from_y, 2, axis=2)
        constant = tf.reduce_sum(
            vg * rest - d_mean * moments.difference / sums.count - 0.5 * v * moments.variance,
            axis=2,
            keepdims=True,
        )
        vgg = tf.reduce_sum(vg * g, axis=2, keepdims=True)
        ds = (
            tf.linalg.matmul(y_up, slope, transpose_b=True)
            + tf.linalg.matmul(upstream, intercept, transpose_b=True)
            + s * tf.linalg.matmul(yy, v, transpose_b=True)
            + (s + sums.centred) * y_vg
            + y_w
            + sums.centred * tf.linalg.matrix_transpose(vgg)
            + tf.linalg.matrix_transpose(constant)
        )
        return dx, ds, _reduce_like(d_beta, beta), _reduce_like(d_intercept, alpha)

    return out, gradient


def _weighted(x, s, beta, alpha, epsilon):
    g = pixel_mean(x)
    y = x - g
    yy = y * y
    sums = layout_sums(s, epsilon)
    first = tf.linalg.matmul(s, y, transpose_a=True)
    second = tf.linalg.matmul(s, yy, transpose_a=True)
    moments = moments_from_sums(first, second, tf.zeros_like(first), g, sums, epsilon, "weighted")
    std = safe_sqrt(moments.variance)
    slope = beta / (std + epsilon)
    intercept = alpha - moments.difference * slope
    s_slope = tf.linalg.matmul(s, slope)
    out = y * s_slope + tf.linalg.matmul(s, intercept)

    def gradient(upstream):
        y_up = y * upstream
        d_intercept = tf.linalg.matmul(s, upstream, transpose_a=True)
        d_slope_sum = tf.linalg.matmul(s, y_up, transpose_a=True)
        d_variance, d_beta = _affine_gradients(moments, std, slope, epsilon, d_slope_sum, d_intercept)
        v = 2.0 * d_variance / sums.count
        d = moments.difference
        d_mean = -v * moments.mean * epsilon - slope * d_intercept
        w = d_mean / sums.count - v * d
        dx = tf.add_n([upstream * s_slope, y * tf.linalg.matmul(s, v), tf.linalg.matmul(s, w)])
        constant = tf.reduce_sum(
            0.5 * v * (d * d - moments.variance) - d_mean * d / sums.count, axis=2, keepdims=True
        )
        ds = (
            tf.linalg.matmul(y_up, slope, transpose_b=True)
            + tf.linalg.matmul(upstream, intercept, transpose_b=True)
            + tf.linalg.matmul(yy, 0.5 * v, transpose_b=True)
            + tf.linalg.matmul(y, w, transpose_b=True)
            + tf.linalg.matrix_transpose(constant)
        )
        return dx, ds, _reduce_like(d_beta, beta), _reduce_like(d_intercept, alpha)

    return out, gradient
