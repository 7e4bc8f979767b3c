"""Spectral normalization as a reparametrisation: a layer computes with W / sigma(W), its kernel untouched."""

from __future__ import annotations

import math
import numbers
from typing import Any, Callable

import tensorflow as tf
from tensorflow import keras

from attennorm_tf._compat import add_weight


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
        _check_layer(layer)
        if (
            isinstance(power_iterations, bool)
            or not isinstance(power_iterations, int)
            or power_iterations < 1
        ):
            raise ValueError(f"power_iterations must be an integer of at least 1, got {power_iterations!r}.")
        if not _is_number(epsilon) or not 0 < epsilon < math.inf:
            raise ValueError(f"epsilon must be a positive number, got {epsilon!r}.")
        for name in ("dtype", "activity_regularizer"):
            if kwargs.get(name) is not None:
                raise ValueError(
                    f"{name}={kwargs[name]!r}: give {name} to the wrapped layer, not to the wrapper."
                )
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
            (int(_matrix(self.layer).shape[-1]),),
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
        return _operation(self.layer)(self.layer, inputs, self.sigma())

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
        matrix = _matrix(self.layer)  # (everything else, output channels) = W^T
        projected = tf.linalg.matvec(matrix, tf.cast(self.u, matrix.dtype))
        v = tf.stop_gradient(projected / tf.maximum(tf.norm(projected), self.epsilon))
        return tf.maximum(tf.reduce_sum(v * projected), self.epsilon)

    def _next_u(self) -> tf.Tensor:
        matrix = tf.stop_gradient(_matrix(self.layer))
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
            raise ValueError(
                f"{self.name} has no weights yet: call or build it before its spectral norm is used."
            )

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


def update_spectral_norms(model: Any) -> None:
    """Updates the spectral vector of every `SpectralNormalization` inside a model, each once.

    Call it once per optimisation step, inside or outside a tf.function, in a replica context or out of it.

    Args:
        model: a built Keras model or layer; wrappers are found at any depth, also in lists and dicts. A model
            without any is left as it is.

    Raises:
        ValueError: a wrapper inside has not been built.
    """
    for part in tf.train.TrackableView(model).descendants():
        if isinstance(part, SpectralNormalization):
            part.update_spectral_vector()


def _unit_normal(shape: Any, dtype: Any = None, **_: Any) -> tf.Tensor:
    """Initializer: a direction drawn uniformly from the sphere."""
    return tf.math.l2_normalize(keras.initializers.RandomNormal(stddev=1.0)(shape, dtype=dtype))


def _matrix(layer: keras.layers.Layer) -> tf.Tensor:
    """The stored kernel as (everything else, output channels), float32 (float64 if stored so)."""
    if isinstance(layer, keras.layers.Embedding):
        kernel = tf.convert_to_tensor(layer.embeddings)  # (K, d)
    else:
        kernel = tf.convert_to_tensor(layer.kernel)
    if isinstance(layer, keras.layers.Conv2DTranspose):
        kernel = tf.transpose(kernel, (0, 1, 3, 2))  # (h, w, out, in) -> (h, w, in, out)
    kernel = tf.cast(kernel, tf.float64 if kernel.dtype == tf.float64 else tf.float32)
    return tf.reshape(kernel, (-1, kernel.shape[-1]))


def _normalized(layer: keras.layers.Layer, weight: Any, sigma: tf.Tensor) -> tf.Tensor:
    """`weight / sigma` in the compute type of the layer, divided before it is rounded."""
    return tf.cast(tf.cast(tf.convert_to_tensor(weight), sigma.dtype) / sigma, layer.compute_dtype)


def _add_bias_and_activate(layer: keras.layers.Layer, outputs: tf.Tensor) -> tf.Tensor:
    if layer.use_bias:
        bias = tf.cast(tf.convert_to_tensor(layer.bias), outputs.dtype)
        if getattr(layer, "data_format", "channels_last") == "channels_first":
            bias = tf.reshape(bias, (-1, 1, 1))
        outputs = outputs + bias
    return outputs if layer.activation is None else layer.activation(outputs)


def _dense(layer: keras.layers.Layer, inputs: Any, sigma: tf.Tensor) -> tf.Tensor:
    inputs = tf.cast(inputs, layer.compute_dtype)
    outputs = tf.tensordot(inputs, _normalized(layer, layer.kernel, sigma), 1)
    return _add_bias_and_activate(layer, outputs)


def _conv2d(layer: keras.layers.Layer, inputs: Any, sigma: tf.Tensor) -> tf.Tensor:
    outputs = tf.nn.convolution(
        tf.cast(inputs, layer.compute_dtype),
        _normalized(layer, layer.kernel, sigma),
        strides=list(layer.strides),
        padding=layer.padding.upper(),
        data_format=_TF_DATA_FORMATS[layer.data_format],
        dilations=list(layer.dilation_rate),
    )
    return _add_bias_and_activate(layer, outputs)


def _conv2d_transpose(layer: keras.layers.Layer, inputs: Any, sigma: tf.Tensor) -> tf.Tensor:
    inputs = tf.cast(inputs, layer.compute_dtype)
    dynamic = tf.shape(inputs)
    first = 1 if layer.data_format == "channels_last" else 2  # first spatial axis
    sizes: list[Any] = []
    for axis in range(2):
        length = inputs.shape[first + axis]
        sizes.append(
            _transposed_length(
                dynamic[first + axis] if length is None else length,
                layer.kernel_size[axis],
                layer.strides[axis],
                layer.dilation_rate[axis],
                layer.padding,
                None if layer.output_padding is None else layer.output_padding[axis],
            )
        )
    batch = dynamic[0] if inputs.shape[0] is None else inputs.shape[0]
    outputs = tf.nn.conv2d_transpose(
        inputs,
        _normalized(layer, layer.kernel, sigma),
        [batch, *sizes, layer.filters] if first == 1 else [batch, layer.filters, *sizes],
        strides=list(layer.strides),
        padding=layer.padding.upper(),
        data_format=_TF_DATA_FORMATS[layer.data_format],
        dilations=list(layer.dilation_rate),
    )
    return _add_bias_and_activate(layer, outputs)


def _transposed_length(
    length: Any, kernel_size: int, stride: int, dilation: int, padding: str, output_padding: int | None
) -> Any:
    """Output size along one axis of a transposed convolution, as Keras defines it; int or scalar tensor."""
    extent = (kernel_size - 1) * dilation + 1
    if output_padding is None:
        return length * stride + (max(extent - stride, 0) if padding == "valid" else 0)
    margin = 0 if padding == "valid" else 2 * (extent // 2)
    return (length - 1) * stride + extent - margin + output_padding


def _embedding(layer: keras.layers.Layer, inputs: Any, sigma: tf.Tensor) -> tf.Tensor:
    inputs = tf.convert_to_tensor(inputs)
    if inputs.dtype not in (tf.int32, tf.int64):
        inputs = tf.cast(inputs, tf.int32)
    # Rows first: W / sigma is never formed for the classes that the batch does not hold.
    return _normalized(layer, tf.gather(layer.embeddings, inputs), sigma)


_TF_DATA_FORMATS = {"channels_last": "NHWC", "channels_first": "NCHW"}

# A Conv2DTranspose is a Conv2D to Keras 2: the more special type comes first.
_OPERATIONS: tuple[tuple[type, Callable[..., tf.Tensor]], ...] = (
    (keras.layers.Dense, _dense),
    (keras.layers.Conv2DTranspose, _conv2d_transpose),
    (keras.layers.Conv2D, _conv2d),
    (keras.layers.Embedding, _embedding),
)


def _operation(layer: keras.layers.Layer) -> Callable[..., tf.Tensor]:
    return next(operation for kind, operation in _OPERATIONS if isinstance(layer, kind))


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _check_layer(layer: Any) -> None:
    kind = next((kind for kind, _ in _OPERATIONS if isinstance(layer, kind)), None)
    allowed = "Dense, Conv2D, Conv2DTranspose and Embedding"
    if kind is None:
        raise ValueError(f"layer of type {type(layer).__name__} cannot be normalized: allowed are {allowed}.")
    for name in ("call", "__call__", "convolution_op"):
        own = getattr(getattr(layer, name, None), "__func__", None)
        if own is not getattr(kind, name, None):
            raise ValueError(
                f"layer of type {type(layer).__name__} overrides {kind.__name__}.{name}, which the "
                f"wrapper would not run: allowed are {allowed}, and subclasses that compute as they do."
            )
    if getattr(layer, "quantization_mode", None) is not None or getattr(layer, "sparse", False):
        raise ValueError(
            f"layer {layer.name} is quantized or sparse; only plain {allowed} can be normalized."
        )
