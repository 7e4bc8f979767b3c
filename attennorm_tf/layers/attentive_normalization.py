"""The Attentive Normalization layer (paper, section 3)."""

from __future__ import annotations

import math
import numbers
import random
from typing import Any, Callable

import tensorflow as tf
from tensorflow import keras

from attennorm_tf._compat import add_weight
from attennorm_tf.layers._attentive_inference import Weights, attentive_inference
from attennorm_tf.layers._self_sampling import sampled_keys
from attennorm_tf.layers.orthogonal_regularizer import OrthogonalRegularizer
from attennorm_tf.layers.regional_normalization import (
    apply_regional_moments,
    regional_moments,
    regional_normalization,
)
from attennorm_tf.layers.shapes import sizes_of

AFFINE = ("shared", "per_entity", None)
STATISTICS = ("algorithm1", "weighted")
NORMALIZATION = ("instance", "batch")


@keras.utils.register_keras_serializable(package="attennorm_tf")
class AttentiveNormalization(keras.layers.Layer):
    """Attentive Normalization: learns a soft semantic layout and normalises each region by its own statistics.

    In the order of the data (h, w: height, width; n entities):

    1. semantic layout prediction `f(X)`: 1x1 convolution without bias to n entities, orthogonally regularised (Eq. 1);
    2. self-sampling regularization, in training only: `F = q(X) . k(X)_sampled^T` against n places of the max-pooled
       key map drawn per image (Eq. 2), `S_raw = t F + f(X)` (Eq. 3). At inference the branch is not computed and the
       output is deterministic;
    3. soft layout `S = softmax(tau S_raw)` over the entities (Eq. 4);
    4. value projection, a 1x1 convolution of X ("an affine translated feature map", section 3 and Figure 2; Eq. 5 and
       Algorithm 1 leave it out);
    5. regional normalization (Algorithm 1, Eq. 5): see `attennorm_tf.layers.regional_normalization`;
    6. residual `rho * RN + X` (Eq. 6), rho a scalar that starts at 0.

    float16 and bfloat16 inputs are computed in float32 throughout: products of half-precision features overflow in the
    layout's logits, and an infinite logit would end as NaN in the softmax.

    Additions to the paper: `statistics="weighted"` offers the variance that Figure 4 suggests; `normalization="batch"`
    sums over all replicas and keeps moving statistics for inference. `t` starts at 0.1, as in section 3.2.

    Args:
        num_entities: n, >= 1.
        temperature: tau of Eq. 4, > 0.
        epsilon: added to the region size and to the standard deviation, as in Algorithm 1, > 0.
        orthogonal_weight: lambda_o of Eq. 1, >= 0; 0 turns the regularizer off (Table 4, "w/o orthogonal reg").
        self_sampling: whether the self-sampling branch exists (False: Table 4, "w/o SSR").
        sampling_pool_size: max-pooling of the key map before sampling, >= 1; 1 turns it off.
        key_channels: channels of keys and queries, >= 1; None takes max(C // 8, 1).
        value_projection: whether step 4 exists.
        affine: "shared", one beta and alpha per channel (Algorithm 1); "per_entity", (C, n) (Eq. 5); None, neither.
        statistics: "algorithm1" or "weighted", see `regional_normalization`.
        normalization: "instance", statistics per image; "batch", over the batch (Table 4, "AN w BN").
        seed: seed of the self-sampling draws, a non-negative int; None draws one.
        momentum: of the moving statistics with normalization="batch", in [0, 1).
        **kwargs: `name`, `dtype`, `trainable` of any Keras layer.

    Inputs: (B, H, W, C), C known when built, the rest may be unknown. Output: the same shape and type;
    with `return_layout=True` a pair of it and the layout (B, H, W, n), float32 (float64 for a float64 layer).

    Raises:
        ValueError: an argument outside its range, an input that is not (B, H, W, C) or whose C is unknown or changed.

    Example:
        >>> layer = AttentiveNormalization(num_entities=4, seed=1)
        >>> outputs, layout = layer(tf.ones([2, 8, 8, 16]), return_layout=True)
        >>> outputs.shape.as_list(), layout.shape.as_list()
        ([2, 8, 8, 16], [2, 8, 8, 4])
    """

    def __init__(
        self,
        num_entities: int = 16,
        temperature: float = 0.1,
        epsilon: float = 1e-5,
        orthogonal_weight: float = 1e-3,
        self_sampling: bool = True,
        sampling_pool_size: int = 2,
        key_channels: int | None = None,
        value_projection: bool = True,
        affine: str | None = "shared",
        statistics: str = "algorithm1",
        normalization: str = "instance",
        seed: int | None = None,
        momentum: float = 0.99,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        _check_count("num_entities", num_entities, 1)
        _check_number("temperature", temperature, "> 0", lambda value: value > 0)
        _check_number("epsilon", epsilon, "> 0", lambda value: value > 0)
        _check_number("orthogonal_weight", orthogonal_weight, ">= 0", lambda value: value >= 0)
        _check_count("sampling_pool_size", sampling_pool_size, 1)
        if key_channels is not None:
            _check_count("key_channels", key_channels, 1)
        _check_option("affine", affine, AFFINE)
        _check_option("statistics", statistics, STATISTICS)
        _check_option("normalization", normalization, NORMALIZATION)
        if seed is not None:
            _check_count("seed", seed, 0)
        _check_number("momentum", momentum, "in [0, 1)", lambda value: 0 <= value < 1)
        self.num_entities = num_entities
        self.temperature = temperature
        self.epsilon = epsilon
        self.orthogonal_weight = orthogonal_weight
        self.self_sampling = self_sampling
        self.sampling_pool_size = sampling_pool_size
        self.key_channels = key_channels
        self.value_projection = value_projection
        self.affine = affine
        self.statistics = statistics
        self.normalization = normalization
        self.seed = seed
        self.momentum = momentum

    def build(self, input_shape: Any) -> None:
        channels = _channels(self.name, input_shape)
        n = self.num_entities
        keys = max(channels // 8, 1) if self.key_channels is None else self.key_channels
        regularizer = OrthogonalRegularizer(self.orthogonal_weight) if self.orthogonal_weight else None
        self.entities = self._weight("entities", (n, channels), "glorot_uniform", regularizer=regularizer)
        if self.self_sampling:
            self.key_kernel = self._weight("key_kernel", (channels, keys), "glorot_uniform")
            self.key_bias = self._weight("key_bias", (keys,), "zeros")
            self.query_kernel = self._weight("query_kernel", (channels, keys), "glorot_uniform")
            self.query_bias = self._weight("query_bias", (keys,), "zeros")
            self.t = self._weight("t", (1, 1, n), keras.initializers.Constant(0.1))
            seed = random.randrange(2**31) if self.seed is None else self.seed
            # int64, since TensorFlow places int32 variables on the host also where the layer runs on a GPU.
            self.sampling_seed = add_weight(
                self, "sampling_seed", (2,), _SeedInitializer(seed), dtype="int64", trainable=False,
                autocast=False, aggregation="none",
            )  # fmt: skip
        if self.value_projection:
            self.value_kernel = self._weight("value_kernel", (channels, channels), "glorot_uniform")
            self.value_bias = self._weight("value_bias", (channels,), "zeros")
        if self.affine is not None:
            shape = (channels,) if self.affine == "shared" else (channels, n)
            self.beta = self._weight("beta", shape, "ones")
            self.alpha = self._weight("alpha", shape, "zeros")
        if self.normalization == "batch":
            # Each replica computes the same statistics of the global batch, so nothing is left to aggregate.
            options = {"trainable": False, "aggregation": "none"}
            self.moving_mean = self._weight("moving_mean", (n, channels), "zeros", **options)
            self.moving_variance = self._weight("moving_variance", (n, channels), "ones", **options)
        self.rho = self._weight("rho", (), "zeros")
        self.channels = channels
        super().build(input_shape)

    def call(self, inputs: Any, training: bool | None = None, return_layout: bool = False) -> Any:
        inputs = self._checked(tf.convert_to_tensor(inputs))
        features = self._upcast(inputs)
        if self._is_fast(bool(training), return_layout):
            return tf.cast(attentive_inference(features, self._weights(features.dtype), self.epsilon), inputs.dtype)
        layout = self._layout(features, bool(training))
        values = features
        if self.value_projection:
            values = self._project(features, self.value_kernel, self.value_bias)
        outputs = tf.cast(features + self._normalize(values, layout, bool(training)), inputs.dtype)  # Eq. 6
        return (outputs, layout) if return_layout else outputs

    def _is_fast(self, training: bool, return_layout: bool) -> bool:
        """Whether `attentive_inference` computes it: what it does not hold, and GPUs, for which it is not made."""
        gpu = bool(tf.config.list_physical_devices("GPU"))
        return not (
            training or return_layout or gpu or (self.normalization, self.statistics) != ("instance", "algorithm1")
        )

    def _weights(self, dtype: tf.DType) -> Weights:
        scale, offset = self._scale_and_offset(dtype)
        if offset is None:
            offset = tf.zeros_like(scale)
        kernel, bias = (self.value_kernel, self.value_bias) if self.value_projection else (None, None)
        return Weights(
            self.temperature * tf.cast(self.entities, dtype),
            None if kernel is None else tf.cast(kernel, dtype),
            None if bias is None else tf.cast(bias, dtype),
            *(t[tf.newaxis] if t.shape.rank == 1 else tf.transpose(t) for t in (scale, offset)),
        )

    def compute_layout(self, inputs: Any) -> tf.Tensor:
        """The soft layout of Eq. 4 at inference, without the normalization.

        Args:
            inputs: (B, H, W, C).

        Returns:
            (B, H, W, n), float32 (float64 for a float64 layer), summing to 1 over the last axis.
        """
        inputs = tf.convert_to_tensor(inputs)
        if not self.built:
            self.build(inputs.shape)
        return self._layout(self._upcast(self._checked(inputs)), training=False)

    def _layout(self, features: tf.Tensor, training: bool) -> tf.Tensor:
        """Eq. 4. The temperature is a factor of the kernel, which is smaller than the map."""
        batch, height, width, channels = sizes_of(features)
        entities = tf.cast(self.entities, features.dtype)  # of f(X)
        if not (training and self.self_sampling):
            return tf.nn.softmax(self._project(features, tf.transpose(self.temperature * entities)))
        # Eq. 2 and 3: f(X) + t q(X) . k^T = X (E + t k Wq^T)^T + t k bq^T. A kernel for each image; q(X) is not needed.
        pool, seed = self.sampling_pool_size, self.sampling_seed
        key_kernel, key_bias = (tf.cast(weight, features.dtype) for weight in (self.key_kernel, self.key_bias))
        keys = sampled_keys(features, key_kernel, key_bias, self.num_entities, pool, tf.convert_to_tensor(seed))
        seed.assign_add([0, 1])
        keys *= tf.reshape(tf.cast(self.t, features.dtype), [-1, 1])  # (b, n, ck)
        rows = tf.reshape(keys, [-1, keys.shape[2]])
        queried = tf.linalg.matmul(rows, tf.cast(self.query_kernel, features.dtype), transpose_b=True)  # (b * n, c)
        kernel = self.temperature * (entities + tf.reshape(queried, [batch, self.num_entities, channels]))
        bias = self.temperature * tf.linalg.matvec(keys, tf.cast(self.query_bias, features.dtype))  # (b, n)
        flat = tf.reshape(features, [batch, height * width, channels])
        logits = tf.linalg.matmul(flat, kernel, transpose_b=True) + bias[:, tf.newaxis]  # (b, hw, n)
        return tf.reshape(tf.nn.softmax(logits), [batch, height, width, self.num_entities])

    def _scale_and_offset(self, dtype: tf.DType) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Factor and offset with rho in them: Eq. 6 costs no pass over the map, nor does the gradient of rho."""
        rho = tf.cast(self.rho, dtype)
        if self.affine is None:
            return tf.fill([self.channels], rho), None
        return rho * tf.cast(self.beta, dtype), rho * tf.cast(self.alpha, dtype)

    def _normalize(self, values: tf.Tensor, layout: tf.Tensor, training: bool) -> tf.Tensor:
        """The normalized values, times rho."""
        scale, offset = self._scale_and_offset(values.dtype)
        if self.normalization == "instance":
            return regional_normalization(
                values, layout, scale, offset, epsilon=self.epsilon, statistics=self.statistics
            )
        if training:
            mean, variance = regional_moments(
                values, layout, epsilon=self.epsilon, statistics=self.statistics, across_batch=True
            )
            _move(self.moving_mean, mean[0], self.momentum)
            _move(self.moving_variance, variance[0], self.momentum)
        else:
            mean = tf.cast(self.moving_mean, values.dtype)[tf.newaxis]
            variance = tf.cast(self.moving_variance, values.dtype)[tf.newaxis]
        return apply_regional_moments(values, layout, mean, variance, scale, offset, epsilon=self.epsilon)

    def _project(self, features: tf.Tensor, kernel: Any, bias: Any = None) -> tf.Tensor:
        """1x1 convolution as one matrix product."""
        kernel = tf.cast(kernel, features.dtype)
        batch, height, width, channels = sizes_of(features)
        outputs = tf.linalg.matmul(tf.reshape(features, [-1, channels]), kernel)
        if bias is not None:
            outputs = tf.nn.bias_add(outputs, tf.cast(bias, features.dtype))
        return tf.reshape(outputs, [batch, height, width, kernel.shape[1]])

    def _weight(self, name: str, shape: tuple[int, ...], initializer: Any, **options: Any) -> Any:
        return add_weight(self, name, shape, initializer, autocast=False, **options)

    def _upcast(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.cast(inputs, tf.float32) if inputs.dtype in (tf.float16, tf.bfloat16) else inputs

    def _checked(self, inputs: Any) -> Any:
        if _channels(self.name, inputs.shape) != self.channels:
            raise ValueError(
                f"{self.name}: inputs must have {self.channels} channels, as when the layer was built; got shape "
                f"{tuple(inputs.shape)}."
            )
        return inputs

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def compute_output_spec(self, inputs: Any, training: Any = None, return_layout: bool = False) -> Any:
        """Symbolic outputs (Keras 3 only), which depend on `return_layout`."""
        outputs = keras.KerasTensor(self._checked(inputs).shape, dtype=self.compute_dtype)
        wide = "float64" if self.compute_dtype == "float64" else "float32"
        layout = keras.KerasTensor((*inputs.shape[:-1], self.num_entities), dtype=wide)
        return (outputs, layout) if return_layout else outputs

    def get_config(self) -> dict[str, Any]:
        config = {
            "num_entities": self.num_entities,
            "temperature": self.temperature,
            "epsilon": self.epsilon,
            "orthogonal_weight": self.orthogonal_weight,
            "self_sampling": self.self_sampling,
            "sampling_pool_size": self.sampling_pool_size,
            "key_channels": self.key_channels,
            "value_projection": self.value_projection,
            "affine": self.affine,
            "statistics": self.statistics,
            "normalization": self.normalization,
            "seed": self.seed,
            "momentum": self.momentum,
        }
        return {**super().get_config(), **config}


@keras.utils.register_keras_serializable(package="attennorm_tf")
class _SeedInitializer(keras.initializers.Initializer):
    """(seed, draws so far): the state of the self-sampling, a weight so that checkpoints resume it exactly."""

    def __init__(self, seed: int):
        self.seed = seed

    def __call__(self, shape: Any, dtype: Any = None, **kwargs: Any) -> tf.Tensor:
        return tf.constant([self.seed, 0], dtype=dtype or tf.int64)

    def get_config(self) -> dict[str, Any]:
        return {"seed": self.seed}


def _move(variable: Any, value: tf.Tensor, momentum: float) -> None:
    """Exponential moving average, as in batch normalization."""
    variable.assign(variable * momentum + tf.cast(value, variable.dtype) * (1.0 - momentum))


def _channels(name: str, shape: Any) -> int:
    shape = tuple(shape)
    if len(shape) != 4 or shape[-1] is None:
        raise ValueError(f"{name}: inputs must be (batch, height, width, channels), channels known; got {shape}.")
    return int(shape[-1])


def _check_count(name: str, value: Any, minimum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < minimum:
        raise ValueError(f"{name} must be an int >= {minimum}, got {value!r}.")


def _check_number(name: str, value: Any, expected: str, allowed: Callable[[Any], bool]) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not allowed(value) or math.isinf(value):
        raise ValueError(f"{name} must be a finite number {expected}, got {value!r}.")


def _check_option(name: str, value: Any, options: tuple[Any, ...]) -> None:
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}; got {value!r}.")
