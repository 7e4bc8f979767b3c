"""Runs the notebooks from nothing, each in a fresh kernel, and fails on an error or after four minutes.

    make notebooks                                               # all of them, into build/notebooks
    make notebooks NOTEBOOKS="notebooks/1_the_layer.ipynb"       # only this one
    make notebooks NOTEBOOKS_FLAGS=--in_place                    # keep the new outputs, to be committed

Needs the package with its extra `notebooks` (nbclient, nbformat, ipykernel).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

HERE = Path(__file__).resolve().parent
LIMIT = 240  # seconds for one notebook
# What libraries write to the descriptors (TensorFlow's start-up) is no part of a notebook: `execute` keeps it aside.
KERNEL_ARGUMENTS = ["--IPKernelApp.capture_fd_output=False"]


def sources_hash(notebook: Any) -> str:
    """Of the code cells: kept with the outputs, so that a test sees when a cell was changed and not run again."""
    code = "\0".join(cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code")
    return hashlib.sha256(code.encode("utf-8")).hexdigest()


def execute(path: Path, limit: int = LIMIT) -> tuple[Any, float]:
    """Runs one notebook in its own folder.

    Args:
        path: the .ipynb.
        limit: seconds that it may take, the start of the kernel included.

    Returns:
        The notebook with new outputs, and the seconds it took.

    Raises:
        CellExecutionError: a cell failed.
        CellTimeoutError, TimeoutError: it took longer than `limit`.
        DeadKernelError: the kernel ended.
    """
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.metadata = {}
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    client = NotebookClient(
        notebook, kernel_name="python3", record_timing=False, coalesce_streams=True,
        extra_arguments=KERNEL_ARGUMENTS, resources={"metadata": {"path": str(path.resolve().parent)}},
    )  # fmt: skip
    start = time.monotonic()
    with tempfile.TemporaryFile() as said, client.setup_kernel(env=_environment(), stdout=said, stderr=said):
        for index, cell in enumerate(notebook.cells):
            left = limit - (time.monotonic() - start)
            if left <= 0:
                raise TimeoutError(f"not done after {limit} s: cell {index} of {len(notebook.cells)} is next")
            client.timeout = max(1, round(left))
            try:
                client.execute_cell(cell, index)
            except DeadKernelError as error:
                said.seek(0)
                raise DeadKernelError(f"{error}\n{said.read().decode(errors='replace')[-4000:]}") from error
    seconds = time.monotonic() - start
    _leave_out_copies(notebook)
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.metadata["attennorm_tf"] = {"sources": sources_hash(notebook), "seconds": round(seconds)}
    return notebook, seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what the command line names and prints a table of seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all beside this script")
    parser.add_argument("--output", type=Path, default=Path("build/notebooks"), help="folder (default: %(default)s)")
    parser.add_argument("--in_place", action="store_true", help="write the outputs into the notebooks themselves")
    parser.add_argument("--limit", type=int, default=LIMIT, help="seconds for each (default: %(default)s)")
    given = parser.parse_args(arguments)
    paths = given.notebooks or sorted(HERE.glob("*.ipynb"))
    missing = [str(path) for path in paths if not path.is_file()]
    if missing or not paths:
        parser.error(f"no such notebook: {', '.join(missing) or HERE}")
    print(f"{'notebook':<40} {'seconds':>7} {'KiB':>6}", flush=True)
    failures = []
    for path in paths:
        try:
            notebook, seconds = execute(path, given.limit)
        except (CellExecutionError, CellTimeoutError, DeadKernelError, TimeoutError) as error:
            failures.append(path.name)
            print(f"{path.name:<40} {'FAILED':>7}", flush=True)
            print(f"{path.name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            continue
        target = path if given.in_place else given.output / path.name
        _write(notebook, target)
        print(f"{path.name:<40} {seconds:>7.1f} {target.stat().st_size / 1024:>6.0f}", flush=True)
    print(f"{len(paths) - len(failures)} done, {len(failures)} failed")
    return int(bool(failures))


def _leave_out_copies(notebook: Any) -> None:
    """Pillow shows a picture twice, as PNG and as JPEG."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output["data"].pop("image/jpeg", None)


def _environment() -> dict[str, str]:
    return {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONHASHSEED": "0"}


def _write(notebook: Any, path: Path) -> None:
    """Atomically: a notebook is the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".ipynb.part")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        nbformat.write(notebook, file)
    os.chmod(name, 0o644)
    os.replace(name, path)


if __name__ == "__main__":
    sys.exit(main())
