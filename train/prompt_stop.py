"""SIGTERM and Ctrl-C while a training command does anything but training steps: it ends at once."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def stop_at_once() -> None:
    """From here on SIGTERM ends the process with exit code 0 and Ctrl-C with 130, a line saying that nothing is lost.

    Training replaces these handlers while it has something to save, see `attennorm_tf.training.signals`. To be called
    before TensorFlow is imported, which takes seconds.
    """
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    # No exception: raised wherever the signal happens to come, in a callback of a library say, it may be swallowed.
    print(
        f"stopped by {signal.Signals(number).name} outside the training steps: nothing is lost, "
        "the same command starts or goes on from the last checkpoint",
        flush=True,
    )
    sys.stderr.flush()
    os._exit(130 if number == signal.SIGINT else 0)
