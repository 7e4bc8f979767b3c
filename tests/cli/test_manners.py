"""One style over all commands: examples, versions, mistakes, exit codes, silence; and the doctor."""

from __future__ import annotations

import ast
import configparser
import importlib
import os
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import attennorm_tf
from attennorm_tf.cli import doctor
from attennorm_tf.cli.help_text import help_text
from attennorm_tf.cli.start_up import errors_unheard
from attennorm_tf.inference import self_check as checks
from attennorm_tf.layers import attentive_normalization
from tests.processes import run_module

ROOT = Path(__file__).parents[2]
# Flags that are another kind of value in another command, and why.
DIFFERENT = {
    "checkpoint": "an alias of --model where several are evaluated at once",
    "model": "several at once in attennorm-evaluate-inpainting",
    "name": "one for each of several results",
    "format": "several at once in attennorm-export",
}
# Their defaults depend on what is done with the images.
OWN_DEFAULTS = {"batch_size", "count", "num_images", "images", "max_pixels"}


def _commands() -> dict[str, str]:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = parser["options.entry_points"]["console_scripts"].strip().splitlines()
    return {name.strip(): target.strip().split(":")[0] for name, target in (line.split("=") for line in lines)}


@pytest.mark.parametrize(("name", "module"), _commands().items())
def test_every_command_teaches_with_an_example(name: str, module: str) -> None:
    command = importlib.import_module(module)
    assert command.__doc__ is not None
    first, *rest = command.__doc__.splitlines()
    assert first.startswith(f"{name}: ")
    assert any(re.match(rf"    {name}\b", line) for line in rest)
    assert f"`{name}`" in (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    for flag in getattr(command, "_FLAGS", {}):
        assert command._FLAGS[flag].help, flag


def test_a_flag_of_one_name_has_one_type_and_default() -> None:
    types: dict[str, set] = {}
    defaults: dict[str, set] = {}
    for module in _commands().values():
        own = getattr(importlib.import_module(module), "_FLAGS", {})
        for name in own:
            types.setdefault(name, set()).add(own[name].flag_type())
            defaults.setdefault(name, set()).add(repr(own[name].default))
    assert {"average", "checkpoint", "seed", "images", "masks", "classes", "interpolate", "steps"} <= types.keys()
    assert {name: kinds for name, kinds in types.items() if len(kinds) > 1}.keys() == DIFFERENT.keys()
    assert {name: one for name, one in defaults.items() if len(one) > 1}.keys() <= DIFFERENT.keys() | OWN_DEFAULTS


def test_what_means_the_same_is_called_the_same() -> None:
    """Every way to name a trained model, to choose its weights and to name what a server has."""
    for module in _commands().values():
        own = set(getattr(importlib.import_module(module), "_FLAGS", {}))
        assert not own & {"weights", "ema", "version", "workdir", "out", "output_dir", "num", "batch"}, module
        assert "checkpoint" not in own or "average" in own, module
        if module != "attennorm_tf.cli.demo":  # its --model is a run, a SavedModel or a server
            assert "model" not in own or own & {"checkpoint", "model_name"}, module


def test_the_flags_of_several_commands_are_documented() -> None:
    commands = [set(getattr(importlib.import_module(module), "_FLAGS", {})) for module in _commands().values()]
    for name in ("gan", "inpainting", "reproduce"):
        source = (ROOT / "train" / f"{name}.py").read_text(encoding="utf-8")
        commands.append(set(re.findall(r"DEFINE_\w+\(\s*\"(\w+)\"", source)))
    everything = [flag for flags in commands for flag in flags]
    shared = {flag for flag in everything if everything.count(flag) > 1}
    assert {"average", "config", "data_root", "workdir"} <= shared
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`--.*?) \|", text, flags=re.MULTILINE)
    documented = [flag for row in rows for flag in re.findall(r"`--(\w+)`", row)]
    assert sorted(documented) == sorted(shared)


def test_help_and_version_are_no_failures() -> None:
    shown = run_module("attennorm_tf.cli.sample", "--help")
    assert shown.returncode == 0
    assert "    attennorm-sample --checkpoint=runs/digits" in shown.stdout
    for flag in ("--checkpoint", "--[no]verbose", "--[no]version"):
        assert re.search(rf"^ +{re.escape(flag)}", shown.stdout, flags=re.MULTILINE), flag
    stack = "current" if int(metadata.version("keras")[0]) > 2 else "classic"
    expected = (
        f"attennorm_tf {attennorm_tf.__version__}\nTensorFlow {tf.__version__}, Keras {metadata.version('keras')} "
        f"(the {stack} stack), Python {'.'.join(map(str, sys.version_info[:3]))}\n"
    )
    for module in ("attennorm_tf.cli.sample", "attennorm_tf.cli.export"):
        done = run_module(module, "--version")
        assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


def test_help_fits_80_columns() -> None:
    """The same words as in the docstring; and so does what absl adds, the flags."""
    paths = [ROOT / f"{module.replace('.', '/')}.py" for module in _commands().values()]
    for path in [*paths, *(ROOT / "train" / f"{name}.py" for name in ("gan", "inpainting", "reproduce"))]:
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")), clean=False)
        assert text is not None
        shown = help_text(text)
        assert [line for line in shown.splitlines() if len(line) > 80] == [], path
        assert [word for word in shown.split() if word != "\\"] == text.split(), path
    for module in ("attennorm_tf.cli.visualize", "train.gan"):
        done = run_module(module, "--help")
        assert done.returncode == 0, done.stderr
        assert [line for line in done.stdout.splitlines() if len(line) > 80] == []
        assert re.search(r"^    \S.* \\$", done.stdout, flags=re.MULTILINE), "examples go on in the next line"


def test_a_command_in_help_goes_on_where_a_flag_begins() -> None:
    text = "do: it\nall.\n\n    do --one=1 --two=2 three\n    do --x  a text\n        of two lines\n\nEnd - of it."
    assert help_text(text, 20) == (
        "do: it all.\n\n    do --one=1 \\\n        --two=2 three\n    do --x  a text\n            of two\n"
        "            lines\n\nEnd - of it."
    )
    assert help_text(help_text(text, 80), 80) == help_text(text, 80)


def test_mistakes_are_one_line() -> None:
    """And their exit code is 2 where the command line is wrong, 1 where it is not but cannot be done."""
    given = ["--checkpoint=x", "--output=y"]
    for module, arguments, code, message in (
        (
            "sample",
            ["--chekpoint=x", "--output=y"],
            2,
            "Unknown command line flag 'chekpoint'. Did you mean: checkpoint? See --help.",
        ),
        ("sample", ["--output=y"], 2, "--checkpoint is needed. See --help."),
        ("sample", [*given, "z"], 2, "unexpected argument 'z'; all options are flags, see --help."),
        ("sample", [*given, "--count=0"], 2, "--count=0: 0 is not a positive integer"),
        ("visualize", [*given, "--kind=layout"], 2, "--kind: 'layout' is not one of layouts, entities, statistics"),
        ("inpaint", ["--model=x", "--output=y", "--image=z"], 2, "either --image and --mask, or --images and --masks"),
        ("compare_results", [], 2, "name one or more results"),
        ("sample", ["--checkpoint=nowhere", "--output=y"], 1, "nowhere does not exist"),
    ):
        done = run_module(f"attennorm_tf.cli.{module}", *arguments)
        assert (done.returncode, done.stdout) == (code, ""), (done.stdout, done.stderr)
        assert done.stderr.startswith("error: ")
        assert message in done.stderr
        assert done.stderr.count("\n") == 1


def test_what_is_not_to_be_heard_is_shown_with_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with errors_unheard():
        os.write(2, b"chatter\n")
    assert capfd.readouterr().err == ""

    def fail() -> None:
        with errors_unheard():
            os.write(2, b"libfoo.so is missing\n")
            raise ImportError("broken")

    with pytest.raises(ImportError, match="broken"):
        fail()
    assert capfd.readouterr().err == "libfoo.so is missing\n"
    os.write(2, b"heard again\n")
    assert capfd.readouterr().err == "heard again\n"


def _doctor(capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = doctor.run()
    said = capsys.readouterr().out
    assert max(len(line) for line in said.splitlines()) <= 80
    return code, said


def test_the_doctor_finds_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = _doctor(capsys)
    assert code == 0
    assert said.startswith(f"attennorm_tf {attennorm_tf.__version__}\nTensorFlow {tf.__version__}")
    assert re.search(r"^  CPU:0: \w+, \d+ cores$", said, flags=re.MULTILINE)
    devices = len(tf.config.list_logical_devices("CPU"))
    assert said.count("  ok      ") == 3 + devices
    assert said.endswith(f"\nall {3 + devices} checks passed\n")


def test_the_doctor_finds_a_layer_that_raises(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: object, **options: object) -> tf.Tensor:
        raise RuntimeError("no such kernel\nand more")

    for name in ("attentive_inference", "regional_normalization"):
        monkeypatch.setattr(attentive_normalization, name, broken)
    code, said = _doctor(capsys)
    assert code == 1
    assert re.search(r"FAILED  output on CPU:0 = the formula in float64: *\n? *RuntimeError: no such kernel", said)
    assert re.search(r"(\d) of \1 checks failed: results cannot be trusted on this machine", said)


def test_a_wrong_output_and_a_wrong_gradient_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = attentive_normalization.attentive_inference

    def found(broken: Any) -> list[bool]:
        monkeypatch.setattr(attentive_normalization, "attentive_inference", broken)
        return [checks._check("", attempt, "CPU:0").passed for attempt in (checks._forward, checks._gradient)]

    assert found(right) == [True, True]
    # Another function with its own gradient; the right function with another gradient.
    assert found(lambda *rest, **options: 1.001 * right(*rest, **options)) == [False, True]
    assert found(lambda *rest, **options: _without_gradient(right(*rest, **options))) == [True, False]


def _without_gradient(values: tf.Tensor) -> tf.Tensor:
    return 0.99 * values + tf.stop_gradient(0.01 * values)


def test_the_reference_is_the_formula() -> None:
    """By hand: one entity, whose layout is 1 everywhere, is instance normalization."""
    layer = attentive_normalization.AttentiveNormalization(num_entities=1, value_projection=True, dtype="float64")
    layer.build((None, None, None, 3))
    layer.rho.assign(2.0)
    layer.value_kernel.assign(np.eye(3))
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 3))
    mean, std = x.mean(axis=(1, 2), keepdims=True), x.std(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(checks.reference(layer, x), 2 * (x - mean) / std + x, rtol=1e-3)


def test_the_doctor_tells_which_extra_brings_what(monkeypatch: pytest.MonkeyPatch) -> None:
    required = [
        "tensorflow>=2.15.1", 'numpy>=1; extra == "data"', 'no-such-package>=1 ; extra == "hub"',
        "pytest; extra == 'test'",
    ]  # fmt: skip
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: required)
    assert [line.split(None, 2) for line in doctor.package_lines()] == [
        ["data", "numpy", metadata.version("numpy")],
        ["hub", "no-such-package", "missing: pip install 'attennorm_tf[hub]'"],
    ]

    def missing(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.metadata, "requires", missing)
    assert doctor.package_lines() == ["unknown: the package itself is not installed, it runs from a folder"]
