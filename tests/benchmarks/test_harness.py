"""The benchmarks' harness: subjects in processes of their own, wrong outputs, refused memory, files and targets."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from benchmarks import harness, harness_report, harness_worker, ratio_plot
from benchmarks.harness import Case, Limits, Prepared, Subject
from benchmarks.harness_report import Benchmark, Target

ROOT = Path(__file__).parents[2]


def sleeping(seconds: float) -> Prepared:
    """Takes as long as it is told; the first two calls, which are not timed, hold 64 MiB meanwhile."""
    calls = []

    def call() -> np.ndarray:
        calls.append(seconds)
        held = np.ones(8 * 2**20 if len(calls) <= 2 else 4)
        time.sleep(seconds)
        return held[:4] + np.arange(4)

    return Prepared(call, shapes=[(4,)], error=lambda out: harness_worker.relative_error(out, np.arange(1, 5)))


def answering(kind: str) -> Prepared:
    """An output that is right, or wrong in the way named; says on its standard error when it is timed."""
    calls = []

    def call() -> np.ndarray:
        calls.append(kind)
        if len(calls) > 2:
            sys.stderr.write(f"{kind} is timed\n")
            sys.stderr.flush()
        values = np.arange(6.0).reshape(2, 3)
        return {
            "right": values,
            "shape": values.T,
            "value": values + 0.1,
            "nan": np.where(values == 2, np.nan, values),
            "constant": np.ones((2, 3)),
            "nothing": None,
        }[kind]

    expected = np.arange(6.0).reshape(2, 3)
    return Prepared(call, shapes=[(2, 3)], error=lambda out: harness_worker.relative_error(out, expected))


def failing(how: str) -> Prepared:
    if how == "raises":
        raise KeyError("no such network")
    if how == "exits":
        sys.exit("the library is missing")
    time.sleep(60)
    return answering("right")


def allocating(gib: float, library: str) -> Prepared:
    """Asks for memory when it is called."""
    elements = int(gib * 2**28)
    if library == "numpy":
        return Prepared(lambda: np.ones(elements, np.float32)[:4] + np.arange(4))
    import tensorflow as tf

    call = tf.function(lambda size: tf.cumsum(tf.ones([size]))[:4])  # of a constant size it would be folded: a minute
    return Prepared(lambda: call(tf.constant(elements)))


def run(*subjects: Subject, memory_gib: float = 16.0, seconds: float = 100.0, **options) -> dict:
    return harness.measure(Case("case", subjects, **options), Limits(memory_gib, seconds))


@pytest.fixture(scope="module")
def two_speeds() -> dict:
    subjects = [Subject(f"{s} s", sleeping, {"seconds": s}) for s in (0.01, 0.03)]
    return run(*subjects, rounds=5, baseline="0.01 s", input_bytes=32 * 2**20)


def test_times_memory_and_ratio_of_known_subjects(two_speeds) -> None:
    fast, slow = two_speeds["subjects"]["0.01 s"], two_speeds["subjects"]["0.03 s"]
    assert fast["status"] == slow["status"] == "measured"
    assert len(fast["seconds"]) == len(slow["seconds"]) == 5
    assert 0.01 <= fast["median"] < 0.03 <= slow["median"]
    assert fast["fastest"] <= fast["quartiles"][0] <= fast["median"] <= fast["quartiles"][1]
    # 64 MiB, but for some pages that were in use before; the kernel's counters lag by up to 64 pages a reading.
    assert 63.9 - 2 * 0.25 <= fast["added_mib"] < 80
    assert fast["peak_mib"] > fast["added_mib"]
    assert fast["error"] == 0
    found = harness.ratio(two_speeds, "0.03 s", "0.01 s")
    assert 1.5 < found.median < 4
    assert found.quartiles[0] <= found.median <= found.quartiles[1]
    assert harness.ratio(two_speeds, "0.03 s", "another") is None


def test_a_wrong_output_is_refused_before_it_is_timed(monkeypatch) -> None:
    reasons = {
        "shape": "the outputs have shapes [(3, 2)], expected [(2, 3)]",
        "value": "the outputs are 0.02 off the reference, 0.001 is allowed",
        "nan": "an output is not finite",
        "constant": "all outputs are of one value",
        "nothing": "there is no output",
    }
    written = {}
    close = harness.Worker.close

    def keep_words(worker: harness.Worker) -> None:
        written.setdefault(worker.subject.name, worker.last_words())
        close(worker)

    monkeypatch.setattr(harness.Worker, "close", lambda self: self._output.closed or keep_words(self))
    results = run(*(Subject(kind, answering, {"kind": kind}) for kind in [*reasons, "right"]), rounds=3)["subjects"]
    for kind, reason in reasons.items():
        assert results[kind] == {"status": "refused", "reason": reason}
        assert "is timed" not in written[kind]
    assert len(results["right"]["seconds"]) == 3
    assert "right is timed" in written["right"]


def test_what_does_not_fit_is_a_result() -> None:
    sizes = [("numpy", 0.01), ("numpy", 3.0), ("tensorflow", 3.0)]
    subjects = [Subject(f"{library} {gib}", allocating, {"library": library, "gib": gib}) for library, gib in sizes]
    results = run(*subjects, memory_gib=2.0, rounds=3)["subjects"]
    assert results["numpy 0.01"]["status"] == "measured"
    assert results["numpy 3.0"] == {"status": "does not fit", "reason": "limit 2 GiB"}
    reason = "no room for a tensor of 805306368, 3.0 GiB in float32; limit 2 GiB"
    assert results["tensorflow 3.0"] == {"status": "does not fit", "reason": reason}


def test_a_subject_that_fails_says_why_and_the_others_go_on() -> None:
    subjects = [Subject(how, failing, {"how": how}) for how in ("raises", "exits")]
    results = run(*subjects, Subject("right", answering, {"kind": "right"}), rounds=3)["subjects"]
    assert results["raises"] == {"status": "failed", "reason": "KeyError: 'no such network'"}
    assert results["exits"] == {"status": "failed", "reason": "ended with exit code 1: the library is missing"}
    assert results["right"]["status"] == "measured"
    results = run(Subject("sleeps", failing, {"how": "sleeps"}), seconds=2.0)["subjects"]
    assert results["sleeps"] == {"status": "failed", "reason": "stopped after 2 s"}


def benchmark(*names: str) -> Benchmark:
    def cases(quick: bool) -> list[Case]:
        subjects = [Subject(f"{s} s", sleeping, {"seconds": s}) for s in (0.001, 0.002)]
        return [Case(name, subjects, rounds=3 if quick else 4) for name in names]

    def targets(results: harness_report.Results) -> list[Target]:
        found = harness.ratio(results["first"], "0.002 s", "0.001 s") if "first" in results else None
        return [
            harness_report.target_of_ratio("twice as long", ">=", 1.0, found),
            harness_report.target_of_ratio("no longer", "<=", 0.5, found, "sleep is sleep"),
        ]

    def plot(results: harness_report.Results, path: Path) -> None:
        path.write_text(" ".join(results))

    return Benchmark("made_up", "Sleep.", cases, targets, "python -m made_up", plot=plot)


def test_files_targets_and_parts(tmp_path: Path) -> None:
    whole = benchmark("first", "second")
    assert harness_report.make(whole, tmp_path, patterns=["sec"])
    document = json.loads((tmp_path / "made_up.json").read_text())
    assert list(document["cases"]) == ["second"]
    assert [target["verdict"] for target in document["targets"]] == ["not measured"] * 2
    assert harness_report.make(whole, tmp_path, patterns=["first"])
    document = json.loads((tmp_path / "made_up.json").read_text())
    assert list(document["cases"]) == ["first", "second"]
    assert [target["verdict"] for target in document["targets"]] == ["met", "missed"]
    text = (tmp_path / "made_up.md").read_text()
    assert "Command: `python -m made_up`" in text
    assert "| no longer | at most 0.5x |" in text
    assert "| missed | sleep is sleep |" in text
    assert (tmp_path / "made_up.png").read_text() == "first second"
    assert harness_report.make(whole, tmp_path, quick=True, patterns=["sec"])  # another form: nothing is kept
    assert list(json.loads((tmp_path / "made_up.json").read_text())["cases"]) == ["second"]
    assert "measures nothing" in (tmp_path / "made_up.md").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made_up.json", "made_up.md", "made_up.png"]
    with pytest.raises(ValueError, match=r"--cases: 'third' matches none of 'first', 'second'"):
        harness_report.make(whole, tmp_path, patterns=["third"])


def test_a_picture_of_ratios_holds_every_case_and_subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bars reach from 1 to the median of the ratios within a round."""

    def measured(*seconds: float) -> dict[str, Any]:
        return {"status": "measured", "seconds": list(seconds)}

    subjects = {
        "one": measured(1.0, 2.0, 4.0), "twice": measured(2.0, 4.0, 8.0), "half": measured(0.5, 1.0, 2.0),
        "large": {"status": "does not fit", "reason": "no room"},
    }  # fmt: skip
    bars = []
    draw = Axes.barh

    def record(axes: Any, place: float, width: float, **options: Any) -> Any:
        bars.append((place, options["left"] + width))
        return draw(axes, place, width, **options)

    monkeypatch.setattr(Axes, "barh", record)
    results = {name: {"baseline": "one", "subjects": subjects} for name in ("small", "large")}
    ratio_plot.plot_ratios(results, tmp_path / "ratios.png")
    assert bars == [(0, 1.0), (1, 2.0), (2, 0.5)] * 2
    with Image.open(tmp_path / "ratios.png") as picture:
        picture.load()
        assert picture.height > 2 * 4 * 20


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "made_up.png"
    path.write_text("before")

    def write(file: Path) -> None:
        file.write_text("half of")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        harness_report.write_atomically(path, write)
    assert [file.name for file in tmp_path.iterdir()] == ["made_up.png"]
    assert path.read_text() == "before"


def test_all_benchmarks_are_listed_and_each_has_its_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--list"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    commands = [line.split(": ", 1)[1] for line in done.stdout.splitlines()]
    assert len(commands) >= 5
    for command in commands:
        module = command.split()[2]
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module
    done = subprocess.run([sys.executable, "-m", "benchmarks", "lair"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no benchmark is called lair; there are " in done.stderr
