"""TensorFlow's first import in a command: without its start-up chatter, unless --verbose asks for it."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence

_ERRORS = 2  # the descriptor


def import_tensorflow(arguments: Sequence[str]) -> None:
    """Imports TensorFlow, if nobody has; what an import error has to say is kept.

    Args:
        arguments: of the command; with `--verbose` among them, TensorFlow says all it wants to, now and later.
    """
    verbose = any(argument in ("--verbose", "-verbose", "--verbose=true", "--verbose=1") for argument in arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if verbose else "3")
    if not verbose and "tensorflow" not in sys.modules:
        with errors_unheard():
            import tensorflow  # noqa: F401


@contextlib.contextmanager
def errors_unheard() -> Iterator[None]:
    """Keeps back what is written to standard error meanwhile, and shows it if an exception leaves the block.

    TensorFlow writes some lines before it knows its log level, and some whatever that is: only the descriptor can be
    turned.
    """
    try:
        kept = os.dup(_ERRORS)
    except OSError:  # there is no such stream
        yield
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as heard:
        os.dup2(heard.fileno(), _ERRORS)
        try:
            yield
        except BaseException:
            os.dup2(kept, _ERRORS)
            heard.seek(0)
            os.write(_ERRORS, heard.read())
            raise
        finally:
            os.dup2(kept, _ERRORS)
            os.close(kept)
