"""Imports TensorFlow as the console commands do: without its start-up chatter, unless --verbose asks for it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def _start_up() -> ModuleType:
    """`attennorm_tf.cli.start_up`, by its file: by its name the package would come first, and TensorFlow with it."""
    package = importlib.util.find_spec("attennorm_tf")
    if package is None or package.origin is None:
        raise ImportError("attennorm_tf is not installed, and this is not the root of its checkout.")
    file = Path(package.origin).parent / "cli" / "start_up.py"
    spec = importlib.util.spec_from_file_location("start_up", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} cannot be imported.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_start_up().import_tensorflow(sys.argv[1:])
