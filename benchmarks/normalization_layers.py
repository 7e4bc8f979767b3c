"""The attentive normalization layer against its peers: `python -m benchmarks.normalization_layers`.

The whole layer (n = 16), float32, inside tf.function: inference on one image of 32 channels by its size (Table 5 of the
paper, and beyond), on maps of 256 channels as the networks have them, and training (forward, and the gradients of the
input and of all weights). Its inference and the self-attention's are checked against float64 NumPy before they are
timed. See `benchmarks.harness_report` for the options.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import Case, Prepared, Subject, ratio
from benchmarks.harness_report import Benchmark, Results, Target, case_table, run, target_of_ratio

ATTENTIVE, ATTENTION, INSTANCE = "attentive normalization", "self-attention", "instance normalization"
PAIR = "instance normalization + 1x1 convolution"
PEERS = (ATTENTIVE, INSTANCE, "group normalization (Keras)", "batch normalization (Keras)",
         "layer normalization (Keras)", "SPADE-like modulation", "linear attention", ATTENTION)  # fmt: skip
KEPT = "kept for the backward pass"
SIZES = (128, 256, 512, 1024, 2048)
NETWORK = (16, 32, 32, 256)
FASTER = {128: 20, 256: 100}  # times self-attention
SAMPLES = 512  # pixels whose output is compared with the reference


def inputs(shape: Sequence[int]) -> Any:
    """A random map; from NumPy, since TensorFlow keeps the memory of its own temporaries."""
    import numpy as np
    import tensorflow as tf

    return tf.constant(np.random.default_rng(0).standard_normal(tuple(shape), dtype=np.float32))


def attentive_reference(layer: Any, features: Any) -> Callable[[Any], float]:
    """Error of the first image's output at some pixels, by sums in float64 NumPy over the whole image."""
    import numpy as np

    def error(outputs: Any) -> float:
        x = np.asarray(features[0]).reshape(-1, features.shape[-1])
        entities, kernel, bias = (
            np.asarray(w, np.float64) for w in (layer.entities, layer.value_kernel, layer.value_bias)
        )
        channels, n = x.shape[1], len(entities)

        def layout_and_values(part: Any) -> Any:
            part = part.astype(np.float64)
            logits = layer.temperature * part @ entities.T
            powers = np.exp(logits - logits.max(axis=1, keepdims=True))
            return powers / powers.sum(axis=1, keepdims=True), part @ kernel + bias

        count, first = np.zeros((n, 1)), np.zeros((n, channels))
        deviation = np.zeros((n, channels))
        parts = [x[start : start + 65536] for start in range(0, len(x), 65536)]
        for part in parts:
            s, v = layout_and_values(part)
            count += s.sum(axis=0)[:, None]
            first += s.T @ v
        mean = first / (count + layer.epsilon)
        for part in parts:
            s, v = layout_and_values(part)
            for k in range(n):
                deviation[k] += np.square(s[:, k, None] * v - mean[k]).sum(axis=0)
        std = np.sqrt(deviation / (count + layer.epsilon))
        places = np.random.default_rng(1).integers(0, len(x), SAMPLES)
        s, v = layout_and_values(x[places])
        normalized = np.einsum("pk,pkc->pc", s, (v[:, None] - mean) / (std + layer.epsilon))
        expected = x[places] + normalized  # rho is 1, beta 1, alpha 0
        actual = np.asarray(outputs[0]).reshape(-1, channels)[places]
        return float(np.abs(actual - expected).max() / np.abs(expected).max())

    return error


def attention_reference(layer: Any, features: Any) -> Callable[[Any], float]:
    """Error of the first image's output at some pixels, by one softmax a pixel in float64 NumPy."""
    import numpy as np

    def error(outputs: Any) -> float:
        x = np.asarray(features[0], np.float64)
        height, width, channels = x.shape
        theta, phi, g, back = (
            np.asarray(p.kernel, np.float64)[0, 0] for p in (layer.theta, layer.phi, layer.g, layer.output_projection)
        )
        pooled = [
            (x @ kernel).reshape(height // 2, 2, width // 2, 2, -1).max(axis=(1, 3)).reshape(height * width // 4, -1)
            for kernel in (phi, g)
        ]
        places = np.random.default_rng(1).integers(0, height * width, SAMPLES)
        chosen = x.reshape(-1, channels)[places]
        logits = (chosen @ theta) @ pooled[0].T
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        expected = chosen + (powers / powers.sum(axis=1, keepdims=True)) @ pooled[1] @ back
        actual = np.asarray(outputs[0]).reshape(-1, channels)[places]
        return float(np.abs(actual - expected).max() / np.abs(expected).max())

    return error


REFERENCES = {ATTENTIVE: attentive_reference, ATTENTION: attention_reference}


def prepare_inference(name: str, shape: Sequence[int], compiled: bool = False) -> Prepared:
    """One layer, on maps of `shape`; `compiled` by XLA."""
    import tensorflow as tf

    from benchmarks.peers.normalizations import make

    features = inputs(shape)
    layer = make(name, tuple(shape))
    small = inputs((1, 8, 8, shape[-1]))
    small_layer = make(name, (1, 8, 8, shape[-1]))
    call = tf.function(lambda maps: layer(maps, training=False), jit_compile=compiled)
    call.get_concrete_function(features)  # the graph belongs to the baseline
    warm = tf.function(lambda: small_layer(small, training=False))
    reference = REFERENCES[name](layer, features) if name in REFERENCES else None
    return Prepared(lambda: call(features), [tuple(shape)], reference, tolerance=1e-4, warm_up=warm)


def prepare_training(name: str, shape: Sequence[int], compiled: bool = False) -> Prepared:
    """Forward in training mode and the gradients of the input and of all weights."""
    import tensorflow as tf

    from attennorm_tf._compat import raw_variable
    from benchmarks.peers.normalizations import make

    features, upstream = inputs(shape), inputs(shape)
    layer = make(name, tuple(shape))
    variables = [raw_variable(weight) for weight in layer.trainable_weights]

    @tf.function(jit_compile=compiled)
    def step(maps: Any, upstream: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(maps)
            out = layer(maps, training=True)
        return out, tape.gradient(out, [maps, *variables], upstream)

    step.get_concrete_function(features, upstream)
    shapes = [tuple(shape)] * 2 + [tuple(variable.shape) for variable in variables]
    return Prepared(lambda: step(features, upstream), shapes)


def prepare_kept(name: str, shape: Sequence[int]) -> Prepared:
    """Training, with what its graph hands from the forward to the backward pass as facts."""
    import tensorflow as tf

    from benchmarks.kept_tensors import kept_tensors
    from benchmarks.peers.normalizations import make

    features, upstream = inputs(shape), inputs(shape)
    layer = make(name, tuple(shape))
    kept, gradient = kept_tensors(lambda maps: layer(maps, training=True), features, upstream)
    held, size = sum(tensor.nbytes for tensor in kept), 4 * math.prod(shape)
    facts = {
        "kept_mib": held / 2**20,
        "kept_of_input": held / size,
        "tensors": [f"{tensor.operation} {tensor.shape}" for tensor in kept if tensor.nbytes * 20 > size],
    }
    return Prepared(lambda: gradient(features, tf.constant(upstream)), [tuple(shape)], facts=facts)


def subjects(names: Sequence[str], prepare: Callable[..., Prepared], shape: Sequence[int]) -> list[Subject]:
    """One a name."""
    return [Subject(name, prepare, {"name": name, "shape": list(shape)}) for name in names]


def cases(quick: bool) -> list[Case]:
    """By size, the peers, training."""
    found = []

    def add(
        name: str, prepare: Callable[..., Prepared], names: Sequence[str], shape: Sequence[int], **options: Any
    ) -> None:
        size = 4 * math.prod(shape)
        listed = subjects(names, prepare, shape)
        if options.pop("compiled", False):
            arguments = {"name": ATTENTIVE, "shape": list(shape), "compiled": True}
            listed.append(Subject(f"{ATTENTIVE}, XLA", prepare, arguments))
        options = {"rounds": 3, **options} if quick else options
        found.append(Case(name, listed, baseline=options.pop("baseline", INSTANCE), input_bytes=size, **options))

    for size in (32, 64) if quick else SIZES:
        names = (ATTENTIVE, INSTANCE, ATTENTION)
        add(f"inference {size}", prepare_inference, names, (1, size, size, 32), seconds=30.0)
    network = (2, 8, 8, 64) if quick else NETWORK
    size = 32 if quick else 128
    add(f"peers at {size}, inference", prepare_inference, PEERS[:-1], (1, size, size, 32), compiled=True)
    add("peers, inference as in the networks", prepare_inference, PEERS, network, compiled=True)
    add(f"training {size}", prepare_training, (ATTENTIVE, INSTANCE, ATTENTION), (1, size, size, 32), seconds=30.0)
    names = (ATTENTIVE, PAIR, *PEERS[1:])
    add("training as in the networks", prepare_training, names, network, baseline=PAIR, compiled=True)
    kept = subjects((ATTENTIVE, PAIR), prepare_kept, network)
    found.append(Case(KEPT, kept, baseline=PAIR, rounds=3, input_bytes=4 * math.prod(network)))
    return found


def sizes_of(results: Results) -> list[int]:
    """Sizes of the inference cases that were measured."""
    return [int(name.split()[1]) for name in results if name.startswith("inference ")]


def growth(results: Results) -> tuple[float, list[float]] | None:
    """Exponent of the number of pixels, fitted to the medians of all sizes, and between each size and the next."""
    import numpy as np

    found = {size: results[f"inference {size}"]["subjects"][ATTENTIVE].get("median") for size in sizes_of(results)}
    points = [(2 * math.log(size), math.log(seconds)) for size, seconds in sorted(found.items()) if seconds]
    if len(points) < 2:
        return None
    steps = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in zip(points, points[1:])]
    return float(np.polyfit(*zip(*points), 1)[0]), steps


def targets(results: Results) -> list[Target]:
    """Those of the issue."""
    found = []
    for size, times in FASTER.items():
        result = results.get(f"inference {size}")
        if result is not None:
            over = ratio(result, ATTENTION, ATTENTIVE)
            found.append(target_of_ratio(f"inference at {size}: times faster than self-attention", ">=", times, over))
    sizes = sizes_of(results)
    if len(sizes) > 1:
        name = f"inference: time grows as pixels to the power of, {min(sizes)} to {max(sizes)}"
        exponent, steps = growth(results) or (None, [])
        note = f"fitted; from each size to the next: {', '.join(f'{step:.2f}' for step in steps)}"
        found.append(Target(name, "<=", 1.05, exponent, unit="", note=note))
    for size in sizes:
        result = results[f"inference {size}"]
        over = ratio(result, ATTENTIVE, INSTANCE)
        found.append(target_of_ratio(f"inference at {size}: over instance normalization", "<=", 2.0, over))
    for size in sizes:
        result = results[f"inference {size}"]
        added = result["subjects"][ATTENTIVE].get("added_mib")
        times = None if added is None else added * 2**20 / result["input_bytes"]
        found.append(Target(f"inference at {size}: added peak memory over the input's size", "<=", 4.0, times))
    name = "training as in the networks"
    if name in results:
        over = ratio(results[name], ATTENTIVE, PAIR)
        found.append(target_of_ratio(f"{name}: over instance normalization + 1x1 convolution", "<=", 2.0, over))
    kept = results.get(KEPT, {"subjects": {ATTENTIVE: {}}})["subjects"][ATTENTIVE]
    times = kept.get("facts", {}).get("kept_of_input")
    note = "every tensor of the forward graph that the backward graph reads, the input among them, weights not"
    found.append(Target("memory kept for the backward pass, over the input's size", "<=", 3.0, times, note=note))
    return found


def tables(results: Results) -> str:
    """One a case; of the kept memory its numbers."""
    parts = [case_table(name, result) for name, result in results.items() if name != KEPT]
    if KEPT in results:
        head = "| layer | kept between forward and backward pass | of the input's size | the large ones |"
        lines = [head, "|---|---|---|---|"]
        for name, found in results[KEPT]["subjects"].items():
            facts = found.get("facts")
            cells = f"{found.get('reason')} | | "
            if facts:
                large = ", ".join(facts["tensors"])
                cells = f"{facts['kept_mib']:.1f} MiB | {facts['kept_of_input']:.2f}x | {large}"
            lines.append(f"| {name} | {cells} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def plot(results: Results, path: Path) -> None:
    """Time by size, and what the peers cost."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.4))
    for name, style in ((ATTENTIVE, "o-"), (ATTENTION, "s--"), (INSTANCE, "^:")):
        points = [
            (size, 1e3 * seconds)
            for size in sizes_of(results)
            for seconds in [results[f"inference {size}"]["subjects"][name].get("median")]
            if seconds
        ]
        if points:
            left.loglog(*zip(*points), style, base=2, label=name)
    left.set_yscale("log")
    left.set_xticks(sizes_of(results), [str(size) for size in sizes_of(results)])
    left.set(xlabel="height and width, 32 channels, one image", ylabel="ms", title="Inference by size")
    left.legend(fontsize=8)
    left.grid(alpha=0.3)
    name = "training as in the networks"
    right.set_visible(name in results)
    if name in results:
        names = [n for n, found in results[name]["subjects"].items() if found.get("median")]
        over = [ratio(results[name], n, PAIR) for n in names]
        values = [o.median for o in over]
        spread = [[max(o.median - o.quartiles[0], 0) for o in over], [max(o.quartiles[1] - o.median, 0) for o in over]]
        colors = ["#4878a8" if n.startswith(ATTENTIVE) else "#b0b0b0" for n in names]
        right.barh(range(len(names)), values, xerr=spread, color=colors, capsize=3)
        right.set_yticks(range(len(names)), names, fontsize=8)
        right.invert_yaxis()
        right.axvline(2.0, linestyle="--", color="black", linewidth=1)
        right.set(xlabel="over instance normalization + 1x1 convolution", title="Training, (16, 32, 32, 256)")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


BENCHMARK = Benchmark(
    "normalization_layers",
    "Attentive normalization (n = 16) and what could stand in its place; float32, one batch, inside tf.function.",
    cases, targets, "python -m benchmarks.normalization_layers", tables, plot,
)  # fmt: skip

if __name__ == "__main__":
    run(BENCHMARK)
