"""From cases to files: the command line of a benchmark, its targets, JSON, Markdown table and plot.

A benchmark ends with `run(Benchmark(...))` (see `benchmarks.harness`), and its command then takes

    python -m benchmarks.NAME [--quick] [--cases=PATTERN,...] [--output=FOLDER] [--memory_gib=16]

`--cases` measures those cases whose names hold one of the patterns, and keeps the others of the file that is there, so
that a long benchmark can be made in parts.
"""

from __future__ import annotations

import fnmatch
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Callable

from absl import app, flags

from benchmarks.harness import MEASURED, Case, Limits, Ratio, measure, ratio
from benchmarks.output_folder import define_output, output_folder
from benchmarks.ratio_plot import plot_ratios

FLAGS = flags.FLAGS
define_output("the results: JSON, Markdown and a picture")
flags.DEFINE_bool("quick", False, "A short form: shows that the benchmark runs, measures nothing.")
flags.DEFINE_list("cases", None, "Measure only cases whose name matches one of these (* for any); keep the others.")
flags.DEFINE_float("memory_gib", 16.0, "Memory that a process may hold; more 'does not fit'.", lower_bound=1.0)
flags.DEFINE_float("timeout", 600.0, "Seconds for one answer of a process.", lower_bound=1.0)

Results = dict[str, dict[str, Any]]  # of `measure`, by the name of the case


@dataclass(frozen=True)
class Target:
    """One number that was asked for.

    Attributes:
        name: what is measured, in words.
        sign: ">=" or "<=".
        limit: what was asked.
        measured: what came, or None where there is no measurement.
        spread: quartiles of it, or None.
        unit: behind the numbers, such as "x" or " MiB".
        note: for a target that is missed, what was tried; or how the number was made.
    """

    name: str
    sign: str
    limit: float
    measured: float | None
    spread: Sequence[float] | None = None
    unit: str = "x"
    note: str = ""

    @property
    def verdict(self) -> str:
        """Either "met", "missed" or "not measured"."""
        if self.measured is None:
            return "not measured"
        met = self.measured >= self.limit if self.sign == ">=" else self.measured <= self.limit
        return "met" if met else "missed"


def target_of_ratio(name: str, sign: str, limit: float, found: Ratio | None, note: str = "") -> Target:
    """A target about `harness.ratio`."""
    if found is None:
        return Target(name, sign, limit, None, note=note)
    return Target(name, sign, limit, found.median, found.quartiles, note=note)


@dataclass(frozen=True)
class Benchmark:
    """What `run` needs.

    Attributes:
        name: of the files, `<name>.json`, `.md` and `.png`.
        title: a sentence on what is measured, above the tables.
        cases: quick -> cases.
        targets: results -> targets; may leave out those without a case.
        command: as a user types it.
        tables: results -> Markdown between title and targets; None for one table a case.
        plot: (results, path of a .png) -> None; by default every subject's time over its baseline's.
    """

    name: str
    title: str
    cases: Callable[[bool], Sequence[Case]]
    targets: Callable[[Results], Sequence[Target]]
    command: str
    tables: Callable[[Results], str] | None = None
    plot: Callable[[Results, Path], None] = plot_ratios


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """`write` fills a file beside `path` with the same ending, which then takes its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def environment() -> dict[str, Any]:
    """What the numbers depend on, beside the code."""
    return {
        "tensorflow": metadata.version("tensorflow"),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }


def milliseconds(seconds: float) -> str:
    """With three digits."""
    value = 1e3 * seconds
    return f"{value:.3g} ms" if value < 1000 else f"{value:.0f} ms"


def case_table(name: str, result: dict[str, Any]) -> str:
    """A line for each subject: time, time over the baseline's, memory."""
    baseline, size = result["baseline"], result["input_bytes"]
    memory = "added memory" + (" (of the input's size)" if size else "")
    lines = [
        f"**{name}** (load average before: {result['load_before']:.1f})",
        "",
        f"| subject | a call, median (quartiles) | over {baseline}, median (quartiles) | rounds | {memory} | peak |",
        "|---|---|---|---|---|---|",
    ]
    for subject, found in result["subjects"].items():
        if found["status"] != MEASURED:
            lines.append(f"| {subject} | {found['status']}: {found['reason']} | | | | |")
            continue
        low, high = (milliseconds(value) for value in found["quartiles"])
        over = ratio(result, subject, baseline)
        relation = f"{over.median:.2f} ({over.quartiles[0]:.2f}, {over.quartiles[1]:.2f})" if over else ""
        added = f"{found['added_mib']:.1f} MiB"
        if size:
            added += f" ({found['added_mib'] * 2**20 / size:.1f}x)"
        lines.append(
            f"| {subject} | {milliseconds(found['median'])} ({low}, {high}) | {relation} | {len(found['seconds'])} | "
            f"{added} | {found['peak_mib']:.0f} MiB |"
        )
    return "\n".join(lines)


def targets_table(targets: Sequence[Target]) -> str:
    """Asked, measured, met or missed."""
    lines = ["| target | asked | measured (quartiles) | verdict | note |", "|---|---|---|---|---|"]
    for target in targets:
        measured = ""
        if target.measured is not None:
            measured = f"{target.measured:.3g}{target.unit}"
            if target.spread is not None:
                measured += f" ({target.spread[0]:.3g}, {target.spread[1]:.3g})"
        asked = f"{'at least' if target.sign == '>=' else 'at most'} {target.limit:g}{target.unit}"
        lines.append(f"| {target.name} | {asked} | {measured} | {target.verdict} | {target.note} |")
    return "\n".join(lines)


def markdown(benchmark: Benchmark, document: dict[str, Any], targets: Sequence[Target]) -> str:
    """The whole text."""
    about, results = document["environment"], document["cases"]
    parts = [
        f"{benchmark.title} TensorFlow {about['tensorflow']}, Python {about['python']}, {about['cores']} CPU cores. "
        f"Every subject in a process of its own, in turns; ratios are of one turn. Command: `{benchmark.command}"
        f"{' --quick' if document['quick'] else ''}`"
    ]
    if document["quick"]:
        parts.append("**The short form: it shows that the benchmark runs, and measures nothing.**")
    if benchmark.tables is not None:
        parts.append(benchmark.tables(results))
    else:
        parts += [case_table(name, result) for name, result in results.items()]
    if targets:
        parts.append(targets_table(targets))
    return "\n\n".join(parts) + "\n"


def earlier_cases(path: Path, quick: bool) -> Results:
    """Those of a file made by the same form of the benchmark in the same environment, else none."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        same = document["environment"] == environment() and document["quick"] == quick
        return document["cases"] if same else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def chosen(cases: Sequence[Case], patterns: Sequence[str] | None) -> list[Case]:
    """The cases whose names match.

    Raises:
        ValueError: a pattern matches none.
    """
    if not patterns:
        return list(cases)
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(case.name, f"*{pattern}*") for case in cases):
            names = ", ".join(repr(case.name) for case in cases)
            raise ValueError(f"--cases: {pattern!r} matches none of {names}")
    return [case for case in cases if any(fnmatch.fnmatchcase(case.name, f"*{p}*") for p in patterns)]


def write_results(benchmark: Benchmark, folder: Path, results: Results, quick: bool = False) -> list[Target]:
    """Writes JSON, Markdown and picture of what was measured; returns the targets."""
    document = {
        "benchmark": benchmark.name,
        "command": benchmark.command,
        "quick": quick,
        "environment": environment(),
        "cases": results,
    }
    targets = list(benchmark.targets(results))
    document["targets"] = [{**asdict(target), "verdict": target.verdict} for target in targets]
    path = folder / f"{benchmark.name}.json"
    write_atomically(path, lambda file: file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8"))
    table = markdown(benchmark, document, targets)
    write_atomically(path.with_suffix(".md"), lambda file: file.write_text(table, encoding="utf-8"))
    write_atomically(path.with_suffix(".png"), lambda file: benchmark.plot(results, file))
    return targets


def make(
    benchmark: Benchmark,
    folder: Path,
    quick: bool = False,
    patterns: Sequence[str] | None = None,
    limits: Limits = Limits(),  # noqa: B008 (immutable)
) -> bool:
    """Measures, and writes after every case; whether all subjects were measured or did not fit."""
    cases = benchmark.cases(quick)
    selected = chosen(cases, patterns)
    kept = earlier_cases(folder / f"{benchmark.name}.json", quick) if patterns else {}
    targets: list[Target] = []
    sound = True
    for case in selected:
        kept[case.name] = done = measure(case, limits)
        results = {each.name: kept[each.name] for each in cases if each.name in kept}
        targets = write_results(benchmark, folder, results, quick)
        print(case_table(case.name, done) + "\n", flush=True)
        sound &= not {"refused", "failed"} & {subject["status"] for subject in done["subjects"].values()}
    if targets:
        print(targets_table(targets), flush=True)
    return sound


def run(benchmark: Benchmark) -> None:
    """The command line of a benchmark."""

    def main(argv: Sequence[str]) -> None:
        if len(argv) > 1:
            raise app.UsageError(f"unexpected arguments: {argv[1:]}")
        limits = Limits(FLAGS.memory_gib, FLAGS.timeout)
        try:
            sound = make(benchmark, output_folder(), FLAGS.quick, FLAGS.cases, limits)
        except ValueError as error:
            sys.exit(str(error))
        if not sound:
            sys.exit("A subject failed or was refused; see the table.")

    app.run(main)
