"""Whether the layer computes here what the paper says: for a machine, a build of TensorFlow or a device seen first."""

from __future__ import annotations

import re
from typing import Any, Callable, NamedTuple

import numpy as np
import tensorflow as tf

from attennorm_tf._compat import raw_variable
from attennorm_tf.layers import AttentiveNormalization

_SHAPE = (2, 6, 5, 8)
# Of outputs of about 1. GPUs may round products to the 10 bits of TensorFloat-32.
_TOLERANCE = {"CPU": 1e-4, "GPU": 3e-2, "TPU": 3e-2}
_GRADIENT_TOLERANCE = 1e-6
_STEP = 1e-5


class Check(NamedTuple):
    """name: what was tried; passed; detail: the error and its bound, or what went wrong."""

    name: str
    passed: bool
    detail: str


def self_check() -> list[Check]:
    """Tries the layer: on every device against the formula, its gradient by finite differences, both with XLA.

    Returns:
        The checks, in order; one that raises has not passed.
    """
    devices = [device.name.rpartition("device:")[2] for device in tf.config.list_logical_devices()]
    devices = [device for device in devices if device.split(":")[0] in _TOLERANCE]
    checks = [_check(f"output on {name} = the formula in float64", _forward, name) for name in devices]
    checks.append(_check("gradient = finite differences, in float64", _gradient, "CPU:0"))
    kinds = {name.split(":")[0]: name for name in reversed(devices)}.values()  # XLA compiles alike for all of a kind
    checks += [_check(f"the same with XLA on {name} = without", _compiled, name) for name in sorted(kinds)]
    return [*checks, _check("values not finite of float16 features of 30000", _half, "CPU:0")]


def reference(layer: AttentiveNormalization, features: np.ndarray) -> np.ndarray:
    """Equations 4 to 6 and Algorithm 1 at inference in NumPy, for a layer with the default options.

    Args:
        layer: built.
        features: float64 (b, h, w, c).

    Returns:
        float64 (b, h, w, c).
    """
    names = ("entities", "value_kernel", "value_bias", "beta", "alpha", "rho")
    weights = {name: tf.cast(tf.convert_to_tensor(getattr(layer, name)), tf.float64).numpy() for name in names}
    logits = layer.temperature * np.einsum("bhwc,nc->bhwn", features, weights["entities"])
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    layout = powers / powers.sum(axis=-1, keepdims=True)
    values = np.einsum("bhwc,cd->bhwd", features, weights["value_kernel"]) + weights["value_bias"]
    parts = values[..., np.newaxis] * layout[..., np.newaxis, :]  # X * S, (b, h, w, c, n)
    counts = layout.sum(axis=(1, 2))[:, np.newaxis, np.newaxis, np.newaxis] + layer.epsilon
    means = parts.sum(axis=(1, 2), keepdims=True) / counts
    stds = np.sqrt(np.square(parts - means).sum(axis=(1, 2), keepdims=True) / counts)
    normalized = (values[..., np.newaxis] - means) / (stds + layer.epsilon)
    normalized = normalized * weights["beta"][:, np.newaxis] + weights["alpha"][:, np.newaxis]
    mixed = (normalized * layout[..., np.newaxis, :]).sum(axis=-1)
    result: np.ndarray = weights["rho"] * mixed + features
    return result


def _check(name: str, attempt: Callable[[str], tuple[float, float]], device: str) -> Check:
    try:
        with tf.device(device):
            error, bound = attempt(device)
    except Exception as problem:  # whatever is wrong with this installation is what is asked for
        return Check(name, False, f"{type(problem).__name__}: {_first_line(problem)}")
    return Check(name, bool(error <= bound), f"{error:.1e}, at most {bound:.0e}")


def _first_line(problem: Exception) -> str:
    """What it says, without the line and the colours that Keras puts around it."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(problem)).splitlines()
    told = [line.strip() for line in lines if line.strip() and not line.startswith("Exception encountered when")]
    return told[0] if told else "no message"


def _layer(dtype: str) -> AttentiveNormalization:
    """With every weight away from its start, so that each one shows."""
    layer = AttentiveNormalization(num_entities=4, temperature=1.0, seed=0, dtype=dtype)
    layer.build((None, None, None, _SHAPE[-1]))
    random = np.random.default_rng(0)
    for weight in layer.trainable_weights:
        weight.assign(tf.cast(tf.convert_to_tensor(weight), dtype) + 0.3 * random.normal(size=weight.shape))
    return layer


def _features() -> np.ndarray:
    return np.random.default_rng(1).normal(size=_SHAPE)


def _forward(device: str) -> tuple[float, float]:
    layer, features = _layer("float32"), _features()
    outputs = layer(tf.constant(features, tf.float32), training=False).numpy()
    return float(np.abs(outputs - reference(layer, features)).max()), _TOLERANCE[device.split(":")[0]]


def _gradient(device: str) -> tuple[float, float]:
    """Of a random functional of the output, along random directions of the features and of each weight."""
    layer, features = _layer("float64"), tf.constant(_features())
    random = np.random.default_rng(2)
    factors = tf.constant(random.normal(size=_SHAPE))
    names = ("entities", "value_kernel", "value_bias", "beta", "alpha", "rho")
    weights = [raw_variable(getattr(layer, name)) for name in names]

    def value(inputs: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(factors * layer(inputs, training=False))

    with tf.GradientTape() as tape:
        tape.watch(features)
        result = value(features)
    worst = 0.0
    for source, gradient in zip([features, *weights], tape.gradient(result, [features, *weights])):
        direction = random.normal(size=source.shape)
        sides = []
        for step in (_STEP, -_STEP):
            if source is features:
                sides.append(float(value(features + step * direction)))
            else:
                source.assign_add(step * direction)
                sides.append(float(value(features)))
                source.assign_sub(step * direction)
        expected = (sides[0] - sides[1]) / (2 * _STEP)
        found = float(np.sum(gradient.numpy() * direction))
        worst = max(worst, abs(found - expected) / max(1.0, abs(expected)))
    return worst, _GRADIENT_TOLERANCE


def _compiled(device: str) -> tuple[float, float]:
    layer, features = _layer("float32"), tf.constant(_features(), tf.float32)

    def run(inputs: tf.Tensor) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, training=False)
            loss = tf.reduce_sum(tf.sin(outputs))
        return outputs, tape.gradient(loss, inputs)

    pairs = zip(tf.function(run, jit_compile=True)(features), run(features))
    errors = [float(tf.reduce_max(tf.abs(compiled - plain))) for compiled, plain in pairs]
    return max(errors), _TOLERANCE[device.split(":")[0]]


def _half(device: str) -> tuple[float, float]:
    """The error is how many values are not finite: products of such features overflow in float16."""
    layer, features = _layer("float16"), tf.constant(30000 * np.sign(_features()), tf.float16)
    parts = layer(features, training=False, return_layout=True)
    return float(sum(np.count_nonzero(~np.isfinite(part.numpy())) for part in parts)), 0.0
