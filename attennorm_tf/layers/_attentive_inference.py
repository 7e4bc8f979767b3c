"""Attentive normalization at inference, in as few passes over the map as TensorFlow's operations allow.

    V = X W_v + b;  S = softmax(X E^T);  out = X + V (S A) + S D

with A and D (n, c) from sum S, sum S V and sum S^2 V^2 of each image: Algorithm 1 without pivots, which is exact unless
an entity owns nearly all of an image on which a channel is nearly constant. `sum (S V - mean)^2` then cancels; where it
does, the image is computed as in training. Large maps are worked on a chunk at a time, so that what is made of a chunk
stays in the processor's cache until it has been used: S is stored, V computed again, everything else is small.
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple

import tensorflow as tf

from attennorm_tf.layers._regional_gradient import normalize_regions, safe_sqrt
from attennorm_tf.layers._regional_pivots import FAR

LARGE = 2**21  # elements of a batch of maps that are worked on in chunks
CHUNK = 2**19  # elements of a chunk: 2 MiB, 4 MiB with its values
AT_ONCE = 2  # chunks


class Weights(NamedTuple):
    """What the layer multiplies with, in the type of the features."""

    entities: tf.Tensor  # (n, c), times the temperature
    value_kernel: tf.Tensor | None  # (c, c)
    value_bias: tf.Tensor | None  # (c,)
    scale: tf.Tensor  # rho beta, (1, c) or (n, c)
    offset: tf.Tensor  # rho alpha, (1, c) or (n, c)


def attentive_inference(features: tf.Tensor, weights: Weights, epsilon: float) -> tf.Tensor:
    """X plus its regional normalization, see the module.

    Args:
        features: (b, h, w, c), float32 or float64.
        weights: see there.
        epsilon: as in Algorithm 1.

    Returns:
        As `features`. For the gradient, everything is computed anew as in training.
    """
    present = [weight for weight in weights if weight is not None]

    def restored(tensors: Any) -> Weights:
        found = iter(tensors)
        return Weights(*(None if weight is None else next(found) for weight in weights))

    @tf.custom_gradient
    def normalize(x: tf.Tensor, *tensors: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], Any]]:
        def gradient(upstream: tf.Tensor) -> Any:
            watched = [x, *tensors]
            with tf.GradientTape() as tape:
                tape.watch(watched)
                out = _with_pivots(x, restored(tensors), epsilon)
            return tape.gradient(out, watched, upstream, unconnected_gradients=tf.UnconnectedGradients.ZERO)

        return _forward(x, restored(tensors), epsilon), gradient

    outputs = normalize(features, *present)
    outputs.set_shape(features.shape)
    return outputs


def chunks_of_image(batch: int, pixels: int, channels: int) -> int:
    """Into how many chunks of equal size to divide an image; 0: to work on the whole batch at once.

    An image of its own is a chunk at least, but many small ones would cost more than they spare.
    """
    if batch * pixels * channels < LARGE or 4 * pixels * channels < CHUNK:
        return 0
    chunks = 1
    while chunks * CHUNK < pixels * channels and pixels % (2 * chunks) == 0:
        chunks *= 2
    return chunks


def _with_pivots(features: tf.Tensor, weights: Weights, epsilon: float) -> tf.Tensor:
    """The same by `normalize_regions`, which is exact for any map and has a gradient."""
    shape = tf.shape(features)
    maps = tf.reshape(features, [shape[0], shape[1] * shape[2], features.shape[3]])
    layout, values = _layout_and_values(maps, weights)
    normalized = normalize_regions(values, layout, weights.scale, weights.offset, epsilon, "algorithm1")
    return tf.reshape(maps + normalized, shape)


def _forward(features: tf.Tensor, weights: Weights, epsilon: float) -> tf.Tensor:
    batch, height, width, channels = features.shape
    size = tf.shape(features)
    chunks = 0 if None in (batch, height, width) else chunks_of_image(batch, height * width, channels)
    if chunks:
        maps = tf.reshape(features, [batch * chunks, height * width // chunks, channels])
        layouts, *sums = _project_chunks(maps, weights)
        sums = [tf.reduce_sum(tf.reshape(each, [batch, chunks, *each.shape[1:]]), axis=1) for each in sums]
    else:
        maps = tf.reshape(features, [size[0], size[1] * size[2], channels])
        layouts, values, *sums = _project(maps, weights)
    total, first, second = sums
    slope, intercept, far = _affine(total, first, second, tf.cast(size[1] * size[2], maps.dtype), weights, epsilon)

    def apply() -> tf.Tensor:
        if chunks:
            out = _apply_chunks(maps, layouts, weights, slope, intercept, chunks)
        else:
            out = _apply(maps, layouts, values, slope, intercept)
        return tf.reshape(out, size)

    def choose() -> tf.Tensor:
        return tf.where(far[:, tf.newaxis, tf.newaxis, tf.newaxis], _with_pivots(features, weights, epsilon), apply())

    return tf.cond(tf.reduce_any(far), choose, apply)


def _layout_and_values(maps: tf.Tensor, weights: Weights) -> tuple[tf.Tensor, tf.Tensor]:
    """S (b, p, n) and V (b, p, c)."""
    shape = tf.shape(maps)
    flat = tf.reshape(maps, [-1, maps.shape[2]])  # one product for all images
    layout = tf.nn.softmax(tf.linalg.matmul(flat, weights.entities, transpose_b=True))
    return tf.reshape(layout, [shape[0], shape[1], layout.shape[1]]), _values(maps, weights)


def _values(maps: tf.Tensor, weights: Weights) -> tf.Tensor:
    """V (b, p, c)."""
    if weights.value_kernel is None:
        return maps
    flat = tf.reshape(maps, [-1, maps.shape[2]])
    values = tf.nn.bias_add(tf.linalg.matmul(flat, weights.value_kernel), weights.value_bias)
    return tf.reshape(values, tf.shape(maps))


def _project(maps: tf.Tensor, weights: Weights) -> tuple[tf.Tensor, ...]:
    """S, V and their sums over the pixels: S (b, n, 1), S V and S^2 V^2 (b, n, c)."""
    layout, values = _layout_and_values(maps, weights)
    shape = tf.shape(maps)
    ones = tf.ones([shape[0], 1, shape[1]], maps.dtype)
    total = tf.linalg.matmul(layout, ones, transpose_a=True, transpose_b=True)
    first = tf.linalg.matmul(layout, values, transpose_a=True)
    second = tf.linalg.matmul(layout * layout, values * values, transpose_a=True)
    return layout, values, total, first, second


def _affine(
    total: tf.Tensor, first: tf.Tensor, second: tf.Tensor, pixels: tf.Tensor, weights: Weights, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """A and D, (b, n, c), and for each image whether a variance has cancelled, (b,)."""
    count = total + epsilon
    mean = first / count
    deviation = second - mean * mean * (2.0 * count - pixels)  # sum (S V - mean)^2
    far = tf.reduce_any(deviation < second * FAR**-2, axis=[1, 2])  # no for NaN
    std = safe_sqrt(tf.maximum(deviation, tf.zeros_like(deviation)) / count)
    slope = weights.scale / (std + epsilon)
    return slope, weights.offset - mean * slope, far


def _apply(maps: tf.Tensor, layout: tf.Tensor, values: tf.Tensor, slope: tf.Tensor, intercept: tf.Tensor) -> tf.Tensor:
    """X + V (S A) + S D; the second product waits for the memory of the first."""
    scaled = values * tf.linalg.matmul(layout, slope)
    with tf.control_dependencies([scaled]):
        shift = tf.linalg.matmul(layout, intercept)
    return tf.add_n([scaled, shift, maps])


def _arrays(count: int, *elements: tuple[tf.DType, list[int]]) -> list[tf.TensorArray]:
    return [tf.TensorArray(dtype, count, element_shape=shape) for dtype, shape in elements]


def _project_chunks(maps: tf.Tensor, weights: Weights) -> tuple[Any, ...]:
    """`_project` a chunk at a time: S as an array of chunks, the sums stacked; V, twice as large as S or more, goes."""
    count, pixels, channels = maps.shape
    n, dtype = weights.entities.shape[0], maps.dtype
    shapes = ([1, pixels, n], [1, n, 1], [1, n, channels], [1, n, channels])
    arrays = _arrays(count, *((dtype, shape) for shape in shapes))

    def work(index: tf.Tensor, *arrays: tf.TensorArray) -> tuple[Any, ...]:
        layout, _, *sums = _project(maps[index][tf.newaxis], weights)
        return (index + 1, *(array.write(index, part) for array, part in zip(arrays, (layout, *sums))))

    _, layouts, *sums = tf.while_loop(
        lambda index, *_: index < count, work, (0, *arrays), parallel_iterations=AT_ONCE, maximum_iterations=count
    )
    return (layouts, *(array.concat() for array in sums))


def _apply_chunks(
    maps: tf.Tensor, layouts: Any, weights: Weights, slope: tf.Tensor, intercept: tf.Tensor, chunks: int
) -> tf.Tensor:
    """`_apply` a chunk at a time."""
    count, pixels, channels = maps.shape
    (done,) = _arrays(count, (maps.dtype, [1, pixels, channels]))

    def work(index: tf.Tensor, done: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        image = index // chunks
        chunk = maps[index][tf.newaxis]
        affine = slope[image][tf.newaxis], intercept[image][tf.newaxis]
        return index + 1, done.write(index, _apply(chunk, layouts.read(index), _values(chunk, weights), *affine))

    _, done = tf.while_loop(
        lambda index, _: index < count, work, (0, done), parallel_iterations=AT_ONCE, maximum_iterations=count
    )
    return done.concat()
