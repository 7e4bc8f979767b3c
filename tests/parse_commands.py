"""Parses command lines as their commands would, in one process: a fork for each module, in it for each line a copy of
the module's flags, or another fork where a config adds flags of its own.

    python -m tests.parse_commands LINES.json

The file holds [module, [argument, ...]] pairs. Prints a JSON list with what is wrong with each, null where nothing is.
"""

from __future__ import annotations

import copy
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any, Callable

from absl import flags


def problem(module: Any, arguments: list[str]) -> str | None:
    """What the flags of an imported module say to the arguments."""
    own = getattr(module, "_FLAGS", None)
    if hasattr(module, "define_flags"):
        module.define_flags()
    parsed = flags.FLAGS if own is None else copy.deepcopy(own)
    if own is not None or module.__name__.startswith("train."):  # what run_command adds
        for name in ("verbose", "version"):
            if name not in parsed:
                flags.DEFINE_bool(name, False, "", flag_values=parsed)
    if arguments in (["--help"], ["--version"]):
        return None
    sys.argv = [module.__name__, *arguments]  # where the config's flag looks for its fields
    try:
        rest = parsed([module.__name__, *arguments])[1:]
        if "config" in parsed and parsed["config"].value is not None:
            parsed["config"].value.validate()
    except Exception as error:  # whatever it is: the test shows it
        return f"{type(error).__name__}: {error}"
    takes_words = module.__name__.endswith((".client", ".compare_results", ".xla_program"))
    return f"unexpected arguments {rest}" if rest and not takes_words else None


def forked(task: Callable[[], Any]) -> Any:
    """The task's result, computed in a fork of this process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            result = task()
        except BaseException as error:
            result = f"{type(error).__name__}: {error}"
        with os.fdopen(writing, "w") as file:
            json.dump(result, file)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        text = file.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else "the process died"


def problems_of(name: str, lines: list[list[str]]) -> list[str | None]:
    module = importlib.import_module(name)
    if hasattr(module, "_FLAGS"):
        return [problem(module, arguments) for arguments in lines]
    return [forked(lambda arguments=arguments: problem(module, arguments)) for arguments in lines]


def main() -> None:
    pairs = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    by_module: dict[str, list[int]] = {}
    for index, (name, _) in enumerate(pairs):
        by_module.setdefault(name, []).append(index)
    found: list[str | None] = [None] * len(pairs)
    for name, indices in by_module.items():
        lines = [pairs[index][1] for index in indices]
        result = forked(lambda name=name, lines=lines: problems_of(name, lines))
        for place, index in enumerate(indices):
            found[index] = result[place] if isinstance(result, list) else result
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
