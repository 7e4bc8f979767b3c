"""The notebooks as they are committed: run to the end, in order, without noise, over the package's own code."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

import attennorm_tf

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LARGEST = 1.5 * 2**20
SLOWEST = 240  # seconds
# Folders of the machine on which a notebook was run, warnings and log lines of libraries.
MACHINE_PATH = re.compile(r"(?<![\w.}])/(?:home|root|Users|work|opt|tmp|usr|var|private|mnt|content)/")
NOISE = re.compile(MACHINE_PATH.pattern + r"|Warning\b|WARNING|INFO:|Traceback|\x1b\[|oneDNN|cuda_|[IWE]0000 ")
SHOWN_BESIDE = {"image/png", "text/plain"}


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> tuple[Path, Any]:
    return request.param, nbformat.read(request.param, as_version=4)


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def trees(notebook: Any) -> list[ast.Module]:
    return [ast.parse(cell.source) for cell in code_cells(notebook)]


def test_there_are_five() -> None:
    assert [path.name[0] for path in NOTEBOOKS] == list("12345")


def test_is_valid_and_not_large(notebook: tuple[Path, Any]) -> None:
    path, content = notebook
    nbformat.validate(content)
    assert path.stat().st_size < LARGEST
    first = content.cells[0]
    assert first.cell_type == "markdown"
    assert re.match(rf"# {path.name[0]} · \w", first.source), "a notebook opens with its number and title"


def test_was_run_to_the_end_and_not_changed_since(notebook: tuple[Path, Any]) -> None:
    _, content = notebook
    cells = code_cells(content)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert [output for output in outputs if output.output_type == "error"] == []
    assert any(output.output_type in ("display_data", "execute_result") for output in outputs), "no picture"
    code = "\0".join(cell.source for cell in cells)
    run = content.metadata["attennorm_tf"]
    assert run["sources"] == hashlib.sha256(code.encode()).hexdigest(), "a cell was changed: make notebooks, in place"
    assert 0 < run["seconds"] < SLOWEST


def test_says_nothing_that_is_not_meant(notebook: tuple[Path, Any]) -> None:
    """No warnings, no log lines, no folders of the machine."""
    _, content = notebook
    found = []
    for number, cell in enumerate(content.cells):
        found += [f"cell {number}: {line}" for line in cell.source.splitlines() if MACHINE_PATH.search(line)]
        shown = []
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                shown.append(output.text)
                if output.name != "stdout":  # where a training tells how far it is
                    strange = [line for line in output.text.splitlines() if not re.match(r"step +\d+/\d+ ", line)]
                    assert strange == [], f"cell {number} writes to {output.name}"
            else:
                assert set(output.data) <= SHOWN_BESIDE
                shown.append(output.data.get("text/plain", ""))
        found += [f"cell {number}: {line}" for text in shown for line in text.splitlines() if NOISE.search(line)]
    assert found == []


def test_noise_is_recognized() -> None:
    for line in ("saved to /tmp/abc/x.png", "UserWarning: x", "  File /usr/lib/a.py", "\x1b[31merror", "I0000 00:00 x"):
        assert NOISE.search(line), line
    for line in ("runs/digits/tmp/x", "https://arxiv.org/tmp", "mean 0.5 / whole 1.0"):
        assert not NOISE.search(line), line


def public_names() -> set[str]:
    """Classes, functions and constants that some module of the package defines at its top."""
    names = set()
    for module in pkgutil.walk_packages(attennorm_tf.__path__, "attennorm_tf."):
        path = Path(importlib.util.find_spec(module.name).origin)  # type: ignore[union-attr, arg-type]
        if module.name.startswith("attennorm_tf.cli"):  # `run`, `main`: of commands, not of the package
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                names.add(node.name)
    return {name for name in names if not name.startswith("_")}


def test_uses_the_package_and_redefines_nothing_of_it(notebook: tuple[Path, Any]) -> None:
    _, content = notebook
    public = public_names()
    assert {"AttentiveNormalization", "regional_normalization", "inpaint", "export", "layout_sheet"} <= public
    defined, imported = set(), set()
    for tree in trees(content):
        for node in ast.walk(tree):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                defined.add(node.name)
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
                defined |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("attennorm_tf"):
                imported |= {alias.asname or alias.name for alias in node.names}
    assert imported, "imports nothing of the package"
    assert defined & public == set()


def test_what_it_imports_exists(notebook: tuple[Path, Any]) -> None:
    _, content = notebook
    for tree in trees(content):
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    assert importlib.util.find_spec(alias.name.split(".")[0]), alias.name
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                assert node.module is not None
                if node.module.split(".")[0] not in ("attennorm_tf", "train"):
                    assert importlib.util.find_spec(node.module.split(".")[0]), node.module
                    continue
                module = importlib.import_module(node.module)
                assert [alias.name for alias in node.names if not _has(module, alias.name)] == [], node.module


def test_links_lead_somewhere(notebook: tuple[Path, Any]) -> None:
    path, content = notebook
    for cell in content.cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(([^)#]+)\)", cell.source):
                assert target.startswith("https://") or (path.parent / target).exists(), target


def _has(module: Any, name: str) -> bool:
    return hasattr(module, name) or importlib.util.find_spec(f"{module.__name__}.{name}") is not None


def _written(folder: Path, name: str, *cells: str) -> Path:
    path = folder / f"{name}.ipynb"
    content = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(content, path)
    return path


def _executed(folder: Path, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "notebooks/execute.py"), f"--output={folder / 'out'}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_running_them_fails_on_an_error(tmp_path: Path) -> None:
    cells = ("import os; os.write(2, b'chatter'); x = 2", "print(20 * x + x)")
    good = _written(tmp_path, "good", *cells)
    wrong = _written(tmp_path, "wrong", "x = 1", "x / 0", "print('after')")
    before = [good.read_bytes(), wrong.read_bytes()]
    done = _executed(tmp_path, good, wrong)
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert [lines[0].split(), lines[-1]] == [["notebook", "seconds", "KiB"], "1 done, 1 failed"]
    assert re.fullmatch(r"good\.ipynb +\d+\.\d +1", lines[1])
    assert lines[2].split() == ["wrong.ipynb", "FAILED"]
    assert "ZeroDivisionError" in done.stderr
    assert "chatter" not in done.stdout + done.stderr
    assert [good.read_bytes(), wrong.read_bytes()] == before
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.ipynb"]
    run = nbformat.read(tmp_path / "out/good.ipynb", as_version=4)
    assert [output.text for cell in run.cells for output in cell.get("outputs", [])] == ["42\n"]
    assert [cell.execution_count for cell in run.cells] == [1, 2]
    assert run.metadata["attennorm_tf"]["sources"] == hashlib.sha256("\0".join(cells).encode()).hexdigest()


def test_running_them_fails_after_the_limit(tmp_path: Path) -> None:
    done = _executed(tmp_path, "--limit=2", _written(tmp_path, "slow", "import time; time.sleep(60)", "1"))
    assert done.returncode == 1
    assert done.stdout.splitlines()[1].split() == ["slow.ipynb", "FAILED"]
    assert re.search(r"slow\.ipynb: (CellTimeoutError|TimeoutError): ", done.stderr)
    assert not (tmp_path / "out").exists()
