"""The only place that knows which Keras runs: Keras 3 (current stack) or Keras 2.15 (classic stack)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import keras

KERAS_3 = hasattr(keras, "ops")

_AGGREGATION = {
    "none": tf.VariableAggregation.NONE,
    "mean": tf.VariableAggregation.MEAN,
    "sum": tf.VariableAggregation.SUM,
    "only_first_replica": tf.VariableAggregation.ONLY_FIRST_REPLICA,
}


def add_weight(
    layer: keras.layers.Layer,
    name: str,
    shape: tuple[int, ...],
    initializer: Any,
    *,
    dtype: str | None = None,
    trainable: bool = True,
    regularizer: Any = None,
    autocast: bool = True,
    aggregation: str | None = None,
) -> Any:
    """`layer.add_weight` with one spelling for both Keras generations.

    Args:
        layer: the layer that owns the weight.
        name: plain name of the weight.
        shape: static shape.
        initializer: Keras initializer or its name.
        dtype: storage type; None takes the layer's variable type.
        trainable: whether optimizers see it.
        regularizer: Keras regularizer or None.
        autocast: whether reading it inside `call` casts to the compute type under mixed precision.
        aggregation: how `assign` in a replica context combines replicas: "none", "mean", "sum",
            "only_first_replica", or None for Keras' own default.

    Returns:
        The weight.
    """
    options: dict[str, Any] = {
        "name": name,
        "shape": shape,
        "initializer": initializer,
        "dtype": dtype,
        "trainable": trainable,
        "regularizer": regularizer,
    }
    if KERAS_3:
        options["autocast"] = autocast
        if aggregation is not None:
            options["aggregation"] = aggregation
    else:
        options["experimental_autocast"] = autocast
        if aggregation is not None:
            options["aggregation"] = _AGGREGATION[aggregation]
    return layer.add_weight(**options)


def raw_variable(weight: Any) -> tf.Variable:
    """The `tf.Variable` of a Keras weight: what a `tf.Module` tracks and a graph captures."""
    return weight if isinstance(weight, tf.Variable) else weight.value


def stack_name() -> str:
    """What results call the stack: "current" (Keras 3) or "classic" (Keras 2.15)."""
    return "current" if KERAS_3 else "classic"
