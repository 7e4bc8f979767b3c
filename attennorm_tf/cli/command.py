"""Manners shared by all commands: errors in one line, exit codes."""

from __future__ import annotations

import difflib
import importlib.metadata
import logging
import platform
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

import tensorflow as tf
from absl import app, flags

import attennorm_tf
from attennorm_tf._compat import stack_name
from attennorm_tf.cli.help_text import help_text

USAGE = 2  # the exit code of a wrong command line
_HELP = r"--?(help|helpshort|helpfull|helpxml|\?)(=(true|1))?"


class UsageError(ValueError):
    """The command line is wrong in itself: flags are missing, exclude each other, or have values of another form."""


def run_command(
    main: Callable[..., int | None],
    usage_errors: tuple[type[BaseException], ...] = (),
    config_fields: Sequence[str] = (),
    takes_arguments: bool = False,
) -> None:
    """Parses flags, runs `main`, and ends the process.

    Exit codes of all commands: 0 done (also --help and --version), 1 the command could not do what was asked (one line
    on standard error says why; what is a defect of the program shows a traceback), 2 the command line is wrong and
    nothing was begun (one line likewise), 130 interrupted by Ctrl-C.

    Every command has --help, --version and --verbose.

    Args:
        main: the command; its return value is the exit code (None: 0).
        usage_errors: exceptions that are a message to the user, not a defect of the program.
        config_fields: fields that `--config.<field>` may name, where the command has a `--config`, which is validated.
        takes_arguments: whether what stands beside the flags is given to `main`, as a list; otherwise it is a mistake.
    """
    messages: tuple[type[BaseException], ...] = (ValueError, ImportError, OSError, *usage_errors)

    _define_shared_flags()
    running = sys.modules["__main__"]
    running.__doc__ = help_text(running.__doc__ or "", flags.get_help_width())

    def parse(arguments: Sequence[str]) -> Any:
        if {"--version", "-version"} & set(arguments[1:]):
            print(version_text())
            sys.exit(0)
        try:
            _check_config_fields(arguments, config_fields)
            rest = flags.FLAGS(list(arguments))
            if config_fields:
                config: Any = flags.FLAGS["config"].value
                config.validate()
            return rest
        except flags.Error as error:
            print(f"error: {_flag_error(error)} See --help.", file=sys.stderr)
            sys.exit(USAGE)
        except (ValueError, KeyError, AttributeError, TypeError, OSError, ImportError, SyntaxError) as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(USAGE)
        except SystemExit as asked:  # absl ends --help with 1
            if asked.code == 1 and any(re.fullmatch(_HELP, argument) for argument in arguments[1:]):
                sys.exit(0)
            raise

    def guarded(arguments: Sequence[str]) -> Any:
        _plain_logging(is_verbose())
        try:
            if takes_arguments:
                return main(list(arguments[1:]))
            if len(arguments) > 1:
                raise UsageError(f"unexpected argument {arguments[1]!r}; all options are flags, see --help.")
            return main()
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        except messages as error:
            print(f"error: {error}", file=sys.stderr)
            return USAGE if isinstance(error, UsageError) else 1
        except tf.errors.InvalidArgumentError as error:
            message = message_of_the_pipeline(error)
            if message is None:
                raise
            print(f"error: {message}", file=sys.stderr)
            return 1

    app.run(guarded, flags_parser=parse)


def check_choices(flag: str, values: Sequence[str], options: Sequence[str]) -> None:
    """Refuses values of a list flag that are not among `options`.

    Raises:
        UsageError: the first such value.
    """
    for value in values:
        if value not in options:
            raise UsageError(f"--{flag}: {value!r} is not one of {', '.join(options)}.")


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


def console_command(
    text: str | None,
    own_flags: flags.FlagValues,
    run: Callable[..., int | None],
    usage_errors: tuple[type[BaseException], ...] = (),
    takes_arguments: bool = False,
) -> Callable[[], None]:
    """The entry point of an installed command: see `show_in_help` and `run_command`."""

    def main() -> None:
        """Entry point of the console command."""
        show_in_help(text, own_flags)
        run_command(run, usage_errors, takes_arguments=takes_arguments)

    return main


def print_files(heading: str, paths: Sequence[Path]) -> None:
    """Says which files a command has written, one a line."""
    print(heading)
    for path in paths:
        print(f"  {path}")


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


def is_verbose() -> bool:
    """Whether --verbose was given."""
    return "verbose" in flags.FLAGS and bool(flags.FLAGS["verbose"].value)


def version_text() -> str:
    """What --version prints."""
    return (
        f"attennorm_tf {attennorm_tf.__version__}\n"
        f"TensorFlow {tf.__version__}, Keras {importlib.metadata.version('keras')} (the {stack_name()} stack), "
        f"Python {platform.python_version()}"
    )


def _define_shared_flags() -> None:
    """Defines --verbose and --version, and has --help show them."""
    texts = {"verbose": "show what TensorFlow and other libraries log", "version": "show the versions and exit"}
    for name, text in texts.items():
        if name not in flags.FLAGS:
            flags.DEFINE_bool(name, False, text)
            flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])


def _flag_error(error: flags.Error) -> str:
    missing = re.fullmatch(r"flag (--\w+)=None: Flag --\w+ must have a value other than None\.", str(error))
    text = f"{missing.group(1)} is needed." if missing else str(error).strip().replace("\n", " ").replace(" ?", "?")
    return text if text[-1] in ".?" else text + "."


def _plain_logging(verbose: bool) -> None:
    """Messages without prefixes, from INFO on; of other packages from WARNING on unless `verbose`."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    if not verbose:
        for handler in logging.getLogger().handlers:
            handler.addFilter(
                lambda record: record.levelno >= logging.WARNING or record.name.startswith("attennorm_tf")
            )
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
