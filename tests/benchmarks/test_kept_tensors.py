"""What a graph keeps for its backward pass, of functions whose derivatives say it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.kept_tensors import kept_tensors

SHAPE = (2, 3, 4, 5)


def kept(forward: Any) -> list[tuple[str, tuple[int, ...]]]:
    features = tf.ones(SHAPE)
    found, gradient = kept_tensors(forward, features, tf.ones_like(forward(features)))
    assert gradient(features, tf.ones_like(forward(features))).shape == SHAPE
    assert all(tensor.nbytes == 4 * np.prod(tensor.shape) for tensor in found)
    return sorted((tensor.operation, tensor.shape) for tensor in found)


def test_a_linear_function_keeps_nothing() -> None:
    assert kept(lambda x: 3.0 * x + 1.0) == []


def test_a_square_keeps_its_input_once_by_any_name() -> None:
    assert kept(lambda x: tf.reshape(x, [2, -1]) * tf.identity(tf.reshape(x, [2, -1]))) == [("Placeholder", SHAPE)]


def test_a_product_with_weights_keeps_its_input_and_an_exponential_its_output() -> None:
    weights = tf.Variable(tf.ones([5, 7]))
    found = kept(lambda x: tf.exp(tf.tensordot(x, weights, 1)))
    assert [shape for _, shape in found if np.prod(shape) == 2 * 3 * 4 * 7] != []
    assert ("Placeholder", SHAPE) in found
    assert len(found) == 2


def test_what_has_no_size_is_refused() -> None:
    def loop(x: tf.Tensor) -> tf.Tensor:
        return tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y * y), (0, x))[1]

    with pytest.raises(RuntimeError, match="has no size in the graph"):
        kept(loop)
