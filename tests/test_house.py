"""The repository's own rules: nothing of one machine in it, small files, and every experiment file valid."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest

from attennorm_tf import __version__
from tests.ordering import SLOWEST, place

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(path for path in (ROOT / "train/configs").rglob("*.py") if path.stem != "__init__")
MACHINE_PATH = re.compile(r"(?<![\w.}])/(?:home|root|Users|work|opt)/[\w.]")


BINARY = (".png", ".gif", ".npz", ".index", ".data-00000-of-00001")


def text_files() -> Iterator[Path]:
    """Every file of the repository that a person wrote, and the locks."""
    yield from (path for path in ROOT.iterdir() if path.is_file() and path.name != ".git")
    for folder in (
        "attennorm_tf",
        "train",
        "tests",
        "benchmarks",
        "docs",
        "notebooks",
        "requirements",
        "serving",
        ".ci",
    ):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix not in BINARY:
                yield path


def settings() -> ConfigParser:
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def test_no_path_of_one_machine():
    found = []
    for path in text_files():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if MACHINE_PATH.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert found == []


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.name)
def test_lock_is_hashed_and_names_no_address(path):
    text = path.read_text(encoding="utf-8")
    assert "://" not in text
    assert "index-url" not in text
    pinned = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE | re.IGNORECASE)[1:]
    assert pinned
    assert [entry for entry in pinned if "==" not in entry or "--hash=sha256:" not in entry] == []


def test_classic_pins_are_in_the_classic_lock():
    lock = (ROOT / "requirements/classic.txt").read_text(encoding="utf-8")
    pins = settings()["options.extras_require"]["classic"].split()
    exact = [pin for pin in pins if "==" in pin]
    assert exact
    assert [pin for pin in exact if not re.search(rf"^{re.escape(pin)}\s", lock, flags=re.MULTILINE)] == []


def test_build_backend_only():
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "[build-system]"
    assert len(lines) == 3


def test_version_and_changelog():
    assert settings()["metadata"]["version"] == __version__
    assert re.search(rf"^## \[{re.escape(__version__)}\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)


def test_types_are_shipped():
    assert (ROOT / "attennorm_tf/py.typed").is_file()
    assert "py.typed" in settings()["options.package_data"]["attennorm_tf"]


def test_files_are_short():
    long = {}
    for folder in ("attennorm_tf", "train", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            long[path.relative_to(ROOT).as_posix()] = len(path.read_text(encoding="utf-8").splitlines())
    assert {name: lines for name, lines in long.items() if lines > 350} == {}


def test_files_that_go_first_are_there(request):
    assert [name for name in SLOWEST if not (ROOT / name).is_file()] == []
    assert len(set(SLOWEST)) == len(SLOWEST)
    assert place(ROOT / SLOWEST[0]) < place(ROOT / SLOWEST[1]) < place(Path(__file__))
    places = [place(item.path) for item in request.session.items]
    assert places == sorted(places)


def test_there_are_experiments():
    assert "digits_attennorm" in {path.stem for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_experiment_loads_and_validates(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.get_config().validate()
    header = module.__doc__ or ""
    assert f"--config={path.relative_to(ROOT).as_posix()}" in header, "a config opens with the command that runs it"
    assert "Result:" in header, "and with its result, or `Result: not run`"
