"""Imports TensorFlow without its start-up chatter; anything an import error has to say is kept."""

from __future__ import annotations

import os
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _import_tensorflow() -> None:
    # Some lines are written by the C++ runtime before it knows its log level: only the descriptor can be turned.
    sys.stderr.flush()
    with tempfile.TemporaryFile() as heard:
        kept = os.dup(2)
        os.dup2(heard.fileno(), 2)
        try:
            import tensorflow  # noqa: F401
        except BaseException:
            os.dup2(kept, 2)
            heard.seek(0)
            sys.stderr.buffer.write(heard.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


_import_tensorflow()
