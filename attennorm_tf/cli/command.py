"""Manners shared by all commands: errors in one line, exit codes."""

from __future__ import annotations

import sys
from typing import Any, Callable, Sequence

from absl import app, logging


def run_command(main: Callable[[], int | None], usage_errors: tuple[type[BaseException], ...]) -> None:
    """Parses flags, runs `main`, and ends the process.

    Exit codes: 0 done, 1 the command could not do what was asked (one line says why), 130 interrupted.

    Args:
        main: the command; its return value is the exit code (None: 0).
        usage_errors: exceptions that are a message to the user, not a defect of the program.
    """

    def guarded(arguments: Sequence[str]) -> Any:
        try:
            if len(arguments) > 1:
                raise ValueError(f"unexpected argument {arguments[1]!r}; all options are flags, see --help.")
            return main()
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        except (ValueError, ImportError, *usage_errors) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1

    logging.use_python_logging(quiet=True)
    app.run(guarded)
