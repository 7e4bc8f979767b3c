"""Spectral normalization as a reparametrisation: a layer computes with W / sigma(W), its kernel untouched."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf
from tensorflow import keras

from attennorm_tf._compat import add_weight
from attennorm_tf.layers._kernel_operations import check_layer, kernel_matrix, operation_with_sigma


@keras.utils.register_keras_serializable(package="attennorm_tf")
class SpectralNormalization(keras.layers.Wrapper):
    """Divides the kernel of a wrapped layer by an estimate of its largest singular value.

    Spectral normalization (Miyato et al. 2018, https://arxiv.org/abs/1802.05957) for `Dense`, `Conv2D`,
    `Conv2DTranspose` and `Embedding`. With W the kernel as a matrix of shape (output channels, everything
    else), the layer computes with

        W / sigma,    sigma = u^T W v,    v = W^T u / |W^T u|

    where u and v are constants to the gradient and sigma is not: the gradient of W has the term that keeps
    W from growing along its first singular pair. The stored kernel is never rewritten, so optimizer moments
    and weight averages refer to the weight that is there. Of the pair only u is stored, as a weight; an
    update is one power iteration, u <- W v / |W v|.

    The update happens in a training call (`update_on_call=True`), or where it should be once per
    optimisation step although the layer is called several times in it, from outside (`update_on_call=False`
    and `update_spectral_norms(model)`). It never happens at inference. As u depends on W alone, the replicas
    of a distributed strategy compute the same u and nothing is communicated. Setting `trainable` to False
    freezes u in calls as well.

    Precision: sigma is float32 whatever the wrapped layer's dtype policy (float64 for a float64 layer);
    W / sigma is then cast to its compute type. Set `dtype` on the wrapped layer, the wrapper has none.

    Deviations from the paper: v is derived from u instead of stored, so that sigma is a function of (W, u)
    and equal in training and inference; where a kernel is all but zero, sigma is held at `epsilon` and u
    keeps its value, so that outputs are finite and a kernel initialised to zero can still grow.

    Args:
        layer: the layer to wrap, one of the four or a subclass that computes the same (see Raises).
        power_iterations: power iterations per update, at least 1.
        epsilon: smallest norm and smallest sigma to divide by, positive.
        update_on_call: whether a call with a true `training` updates u first.
        **kwargs: `name` and `trainable`.

    Call arguments:
        inputs: what the wrapped layer takes, of unknown batch and spatial size if need be; dense.
        training: bool, bool tensor or None (inference).

    Raises:
        ValueError: the layer is of another type; its class overrides how it computes (`call` or
            `convolution_op`), which the wrapper would silently ignore; it is quantized or sparse; an argument
            is out of range; `dtype` or `activity_regularizer` is given here instead of to the wrapped layer.

    Example:
        >>> layer = SpectralNormalization(keras.layers.Dense(3, use_bias=False))
        >>> outputs = layer(tf.ones((2, 5)))
        >>> for _ in range(100):
        ...     layer.update_spectral_vector()
        >>> matrix = tf.convert_to_tensor(layer.layer.kernel)
        >>> bool(abs(layer.sigma() - tf.linalg.svd(matrix, compute_uv=False)[0]) < 1e-5)
        True
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        power_iterations: int = 1,
        epsilon: float = 1e-12,
        update_on_call: bool = True,
        **kwargs: Any,
    ) -> None:
        check_layer(layer)
        if isinstance(power_iterations, bool) or not isinstance(power_iterations, int) or power_iterations < 1:
            raise ValueError(f"power_iterations must be an integer of at least 1, got {power_iterations!r}.")
        if not _is_number(epsilon) or not 0 < epsilon < math.inf:
            raise ValueError(f"epsilon must be a positive number, got {epsilon!r}.")
        for name in ("dtype", "activity_regularizer"):
            if kwargs.get(name) is not None:
                raise ValueError(f"{name}={kwargs[name]!r}: give {name} to the wrapped layer, not to the wrapper.")
            kwargs.pop(name, None)
        # A plain float32 policy without autocast: weights are read here as they are stored, not rounded to
        # the compute type of a mixed policy, and inputs of any type reach the wrapped layer's own cast.
        super().__init__(
            layer, dtype="float32", autocast=False, activity_regularizer=layer.activity_regularizer, **kwargs
        )
        self.power_iterations = power_iterations
        self.epsilon = epsilon
        self.update_on_call = update_on_call
        self.supports_masking = layer.supports_masking

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.u = add_weight(
            self,
            "u",
            (int(kernel_matrix(self.layer).shape[-1]),),
            _unit_normal,
            dtype="float32",
            trainable=False,
            autocast=False,
            # Every replica computes the same value: any other aggregation asks for a merge_call, which is
            # refused inside a tf.function nested in a replica's.
            aggregation="none",
        )
        self.input_spec = self.layer.input_spec
        # Keras 2 remembers the shape for `.keras` files here, and its Wrapper.build leaves it out.
        keras.layers.Layer.build(self, input_shape)

    def call(self, inputs: Any, training: Any = None) -> Any:
        if self.update_on_call and self.trainable:
            if tf.is_tensor(training):
                self.u.assign(tf.where(tf.cast(training, tf.bool), self._next_u(), self.u))
            elif training:
                self.update_spectral_vector()
        return operation_with_sigma(self.layer, inputs, self.sigma())

    def update_spectral_vector(self) -> None:
        """Replaces u by the result of `power_iterations` power iterations on the current kernel."""
        self._check_built()
        self.u.assign(self._next_u())

    def sigma(self) -> tf.Tensor:
        """Current estimate u^T W v of the largest singular value, at least `epsilon`.

        Returns:
            Scalar, float32 (float64 for a float64 layer); differentiable in the kernel, u and v constant.
        """
        self._check_built()
        matrix = kernel_matrix(self.layer)  # (everything else, output channels) = W^T
        projected = tf.linalg.matvec(matrix, tf.cast(self.u, matrix.dtype))
        v = tf.stop_gradient(projected / tf.maximum(tf.norm(projected), self.epsilon))
        return tf.maximum(tf.reduce_sum(v * projected), self.epsilon)

    def _next_u(self) -> tf.Tensor:
        matrix = tf.stop_gradient(kernel_matrix(self.layer))
        u = tf.cast(self.u, matrix.dtype)
        for _ in range(self.power_iterations):
            v = tf.linalg.matvec(matrix, u)
            v = v / tf.maximum(tf.norm(v), self.epsilon)
            raised = tf.linalg.matvec(matrix, v, transpose_a=True)
            norm = tf.norm(raised)
            # From a zero (or NaN) kernel u would become zero (or NaN) and stay so for ever.
            u = tf.where(norm > self.epsilon, raised / tf.maximum(norm, self.epsilon), u)
        return tf.cast(u, tf.float32)

    def _check_built(self) -> None:
        if not self.built:
            raise ValueError(f"{self.name} has no weights yet: call or build it before its spectral norm is used.")

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return self.layer.compute_mask(inputs, mask)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.layer.compute_output_shape(input_shape)

    def compute_output_spec(self, inputs: Any, training: Any = None) -> Any:
        """The wrapped layer's output spec (Keras 3 only), which knows the compute type."""
        return self.layer.compute_output_spec(inputs)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for name in ("dtype", "activity_regularizer"):
            config.pop(name, None)
        config.update(
            power_iterations=self.power_iterations,
            epsilon=self.epsilon,
            update_on_call=self.update_on_call,
        )
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> SpectralNormalization:
        # Keras 2's Wrapper finds only layers of its own by their names.
        config = dict(config)
        return cls(keras.layers.deserialize(config.pop("layer"), custom_objects=custom_objects), **config)


def update_spectral_norms(model: Any) -> None:
    """Updates the spectral vector of every `SpectralNormalization` inside a model, each once.

    Call it once per optimisation step, inside or outside a tf.function, in a replica context or out of it.

    Args:
        model: a built Keras model or layer; wrappers are found at any depth, also in lists and dicts. A model
            without any is left as it is.

    Raises:
        ValueError: a wrapper inside has not been built.
    """
    for wrapper in _wrappers_inside(model):
        wrapper.update_spectral_vector()


def _wrappers_inside(model: Any) -> Iterator[SpectralNormalization]:
    """Walks attributes and containers, as tf.Module.submodules does; Keras 3 has no public way to all layers.

    (tf.train.TrackableView there misses what lists and dicts hold.)
    """
    seen: set[int] = set()
    waiting = [model]
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, SpectralNormalization):
            yield part
        elif isinstance(part, keras.layers.Layer):
            waiting.extend(vars(part).values())
        elif isinstance(part, Mapping):
            waiting.extend(part.values())
        elif isinstance(part, (list, tuple, set)):
            waiting.extend(part)


def _unit_normal(shape: Any, dtype: Any = None, **_: Any) -> tf.Tensor:
    """Initializer: a direction drawn uniformly from the sphere."""
    return tf.math.l2_normalize(keras.initializers.RandomNormal(stddev=1.0)(shape, dtype=dtype))


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
