"""SIGTERM and Ctrl-C while a training command does anything but training steps: it ends at once."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def stop_at_once() -> None:
    """From here on SIGTERM ends the process with exit code 0 and Ctrl-C with 130, a line saying that nothing is lost.

    Training takes the signals over while it has something to save, see `attennorm_tf.training.signals`. To be called
    before TensorFlow is imported, which takes seconds.
    """
    written, read = socket.socketpair()
    written.setblocking(False)
    signal.set_wakeup_fd(written.detach(), warn_on_full_buffer=False)
    # A thread, since TensorFlow may keep the main one for minutes, waiting for other workers: Python would run a
    # handler only afterwards.
    threading.Thread(target=_watch, args=(read,), name="prompt stop", daemon=True).start()
    for name in _SIGNALS:
        signal.signal(name, lambda number, frame: None)


def _watch(read: socket.socket) -> None:
    while True:
        for number in read.recv(64):
            if number in _SIGNALS:
                _stop(signal.Signals(number))


def _stop(name: signal.Signals) -> None:
    print(
        f"stopped by {name.name} outside the training steps: nothing is lost, "
        "the same command starts or goes on from the last checkpoint",
        flush=True,
    )
    sys.stderr.flush()
    os._exit(130 if name == signal.SIGINT else 0)
