"""Other ways to compute the layer, against the one that was taken: `python -m benchmarks.layer_ideas`.

What came of each is told in `benchmarks/NOTES.md`. See `benchmarks.harness_report` for the options.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any
from unittest import mock

from benchmarks.harness import Case, Prepared, Subject
from benchmarks.harness_report import Benchmark, run
from benchmarks.normalization_layers import (
    INSTANCE,
    PAIR,
    attentive_reference,
    inputs,
    prepare_inference,
    prepare_training,
)

LAYER = "attentive normalization"
# Constants of `attennorm_tf.layers._attentive_inference` that a form changes.
CONSTANTS: dict[str, dict[str, int]] = {
    "the whole map at once": {"LARGE": 2**62},
    "chunks of 0.5 MiB": {"LARGE": 0, "CHUNK": 2**17},
    "chunks of 2 MiB": {"LARGE": 0, "CHUNK": 2**19},
    "chunks of 2 MiB, one at a time": {"LARGE": 0, "CHUNK": 2**19, "AT_ONCE": 1},
    "chunks of 8 MiB": {"LARGE": 0, "CHUNK": 2**21},
}
AGAIN, PIVOTS = "chunks of 2 MiB, values and layout made again", "with pivots, as in training"
FORMS = (*CONSTANTS, AGAIN, PIVOTS)


def made_again(maps: Any, weights: Any, slope: Any, intercept: Any) -> Any:
    """The second pass over chunks (m, p, c) of one image, from X alone."""
    import tensorflow as tf

    from attennorm_tf.layers import _attentive_inference as inference

    count, pixels, channels = maps.shape

    def work(index: Any, done: Any) -> Any:
        part = maps[index][tf.newaxis]
        layout, values = inference._layout_and_values(part, weights)
        return index + 1, done.write(index, inference._apply(part, layout, values, slope, intercept))

    done = tf.TensorArray(maps.dtype, count, element_shape=[1, pixels, channels])
    _, done = tf.while_loop(lambda index, _: index < count, work, (0, done), parallel_iterations=inference.AT_ONCE)
    return done.concat()


def prepare_form(name: str, shape: Sequence[int]) -> Prepared:
    """Inference on one image in one of the forms."""
    import tensorflow as tf

    from attennorm_tf.layers import _attentive_inference as inference
    from benchmarks.peers.normalizations import make

    features, layer = inputs(shape), make(LAYER, tuple(shape))
    changed = CONSTANTS.get(name, CONSTANTS["chunks of 2 MiB"])

    def forward(features: Any) -> Any:
        weights = layer._weights(features.dtype)
        if name == PIVOTS:
            return inference._with_pivots(features, weights, layer.epsilon)
        if name != AGAIN:
            return layer(features)

        def apply(maps: Any, layouts: Any, values: Any, slope: Any, intercept: Any, chunks: int) -> Any:
            del layouts, values, chunks
            return made_again(maps, weights, slope, intercept)

        with mock.patch.multiple(inference, _apply_chunks=apply):
            return inference._forward(features, weights, layer.epsilon)

    call = tf.function(forward)
    with mock.patch.multiple(inference, **changed):
        call.get_concrete_function(features)
    return Prepared(lambda: call(features), [tuple(shape)], attentive_reference(layer, features), tolerance=1e-4)


def prepare_projection(name: str, shape: Sequence[int]) -> Prepared:
    """Logits and values: two products, one and a split, or operands of bfloat16 summed in float32."""
    import tensorflow as tf

    from benchmarks.harness_worker import relative_error

    features = tf.reshape(inputs(shape), [-1, shape[-1]])
    kernels = [inputs((shape[-1], columns)) / math.sqrt(shape[-1]) for columns in (16, shape[-1])]
    both = tf.concat(kernels, axis=1)

    def project(features: Any) -> Any:
        if name == "one product and a split":
            return tf.split(tf.linalg.matmul(features, both), [16, shape[-1]], axis=1)
        if name == "bfloat16":
            narrow = tf.cast(features, tf.bfloat16)
            made = [tf.linalg.matmul(narrow, tf.cast(kernel, tf.bfloat16)) for kernel in kernels]
            return [tf.cast(each, tf.float32) for each in made]
        return [tf.linalg.matmul(features, kernel) for kernel in kernels]

    expected = [features.numpy().astype("float64") @ kernel.numpy() for kernel in kernels]
    call = tf.function(project)
    return Prepared(lambda: call(features), error=lambda out: relative_error(out, expected), tolerance=2e-2)


def cases(quick: bool) -> list[Case]:
    """Forms of the inference by size, projections, XLA."""
    found = []

    def add(
        name: str, prepare: Any, names: Sequence[str], shape: Sequence[int], baseline: str, compiled: bool = False
    ) -> None:
        listed = [Subject(each, prepare, {"name": each, "shape": list(shape)}) for each in names]
        if compiled:
            arguments = [{"name": each, "shape": list(shape), "compiled": True} for each in names]
            listed += [Subject(f"{each['name']}, XLA", prepare, each) for each in arguments]
        size = 4 * math.prod(shape)
        found.append(Case(name, listed, baseline, rounds=3 if quick else 40, seconds=30.0, input_bytes=size))

    for size in (64,) if quick else (128, 512, 1024):
        add(f"forms at {size}", prepare_form, FORMS, (1, size, size, 32), FORMS[0])
    for size in (64,) if quick else (128, 1024):
        names = ("two products", "one product and a split", "bfloat16")
        add(f"projections at {size}", prepare_projection, names, (1, size, size, 32), names[0])
        add(f"XLA, inference at {size}", prepare_inference, (LAYER, INSTANCE), (1, size, size, 32), LAYER, True)
    shape = (2, 8, 8, 64) if quick else (16, 32, 32, 256)
    add("XLA, training as in the networks", prepare_training, (LAYER, PAIR), shape, LAYER, True)
    return found


BENCHMARK = Benchmark(
    "layer_ideas", "Ways to compute attentive normalization (n = 16).", cases, lambda results: [],
    "python -m benchmarks.layer_ideas",
)  # fmt: skip

if __name__ == "__main__":
    run(BENCHMARK)
