"""Notices that another process is gone, where TensorFlow would wait for it for ever or die without a word."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping

INTERVAL = 1.0  # seconds between two looks at the others
_PATIENCE = 5.0  # seconds in which a machine must answer
_REFUSALS = 2  # in a row: no process listens there any more
_SILENCES = 4  # in a row: no machine answers there any more


class PortWatch:
    """Looks every second whether ports still answer.

    When one does not, it ends this process with exit code 1 and a message: the main thread waits in a compiled call by
    then, for an answer that will not come. A process that ends closes its port at once, which is noticed at the second
    look that finds it closed; a machine that is switched off within 30 seconds.

    Args:
        addresses: number -> "host:port" of each.
        message: numbers of those that are gone -> what to say.
    """

    def __init__(self, addresses: Mapping[int, str], message: Callable[[list[int]], str]):
        self._addresses = dict(addresses)
        self._message = message
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begins to watch."""
        threading.Thread(target=self._watch, name="port watch", daemon=True).start()

    def stop(self) -> None:
        """From now on the others may end."""
        self._stopped.set()

    def lost(self) -> str | None:
        """What to say of those that are gone now, or None."""
        gone = [number for number in self._addresses if self.answer(number) is not None]
        return self._message(gone) if gone else None

    def answer(self, number: int) -> int | None:
        """None: it listens; else after how many such answers in a row it counts as gone."""
        host, _, port = self._addresses[number].rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
        except (TimeoutError, socket.gaierror):
            return _SILENCES
        except OSError:
            return _REFUSALS
        return None

    def _watch(self) -> None:
        failures = dict.fromkeys(self._addresses, 0)
        while not self._stopped.wait(INTERVAL):
            for number in self._addresses:
                limit = self.answer(number)
                failures[number] = failures[number] + 1 if limit else 0
                if limit and failures[number] >= limit:
                    gone = [other for other in self._addresses if self.answer(other) is not None]
                    self._end(self._message(gone or [number]))

    def _end(self, message: str) -> None:
        if self._stopped.is_set():
            return
        sys.stdout.flush()
        sys.stderr.write(f"error: {message}.\n")
        sys.stderr.flush()
        os._exit(1)
