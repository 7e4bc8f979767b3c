"""Floating point operations and time of one GAN training step of a config, on this machine.

    python -m benchmarks.step_cost --config=train/configs/imagenet128_attennorm.py --classes=1000 --batch_size=2

The operations are TensorFlow's count over the graph of the step, with all that it does for gradients; operations that
it has no number for (those that move data, and some element by element) are missing. They grow in proportion to the
batch, but for spectral normalization and the optimizers, which are small.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import contextlib
import io
import time
from typing import Any

import tensorflow as tf
from absl import app, flags
from ml_collections import config_flags

from attennorm_tf.training import GanTask

_CONFIG = config_flags.DEFINE_config_file("config", None, "experiment file of train.gan")
_CLASSES = flags.DEFINE_integer("classes", 1000, "of the data", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 2, "images of a step", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 2, "to time, after one that does not count; 0: only operations", lower_bound=0)


def float_operations(graph: tf.Graph) -> int:
    """TensorFlow's count for a graph of known shapes."""
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    with contextlib.redirect_stdout(io.StringIO()):
        return int(tf.compat.v1.profiler.profile(graph, options=options).total_float_ops)


def main(_: Any) -> None:
    """Counts, then times."""
    config = _CONFIG.value
    config.validate()
    size, side = _BATCH_SIZE.value, config.model.resolution
    task = GanTask(config, _CLASSES.value, 3)
    phase = task.phase(0)
    images = [tf.random.uniform([size, side, side, 3], -1, 1) for _ in range(phase.batches_per_step)]
    labels = tf.zeros([size], tf.int32)
    step = tf.constant(0, tf.int64)

    @tf.function
    def train_step(step: tf.Tensor, *images: tf.Tensor) -> Any:
        return phase.train_step(step, [(image, labels) for image in images]).metrics

    began = time.perf_counter()
    graph = train_step.get_concrete_function(step, *images).graph
    count = float_operations(graph)
    parameters = sum(int(tf.size(w)) for n in (task.generator, task.discriminator) for w in n.trainable_variables)
    print(f"{config.name}: {parameters / 1e6:.1f} million weights, graph made in {time.perf_counter() - began:.1f} s")
    print(f"{count / 1e9:.1f} GFLOP a step of {size} images, {count / size / 1e9:.1f} an image", flush=True)
    if _STEPS.value:
        train_step(step, *images)
        began = time.perf_counter()
        for _ in range(_STEPS.value):
            values = train_step(step, *images)
        float(next(iter(values.values())))
        seconds = (time.perf_counter() - began) / _STEPS.value
        print(f"{seconds:.2f} s a step, {count / seconds / 1e9:.1f} GFLOP/s")


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    app.run(main)
