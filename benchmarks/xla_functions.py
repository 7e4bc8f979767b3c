"""The functions that `benchmarks.xla_program` writes as XLA programs."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple

import tensorflow as tf

from benchmarks.xla_runner import seeded

ENTITIES = 16
CHANNELS = 32  # of Table 5's maps
CLASSES = 10  # of the training step: without effect on its time


class Written(NamedTuple):
    """A function to be written.

    Attributes:
        function: of tensors by name, returns a dict of tensors; may read and update variables.
        inputs: {name: (shape, recipe of `xla_runner.seeded`)}; a recipe "integers" counts 0 to CLASSES - 1 over again.
        dtype: of the inputs that are not integers.
        traffic_bytes: what must be read and written at least, or None.
        images: of a call.
    """

    function: Callable[..., dict[str, tf.Tensor]]
    inputs: dict[str, tuple[list[int], dict[str, Any]]]
    dtype: str
    traffic_bytes: int | None = None
    images: int = 1


def normal(seed: int, std: float = 1.0, mean: float = 0.0, softmax: bool = False) -> dict[str, Any]:
    """A recipe."""
    return {"seed": seed, "std": std, "mean": mean, "softmax": softmax}


def policy(dtype: str) -> str:
    """Keras' name for layers of inputs of a type."""
    return "mixed_bfloat16" if dtype == "bfloat16" else dtype


def itemsize(dtype: str) -> int:
    """Bytes of a number."""
    return int(tf.as_dtype(dtype).size)


def _layer(make: Callable[..., Any], size: int, dtype: str) -> Written:
    """Inference of a layer on Table 5's map, its gate open."""
    layer = make(dtype=policy(dtype))
    layer.build((None, None, None, CHANNELS))
    for gate in ("rho", "gamma"):
        if hasattr(layer, gate):
            getattr(layer, gate).assign(1.0)
    shape = [1, size, size, CHANNELS]
    traffic = 2 * size * size * CHANNELS * itemsize(dtype)
    inputs = {"images": (shape, normal(1))}
    return Written(lambda images: {"outputs": layer(images, training=False)}, inputs, dtype, traffic)


def attentive_normalization(size: int, batch: int, dtype: str) -> Written:
    """Table 5: the layer with 16 entities, inference, one map of 32 channels."""
    from attennorm_tf.layers import AttentiveNormalization

    return _layer(lambda **options: AttentiveNormalization(ENTITIES, seed=0, **options), size, dtype)


def self_attention(size: int, batch: int, dtype: str) -> Written:
    """Table 5: SAGAN's self-attention on the same map."""
    from attennorm_tf.layers import SelfAttention

    return _layer(lambda **options: SelfAttention(**options), size, dtype)


def regional_normalization(size: int, batch: int, dtype: str) -> Written:
    """Algorithm 1 alone on the same map."""
    from attennorm_tf.layers.regional_normalization import regional_normalization as normalize

    def function(features: tf.Tensor, layout: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": normalize(features, layout, scale, offset)}

    inputs = {
        "features": ([1, size, size, CHANNELS], normal(1)),
        "layout": ([1, size, size, ENTITIES], normal(2, softmax=True)),
        "scale": ([CHANNELS], normal(3, 0.1, 1.0)),
        "offset": ([CHANNELS], normal(4, 0.1)),
    }
    return Written(function, inputs, dtype, size * size * (2 * CHANNELS + ENTITIES) * itemsize(dtype))


def copy(size: int, batch: int, dtype: str) -> Written:
    """The same map read and written once, each number negated: what memory can do."""
    inputs = {"images": ([1, size, size, CHANNELS], normal(1))}
    traffic = 2 * size * size * CHANNELS * itemsize(dtype)
    return Written(lambda images: {"outputs": tf.negative(images)}, inputs, dtype, traffic)


def layer_training(size: int, batch: int, dtype: str) -> Written:
    """The layer in training mode, forward and backward, on (batch, size, size, 256), as the networks use it."""
    from attennorm_tf.layers import AttentiveNormalization

    layer = AttentiveNormalization(ENTITIES, seed=0, dtype=policy(dtype))
    layer.build((None, None, None, 256))
    layer.rho.assign(1.0)

    def function(images: tf.Tensor, upstream: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = layer(images, training=True)
        gradients = tape.gradient(outputs, [images, *layer.trainable_weights], upstream)
        named = {f"gradient_{index:02d}": tf.convert_to_tensor(value) for index, value in enumerate(gradients)}
        return {"outputs": outputs, **named}

    shape = [batch, size, size, 256]
    return Written(function, {"images": (shape, normal(1)), "upstream": (shape, normal(2))}, dtype, None, batch)


def gan_step(size: int, batch: int, dtype: str) -> Written:
    """One discriminator and one generator update of the paper's networks, with the moving average.

    The moments of Adam start at a value that is not 0: a first step from 0 moves every weight by the rate's whole
    size with the gradient's sign, which rounding turns where the gradient is almost 0.
    """
    from attennorm_tf.config import gan_preset_config
    from attennorm_tf.training import GanTask

    config = gan_preset_config("attennorm", resolution=size)
    config.training.precision = policy(dtype)
    config.training.discriminator_steps = 1
    task = GanTask(config, CLASSES, 3)
    for optimizer in (task.generator_optimizer, task.discriminator_optimizer):
        for moment in optimizer.v.values():
            moment.assign(tf.fill(moment.shape, 1e-3))

    def function(images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict(task.train_step(step, [(images, labels)]).metrics)

    inputs = {
        "images": ([batch, size, size, 3], normal(1, 0.4)),
        "labels": ([batch], {"integers": True}),
        "step": ([], {"integers": True}),
    }
    return Written(function, inputs, "float32", None, batch)


class Kind(NamedTuple):
    """How a function is written by default; programs of a group are timed in turn, against its baseline."""

    make: Callable[[int, int, str], Written]
    sizes: tuple[int, ...]
    batch: int
    group: str
    baseline: str = ""


TABLE5 = (128, 256, 512, 1024)
FUNCTIONS = {
    "attentive_normalization": Kind(attentive_normalization, TABLE5, 1, "table5", "self_attention"),
    "self_attention": Kind(self_attention, TABLE5, 1, "table5", "self_attention"),
    "regional_normalization": Kind(regional_normalization, TABLE5, 1, "bandwidth", "copy"),
    "copy": Kind(copy, TABLE5, 1, "bandwidth", "copy"),
    "layer_training": Kind(layer_training, (32,), 16, "layer_training"),
    "gan_step": Kind(gan_step, (128,), 64, "gan_step"),
}


def tensors(written: Written) -> dict[str, tf.Tensor]:
    """The inputs as TensorFlow takes them."""
    found = {}
    for name, (shape, recipe) in written.inputs.items():
        if "integers" in recipe:
            dtype = tf.int32 if shape else tf.int64
            found[name] = tf.reshape(tf.range(shape[0] if shape else 1, dtype=dtype) % CLASSES, shape)
        else:
            found[name] = tf.cast(seeded(recipe, shape), written.dtype)
    return found
