"""Shapes of which a part is known before the graph runs."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def sizes_of(tensor: tf.Tensor) -> list[Any]:
    """Static sizes where known, scalar tensors where not."""
    dynamic = tf.shape(tensor)
    return [dynamic[axis] if size is None else size for axis, size in enumerate(tensor.shape)]
