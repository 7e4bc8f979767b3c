"""Manners shared by all commands: errors in one line, exit codes."""

from __future__ import annotations

import difflib
import logging
import re
import sys
from collections.abc import Sequence
from typing import Any, Callable

import tensorflow as tf
from absl import app, flags


def run_command(
    main: Callable[..., int | None],
    usage_errors: tuple[type[BaseException], ...] = (),
    config_fields: Sequence[str] = (),
    takes_arguments: bool = False,
) -> None:
    """Parses flags, runs `main`, and ends the process.

    Exit codes: 0 done, 1 the command could not do what was asked (one line says why), 130 interrupted.

    Args:
        main: the command; its return value is the exit code (None: 0).
        usage_errors: exceptions that are a message to the user, not a defect of the program.
        config_fields: fields that `--config.<field>` may name, where the command has a `--config`.
        takes_arguments: whether what stands beside the flags is given to `main`, as a list; otherwise it is a mistake.
    """
    messages: tuple[type[BaseException], ...] = (ValueError, ImportError, OSError, *usage_errors)

    def parse(arguments: Sequence[str]) -> Any:
        try:
            _check_config_fields(arguments, config_fields)
            return app.parse_flags_with_usage(list(arguments))
        except (ValueError, KeyError, AttributeError, TypeError, OSError, ImportError, SyntaxError) as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)

    def guarded(arguments: Sequence[str]) -> Any:
        _plain_logging()
        try:
            if takes_arguments:
                return main(list(arguments[1:]))
            if len(arguments) > 1:
                raise ValueError(f"unexpected argument {arguments[1]!r}; all options are flags, see --help.")
            return main()
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        except messages as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except tf.errors.InvalidArgumentError as error:
            message = message_of_the_pipeline(error)
            if message is None:
                raise
            print(f"error: {message}", file=sys.stderr)
            return 1

    app.run(guarded, flags_parser=parse)


def show_in_help(text: str | None, own_flags: flags.FlagValues) -> None:
    """Makes `--help` show a command's text and flags, and has its flags parsed with all others.

    absl shows those of the running script, which for an installed command is a stub elsewhere. A command keeps its
    flags by itself, since two with flags of the same name may be imported in one process.
    """
    sys.modules["__main__"].__doc__ = text
    flags.FLAGS.append_flag_values(own_flags)
    own_flags.mark_as_parsed()  # by way of flags.FLAGS, which run_command parses
    for name in own_flags:
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], own_flags[name])


def class_ids(flag: str, values: Sequence[str], names: Sequence[str]) -> list[int]:
    """Class ids from the ids or names given as `--flag`.

    Raises:
        ValueError: neither; the message lists what there is.
    """
    ids = []
    for value in values:
        if value in names:
            ids.append(list(names).index(value))
        elif value.isdigit() and int(value) < len(names):
            ids.append(int(value))
        else:
            shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
            raise ValueError(f"--{flag}: {value!r} is neither an id in [0, {len(names)}) nor one of {shown}.")
    return ids


def message_of_the_pipeline(error: tf.errors.InvalidArgumentError) -> str | None:
    """What an unreadable image's error says, out of the traceback in which an input pipeline wraps it; or None."""
    match = re.search(r"UnreadableImageError: (.+)", str(error))
    return match.group(1) if match else None


def _plain_logging() -> None:
    """Messages of this package from INFO on, of others from WARNING on, without prefixes; instead of absl's handler."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    for handler in logging.getLogger().handlers:
        handler.addFilter(lambda record: record.levelno >= logging.WARNING or record.name.startswith("attennorm_tf"))
    for name in ("absl", "tensorflow"):
        logging.getLogger(name).handlers.clear()  # what they say goes through the one handler above


def _check_config_fields(arguments: Sequence[str], fields: Sequence[str]) -> None:
    """Refuses a misspelt `--config.<field>` with the nearest right one; the flag library shows a traceback."""
    for argument in arguments[1:]:
        match = re.match(r"--?(?:no)?config\.([^=]+)", argument)
        if match and match.group(1) not in fields:
            near = difflib.get_close_matches(match.group(1), fields, n=1)
            hint = f"did you mean --config.{near[0]}?" if near else "see attennorm_tf/config/ for all fields."
            raise ValueError(f"--config.{match.group(1)} is not a field; {hint}")
