"""Speed and memory of fused regional normalization: `python -m benchmarks.regional_normalization`.

Add `--quick` for a smoke run (small maps, few repeats). Forward against Algorithm 1 as written, forward +
backward against an instance normalization (tf.nn.moments + tf.nn.batch_normalization); n = 16 entities,
float32, inside tf.function. The two sides of a ratio are timed in turn, call by call, in one process, after
their outputs have been checked; peak memory is measured in a fresh process for each side. Writes a JSON, a
Markdown table and a plot into `--output`.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable

from absl import app, flags

from benchmarks.output_folder import define_output, output_folder

FLAGS = flags.FLAGS
define_output("regional_normalization.{json,md,png}")
flags.DEFINE_bool("quick", False, "Small maps and few repeats: shows that the benchmark runs, measures nothing.")
flags.DEFINE_integer("repeats", 100, "Timed calls of each side, a tenth of them at 1024 x 1024.", lower_bound=1)
flags.DEFINE_string("memory_of", None, "Internal: measure one forward pass, 'fused' or 'reference'.")
flags.DEFINE_list("memory_shape", None, "Internal: the shape for --memory_of.")

ENTITIES = 16
FORWARD = {(1, 128, 128, 32): (10, 15), (1, 1024, 1024, 32): (15, 20)}  # shape: required ratio, aimed at
BACKWARD = {(4, 32, 32, 256): (1.5, 1.2), (4, 64, 64, 128): (1.5, 1.2)}
MEMORY_RATIO = 10
QUICK_FORWARD = {(1, 64, 64, 32): (10, 15)}
QUICK_BACKWARD = {(2, 16, 16, 64): (1.5, 1.2)}


def inputs(shape: tuple[int, ...]) -> list[Any]:
    """Features, layout, scale, offset and an upstream gradient.

    From NumPy: TensorFlow keeps the memory of its own temporaries, which the function measured would then fill
    without any growth to be seen.
    """
    import numpy as np
    import tensorflow as tf

    generator = np.random.default_rng(0)
    layout = generator.standard_normal((*shape[:3], ENTITIES), dtype=np.float32)
    np.exp(layout, out=layout)
    layout /= layout.sum(axis=-1, keepdims=True)
    rest = [generator.standard_normal(s, dtype=np.float32) for s in (shape, shape[3:], shape[3:], shape)]
    return [tf.constant(array) for array in (rest[0], layout, *rest[1:])]


def forward_functions() -> dict[str, Callable[..., Any]]:
    """The two versions, compiled."""
    import tensorflow as tf

    from attennorm_tf.layers.regional_normalization import (
        regional_normalization,
        regional_normalization_reference,
    )

    return {
        "fused": tf.function(regional_normalization),
        "reference": tf.function(regional_normalization_reference),
    }


def backward_functions() -> dict[str, Callable[..., Any]]:
    """Forward + gradients of all arguments, which for the instance norm are all but the layout."""
    import tensorflow as tf

    from attennorm_tf.layers.regional_normalization import regional_normalization

    def instance(features: Any, scale: Any, offset: Any) -> Any:
        mean, variance = tf.nn.moments(features, axes=[1, 2], keepdims=True)
        return tf.nn.batch_normalization(features, mean, variance, offset, scale, 1e-5)

    @tf.function
    def fused(features: Any, layout: Any, scale: Any, offset: Any, upstream: Any) -> Any:
        watched = [features, layout, scale, offset]
        with tf.GradientTape() as tape:
            tape.watch(watched)
            out = regional_normalization(*watched)
        return out, tape.gradient(out, watched, upstream)

    @tf.function
    def instance_norm(features: Any, layout: Any, scale: Any, offset: Any, upstream: Any) -> Any:
        del layout
        watched = [features, scale, offset]
        with tf.GradientTape() as tape:
            tape.watch(watched)
            out = instance(*watched)
        return out, tape.gradient(out, watched, upstream)

    return {"fused": fused, "instance norm": instance_norm}


def check(shape: tuple[int, ...]) -> float:
    """Largest error of output and gradients against the pseudocode in float64, over the largest value."""
    import numpy as np
    import tensorflow as tf

    from attennorm_tf.layers.regional_normalization import regional_normalization_reference

    *arguments, upstream = inputs(shape)
    out, gradients = backward_functions()["fused"](*arguments, upstream)
    doubles = [tf.cast(t, tf.float64) for t in arguments]
    with tf.GradientTape() as tape:
        tape.watch(doubles)
        expected = regional_normalization_reference(*doubles)
    wanted = [expected, *tape.gradient(expected, doubles, tf.cast(upstream, tf.float64))]
    pairs = [(np.asarray(a), np.asarray(w)) for a, w in zip([out, *gradients], wanted)]
    errors = [np.max(np.abs(actual - w)) / np.max(np.abs(w)) for actual, w in pairs]
    if not max(errors) < 1e-4:
        raise RuntimeError(f"fused and reference differ at {shape}: {errors}; not timed")
    return float(max(errors))


CALLS = 3  # timed calls of a turn


def time_in_turn(functions: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Milliseconds of each call in the steady state.

    The functions take turns, so that a disturbance meets all of them. A turn is an untimed call, which refills the
    caches that the other function emptied, and `CALLS` timed ones, whose mean counts.
    """
    for function in functions.values():
        for _ in range(3):
            function()
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            function()
            start = time.perf_counter()
            for _ in range(CALLS):
                function()
            times[name].append(1e3 * (time.perf_counter() - start) / CALLS)
    return times


def summarize(times: dict[str, list[float]], numerator: str, denominator: str) -> dict[str, Any]:
    """Medians, and the median and quartiles of the turn-by-turn ratio."""
    import numpy as np

    ratios = np.array(times[numerator]) / np.array(times[denominator])
    return {
        "median_ms": {name: float(np.median(values)) for name, values in times.items()},
        "fastest_ms": {name: float(np.min(values)) for name, values in times.items()},
        "ratio": float(np.median(ratios)),
        "ratio_quartiles": [float(q) for q in np.percentile(ratios, [25, 75])],
        "ratio_of_fastest": float(min(times[numerator]) / min(times[denominator])),
        "repeats": len(ratios),
    }


def resident_mib(field: str) -> float:
    """This process's resident memory: "VmHWM", its peak, or "VmRSS", now.

    From /proc (Linux only) and not `getrusage`: a parent's `ru_maxrss` is handed on to the programs it starts.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def measure_memory(kind: str, shape: tuple[int, ...]) -> float:
    """MiB that one forward pass adds to this process's peak; run in a process of its own."""
    function = forward_functions()[kind]
    function(*inputs((*shape[:1], 8, 8, *shape[3:]))[:4])  # kernels and thread pools belong to the baseline
    arguments = inputs(shape)[:4]
    function.get_concrete_function(*arguments)  # and so does the graph
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew: making the inputs took more than holding them
    baseline = resident_mib("VmRSS")
    function(*arguments)
    return resident_mib("VmHWM") - baseline


def memory(kind: str, shape: tuple[int, ...]) -> float:
    """Runs `measure_memory` in a fresh process."""
    dimensions = ",".join(map(str, shape))
    command = [sys.executable, "-m", "benchmarks.regional_normalization"]
    command += [f"--memory_of={kind}", f"--memory_shape={dimensions}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.strip().splitlines()[-1])


def run(quick: bool, repeats: int) -> dict[str, Any]:
    """All measurements."""
    import numpy as np
    import tensorflow as tf

    results: dict[str, Any] = {
        "tensorflow": tf.__version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg(),
        "quick": quick,
        "entities": ENTITIES,
        "forward": [],
        "backward": [],
    }
    for shape, targets in (QUICK_BACKWARD if quick else BACKWARD).items():
        error, arguments = check(shape), inputs(shape)
        functions = {n: (lambda f=f, a=arguments: f(*a)) for n, f in backward_functions().items()}
        row = summarize(time_in_turn(functions, repeats), "fused", "instance norm")
        results["backward"].append({"shape": shape, "targets": targets, "error": error, **row})
    for shape, targets in (QUICK_FORWARD if quick else FORWARD).items():
        *arguments, _ = inputs(shape)
        compiled = forward_functions()
        out, expected = (np.asarray(compiled[n](*arguments)) for n in ("fused", "reference"))
        error = float(np.max(np.abs(out - expected)) / np.max(np.abs(expected)))
        if not error < 1e-3:  # both in float32, and the reference is the less accurate
            raise RuntimeError(f"fused and reference differ at {shape}: {error}; not timed")
        functions = {n: (lambda f=f, a=arguments: f(*a)) for n, f in compiled.items()}
        few = max(repeats // 10, 1) if shape[1] > 512 else repeats
        row = summarize(time_in_turn(functions, few), "reference", "fused")
        row["peak_mib"] = {kind: memory(kind, shape) for kind in functions}
        results["forward"].append({"shape": shape, "targets": targets, "error": error, **row})
    results["load_after"] = os.getloadavg()
    return results


def markdown(results: dict[str, Any]) -> str:
    """The results as a table."""
    lines = [
        f"TensorFlow {results['tensorflow']}, Python {results['python']}, {results['cores']} CPU cores, "
        f"float32, n = {results['entities']}; load average {results['load_before'][0]:.1f} before, "
        f"{results['load_after'][0]:.1f} after. Command: `python -m benchmarks.regional_normalization"
        f"{' --quick' if results['quick'] else ''}`",
        "",
        "| measured | shape | fused | other | ratio, median (quartiles) | ratio of fastest | required | aim | met |",
        "|---|---|---|---|---|---|---|---|---|",
    ]

    def line(what: str, row: dict[str, Any], other: str, sign: str) -> str:
        required, aim = row["targets"]
        met = row["ratio"] >= required if sign == ">=" else row["ratio"] <= required
        low, high = row["ratio_quartiles"]
        times = row["median_ms"]
        return (
            f"| {what} | {tuple(row['shape'])} | {times['fused']:.2f} ms | {times[other]:.2f} ms | "
            f"{row['ratio']:.2f} ({low:.2f}, {high:.2f}) | {row['ratio_of_fastest']:.2f} | "
            f"{sign} {required} | {sign} {aim} | {'yes' if met else 'no'} |"
        )

    for row in results["forward"]:
        lines.append(line("forward, Algorithm 1 / fused", row, "reference", ">="))
        peak = row["peak_mib"]
        ratio = peak["reference"] / max(peak["fused"], 0.1)
        lines.append(
            f"| peak memory, Algorithm 1 / fused | {tuple(row['shape'])} | {peak['fused']:.0f} MiB | "
            f"{peak['reference']:.0f} MiB | {ratio:.1f} | | >= {MEMORY_RATIO} | | "
            f"{'yes' if ratio >= MEMORY_RATIO else 'no'} |"
        )
    lines += [line("forward + backward, fused / instance norm", r, "instance norm", "<=") for r in results["backward"]]
    return "\n".join(lines) + "\n"


def plot(results: dict[str, Any], path: Path) -> None:
    """Two panels: speed-up of the forward pass, cost against an instance norm; targets dashed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 4.2))
    titles = (
        "Forward: times faster than Algorithm 1\n(higher is better)",
        "Forward + backward: times an instance norm\n(lower is better)",
    )
    for axis, key, title in zip(axes, ("forward", "backward"), titles):
        for position, row in enumerate(results[key]):
            low, high = row["ratio_quartiles"]
            error = [[max(row["ratio"] - low, 0)], [max(high - row["ratio"], 0)]]
            axis.bar(position, row["ratio"], width=0.5, color="#4878a8", yerr=error, capsize=4)
            axis.text(position, row["ratio"] / 2, f"{row['ratio']:.2f}", ha="center", va="center", color="white")
            for target, style in zip(row["targets"], ("--", ":")):
                label = {"--": "required", ":": "aim"}[style] if position == 0 else None
                axis.hlines(target, position - 0.4, position + 0.4, linestyles=style, colors="black", label=label)
        axis.set_xticks(range(len(results[key])), [" x ".join(map(str, r["shape"])) for r in results[key]], fontsize=8)
        axis.set_title(title, fontsize=10)
        axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2, frameon=False)
    figure.tight_layout()
    temporary = path.with_suffix(".tmp.png")
    figure.savefig(temporary, dpi=120)
    pyplot.close(figure)
    temporary.replace(path)


def main(argv: list[str]) -> None:
    """Measures, writes and prints."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    if FLAGS.memory_of:
        print(measure_memory(FLAGS.memory_of, tuple(int(d) for d in FLAGS.memory_shape)))
        return
    results = run(FLAGS.quick, 5 if FLAGS.quick else FLAGS.repeats)
    folder = output_folder()
    folder.mkdir(parents=True, exist_ok=True)
    table = markdown(results)
    for name, text in (("json", json.dumps(results, indent=2) + "\n"), ("md", table)):
        temporary = folder / f"regional_normalization.{name}.tmp"
        temporary.write_text(text)
        temporary.replace(folder / f"regional_normalization.{name}")
    plot(results, folder / "regional_normalization.png")
    print(table)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    app.run(main)
