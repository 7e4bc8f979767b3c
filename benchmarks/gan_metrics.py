"""Time and memory of the metrics of generated images: `python -m benchmarks.gan_metrics`.

Add `--quick` for a smoke run (few examples of few features). Every metric is given `--count` examples of `--size`
features against a reference of as many, in batches of 64, as the evaluation does; Inception Score gets logits of 1008
classes. They are measured in fresh processes: some by themselves, and all together with one bank of features for the
two metrics that keep them. Seconds are those of the clock, and of the CPU's cores together, which depend less on what
else the machine does. Memory is what the process grew to above what it held once everything was imported, so the
reference's features (which the evaluation holds as well) are in it, and a feature network is not. Features are ReLUs
of random normal numbers mixed by a random matrix: time and memory do not depend on the values. Writes a JSON and a
Markdown table into `--output`.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import app, flags

from benchmarks.output_folder import define_output, output_folder

FLAGS = flags.FLAGS
define_output("gan_metrics.{json,md}")
flags.DEFINE_bool("quick", False, "Few examples of few features: shows that the benchmark runs, measures nothing.")
flags.DEFINE_integer("count", 50_000, "Examples on each side.", lower_bound=100)
flags.DEFINE_integer("size", 2048, "Features of an example.", lower_bound=1)
flags.DEFINE_list("metrics", None, "Those to be measured, by name; the default is all but precision_recall by itself.")
flags.DEFINE_string("measure", None, "Internal: measure this one, in this process.")

CLASSES = 1008
INTRA_CLASSES = 10
BATCH = 64
BLOCK = 1024
LIMIT_MIB = 1536
TOGETHER = "all but intra_frechet"
NAMES = ("frechet", "intra_frechet", "inception_score", "kernel", "precision_recall", TOGETHER)
# Precision and recall take minutes: their time is measured once, among all.
DEFAULT_NAMES = tuple(name for name in NAMES if name != "precision_recall")


def features_of(seed: int, start: int, count: int, size: int) -> Any:
    """Rows of a stream of float32 features (count, size), the same wherever it is cut at blocks."""
    import numpy as np

    mixing = np.random.default_rng(0).standard_normal((min(size, 256), size), dtype=np.float32)
    rows = np.random.default_rng([seed, start]).standard_normal((count, len(mixing)), dtype=np.float32)
    rows += 0.1 * seed
    return np.maximum(rows @ mixing / np.float32(len(mixing) ** 0.5), 0)


def batches(seed: int, count: int, size: int) -> Iterator[Any]:
    """The stream in batches."""
    for start in range(0, count, BLOCK):
        block = features_of(seed, start, min(BLOCK, count - start), size)
        yield from (block[first : first + BATCH] for first in range(0, len(block), BATCH))


def moments_of(count: int, size: int) -> Any:
    """Of the reference."""
    from attennorm_tf.metrics import FeatureMoments

    moments = FeatureMoments()
    for start in range(0, count, BLOCK):
        moments.update(features_of(0, start, min(BLOCK, count - start), size))
    return moments


def reference_of(count: int, size: int) -> Any:
    """The reference's features, in one array."""
    import numpy as np

    reference = np.empty((count, size), np.float32)
    for start in range(0, count, BLOCK):
        reference[start : start + BLOCK] = features_of(0, start, min(BLOCK, count - start), size)
    return reference


def make_metrics(name: str, count: int, size: int) -> dict[str, Any]:
    """The metrics by name, and the bank they share, if they do."""
    from attennorm_tf.metrics import (
        FeatureBank,
        FrechetDistance,
        InceptionScore,
        IntraFrechetDistance,
        KernelDistance,
        PrecisionRecall,
    )

    together = name == TOGETHER
    made: dict[str, Any] = {}
    if together or name == "frechet":
        made["frechet"] = FrechetDistance(moments_of(count, size))
    if name == "intra_frechet":
        each = count // INTRA_CLASSES
        made[name] = IntraFrechetDistance({label: moments_of(each, size) for label in range(INTRA_CLASSES)})
    if together or name == "inception_score":
        made["inception_score"] = InceptionScore()
    if together or name in ("kernel", "precision_recall"):
        reference, bank = reference_of(count, size), FeatureBank()
        if together or name == "kernel":
            made["kernel"] = KernelDistance(reference, bank=bank)
        if together or name == "precision_recall":
            made["precision_recall"] = PrecisionRecall(reference, bank=bank)
        made["bank"] = bank
    return made


def resident_mib(field: str) -> float:
    """This process's resident memory: "VmHWM", its peak, or "VmRSS", now (Linux only)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def measure(name: str, count: int, size: int) -> dict[str, Any]:
    """Seconds of feeding and of each result, and the peak's growth, of this process."""
    import numpy as np

    np.linalg.eigh(moments_of(1000, 300).covariance)  # imports and the thread pool belong to the baseline
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew: importing took more than holding
    baseline = resident_mib("VmRSS")
    metrics = make_metrics(name, count, size)
    bank = metrics.pop("bank", None)
    fed = {key: metric for key, metric in metrics.items() if key not in ("kernel", "precision_recall")}
    if bank is not None:  # feeds those two
        fed["bank"] = bank
    seconds, cpu_seconds = dict.fromkeys(fed, 0.0), dict.fromkeys(fed, 0.0)
    labels = np.arange(BATCH) % INTRA_CLASSES
    for features in batches(1, count, size):
        rows = {"intra_frechet": (features, labels[: len(features)])}
        if "inception_score" in metrics:
            rows["inception_score"] = (features_of(2, 0, len(features), CLASSES),)
        for key, metric in fed.items():
            start = time.perf_counter(), time.process_time()
            metric.update_state(*rows.get(key, (features,)))
            seconds[key] += time.perf_counter() - start[0]
            cpu_seconds[key] += time.process_time() - start[1]
    results, result_seconds, result_cpu_seconds = {}, {}, {}
    for key, metric in metrics.items():
        start = time.perf_counter(), time.process_time()
        results[key] = metric.result()
        result_seconds[key] = time.perf_counter() - start[0]
        result_cpu_seconds[key] = time.process_time() - start[1]
    return {
        "name": name,
        "update_seconds": seconds,
        "update_cpu_seconds": cpu_seconds,
        "result_seconds": result_seconds,
        "result_cpu_seconds": result_cpu_seconds,
        "peak_mib": resident_mib("VmHWM") - baseline,
        "results": {key: value if isinstance(value, float) else value._asdict() for key, value in results.items()},
    }


def measured_apart(name: str, count: int, size: int) -> dict[str, Any]:
    """Runs `measure` in a fresh process."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.gan_metrics",
        f"--measure={name}",
        f"--count={count}",
        f"--size={size}",
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def run(names: list[str], count: int, size: int) -> dict[str, Any]:
    """All measurements."""
    import numpy as np

    results: dict[str, Any] = {
        "numpy": np.__version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg(),
        "command": shlex.join(["python", "-m", "benchmarks.gan_metrics", *sys.argv[1:]]),
        "count": count,
        "size": size,
        "classes": CLASSES,
        "intra_classes": INTRA_CLASSES,
    }
    results["metrics"] = [measured_apart(name, count, size) for name in names]
    results["load_after"] = os.getloadavg()
    return results


def markdown(results: dict[str, Any]) -> str:
    """The results as a table."""
    lines = [
        f"{results['count']} examples of {results['size']} features on each side, logits of {results['classes']} "
        f"classes, intra-class distances of {results['intra_classes']} classes. NumPy {results['numpy']}, Python "
        f"{results['python']}, {results['cores']} CPU cores; load average {results['load_before'][0]:.1f} before, "
        f"{results['load_after'][0]:.1f} after. Command: "
        f"`{results['command']}`",
        "",
        "Seconds by the clock (of all cores together).",
        "",
        f"| metric | updates | result | memory, reference included | at most {LIMIT_MIB} MiB |",
        "|---|---|---|---|---|",
    ]

    def spent(row: dict[str, Any], part: str, keys: list[str]) -> str:
        clock, cpu = (sum(row[f"{part}_{unit}"].get(key, 0.0) for key in keys) for unit in ("seconds", "cpu_seconds"))
        return f"{clock:.1f} s ({cpu:.1f} s)" if any(key in row[f"{part}_seconds"] for key in keys) else ""

    for row in results["metrics"]:
        keys = list({**row["update_seconds"], **row["result_seconds"]})
        met = "yes" if row["peak_mib"] <= LIMIT_MIB else "no"
        times = " | ".join(spent(row, part, keys) for part in ("update", "result"))
        lines.append(f"| {row['name']} | {times} | {row['peak_mib']:.0f} MiB | {met} |")
        for key in keys if row["name"] == TOGETHER else ():
            times = " | ".join(spent(row, part, [key]) for part in ("update", "result"))
            lines.append(f"| - {key} | {times} | | |")
    return "\n".join(lines) + "\n"


def main(argv: list[str]) -> None:
    """Measures, writes and prints."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    if FLAGS.measure:
        print(json.dumps(measure(FLAGS.measure, FLAGS.count, FLAGS.size)))
        return
    unknown = set(FLAGS.metrics or ()) - set(NAMES)
    if unknown:
        raise app.UsageError(f"--metrics must be of {', '.join(NAMES)}, got {', '.join(sorted(unknown))}")
    count, size = (3000, 64) if FLAGS.quick else (FLAGS.count, FLAGS.size)
    results = run(FLAGS.metrics or list(DEFAULT_NAMES), count, size)
    folder = output_folder()
    folder.mkdir(parents=True, exist_ok=True)
    table = markdown(results)
    for name, text in (("json", json.dumps(results, indent=2) + "\n"), ("md", table)):
        temporary = folder / f"gan_metrics.{name}.tmp"
        temporary.write_text(text)
        temporary.replace(folder / f"gan_metrics.{name}")
    print(table)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    app.run(main)
