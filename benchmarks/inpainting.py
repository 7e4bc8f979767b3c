"""Time and memory of inpainting one image, by its size: `python -m benchmarks.inpainting`.

Both networks at full width, inference inside tf.function, float32, square images of 256 to 2048 pixels. Each case
runs in a fresh process that may hold `--limit_gib` of memory (12): what it asks for beyond that is refused, as on a
machine of that size, and it is stopped should it hold more all the same. A case that fails has its reason in the table.
Before it is timed, a case's output is checked: finite, in [-1, 1], and the same whatever the hole's pixels were. Add
`--quick` for a smoke run (small images, a narrow network). Writes a JSON, a Markdown table and a plot into `--output`.
Linux only.
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from absl import app, flags

from benchmarks.output_folder import define_output, output_folder

FLAGS = flags.FLAGS
define_output("inpainting.{json,md,png}")
flags.DEFINE_bool("quick", False, "Small images, a narrow network: shows that the benchmark runs, measures nothing.")
flags.DEFINE_list("sizes", ["256", "512", "1024", "2048"], "Heights of the square images, in pixels.")
flags.DEFINE_float("limit_gib", 12.0, "Memory that a case may hold.", lower_bound=1.0)
flags.DEFINE_float("seconds", 20.0, "Time for the timed calls of a case; at least three calls are made.")
flags.DEFINE_integer("timeout", 3600, "Seconds after which a case is stopped.", lower_bound=1)
flags.DEFINE_string("measure", None, "Internal: measure one case in this process, '<network>,<size>,<width>'.")

NETWORKS = ("attentive", "contextual")
LARGEST = 2048  # pixels that the attentive network has to finish within the limit
LINEAR = 1.1  # exponent of the number of pixels up to which growth counts as linear
WARM_UP = 48  # pixels of an image before the measurement
GIB = 2**30


def resident_mib(field: str) -> float:
    """This process's resident memory: "VmHWM", its peak, or "VmRSS", now (Linux only)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def build(network: str, width: float) -> Any:
    """The network with the gate of attentive normalization open, so that nothing of it is idle."""
    from attennorm_tf.config import InpaintingModelConfig
    from attennorm_tf.models import build_inpainter

    generator = build_inpainter(InpaintingModelConfig(network=network, width=width), seed=0)
    if generator.attentive_normalization is not None:
        generator.attentive_normalization.rho.assign(1.0)
    return generator


def inputs(size: int, hole: float | None = None) -> tuple[Any, Any]:
    """One image with a square hole of a quarter of its height, whose pixels are noise or all `hole`."""
    import numpy as np
    import tensorflow as tf

    image = np.random.default_rng(0).uniform(-1, 1, (1, size, size, 3)).astype(np.float32)
    mask = np.zeros((1, size, size, 1), np.float32)
    place = slice(3 * size // 8, 3 * size // 8 + size // 4)
    mask[:, place, place] = 1
    if hole is not None:
        image[:, place, place] = hole
    return tf.constant(image), tf.constant(mask)


def check(outputs: Any, others: Any, size: int) -> float:
    """Raises RuntimeError for outputs that cannot be right; returns the difference that the hole's pixels make."""
    import numpy as np

    worst = 0.0
    for image, other in zip(outputs, others):
        image, other = np.asarray(image), np.asarray(other)
        if image.shape != (1, size, size, 3) or not np.isfinite(image).all() or np.abs(image).max() > 1:
            raise RuntimeError(f"the output is not a finite image in [-1, 1]: {image.shape}")
        if not image.std() > 1e-3:
            raise RuntimeError("the output is of one colour")
        worst = max(worst, float(np.abs(image - other).max()))
    if worst > 1e-4:
        raise RuntimeError(f"the pixels in the hole change the output by {worst}")
    return worst


def measure(network: str, size: int, width: float, seconds: float) -> dict[str, Any]:
    """Times and memory of one case; run in a process of its own."""
    generator = build(network, width)
    for image in generator.infer(*inputs(WARM_UP)):  # kernels and thread pools belong to the baseline
        image.numpy()
    images, masks = inputs(size)
    others, _ = inputs(size, hole=0.5)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    baseline = resident_mib("VmRSS")
    first = time.perf_counter()
    expected = generator.infer(others, masks)  # traces, and fills the caches: not timed
    first = time.perf_counter() - first
    difference = check(generator.infer(images, masks), expected, size)
    times: list[float] = []
    while len(times) < 3 or (sum(times) < seconds and len(times) < 100):
        start = time.perf_counter()
        coarse, fine = generator.infer(images, masks)
        coarse.numpy(), fine.numpy()
        times.append(time.perf_counter() - start)
    peak = resident_mib("VmHWM")
    times.sort()
    return {
        "median_seconds": times[len(times) // 2],
        "fastest_seconds": times[0],
        "first_seconds": first,
        "calls": len(times),
        "peak_mib": peak,
        "added_mib": peak - baseline,
        "hole_difference": difference,
    }


def child(case: str, seconds: float, limit_gib: float) -> None:
    """Measures a case in this process and prints the result, or the error, as JSON in the last line."""
    import resource

    network, size, width = case.split(",")
    resource.setrlimit(resource.RLIMIT_DATA, (int(limit_gib * GIB),) * 2)
    try:
        result = measure(network, int(size), float(width), seconds)
    except Exception as error:  # any failure is a result here
        result = {"error": f"{type(error).__name__}: {reason(str(error), limit_gib)}"}
    print("\n" + json.dumps(result), flush=True)


def reason(message: str, limit_gib: float) -> str:
    """The cause out of TensorFlow's message; a tensor that had no room is told as such, with its size."""
    text = " ".join(message.split())
    refused = re.search(r"OOM when allocating tensor with shape\[([\d,]*)\]", text)
    sizes = [int(size) for size in refused.group(1).split(",")] if refused else []
    if "Cannot parse tensor from proto" in text:  # what a constant without room is called
        sizes = [int(size) for size in re.findall(r"size: (\d+)", text)]
    if not sizes:
        return text[:160]
    needed = 4 * math.prod(sizes) / GIB
    return f"no room for a tensor of {' x '.join(map(str, sizes))} float32, {needed:.1f} GiB; limit {limit_gib:g} GiB"


def run_case(network: str, size: int, width: float, seconds: float, limit_gib: float, timeout: float) -> dict[str, Any]:
    """Runs a case in a fresh process, watched: its result, or why there is none."""
    command = [sys.executable, "-m", "benchmarks.inpainting", f"--measure={network},{size},{width}"]
    command += [f"--seconds={seconds}", f"--limit_gib={limit_gib}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    status, end, stopped = Path(f"/proc/{process.pid}/status"), time.monotonic() + timeout, ""
    while process.poll() is None and not stopped:
        time.sleep(0.02)
        lines = [line for line in status.read_text().splitlines() if line.startswith("VmRSS")]
        if lines and int(lines[0].split()[1]) > limit_gib * GIB / 1024:
            stopped = f"stopped when it held more than {limit_gib:g} GiB"
        elif time.monotonic() > end:
            stopped = f"stopped after {timeout:g} s"
    if stopped:
        process.kill()
    output, _ = process.communicate()
    case = {"network": network, "size": size}
    if stopped:
        return {**case, "error": stopped}
    try:
        return {**case, **json.loads(output.strip().splitlines()[-1])}
    except (IndexError, ValueError):
        code = process.returncode
        reason = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return {**case, "error": reason}


def exponents(cases: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Per network: a in time ~ pixels^a, and in memory, between the two largest images that it finished.

    Of the fastest calls: a large image has three, and what else the machine does only adds to them.
    """
    found = {}
    for network in NETWORKS:
        done = [case for case in cases if case["network"] == network and "error" not in case]
        if len(done) < 2:
            continue
        small, large = done[-2:]
        pixels = 2 * math.log(large["size"] / small["size"])

        def slope(field: str, small: Any = small, large: Any = large, pixels: float = pixels) -> float:
            return math.log(max(large[field], 1e-9) / max(small[field], 1e-9)) / pixels

        found[network] = {
            "from": small["size"],
            "to": large["size"],
            "time": slope("fastest_seconds"),
            "memory": slope("added_mib"),
        }
    return found


def run(sizes: list[int], width: float, seconds: float, limit_gib: float, timeout: float) -> dict[str, Any]:
    """All measurements."""
    import tensorflow as tf

    results: dict[str, Any] = {
        "tensorflow": tf.__version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "width": width,
        "limit_gib": limit_gib,
        "load_before": os.getloadavg(),
    }
    cases = []
    for network in NETWORKS:
        for size in sizes:
            cases.append(run_case(network, size, width, seconds, limit_gib, timeout))
            print(cases[-1], flush=True)
    return {**results, "cases": cases, "exponents": exponents(cases), "load_after": os.getloadavg()}


def markdown(results: dict[str, Any]) -> str:
    """The results as tables."""
    limit = results["limit_gib"]
    lines = [
        f"One image, inference, float32, width {results['width']:g}; TensorFlow {results['tensorflow']}, Python "
        f"{results['python']}, {results['cores']} CPU cores; load average {results['load_before'][0]:.1f} before, "
        f"{results['load_after'][0]:.1f} after (its own). A process may hold {limit:g} GiB. "
        "Command: `python -m benchmarks.inpainting`",
        "",
        "| network | image | time, median (fastest) of calls | peak memory of the process | of it for the image |",
        "|---|---|---|---|---|",
    ]
    for case in results["cases"]:
        row = f"| {case['network']} | {case['size']} x {case['size']} |"
        if "error" in case:
            lines.append(f"{row} did not finish: {case['error'].replace('|', '/')} | | |")
            continue
        lines.append(
            f"{row} {case['median_seconds']:.2f} s ({case['fastest_seconds']:.2f} s) of {case['calls']} | "
            f"{case['peak_mib'] / 1024:.2f} GiB | {case['added_mib'] / 1024:.2f} GiB |"
        )
    if results["exponents"]:
        lines += ["", "Growth with the number of pixels p, between the two largest images finished:", ""]
        lines += ["| network | images | time (fastest calls) | memory for the image |", "|---|---|---|---|"]
    for network, row in results["exponents"].items():
        lines.append(f"| {network} | {row['from']}, {row['to']} | p^{row['time']:.2f} | p^{row['memory']:.2f} |")
    finished = [case for case in results["cases"] if case["network"] == "attentive" and "error" not in case]
    if finished and "attentive" in results["exponents"]:
        row = results["exponents"]["attentive"]
        within = finished[-1]["size"] >= LARGEST and finished[-1]["peak_mib"] <= 1024 * limit
        linear = row["time"] <= LINEAR and row["memory"] <= LINEAR
        lines += [
            "",
            f"Required of the attentive network: {LARGEST} x {LARGEST} within {limit:g} GiB: "
            f"{'yes' if within else 'no'}; linear growth (exponents of at most {LINEAR}): {'yes' if linear else 'no'}.",
        ]
    return "\n".join(lines) + "\n"


def plot(results: dict[str, Any], path: Path) -> None:
    """Two panels, both axes logarithmic: time and memory by the number of pixels; crosses did not finish."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 4))
    sizes = sorted({case["size"] for case in results["cases"]})
    panels = (("median_seconds", "seconds", 1.0), ("added_mib", "GiB for the image", 1 / 1024))
    for axis, (field, label, unit) in zip(axes, panels):
        tops = [unit * case[field] for case in results["cases"] if field in case]
        for network, color, marker in zip(NETWORKS, ("#4878a8", "#c0504d"), "os"):
            cases = [case for case in results["cases"] if case["network"] == network]
            done = [(case["size"] ** 2, unit * case[field]) for case in cases if "error" not in case]
            axis.plot(*zip(*done), color=color, marker=marker, label=network) if done else None
            for case in (case for case in cases if "error" in case):
                axis.plot(case["size"] ** 2, max(tops, default=1.0), color=color, marker="x", markersize=10)
                axis.annotate("did not finish", (case["size"] ** 2, max(tops, default=1.0)), fontsize=8, color=color,
                              xytext=(-6, -14), textcoords="offset points", ha="right")  # fmt: skip
        if field == "added_mib":
            axis.axhline(results["limit_gib"], color="black", linestyle="--", linewidth=0.8, label="limit")
        axis.set(xscale="log", yscale="log", xlabel="image", ylabel=label)
        axis.set_xticks([size**2 for size in sizes], [f"{size}²" for size in sizes])
        axis.minorticks_off()
        axis.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    temporary = path.with_suffix(".tmp.png")
    figure.savefig(temporary, dpi=120)
    pyplot.close(figure)
    temporary.replace(path)


def main(argv: list[str]) -> None:
    """Measures, writes and prints."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    if FLAGS.measure:
        child(FLAGS.measure, FLAGS.seconds, FLAGS.limit_gib)
        return
    sizes = [64, 128] if FLAGS.quick else sorted(map(int, FLAGS.sizes))
    width, seconds = (0.125, 0.1) if FLAGS.quick else (1.0, FLAGS.seconds)
    results = run(sizes, width, seconds, FLAGS.limit_gib, FLAGS.timeout)
    folder = output_folder()
    folder.mkdir(parents=True, exist_ok=True)
    table = markdown(results)
    for name, text in (("json", json.dumps(results, indent=2) + "\n"), ("md", table)):
        temporary = folder / f"inpainting.{name}.tmp"
        temporary.write_text(text)
        temporary.replace(folder / f"inpainting.{name}")
    plot(results, folder / "inpainting.png")
    print(table)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    app.run(main)
