"""Quality at every precision, with and without XLA: the digits experiment, trained and scored for each.

    python -m benchmarks.precision [--batch_sizes=64,16] [--precisions=float32,mixed_bfloat16] [--xla=no,yes]

Each row runs the command that a user would, `python -m train.gan`; one classifier of digits judges all. Rows are kept
by stack in `precision.<stack>.json`; run it on each stack, and `precision.md` shows both. CPUs are slow at float16 (the
classic stack's convolutions most), so it is compared with float32 at a batch of 16.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from attennorm_tf._compat import stack_name
from attennorm_tf.data import load_dataset
from attennorm_tf.inference import DigitsJudge, load_generator

PRECISIONS = {64: ("float32", "mixed_bfloat16"), 16: ("float32", "mixed_float16")}  # by batch size


def run(command: list[str]) -> tuple[str, float]:
    """Output and seconds of a command."""
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)} failed:\n{done.stderr[-2000:]}")
    return done.stdout + done.stderr, time.perf_counter() - started


def measure(
    judge: DigitsJudge, precision: str, jit: bool, steps: int, batch_size: int, samples: int, workdir: Path
) -> dict[str, Any]:
    """One row: trains and scores."""
    train = [
        sys.executable, "-m", "train.gan", "--config=train/configs/digits_attennorm.py", f"--workdir={workdir}",
        f"--config.training.steps={steps}", f"--config.training.batch_size={batch_size}",
        f"--config.training.precision={precision}", f"--config.training.jit_compile={jit}",
        "--config.evaluation.classifier=", "--config.logging.image_every_steps=0", "--config.logging.tensorboard=False",
    ]  # fmt: skip
    output, seconds = run(train)
    scores = judge.score(load_generator(workdir).generator, samples)
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    rates = [line["images_per_second"] for line in lines if "images_per_second" in line]
    return {
        "stack": stack_name(),
        "batch_size": batch_size,
        "precision": precision,
        "xla": jit,
        "command": shlex.join(["python", *train[1:4], "--workdir=RUN", *train[5:]]),
        "accuracy": scores.accuracy,
        "frechet_distance": scores.frechet_distance,
        "images_per_second": max(rates),
        "seconds": round(seconds, 1),
        "skipped_updates_per_step": sum(line.get("skipped_updates", 0.0) for line in lines) / len(lines),
        "warning": next(iter(re.findall(r"training\.jit_compile: .*", output)), None),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown; a row's difference is to float32 without XLA at its batch size, where that was measured."""
    plain = {of_a_kind(row): row["accuracy"] for row in rows if (row["precision"], row["xla"]) == ("float32", False)}
    lines = [
        "Generated digits that the digits' classifier reads as the class asked for, by arithmetic; the demo's",
        "experiment trained to its end. At most 3 points less than float32 were asked.",
        "Command: `python -m benchmarks.precision`",
        "",
        "| stack | batch | precision | XLA | read as asked | to float32, points | Frechet distance |",
        "|---|--:|---|---|--:|--:|--:|",
    ]
    for row in sorted(rows, key=lambda row: -row["batch_size"]):
        points = 100 * (row["accuracy"] - plain.get(of_a_kind(row), math.nan))
        lines.append(
            f"| {row['stack']} | {row['batch_size']} | {row['precision']} | {'yes' if row['xla'] else 'no'} "
            f"| {100 * row['accuracy']:.1f}% | {points:+.1f} | {row['frechet_distance']:.1f} |"
        )
    return "\n".join([*lines, "", "The first row's command:", "", "    " + rows[0]["command"], ""])


def of_a_kind(row: dict[str, Any]) -> tuple[str, int]:
    """What rows have in common that are compared."""
    return row["stack"], row["batch_size"]


def record(row: dict[str, Any], folder: Path) -> None:
    """Puts the row into its stack's file, in place of one of the same settings, and writes the table anew."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"precision.{row['stack']}.json"
    rows = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    settings = ("batch_size", "precision", "xla")
    rows = [old for old in rows if any(old[name] != row[name] for name in settings)] + [row]
    replace(file, json.dumps(rows, indent=2) + "\n")
    write_table(folder)


def replace(file: Path, text: str) -> None:
    """Writes the file whole or not at all."""
    partial = file.with_name(f".{file.name}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)


def write_table(folder: Path) -> None:
    """`precision.md` of all stacks' rows."""
    files = sorted(folder.glob("precision.*.json"), reverse=True)
    rows = [row for file in files for row in json.loads(file.read_text(encoding="utf-8"))]
    replace(folder / "precision.md", table(rows))


def main() -> None:
    """Measures, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch_sizes", default=",".join(map(str, PRECISIONS)))
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--precisions", default="float32,mixed_bfloat16,mixed_float16")
    parser.add_argument("--xla", default="no,yes", help="no, yes or both, comma-separated")
    parser.add_argument("--quick", action="store_true", help="two steps: measures nothing")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"), help="folder of the results")
    options = parser.parse_args()
    for name, known in (("batch_sizes", map(str, PRECISIONS)), ("precisions", sum(PRECISIONS.values(), ()))):
        allowed = sorted(set(known))
        if wrong := set(getattr(options, name).split(",")) - set(allowed):
            parser.error(f"--{name}: {', '.join(sorted(wrong))}; expected some of {', '.join(allowed)}")
    if options.quick:
        options.steps, options.samples = 2, 64
    judge = DigitsJudge(load_dataset("digits"), 16)
    with tempfile.TemporaryDirectory() as folder:
        for batch_size in map(int, options.batch_sizes.split(",")):
            for precision in sorted(set(PRECISIONS[batch_size]) & set(options.precisions.split(","))):
                for xla in options.xla.split(","):
                    workdir = Path(folder) / f"{batch_size}-{precision}-{xla}"
                    sizes = (options.steps, batch_size, options.samples)
                    record(measure(judge, precision, xla == "yes", *sizes, workdir), options.output)
    print((options.output / "precision.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
