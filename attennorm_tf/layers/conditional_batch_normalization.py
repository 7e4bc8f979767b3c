"""Batch normalization whose scale and offset belong to a class, or to a blend of classes."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from attennorm_tf._compat import add_weight


@keras.utils.register_keras_serializable(package="attennorm_tf")
class ConditionalBatchNormalization(keras.layers.Layer):
    """`(x - mean) / sqrt(variance + epsilon) * gamma_y + beta_y`, for an image of class y.

    Conditional batch normalization (Dumoulin et al. 2017, de Vries et al. 2017). The statistics are those of
    batch normalization, over batch, height and width, and shared by all classes; at inference their moving
    averages. Scale and offset are rows of `gamma` (num_classes, C), from 1, and `beta` (num_classes, C),
    from 0. Given weights of classes in place of a class, an image is normalized by the same blend of rows.

    Statistics and arithmetic are float32 under mixed precision (float64 for a float64 layer). The variance is
    the mean of squared deviations, biased, in two passes: Keras' own synchronized batch normalization
    subtracts mean(x)^2 from mean(x^2) instead, which is all rounding for a mean of 1e3 standard deviations,
    and on Keras 2 can be negative, hence NaN, for a constant image.

    Class ids are not checked where that costs time: an eager tensor or a constant out of range raises a
    ValueError, but for ids that only a running graph knows tf.gather raises an error on CPU, gives zeros on
    GPU and the nearest class under XLA. Whoever feeds the model validates them.

    Args:
        num_classes: number of classes, at least 1.
        momentum: of the moving averages, in [0, 1].
        epsilon: added to the variance, positive.
        synchronized: whether the replicas of a distributed strategy share statistics, as one large batch; if
            not, each normalizes by its own and the moving averages take the mean of the replicas.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: pair of features, (B, H, W, C) with C known, and labels: integer class ids (B,) or
            floating class weights (B, num_classes), as a rule not negative and of sum 1.
        training: bool, bool tensor or None (inference). Frozen (`trainable=False`) is inference.

    Raises:
        ValueError: an argument is out of range, or the inputs are not such a pair or change their channels.

    Example:
        >>> layer = ConditionalBatchNormalization(num_classes=3)
        >>> layer((tf.ones((2, 4, 4, 8)), tf.constant([0, 2]))).shape
        TensorShape([2, 4, 4, 8])
    """

    def __init__(
        self,
        num_classes: int,
        momentum: float = 0.99,
        epsilon: float = 1e-5,
        synchronized: bool = True,
        **kwargs: Any,
    ) -> None:
        # Without autocast soft labels are not rounded to half precision.
        super().__init__(autocast=False, **kwargs)
        if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
            raise ValueError(f"num_classes must be an integer of at least 1, got {num_classes!r}.")
        if not _is_number(momentum) or not 0 <= momentum <= 1:
            raise ValueError(f"momentum must be in [0, 1], got {momentum!r}.")
        if not _is_number(epsilon) or not 0 < epsilon < math.inf:
            raise ValueError(f"epsilon must be a positive number, got {epsilon!r}.")
        self.num_classes = num_classes
        self.momentum = momentum
        self.epsilon = epsilon
        self.synchronized = synchronized

    def build(self, input_shape: Any) -> None:
        shape = _features_shape(input_shape)
        channels = int(shape[-1])
        self.gamma = add_weight(self, "gamma", (self.num_classes, channels), "ones", autocast=False)
        self.beta = add_weight(self, "beta", (self.num_classes, channels), "zeros", autocast=False)
        # Synchronized replicas assign the same values, so that there is nothing to aggregate.
        moving: dict[str, Any] = {
            "trainable": False,
            "autocast": False,
            "aggregation": "none" if self.synchronized else "mean",
        }
        self.moving_mean = add_weight(self, "moving_mean", (channels,), "zeros", **moving)
        self.moving_variance = add_weight(self, "moving_variance", (channels,), "ones", **moving)
        super().build(input_shape)

    def call(self, inputs: Any, training: Any = None) -> tf.Tensor:
        features, labels = inputs
        channels = self.gamma.shape[-1]
        if features.shape.rank != 4 or features.shape[-1] != channels:
            raise ValueError(f"features must have shape (B, H, W, {channels}), got {features.shape}.")
        wide = tf.float64 if self.compute_dtype == "float64" else tf.float32
        features = tf.cast(features, wide)
        gamma, beta = self._class_parameters(labels, wide)  # (B, 1, 1, C) each
        mean, variance = self._statistics(features, training)  # (C,) each
        scale = gamma * tf.math.rsqrt(variance + self.epsilon)
        return tf.cast((features - mean) * scale + beta, self.compute_dtype)

    def _class_parameters(self, labels: Any, dtype: tf.DType) -> tuple[tf.Tensor, tf.Tensor]:
        labels = tf.convert_to_tensor(labels)
        tables = [tf.cast(tf.convert_to_tensor(table), dtype) for table in (self.gamma, self.beta)]
        if labels.dtype.is_integer and labels.shape.rank == 1:
            _check_static_ids(labels, self.num_classes)
            ids = labels if labels.dtype == tf.int64 else tf.cast(labels, tf.int32)
            rows = [tf.gather(table, ids) for table in tables]
        elif labels.dtype.is_floating and labels.shape.rank == 2 and labels.shape[1] == self.num_classes:
            rows = [tf.matmul(tf.cast(labels, dtype), table) for table in tables]
        else:
            raise ValueError(
                f"labels must be integer class ids of shape (B,) or floating class weights of shape "
                f"(B, {self.num_classes}), got {labels.dtype.name} of shape {labels.shape}."
            )
        gamma, beta = (row[:, tf.newaxis, tf.newaxis, :] for row in rows)
        return gamma, beta

    def _statistics(self, features: tf.Tensor, training: Any) -> tuple[tf.Tensor, tf.Tensor]:
        moving = [tf.cast(tf.convert_to_tensor(w), features.dtype) for w in (self.moving_mean, self.moving_variance)]
        if not self.trainable or (not tf.is_tensor(training) and not training):
            return moving[0], moving[1]
        batch = _batch_moments(features, self.synchronized)
        if tf.is_tensor(training):
            training = tf.cast(training, tf.bool)
            batch = tuple(tf.where(training, new, old) for new, old in zip(batch, moving))
        # Where training is a false tensor, batch is moving and the averages stay.
        for weight, old, new in zip((self.moving_mean, self.moving_variance), moving, batch):
            weight.assign(tf.cast(old * self.momentum + tf.stop_gradient(new) * (1.0 - self.momentum), weight.dtype))
        return batch

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.update(
            num_classes=self.num_classes,
            momentum=self.momentum,
            epsilon=self.epsilon,
            synchronized=self.synchronized,
        )
        return config


def _batch_moments(features: tf.Tensor, synchronized: bool) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and biased variance over all but the channels, (C,) each; if synchronized, over all replicas."""
    replica = tf.distribute.get_replica_context()
    if not synchronized or replica is None or replica.num_replicas_in_sync == 1:
        mean = tf.reduce_mean(features, (0, 1, 2))
        return mean, tf.reduce_mean(tf.square(features - mean), (0, 1, 2))
    size = tf.shape(features)
    count = replica.all_reduce(tf.distribute.ReduceOp.SUM, tf.cast(size[0] * size[1] * size[2], features.dtype))
    mean = replica.all_reduce(tf.distribute.ReduceOp.SUM, tf.reduce_sum(features, (0, 1, 2))) / count
    deviation = tf.reduce_sum(tf.square(features - mean), (0, 1, 2))
    return mean, replica.all_reduce(tf.distribute.ReduceOp.SUM, deviation) / count


def _features_shape(input_shape: Any) -> tuple[Any, ...]:
    try:
        features, _ = (tuple(shape) for shape in input_shape)
    except (TypeError, ValueError):
        features = ()
    if len(features) != 4 or features[-1] is None:
        raise ValueError(
            "inputs must be a pair (features, labels), the features of shape (B, H, W, known C), "
            f"got shapes {input_shape}."
        )
    return features


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _check_static_ids(labels: tf.Tensor, num_classes: int) -> None:
    ids = tf.get_static_value(labels)
    if ids is not None and np.size(ids) and not (np.min(ids) >= 0 and np.max(ids) < num_classes):
        raise ValueError(f"labels must be class ids in [0, {num_classes}), got {np.min(ids)} to {np.max(ids)}.")
