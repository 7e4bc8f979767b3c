"""The arithmetic of fused regional normalization: sums, moments and the hand-written gradient.

Maps are flattened here: features `X` are (b, p, c), the layout `S` is (b, p, n), p = H * W pixels. Everything
an entity knows about a channel is (b, n, c); the five-dimensional tensor of Algorithm 1 never exists.

`sum S^2 X^2 - 2 mean sum S X + p mean^2` cancels to nothing where |mean| >> std, so a channel that far from 0 is
first centred about a pivot g, Y = X - g; the others keep g = 0 and Y = X. With W = Y (X + g) = X^2 - g^2 and s0
the mean of S over the pixels,

    sum (S X - mean)^2 = sum S^2 W - (2 g s0 + sum S Y / p) sum S Y + g^2 sum (S - s0)^2 + (mean q)^2 / p

where q = p - cnt = sum (1 - S) - epsilon and sum (S - s0)^2 is summed as it stands: the errors are those of
|g| / std, not of its square. A map in which no channel needs a pivot is not copied. Pivots drop out of the result,
so the gradient sees constants.
"""

from __future__ import annotations

from typing import Callable, NamedTuple

import tensorflow as tf

from attennorm_tf.layers._regional_pivots import Total, centre, pixel_mean, where_needed

Gradient = Callable[[tf.Tensor], tuple]
# Maps so small that an entity's upstream gradient may be constant: its mean is taken off first.
FEW_PIXELS = 16


class LayoutSums(NamedTuple):
    """What the layout alone contributes, summed from S - s0: exact for S near 0 and near 1 alike."""

    pixels: tf.Tensor  # p, scalar
    level: tf.Tensor  # s0, (b, n, 1)
    centred: tf.Tensor  # S - s0, (b, p, n)
    residue: tf.Tensor  # sum (S - s0), (b, n, 1); 0 but for rounding
    total: tf.Tensor  # sum S, (b, n, 1)
    count: tf.Tensor  # sum S + epsilon, (b, n, 1)
    count_rest: tf.Tensor  # sum (1 - S) - epsilon, (b, n, 1)
    spread: tf.Tensor  # sum (S - mean_p S)^2, (b, n, 1)


class Moments(NamedTuple):
    """Statistics of each entity in each channel, (b or 1, n, c)."""

    mean: tf.Tensor
    variance: tf.Tensor
    difference: tf.Tensor  # mean - pivot, computed without subtracting them


class LocalPivot(NamedTuple):
    """A pivot for each entity instead of one for all: Y - c_k = residual + (pivot - c_k)."""

    entity: tf.Tensor  # c_k, about the entity's mean of Y, (b, n, c)
    pivot: tf.Tensor  # mu, mean of c_k weighted by the layout, (b, p, c)
    residual: tf.Tensor  # Z = Y - mu, (b, p, c)
    delta: tf.Tensor  # the entity's mean of Y minus c_k, (b, n, c)
    miss: tf.Tensor  # sum S_k (Y - c_k), (b, n, c): 0 but for rounding


def safe_sqrt(variance: tf.Tensor) -> tf.Tensor:
    """Square root whose gradient at 0 is 0 and not infinite."""
    positive = variance > 0
    return tf.where(positive, tf.sqrt(tf.where(positive, variance, tf.ones_like(variance))), tf.zeros_like(variance))


def layout_sums(layout: tf.Tensor, epsilon: float, total: Total = tf.identity) -> LayoutSums:
    """Sums over the pixels of a layout (b, p, n); `total` adds up what several replicas hold."""
    pixels = total(tf.cast(tf.shape(layout)[1], layout.dtype))
    level = pixel_mean(layout, total)
    centred = layout - level
    ones = tf.ones_like(layout[..., :1])
    residue = total(tf.linalg.matmul(centred, ones, transpose_a=True))
    squares = total(tf.linalg.matmul(centred * centred, ones, transpose_a=True))
    column = tf.linalg.matrix_transpose(level)
    owned = pixels * column + residue
    rest = pixels * (1.0 - column) - residue - epsilon
    return LayoutSums(pixels, column, centred, residue, owned, owned + epsilon, rest, squares - residue**2 / pixels)


def algorithm1_moments(first: tf.Tensor, second: tf.Tensor, g: tf.Tensor, sums: LayoutSums, epsilon: float) -> Moments:
    """Moments from sum S Y and sum S^2 W, each (b, n, c), and the pivot g (b, 1, c)."""
    mean = (first + g * sums.total) / sums.count
    deviation = (  # the module docstring's expansion
        second
        - first * ((2.0 * g * sums.total + first) / sums.pixels)
        + g * g * sums.spread
        + tf.square(mean * sums.count_rest) / sums.pixels
    )
    variance = tf.maximum(deviation, tf.zeros_like(deviation)) / sums.count
    return Moments(mean, variance, (first - g * epsilon) / sums.count)


def weighted_moments(
    y: tf.Tensor, layout: tf.Tensor, g: tf.Tensor, sums: LayoutSums, epsilon: float, total: Total = tf.identity
) -> tuple[Moments, LocalPivot]:
    """Layout-weighted moments, from centred features Y (b, p, c).

    The variance within a region may be far smaller than that between regions, so each entity has a pivot c_k
    of its own. With weights w_j = S_j / sum_j S_j, mu = sum_j w_j c_j and q = sum_j w_j c_j^2 - mu^2:

        sum_p S_k (mu - c_k)^2 = sum_j (sum_p S_k w_j) (c_j - c_k)^2 - sum_p S_k q

    For a hard layout both terms are exactly 0, in floating point too.
    """
    owners = tf.reduce_sum(layout, axis=2, keepdims=True)
    shares = tf.fill(tf.shape(layout), 1.0 / tf.cast(tf.shape(layout)[2], layout.dtype))
    weights = tf.where(owners > 0, layout / tf.where(owners > 0, owners, tf.ones_like(owners)), shares)
    first = total(tf.linalg.matmul(layout, y, transpose_a=True))
    c = tf.stop_gradient(tf.math.divide_no_nan(first, sums.total))
    mu = tf.linalg.matmul(weights, c)
    z = y - mu
    between = tf.linalg.matmul(weights, c * c) - mu * mu
    overlap = total(tf.linalg.matmul(layout, weights, transpose_a=True))  # (b, n, n)
    overlap = tf.linalg.set_diag(overlap, tf.zeros_like(overlap[..., 0]))
    shared = tf.reduce_sum(overlap, axis=2, keepdims=True)
    to_others = tf.linalg.matmul(overlap, c)
    apart = tf.linalg.matmul(overlap, c * c) - 2.0 * c * to_others + c * c * shared
    residues = total(tf.linalg.matmul(layout, z, transpose_a=True))
    squares = total(tf.linalg.matmul(layout, z * (z + 2.0 * mu) - between, transpose_a=True))
    miss = residues + to_others - c * shared
    delta = (miss - epsilon * (g + c)) / sums.count
    deviation = squares - 2.0 * c * residues + apart + delta * (delta * sums.total - 2.0 * miss)
    variance = tf.maximum(deviation, tf.zeros_like(deviation)) / sums.count
    return Moments(g + c + delta, variance, c + delta), LocalPivot(c, mu, z, delta, miss)


def moments(
    features: tf.Tensor, layout: tf.Tensor, epsilon: float, statistics: str, total: Total = tf.identity
) -> Moments:
    """Moments of (b, p, c) features in the regions of a (b, p, n) layout, by differentiable operations."""
    sums = layout_sums(layout, epsilon, total)
    if statistics == "weighted":
        g = pixel_mean(features, total)
        return weighted_moments(features - g, layout, g, sums, epsilon, total)[0]
    centred = centre(features, layout, total, branch=False)
    return algorithm1_moments(centred.first, centred.second, centred.pivot, sums, epsilon)


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
    differentiable: bool = True,
) -> tf.Tensor:
    """Regional normalization of flattened maps with a gradient written by hand.

    Args:
        features: (b, p, c), float32 or float64.
        layout: (b, p, n), same dtype.
        scale: (1, c) or (n, c), same dtype, or None for 1.
        offset: (1, c) or (n, c), same dtype, or None for 0.
        epsilon: added to the counts and to the standard deviations.
        statistics: "algorithm1" or "weighted".
        differentiable: whether there is a gradient.

    Returns:
        (b, p, c). The gradient can be differentiated again.
    """
    core = _algorithm1 if statistics == "algorithm1" else _weighted
    channels = tf.shape(features)[2]
    beta = tf.ones([1, channels], features.dtype) if scale is None else scale
    alpha = tf.zeros([1, channels], features.dtype) if offset is None else offset
    if not differentiable:
        return core(features, layout, beta, alpha, epsilon)[0]

    @tf.custom_gradient
    def fused(x: tf.Tensor, s: tf.Tensor, beta: tf.Tensor, alpha: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        return core(x, s, beta, alpha, epsilon)

    return fused(features, layout, beta, alpha)


def _centre_upstream(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Upstream gradient less a pivot (b, 1, c), and the pivot; unchanged and 0 on larger maps.

    slope * (upstream - its mean) cancels to epsilon * upstream in an entity that sees one value only, and
    there the slope may be 1 / epsilon.
    """
    pixels = upstream.shape[1]
    if pixels is None or pixels > FEW_PIXELS:
        return upstream, tf.zeros([], upstream.dtype)
    pivot = pixel_mean(upstream)
    return upstream - pivot, pivot


def _channel_sum(per_channel: tf.Tensor) -> tf.Tensor:
    """(b, n, c) -> (b, 1, n)."""
    return tf.linalg.matrix_transpose(tf.reduce_sum(per_channel, axis=2, keepdims=True))


def _algorithm1(
    x: tf.Tensor, s: tf.Tensor, beta: tf.Tensor, alpha: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, Gradient]:
    """Output and gradient function for the statistics of Algorithm 1."""
    g, y, first, second, any_far = centre(x, s)
    sums = layout_sums(s, epsilon)
    mean, variance, difference = algorithm1_moments(first, second, g, sums, epsilon)
    std = safe_sqrt(variance)
    inverse = 1.0 / (std + epsilon)
    slope = beta * inverse
    intercept = alpha - difference * slope
    out = y * tf.linalg.matmul(s, slope) + tf.linalg.matmul(s, intercept)

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
        # Computed again rather than kept; not before the gradient, else a graph would compute them once and keep them.
        with tf.control_dependencies([upstream]):
            late = tf.identity(s)
            w = where_needed(any_far, lambda: y * (y + 2.0 * g), lambda: y * y)
        s_slope = tf.linalg.matmul(late, slope)
        y_up = y * upstream
        d_intercept = tf.linalg.matmul(s, upstream, transpose_a=True)
        d_beta = (tf.linalg.matmul(s, y_up, transpose_a=True) - difference * d_intercept) * inverse
        per_count = 1.0 / sums.count
        # v = 2 d variance / count; 0 where std is 0
        v = -tf.math.divide_no_nan(d_beta * slope, std) * per_count
        pull = v * mean * (sums.count_rest * per_count)
        d_mean = pull - slope * d_intercept * per_count
        centred_up, up_pivot = _centre_upstream(upstream)
        x_mean = d_mean
        if centred_up is not upstream:  # slope * pivot added to d_mean, cancelled by hand
            centred = tf.linalg.matmul(s, centred_up, transpose_a=True) - epsilon * up_pivot
            x_mean = pull - slope * centred * per_count
        # S X - mean = S Y + g (S - s0) + rest, rest = g s0 - mean without subtracting them
        rest = -(first + g * (sums.total * sums.count_rest / sums.pixels)) * per_count
        rest -= g * (sums.residue / sums.pixels)
        vg, v_rest = v * g, v * rest

        def with_pivot() -> tf.Tensor:
            both = tf.concat([s, s * sums.centred], axis=2)
            return tf.linalg.matmul(both, tf.concat([v_rest + x_mean, vg], axis=1))

        flat = where_needed(any_far, with_pivot, lambda: tf.linalg.matmul(s, v_rest + x_mean))
        dx = tf.add_n([y * tf.linalg.matmul(late * late, v), flat, centred_up * s_slope])
        constant = vg * rest - d_mean * difference - 0.5 * v * variance
        ds = tf.add_n(
            [
                tf.linalg.matmul(y_up, slope, transpose_b=True),
                tf.linalg.matmul(upstream, intercept, transpose_b=True),
                s * tf.linalg.matmul(w, v, transpose_b=True),
                tf.linalg.matmul(y, v_rest + d_mean - sums.level * vg, transpose_b=True) + _channel_sum(constant),
                sums.centred * _channel_sum(vg * g),
            ]
        )
        return dx, ds, _reduce_like(d_beta, beta), _reduce_like(d_intercept, alpha)

    return out, gradient


def _weighted(
    x: tf.Tensor, s: tf.Tensor, beta: tf.Tensor, alpha: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, Gradient]:
    """Output and gradient function for layout-weighted statistics.

    X - mean_k is Z + (mu - c_k) - delta_k, see `weighted_moments`: exact where the layout is hard, even for a
    region of one pixel, whose slope is near 1 / epsilon.
    """
    g = pixel_mean(x)
    y = x - g
    sums = layout_sums(s, epsilon)
    (mean, variance, difference), (c, mu, z, delta, miss) = weighted_moments(y, s, g, sums, epsilon)
    std = safe_sqrt(variance)
    inverse = 1.0 / (std + epsilon)
    slope = beta * inverse
    s_slope = tf.linalg.matmul(s, slope)

    def weigh(s_factor: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
        return z * s_factor + (mu * s_factor - tf.linalg.matmul(s, factor * c))  # sum_k S_k factor_k (Y - c_k)

    out = weigh(s_slope, slope) + tf.linalg.matmul(s, alpha - delta * slope)

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
        d_intercept = tf.linalg.matmul(s, upstream, transpose_a=True)
        near = tf.linalg.matmul(s, upstream * z, transpose_a=True)
        far = tf.linalg.matmul(s, upstream * mu, transpose_a=True) - c * d_intercept
        d_beta = (near + far - delta * d_intercept) * inverse
        per_count = 1.0 / sums.count
        v = -tf.math.divide_no_nan(d_beta * slope, std) * per_count
        level = tf.math.divide_no_nan(d_intercept, sums.total)
        near_level = level
        centred_up, _ = _centre_upstream(upstream)
        if centred_up is not upstream:
            centred = tf.linalg.matmul(s, centred_up, transpose_a=True)
            near_level = tf.math.divide_no_nan(centred, sums.total)
        direct = centred_up * s_slope - tf.linalg.matmul(s, slope * near_level)
        # what is left of d_mean / count and of - v delta; mean epsilon + delta count = delta epsilon + miss
        left = (slope * level * epsilon - v * (delta * epsilon + miss)) * per_count
        dx = direct + weigh(tf.linalg.matmul(s, v), v) + tf.linalg.matmul(s, left)
        d_mean = -(v * mean * epsilon + slope * d_intercept) * per_count
        constant = 0.5 * v * (difference * difference - variance) - d_mean * difference
        ds = tf.add_n(
            [
                tf.linalg.matmul(y * upstream, slope, transpose_b=True),
                tf.linalg.matmul(upstream, alpha - difference * slope, transpose_b=True),
                tf.linalg.matmul(y * y, 0.5 * v, transpose_b=True),
                tf.linalg.matmul(y, d_mean - v * difference, transpose_b=True) + _channel_sum(constant),
            ]
        )
        return dx, ds, _reduce_like(d_beta, beta), _reduce_like(d_intercept, alpha)

    return out, gradient
