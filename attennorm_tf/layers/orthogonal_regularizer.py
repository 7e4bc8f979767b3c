"""Orthogonal regularization of the semantic entities (Eq. 1)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import keras


@keras.utils.register_keras_serializable(package="attennorm_tf")
class OrthogonalRegularizer(keras.regularizers.Regularizer):
    """Eq. 1: `weight * ||W W^T - I||_F^2` for W (n, c), one row an entity.

    Args:
        weight: lambda_o of the paper, >= 0.
    """

    def __init__(self, weight: float = 1e-3):
        self.weight = weight

    def __call__(self, kernel: Any) -> tf.Tensor:
        kernel = tf.convert_to_tensor(kernel)
        if kernel.dtype in (tf.float16, tf.bfloat16):
            kernel = tf.cast(kernel, tf.float32)
        gram = tf.linalg.matmul(kernel, kernel, transpose_b=True)
        return self.weight * tf.reduce_sum(tf.square(gram - tf.eye(kernel.shape[0], dtype=kernel.dtype)))

    def get_config(self) -> dict[str, Any]:
        return {"weight": self.weight}
