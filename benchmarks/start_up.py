"""How long a user waits: the package's import over TensorFlow's, and the demo's first training step.

    python -m benchmarks.start_up [--quick]

Every number is of fresh processes. Both imports are timed in one process, TensorFlow's first, so that their difference
is free of the noise of the larger one. The demo is the README's command with a log line after every step; its time runs
from the start of the process until the first line is in the log, and what it consists of is told by when the run's
files appear.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from absl import app, flags

from benchmarks.harness import ROOT, quartiles
from benchmarks.harness_report import Target, environment, targets_table, write_atomically
from benchmarks.output_folder import output_folder

FLAGS = flags.FLAGS
IMPORT_LIMIT = 0.1
FIRST_STEP_LIMIT = 25.0
IMPORTS = """
import time
start = time.perf_counter()
import tensorflow
between = time.perf_counter()
import attennorm_tf
print(between - start, time.perf_counter() - between)
"""
# File of the work directory -> what is over when it is there, in order.
STAGES = {
    "config.json": "imports, data, work directory",
    "scores_at_start.json": "networks, the digits' classifier, scores before training",
    "metrics.jsonl": "graph of the step, first step",
}


def import_seconds() -> tuple[float, float]:
    """Of TensorFlow, then of the package, in one fresh process."""
    words = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True, env=words, cwd=ROOT
    )
    first, second = done.stdout.split()[-2:]
    return float(first), float(second)


def first_step_seconds() -> dict[str, float]:
    """Stage of the demo -> seconds from the start of its process until the stage is over."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as said:
        command = [sys.executable, "-m", "train.gan", "--config=train/configs/digits_attennorm.py"]
        command += [f"--workdir={folder}/run", "--config.logging.log_every_steps=1"]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=said, stderr=said, cwd=ROOT)
        try:
            for name, stage in STAGES.items():
                while not filled(Path(folder, "run", name)):
                    if process.poll() is not None:
                        said.seek(0)
                        raise RuntimeError(f"the demo ended early:\n{said.read()[-2000:].decode(errors='replace')}")
                    time.sleep(0.01)
                found[stage] = time.perf_counter() - start
        finally:
            process.kill()  # what follows the first step is none of the start
            process.wait()
    return found


def filled(path: Path) -> bool:
    """Whether there is something in the file."""
    return path.exists() and path.stat().st_size > 0


def measure(rounds: int, runs: int, say: Callable[[str], None] = print) -> dict[str, Any]:
    """All processes, imports and demo in turn."""
    imports: list[tuple[float, float]] = []
    demos: list[dict[str, float]] = []
    load = os.getloadavg()[0]
    import_seconds()  # byte code and disk cache
    for index in range(max(rounds, runs)):
        if index < rounds:
            imports.append(import_seconds())
            say(f"imports: {imports[-1][0]:.2f} s and {imports[-1][1]:.3f} s")
        if index < runs:
            demos.append(first_step_seconds())
            say(f"first step: {list(demos[-1].values())[-1]:.1f} s")
    return {"environment": environment(), "load_before": load, "imports": imports, "first_step": demos}


def spread(values: list[float], unit: str) -> str:
    """Median and quartiles as text."""
    low, high = quartiles(values)
    digits = 0 if unit == "ms" else 2
    return f"{statistics.median(values):.{digits}f} {unit} ({low:.{digits}f}, {high:.{digits}f})"


def targets(results: dict[str, Any]) -> list[Target]:
    """Both."""
    added = [1e3 * second for _, second in results["imports"]]
    steps = [list(demo.values())[-1] for demo in results["first_step"]]
    return [
        Target(
            "`import attennorm_tf` after `import tensorflow`", "<=", 1e3 * IMPORT_LIMIT, statistics.median(added),
            quartiles(added), " ms",
        ),
        Target(
            "from the demo's command to its first step", "<=", FIRST_STEP_LIMIT, statistics.median(steps),
            quartiles(steps), " s",
        ),
    ]  # fmt: skip


def markdown(results: dict[str, Any], quick: bool) -> str:
    """The results as tables."""
    about = results["environment"]
    lines = [
        f"What a user waits for. TensorFlow {about['tensorflow']}, Python {about['python']}, {about['cores']} CPU "
        f"cores; load average before: {results['load_before']:.1f}. Medians (quartiles) of fresh processes: "
        f"{len(results['imports'])} for the imports, {len(results['first_step'])} of the demo. Command: "
        f"`python -m benchmarks.start_up{' --quick' if quick else ''}`",
        "",
        "| | time |",
        "|---|---|",
        f"| `import tensorflow` | {spread([first for first, _ in results['imports']], 's')} |",
        f"| `import attennorm_tf` after it | {spread([1e3 * second for _, second in results['imports']], 'ms')} |",
    ]
    before = [0.0] * len(results["first_step"])
    for stage in STAGES.values():
        until = [demo[stage] for demo in results["first_step"]]
        lines.append(f"| demo: {stage} | {spread([end - start for start, end in zip(before, until)], 's')} |")
        before = until
    lines += [f"| demo: first step done, in all | {spread(before, 's')} |", "", targets_table(targets(results))]
    return "\n".join(lines) + "\n"


def plot(results: dict[str, Any], path: Path) -> None:
    """The demo's stages as one bar."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panel = pyplot.subplots(figsize=(7.5, 2.0))
    left = 0.0
    for stage, color in zip(STAGES.values(), ("#9dc3de", "#5b95bf", "#2f6f9f")):
        end = statistics.median(demo[stage] for demo in results["first_step"])
        panel.barh([0], [end - left], left=left, color=color, label=f"{stage} ({end - left:.1f} s)")
        left = end
    panel.axvline(FIRST_STEP_LIMIT, color="#b04a3a", linestyle="--", label=f"asked: at most {FIRST_STEP_LIMIT:g} s")
    panel.set(xlabel="seconds after the command", yticks=[], xlim=(0, max(left, FIRST_STEP_LIMIT) * 1.05))
    panel.set_title("The demo's first training step", fontsize=10)
    panel.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.45), ncol=2, frameon=False)
    panel.spines[["top", "right", "left"]].set_visible(False)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    pyplot.close(figure)


def main(argv: list[str]) -> None:
    """Measures, writes, prints."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    quick = FLAGS.quick
    results = measure(*((3, 1) if quick else (11, 5)), say=lambda text: print(text, flush=True))
    found = targets(results)
    document = {**results, "quick": quick, "targets": [{**asdict(t), "verdict": t.verdict} for t in found]}
    path = output_folder() / "start_up.json"
    text, table = json.dumps(document, indent=1) + "\n", markdown(results, quick)
    write_atomically(path, lambda file: file.write_text(text, encoding="utf-8"))
    write_atomically(path.with_suffix(".md"), lambda file: file.write_text(table, encoding="utf-8"))
    write_atomically(path.with_suffix(".png"), lambda file: plot(results, file))
    print(table)


if __name__ == "__main__":
    app.run(main)
