"""Inputs of regional normalization, and how its results are compared."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

STATISTICS = ("algorithm1", "weighted")


EPSILON = 1e-5


def soft_layout(rng, shape, sharpness=1.0):
    logits = sharpness * rng.normal(size=shape)
    exponential = np.exp(logits - logits.max(-1, keepdims=True))
    return exponential / exponential.sum(-1, keepdims=True)


def inputs(size=(2, 5, 6), channels=3, entities=4, seed=0):
    rng = np.random.default_rng(seed)
    features, layout = rng.normal(size=(*size, channels)), soft_layout(rng, (*size, entities))
    return features.astype(np.float32).astype(np.float64), layout.astype(np.float32).astype(np.float64)


def parameter(kind, channels, entities, seed):
    shapes = {None: None, "shared": (channels,), "per_entity": (channels, entities)}
    return None if kind is None else np.random.default_rng(seed).normal(size=shapes[kind]).astype(np.float32)


def values_and_gradients(function, dtype, arguments, statistics):
    """Output, and gradients of a random weighting of it for every argument that is not None."""
    tensors = [None if a is None else tf.constant(a, dtype) for a in arguments]
    watched = [t for t in tensors if t is not None]
    upstream = np.random.default_rng(7).normal(size=arguments[0].shape).astype(np.float32)
    with tf.GradientTape() as tape:
        tape.watch(watched)
        out = function(*tensors, epsilon=EPSILON, statistics=statistics)
        loss = tf.reduce_sum(tf.cast(out, tf.float64 if dtype == tf.float64 else tf.float32) * upstream)
    return [np.asarray(tf.cast(t, tf.float64)) for t in (out, *tape.gradient(loss, watched))]


def assert_close(actual, expected, tolerance):
    """Largest difference within `tolerance` of the largest value (or of 1)."""
    assert len(actual) == len(expected)
    for position, (a, e) in enumerate(zip(actual, expected)):
        assert np.all(np.isfinite(a)), position
        error = np.max(np.abs(a - e)) / max(1.0, np.max(np.abs(e)))
        assert error <= tolerance, f"tensor {position}: {error:.1e} > {tolerance:.0e}"
