"""Programs of TensorFlow's functions, run by jaxlib in a process without TensorFlow."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import xla_program, xla_runner
from benchmarks.xla_functions import FUNCTIONS

RUNNER = Path(xla_runner.__file__)
SMALL = {  # function: size, batch, type, whether large inputs are stored
    "attentive_normalization": (16, 1, "bfloat16", True),
    "regional_normalization": (32, 1, "float32", False),
    "layer_training": (8, 2, "float32", True),
}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("programs")
    for function, (size, batch, dtype, store) in SMALL.items():
        xla_program.write_program(root / function, function, size, batch, dtype, store)
    return {function: root / function for function in SMALL}


def run(*arguments: object) -> tuple[int, list[dict[str, Any]], str]:
    """The runner as a file by itself, in an empty folder; TensorFlow cannot be imported there."""
    code = (
        "import runpy, sys; sys.modules['tensorflow'] = None; sys.argv = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-I", "-c", code, str(RUNNER), "--platform=cpu", "--rounds=2", "--round_seconds=0.001"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    assert done.stdout.strip(), done.stderr[-2000:]
    return done.returncode, json.loads(done.stdout.strip().splitlines()[-1]), done.stderr


@pytest.mark.slow
def test_jaxlib_computes_what_tensorflow_does(programs: dict[str, Path], tmp_path: Path) -> None:
    """All in one process; and one whose expected outputs were changed is found out, and not timed."""
    wrong = tmp_path / "wrong"
    shutil.copytree(programs["regional_normalization"], wrong)
    about = json.loads((wrong / "program.json").read_text())
    stored = np.load(wrong / about["outputs"][0]["expected"], allow_pickle=False)
    stored[7] += 0.01 * about["outputs"][0]["scale"]
    np.save(wrong / about["outputs"][0]["expected"], stored)
    code, rows, told = run(*programs.values(), wrong)
    assert code == 1
    *right, last = rows
    assert [row.get("failed") for row in right] == [None] * len(SMALL), told[-2000:]
    for row, (_, _, dtype, _) in zip(right, SMALL.values()):
        assert row["error"] <= {"float32": 3e-5, "bfloat16": 0.02}[dtype], row["name"]
        assert len(row["rounds_ms"]) == 2
        assert row["ms"] > 0
    assert last["error"] == pytest.approx(0.01, rel=0.02)
    assert "outputs differs from TensorFlow's by 0.01 of its largest value" in last["failed"]
    assert "ms" not in last


def test_what_a_folder_holds(programs: dict[str, Path]) -> None:
    about = json.loads((programs["layer_training"] / "program.json").read_text())
    assert [entry["name"] for entry in about["inputs"][:2]] == ["images", "upstream"]
    files = {entry["file"] for entry in about["inputs"]} | {entry["expected"] for entry in about["outputs"]}
    there = {path.name for path in programs["layer_training"].iterdir()}
    assert there == files | {"program.hlo", "program.json"}
    for entry in about["inputs"]:
        assert list(np.load(programs["layer_training"] / entry["file"], allow_pickle=False).shape) == entry["shape"]
    # The counter of the draws is read and updated: an input, and the last output.
    (counter,) = [entry for entry in about["outputs"] if entry["updates"] is not None]
    assert counter is about["outputs"][-1]
    before = np.load(programs["layer_training"] / about["inputs"][counter["updates"]]["file"])
    after = np.load(programs["layer_training"] / counter["expected"])
    assert before.dtype == after.dtype == np.int64
    assert (after - before).sum() == 1
    changed = {**about, "inputs": about["inputs"][1:]}
    with pytest.raises(ValueError, match=r"layer_training: the program's inputs are .*, not"):
        xla_program.check_description((programs["layer_training"] / "program.hlo").read_bytes(), changed)


def test_large_inputs_by_a_seed(programs: dict[str, Path]) -> None:
    about = json.loads((programs["regional_normalization"] / "program.json").read_text())
    assert not list(programs["regional_normalization"].glob("in_*"))
    layout = xla_runner.load(programs["regional_normalization"], about["inputs"][1])
    np.testing.assert_allclose(layout.sum(-1), 1, atol=1e-6)
    values = xla_runner.seeded({"mean": 2.0, "std": 0.5, "seed": 3, "softmax": False}, [100, 100])
    assert abs(values.mean() - 2) < 0.02
    assert abs(values.std() - 0.5) < 0.02
    again = np.random.RandomState(3).standard_normal([100, 100])
    np.testing.assert_allclose(values, 2 + 0.5 * again, atol=1e-6)
    # Of large outputs a sample is kept, at places that the runner finds again.
    places = xla_runner.sampled(np.arange(10_000), {"count": 50, "seed": 0})
    assert len(places) == 50
    assert len(set(places)) > 40


def test_ratios_and_shares() -> None:
    """A program that moves twice the bytes of the copy in four times its time has half its bandwidth."""
    row = {"group": "g", "rounds_ms": [4.0, 8.0, 4.0], "ms": 4.0, "traffic_bytes": 200, "baseline": False}
    base = {**row, "rounds_ms": [1.0, 2.0, 1.0], "ms": 1.0, "traffic_bytes": 100, "baseline": True, "function": "copy"}
    rows = [{**row, "function": "regional_normalization"}, base, {**row, "group": "other", "function": "gan_step"}]
    xla_program.with_ratios(rows)
    assert rows[0]["times_faster"] == 0.25
    assert rows[0]["share_of_copy"] == 0.5
    assert "times_faster" not in rows[1]
    assert "times_faster" not in rows[2]


def test_every_function_has_a_group_with_a_baseline_or_none() -> None:
    for name, kind in FUNCTIONS.items():
        assert not kind.baseline or FUNCTIONS[kind.baseline].group == kind.group, name


def test_what_is_no_program(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is no program: it holds no program.json"):
        xla_program.run_programs([tmp_path])
