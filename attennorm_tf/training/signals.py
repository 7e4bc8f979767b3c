"""SIGTERM and Ctrl-C during training: noticed also while a compiled call of many steps holds the main thread."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any

import tensorflow as tf

STOPPING = (signal.SIGTERM, signal.SIGINT)

logger = logging.getLogger(__name__)


class StopSignals:
    """Notes SIGTERM and SIGINT instead of dying in the middle of a step; a second Ctrl-C interrupts at once.

    Python runs its handlers only between bytecodes, so not before a compiled call has returned. The operating system's
    handler writes the signal's number into a socket at once, though, where a thread waits for it and sets `requested`,
    which the graph reads between two steps.

    Outside the main thread, which alone gets signals, it does nothing.

    Attributes:
        requested: int32 (2,) on this machine's CPU, no part of any strategy: 1 for each of `STOPPING` that came.
        received: the first that came, or None.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        with tf.device("/CPU:0"):
            self.requested = tf.Variable([0] * len(STOPPING), dtype=tf.int32, trainable=False, name="stop_requested")
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread() and not self._before:
            self._written, self._read = socket.socketpair()
            self._written.setblocking(False)
            self._fd_before = signal.set_wakeup_fd(self._written.fileno(), warn_on_full_buffer=False)
            self._thread = threading.Thread(target=self._watch, name="stop signals", daemon=True)
            self._thread.start()
            for name in STOPPING:
                self._before[name] = signal.signal(name, self._note)
        return self

    def request(self) -> None:
        """Sets `requested` to what was received: for a signal that came between two compiled calls."""
        if self.received is not None:
            self.requested[STOPPING.index(self.received)].assign(1)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = self.received or signal.Signals(number)

    def _watch(self) -> None:
        told = False
        while numbers := self._read.recv(64):
            for number in numbers:
                if number in STOPPING:
                    if not told:
                        logger.warning("%s: finishing the step and saving", signal.Signals(number).name)
                    told = True
                    self.requested[STOPPING.index(signal.Signals(number))].assign(1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._before:
            return
        for name, handler in self._before.items():
            signal.signal(name, handler)
        signal.set_wakeup_fd(self._fd_before)
        self._written.close()
        self._thread.join()
        self._read.close()
        self._before = {}


def stopped_by(requests: Sequence[int]) -> signal.Signals | None:
    """The signal that the sums of `StopSignals.requested` over all workers mean, the same on each; None: none came."""
    return next((name for name, count in reversed(list(zip(STOPPING, requests))) if count), None)
