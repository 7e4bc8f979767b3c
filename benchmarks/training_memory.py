"""Whether the memory of a training run stays flat: `python -m benchmarks.training_memory`.

Add `--quick` for a smoke run (600 steps). Runs `python -m train.gan` on the embedded digits with the smallest network,
with everything that a long run does: log lines with the health watch, pictures, checkpoints (the best kept too) and
TensorBoard. The resident memory of that process is read at every log line. Growth is counted from the first line at
which everything has happened at least twice: before, TensorFlow makes its graphs and fills its caches. The command
fails where the growth is above `--limit_mib`. Writes a JSON and a Markdown table into `--output`.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from absl import app, flags

from benchmarks.output_folder import define_output, output_folder

FLAGS = flags.FLAGS
define_output("training_memory.{json,md}")
flags.DEFINE_bool("quick", False, "Few steps: shows that the benchmark runs, measures nothing.")
flags.DEFINE_integer("steps", 20_000, "Steps of the run.", lower_bound=1000)
flags.DEFINE_float("limit_mib", 50.0, "Growth above which the command fails.")

ROWS = 20
CONFIG = {
    "model.width": 0.03125,
    "model.latent_dim": 8,
    "model.embedding_dim": 8,
    "model.num_entities": 2,
    "training.batch_size": 4,
    "training.steps_per_call": 50,
    "evaluation.classifier": "",
    "logging.keep_best": 2,
    "logging.best_metric": "sample_variance_ratio",
}


def resident_mib(process: int) -> float:
    """The resident memory of a process now (Linux only)."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def last_step(log: Path) -> int:
    """The newest whole line's step; 0 before the first."""
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    whole = [line for line in lines if line.endswith("\n")]
    return json.loads(whole[-1])["step"] if whole else 0


def measure(steps: int, every: int) -> tuple[list[tuple[int, float]], float]:
    """(step, MiB) at every log line of a run in a process of its own, and the run's seconds.

    Args:
        steps: of the run.
        every: steps between pictures and between checkpoints; a tenth of it between log lines.
    """
    config = {
        **CONFIG,
        "training.steps": steps,
        "logging.log_every_steps": every // 10,
        "logging.image_every_steps": every,
        "logging.checkpoint_every_steps": every,
    }
    points: list[tuple[int, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "train.gan", "--config=train/configs/digits_attennorm.py"]
        command += [f"--workdir={folder}"] + [f"--config.{name}={value}" for name, value in config.items()]
        start = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            while process.poll() is None and (not points or points[-1][0] < steps):
                step = last_step(Path(folder) / "metrics.jsonl")
                if step > (points[-1][0] if points else 0):
                    points.append((step, resident_mib(process.pid)))
                time.sleep(0.1)
            seconds = time.monotonic() - start
            process.kill()  # the report at the end is none of the training
            said = process.communicate()[1]
        if not points or points[-1][0] < steps:
            raise RuntimeError(f"the run ended early:\n{said[-3000:]}")
    return points, seconds


def run(steps: int) -> dict[str, Any]:
    """The measurement and what it was made on."""
    import tensorflow as tf

    every = max(100, steps // 40)
    load = os.getloadavg()
    points, seconds = measure(steps, every)
    warm = next(point for point in points if point[0] >= 2 * every)
    return {
        "tensorflow": tf.__version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_before": load,
        "load_after": os.getloadavg(),
        "command": shlex.join(["python", "-m", "benchmarks.training_memory", *sys.argv[1:]]),
        "steps": steps,
        "every": every,
        "seconds": seconds,
        "warm": {"step": warm[0], "mib": warm[1]},
        "last_mib": points[-1][1],
        "peak_mib": max(mib for _, mib in points),
        "growth_mib": max(mib for step, mib in points if step >= warm[0]) - warm[1],
        "points": points,
    }


def markdown(results: dict[str, Any], limit: float) -> str:
    """The results as a table."""
    points = results["points"]
    shown = points[:: max(1, len(points) // ROWS)]
    if shown[-1] != points[-1]:
        shown.append(points[-1])
    met = "met" if results["growth_mib"] <= limit else "not met"
    lines = [
        f"{results['steps']} steps of `train.gan` in {results['seconds']:.0f} s, pictures and checkpoints every "
        f"{results['every']}. TensorFlow {results['tensorflow']}, Python {results['python']}, {results['cores']} CPU "
        f"cores; load average {results['load_before'][0]:.1f} before, {results['load_after'][0]:.1f} after. Command: "
        f"`{results['command']}`",
        "",
        f"Growth from step {results['warm']['step']} to the largest after it: {results['growth_mib']:.1f} MiB (at most "
        f"{limit:g}: {met}).",
        "",
        "| step | resident MiB | since then |",
        "|---|---|---|",
    ]
    for step, mib in shown:
        since = f"{mib - results['warm']['mib']:+.1f}" if step >= results["warm"]["step"] else ""
        lines.append(f"| {step} | {mib:.1f} | {since} |")
    return "\n".join(lines) + "\n"


def main(argv: list[str]) -> int:
    """Measures, writes and prints."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    results = run(600 if FLAGS.quick else FLAGS.steps)
    table = markdown(results, FLAGS.limit_mib)
    folder = output_folder()
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("json", json.dumps(results, indent=2) + "\n"), ("md", table)):
        temporary = folder / f"training_memory.{name}.tmp"
        temporary.write_text(text)
        temporary.replace(folder / f"training_memory.{name}")
    print(table)
    return int(results["growth_mib"] > FLAGS.limit_mib)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    app.run(main)
