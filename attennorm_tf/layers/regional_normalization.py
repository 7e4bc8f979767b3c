"""Regional normalization (supplement, Algorithm 1; paper, Eq. 5): line by line, and fused.

`regional_normalization_reference` is the paper's pseudocode and what to read first. `regional_normalization`
computes the same without its five-dimensional tensors; the algebra is in `_regional_gradient`.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from attennorm_tf.layers._regional_gradient import moments, normalize_regions, safe_sqrt
from attennorm_tf.layers._regional_pivots import pixel_mean

STATISTICS = ("algorithm1", "weighted")


def regional_normalization(
    features: Any,
    layout: Any,
    scale: Any = None,
    offset: Any = None,
    *,
    epsilon: float = 1e-5,
    statistics: str = "algorithm1",
    differentiable: bool = True,
) -> tf.Tensor:
    """Normalizes each region of each image by its own mean and standard deviation (Algorithm 1, Eq. 5).

    Equal to `regional_normalization_reference`, by matrix products over the pixels, with a gradient written
    by hand from differentiable operations.

    In float32 within 1e-4 of the reference in float64 on ordinary features, in outputs and gradients, and within 2e-3
    with |mean| up to 1e3 std, hard layouts, entities that own all pixels or none, constant images and 1x1 maps. The
    error grows with |mean| / std beyond that, and where a region about 0 is under 1/256 of a channel far from 0.

    Args:
        features: feature map X, (B, H, W, C), any float dtype. float16 and bfloat16 are computed in float32.
        layout: soft semantic layout S, (B, H, W, n), in [0, 1]; need not sum to 1 over n.
        scale: beta, (C,) shared by the entities (Algorithm 1) or (C, n) (Eq. 5); None is 1.
        offset: alpha, (C,) or (C, n); None is 0.
        epsilon: > 0; added to each entity's pixel count and to each standard deviation.
        statistics: "algorithm1": sum (S X - mean)^2 / count, the masked map's deviation over all pixels.
            "weighted": sum S (X - mean)^2 / count, the variance within the region.
        differentiable: False leaves out the hand-written gradient, which exported graphs cannot hold: for inference.

    Returns:
        (B, H, W, C), dtype of `features`.

    Raises:
        ValueError: an argument's rank, shape, dtype or value is not one of the above.

    Example:
        Two regions of different brightness come out alike.

        >>> import tensorflow as tf
        >>> image = tf.reshape([1.0, 3.0, 101.0, 103.0], (1, 2, 2, 1))
        >>> top = tf.reshape([1.0, 1.0, 0.0, 0.0], (1, 2, 2, 1))
        >>> layout = tf.concat([top, 1.0 - top], axis=-1)
        >>> out = regional_normalization(image, layout, statistics="weighted")
        >>> [round(float(value), 2) for value in tf.reshape(out, [-1])]
        [-1.0, 1.0, -1.0, 1.0]
    """
    arguments = _prepare(features, layout, scale, offset, epsilon, statistics)
    features, layout, scale, offset, result_dtype = arguments
    normalized = normalize_regions(
        _flatten(features), _flatten(layout), _per_entity(scale), _per_entity(offset), epsilon, statistics,
        differentiable,
    )  # fmt: skip
    return _cast(_unflatten(normalized, features), result_dtype)


def regional_normalization_reference(
    features: Any,
    layout: Any,
    scale: Any = None,
    offset: Any = None,
    *,
    epsilon: float = 1e-5,
    statistics: str = "algorithm1",
) -> tf.Tensor:
    """Algorithm 1 of the supplement, line by line: slow, large (B, H, W, C, n), and the one to read.

    It departs from the pseudocode in three points: the gradient of the square root at 0 is 0 instead of
    infinite, half precision is computed in float32, and `statistics="weighted"` is an addition.

    Args:
        features: feature map X, (B, H, W, C), any float dtype.
        layout: soft semantic layout S, (B, H, W, n).
        scale: beta, (C,) or (C, n); None is 1.
        offset: alpha, (C,) or (C, n); None is 0.
        epsilon: > 0.
        statistics: "algorithm1" or "weighted", see `regional_normalization`.

    Returns:
        (B, H, W, C), dtype of `features`.

    Raises:
        ValueError: an argument's rank, shape, dtype or value is not allowed.
    """
    X, S, beta, alpha, result_dtype = _prepare(features, layout, scale, offset, epsilon, statistics)
    beta = 1.0 if beta is None else _five_dimensional(beta)  # (1, 1, 1, c, n or 1)
    alpha = 0.0 if alpha is None else _five_dimensional(alpha)  # (1, 1, 1, c, n or 1)

    S = tf.expand_dims(S, -2)  # (b, h, w, 1, n)
    cnt = tf.reduce_sum(S, axis=[1, 2], keepdims=True) + epsilon  # (b, 1, 1, 1, n)
    X = tf.expand_dims(X, -1)  # (b, h, w, c, 1)
    X_activated = X * S  # (b, h, w, c, n)
    X_mean = tf.reduce_sum(X_activated, axis=[1, 2], keepdims=True) / cnt  # (b, 1, 1, c, n)
    if statistics == "algorithm1":
        deviation = (X_activated - X_mean) ** 2  # (b, h, w, c, n)
    else:
        deviation = S * (X - X_mean) ** 2  # (b, h, w, c, n)
    X_std = safe_sqrt(tf.reduce_sum(deviation, axis=[1, 2], keepdims=True) / cnt)  # (b, 1, 1, c, n)
    X = (X - X_mean) / (X_std + epsilon) * beta + alpha  # (b, h, w, c, n)
    return _cast(tf.reduce_sum(X * S, axis=-1), result_dtype)  # (b, h, w, c)


def regional_moments(
    features: Any,
    layout: Any,
    *,
    epsilon: float = 1e-5,
    statistics: str = "algorithm1",
    across_batch: bool = False,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and variance of every entity in every channel, differentiable by plain automatic differentiation.

    Args:
        features: (B, H, W, C), any float dtype.
        layout: (B, H, W, n).
        epsilon: > 0, added to each entity's pixel count.
        statistics: "algorithm1" or "weighted", see `regional_normalization`.
        across_batch: also sum over the images and, inside `strategy.run`, over the replicas.

    Returns:
        (mean, variance), each (B, n, C), or (1, n, C) with `across_batch`; float64 for float64 features, else
        float32. The variance is >= 0 and has no epsilon added.

    Raises:
        ValueError: an argument's rank, shape, dtype or value is not allowed.
    """
    features, layout, _, _, _ = _prepare(features, layout, None, None, epsilon, statistics)
    x, s = _flatten(features), _flatten(layout)
    if across_batch:
        x, s = (tf.reshape(t, [1, -1, _size(t, 2)]) for t in (x, s))
    context = tf.distribute.get_replica_context()
    shared = across_batch and context is not None and context.num_replicas_in_sync > 1

    def total(sums: tf.Tensor) -> tf.Tensor:
        return context.all_reduce(tf.distribute.ReduceOp.SUM, sums) if shared else sums

    mean, variance, _ = moments(x, s, epsilon, statistics, total)
    return mean, variance


def apply_regional_moments(
    features: Any,
    layout: Any,
    mean: Any,
    variance: Any,
    scale: Any = None,
    offset: Any = None,
    *,
    epsilon: float = 1e-5,
) -> tf.Tensor:
    """Normalizes by given moments: batch statistics in training, moving ones at inference.

    Args:
        features: (B, H, W, C), any float dtype.
        layout: (B, H, W, n).
        mean: (B, n, C) or (1, n, C), as `regional_moments` returns it.
        variance: as `mean`, >= 0.
        scale: beta, (C,) or (C, n); None is 1.
        offset: alpha, (C,) or (C, n); None is 0.
        epsilon: > 0, added to the standard deviation.

    Returns:
        (B, H, W, C), dtype of `features`.

    Raises:
        ValueError: an argument's rank, shape, dtype or value is not allowed.
    """
    features, layout, scale, offset, result_dtype = _prepare(features, layout, scale, offset, epsilon, STATISTICS[0])
    mean, variance = (_moment(m, features, layout, name) for m, name in ((mean, "mean"), (variance, "variance")))
    x, s = _flatten(features), _flatten(layout)
    g = pixel_mean(x)
    slope = 1.0 / (safe_sqrt(variance) + epsilon)
    if scale is not None:
        slope = slope * _per_entity(scale)
    intercept = (g - mean) * slope
    if offset is not None:
        intercept = intercept + _per_entity(offset)
    normalized = (x - g) * tf.linalg.matmul(s, slope) + tf.linalg.matmul(s, intercept)
    return _cast(_unflatten(normalized, features), result_dtype)


def _prepare(
    features: Any, layout: Any, scale: Any, offset: Any, epsilon: float, statistics: str
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None, tf.Tensor | None, tf.DType]:
    """Checks the arguments and casts them to the dtype of the computation."""
    if statistics not in STATISTICS:
        raise ValueError(f"statistics must be one of {STATISTICS}, got {statistics!r}")
    if not epsilon > 0:
        raise ValueError(f"epsilon must be > 0, got {epsilon!r}")
    features, layout = tf.convert_to_tensor(features), tf.convert_to_tensor(layout)
    for name, tensor in (("features", features), ("layout", layout)):
        if not tensor.dtype.is_floating:
            raise ValueError(f"{name} must have a float dtype, got {tensor.dtype.name}; cast it first")
        if tensor.shape.rank != 4:
            raise ValueError(
                f"{name} must have rank 4, (batch, height, width, channels or entities), got shape {tensor.shape}"
            )
    if not features.shape[:3].is_compatible_with(layout.shape[:3]):
        raise ValueError(
            f"layout must have the batch, height and width of features, {features.shape[:3]}, "
            f"got layout shape {layout.shape}"
        )
    result_dtype = features.dtype
    dtype = tf.float64 if result_dtype == tf.float64 else tf.float32
    channels, entities = features.shape[3], layout.shape[3]
    checked = []
    for name, parameter in (("scale", scale), ("offset", offset)):
        if parameter is not None:
            parameter = tf.convert_to_tensor(parameter)
            shape = parameter.shape
            if not (shape.is_compatible_with([channels]) or shape.is_compatible_with([channels, entities])):
                raise ValueError(
                    f"{name} must be None or have shape (C,) = ({channels},) "
                    f"or (C, n) = ({channels}, {entities}), got shape {shape}"
                )
            parameter = _cast(parameter, dtype)
        checked.append(parameter)
    return _cast(features, dtype), _cast(layout, dtype), checked[0], checked[1], result_dtype


def _moment(moment: Any, features: tf.Tensor, layout: tf.Tensor, name: str) -> tf.Tensor:
    """Checks a (B or 1, n, C) argument and casts it like the features."""
    moment = tf.convert_to_tensor(moment)
    expected = tf.TensorShape([None, layout.shape[3], features.shape[3]])
    if not moment.shape.is_compatible_with(expected):
        raise ValueError(f"{name} must have shape (B or 1, n, C) = {expected}, got shape {moment.shape}")
    return tf.cast(moment, features.dtype)


def _cast(tensor: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Casts; a finite gradient that float16 cannot hold becomes its largest number.

    A channel without variance has a slope of 1 / epsilon = 1e5, more than float16's 65504. An infinite
    upstream gradient stays infinite: loss scaling looks for it.
    """
    if tensor.dtype != tf.float16 or dtype == tf.float16:
        return tf.cast(tensor, dtype)

    @tf.custom_gradient
    def widen(narrow: tf.Tensor) -> tuple[tf.Tensor, Any]:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            limited = tf.clip_by_value(upstream, tf.float16.min, tf.float16.max)
            return tf.cast(tf.where(tf.math.is_finite(upstream), limited, upstream), tf.float16)

        return tf.cast(narrow, dtype), gradient

    return widen(tensor)


def _size(tensor: tf.Tensor, axis: int) -> Any:
    """Static size where known, else the dynamic one."""
    return tensor.shape[axis] if tensor.shape[axis] is not None else tf.shape(tensor)[axis]


def _flatten(image: tf.Tensor) -> tf.Tensor:
    """(b, h, w, c) -> (b, h * w, c)."""
    batch, height, width, channels = (_size(image, axis) for axis in range(4))
    return tf.reshape(image, [batch, height * width, channels])


def _unflatten(flat: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """(b, h * w, c) -> (b, h, w, c), static shape of `like`."""
    return tf.reshape(flat, [_size(like, axis) for axis in range(4)])


def _per_entity(parameter: tf.Tensor | None) -> tf.Tensor | None:
    """(c,) -> (1, c); (c, n) -> (n, c)."""
    if parameter is None:
        return None
    return parameter[tf.newaxis] if parameter.shape.rank == 1 else tf.transpose(parameter)


def _five_dimensional(parameter: tf.Tensor) -> tf.Tensor:
    """(c,) or (c, n) -> (1, 1, 1, c, 1 or n)."""
    if parameter.shape.rank == 1:
        parameter = parameter[:, tf.newaxis]
    return parameter[tf.newaxis, tf.newaxis, tf.newaxis]
