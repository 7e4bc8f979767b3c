"""Imports TensorFlow without its start-up chatter, unless --verbose asks for it; what an import error says is kept.

As `attennorm_tf.cli.start_up`, which cannot be imported before TensorFlow is.
"""

from __future__ import annotations

import os
import sys
import tempfile

_VERBOSE = "--verbose" in sys.argv
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if _VERBOSE else "3")


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


if not _VERBOSE:
    _import_tensorflow()
