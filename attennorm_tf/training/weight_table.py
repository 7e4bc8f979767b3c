"""Weights by names that are the same on both stacks: what checkpoints are made of.

A Keras model's own way into a checkpoint follows private attributes, which Keras 2 and Keras 3 call differently, and
Keras 3 leaves out layers held in lists. A table of all weights crosses the stacks bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

import tensorflow as tf
from tensorflow import keras

from attennorm_tf._compat import raw_variable


def weight_path(weight: Any) -> str:
    """The weight's place in its network, "generator/block3/attention/rho".

    A wrapper and the layer inside it share a name; Keras 3 has it twice in the path, Keras 2 once: here it is once.
    """
    path = str(getattr(weight, "path", weight.name)).split(":")[0]
    return "/".join(part for part, _ in groupby(path.split("/")))


def weight_table(weights: Iterable[Any], network: str = "") -> dict[str, tf.Variable]:
    """Variables by their paths.

    Args:
        weights: Keras weights or variables.
        network: name of the network they all belong to, left out of the paths.

    Raises:
        ValueError: two weights have the same path.
    """
    table: dict[str, tf.Variable] = {}
    for weight in weights:
        path = weight_path(weight).removeprefix(f"{network}/")
        if path in table:
            raise ValueError(f"two weights are called {path!r}; a checkpoint could not tell them apart.")
        table[path] = raw_variable(weight)
    return table


def checkpoint_view(items: Mapping[str, Any]) -> dict[str, Any]:
    """What TensorFlow saves and restores for named objects: built networks as tables of weights, others as they are."""
    return {
        name: weight_table(item.weights, item.name) if isinstance(item, keras.layers.Layer) else item
        for name, item in items.items()
    }
