"""attennorm-compare-results as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attennorm_tf.cli import compare_results as command
from tests.inference.test_compare_results import result
from tests.processes import run_module


def compare(*arguments: str) -> int:
    for name in command._FLAGS:
        command._FLAGS[name].unparse()
    return command.run(command._FLAGS(["command", *arguments])[1:])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(result(name, seed=seed)))
    return tmp_path


def test_a_table_on_the_terminal_and_in_a_file(place, capsys):
    output = place / "tables" / "table.md"
    assert compare(str(place / "a"), str(place / "c" / "results.json"), f"--output={output}") == 0
    printed = capsys.readouterr().out
    assert "samples.seed: 0 / 1" in printed
    assert "| c a) |" in output.read_text()
    assert compare("--strict", "--name=x,y", str(place / "a"), str(place / "b")) == 0
    assert "\nx  " in capsys.readouterr().out


def test_mistakes(place):
    for arguments, message in (
        ([], "name one or more results"),
        ([place / "a", "--name=x,y"], "--name: expected one for each of 1 results, got 2"),
        ([place / "a", f"--output={place}"], "is a folder, expected a file"),
        ([place / "a", place / "none"], "none cannot be read"),
    ):
        with pytest.raises(ValueError, match=message):
            compare(*map(str, arguments))


def test_strict_ends_with_one_line_and_an_exit_code(place):
    paths = [str(place / name) for name in ("a", "b", "c")]
    done = run_module(
        "attennorm_tf.cli.compare_results",
        *paths,
        "--strict",
        f"--output={place / 'x.md'}",
        env={"CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == "error: --strict: a and c were not measured alike: samples.seed: 0 / 1."
    assert not (place / "x.md").exists()
