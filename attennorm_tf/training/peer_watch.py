"""Notices that another worker of the job is gone, where TensorFlow would wait for it or die without a word."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator

import tensorflow as tf

from attennorm_tf.training.cluster import Cluster

INTERVAL = 1.0  # seconds between two looks at the others
_PATIENCE = 5.0  # seconds in which a machine must answer
_REFUSALS = 2  # in a row: no process listens there any more
_SILENCES = 4  # in a row: no machine answers there any more
_ANNOUNCED = 20.0  # seconds between two lines about workers that have not come yet
_POLL = 0.2  # seconds between two looks while waiting for all to come
_START_LIMIT = 600.0  # seconds in which all must have come

logger = logging.getLogger(__name__)


class WorkerLostError(RuntimeError):
    """Another worker ended or cannot be reached, so that this one cannot go on."""


class PeerWatch:
    """Waits until all workers have come, then looks every second whether their ports still answer.

    When one is gone, it ends this process with exit code 1 and a message: the main thread waits in a compiled call by
    then, for an answer that will not come. A process that ends closes its port at once, which is noticed within 5
    seconds; a machine that is switched off within 30.

    Args:
        cluster: of the job.
    """

    current: PeerWatch | None = None

    def __init__(self, cluster: Cluster):
        self._cluster = cluster
        self._others = [index for index in range(len(cluster.addresses)) if index != cluster.own]
        self._stopped = threading.Event()

    def wait_for_all(self) -> None:
        """Returns when every worker listens at its port, as this one does meanwhile.

        TensorFlow would wait too, but without a word, and deaf to signals.

        Raises:
            WorkerLostError: some did not come in 10 minutes.
        """
        port = int(self._cluster.address.rpartition(":")[2])
        missing, begun, announced = set(self._others), time.monotonic(), time.monotonic()
        with socket.create_server(("", port), backlog=4 * len(self._others) + 4) as own:
            own.setblocking(False)
            while missing := {index for index in missing if self._answer(index) is not None}:
                with contextlib.suppress(BlockingIOError):
                    while True:
                        own.accept()[0].close()
                now = time.monotonic()
                if now - announced >= _ANNOUNCED:
                    announced = now
                    logger.warning("waiting since %.0f s for %s", now - begun, self._named(sorted(missing)))
                if now - begun >= _START_LIMIT:
                    raise WorkerLostError(
                        f"{self._named(sorted(missing))} did not come within {_START_LIMIT:.0f} s; check that every "
                        "worker was started, that all have the same cluster in TF_CONFIG, and that the ports can be "
                        "reached."
                    )
                time.sleep(_POLL)

    def start(self) -> None:
        """Begins to watch."""
        PeerWatch.current = self
        threading.Thread(target=self._watch, name="peer watch", daemon=True).start()

    def stop(self) -> None:
        """From now on the others may end."""
        self._stopped.set()

    def lost(self) -> str | None:
        """What to say of the workers that are gone now, or None."""
        gone = [index for index in self._others if self._answer(index) is not None]
        return self._message(gone) if gone else None

    def _watch(self) -> None:
        failures = dict.fromkeys(self._others, 0)
        while not self._stopped.wait(INTERVAL):
            for index in self._others:
                limit = self._answer(index)
                failures[index] = failures[index] + 1 if limit else 0
                if limit and failures[index] >= limit:
                    self._end(self._message([other for other in self._others if self._answer(other) is not None]))

    def _answer(self, index: int) -> int | None:
        """None: it listens; else after how many such answers in a row it counts as gone."""
        host, _, port = self._cluster.addresses[index].rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
        except (TimeoutError, socket.gaierror):
            return _SILENCES
        except OSError:
            return _REFUSALS
        return None

    def _named(self, indices: list[int]) -> str:
        return ", ".join(f"worker {index} at {self._cluster.addresses[index]}" for index in indices)

    def _message(self, gone: list[int]) -> str:
        return (
            f"{self._named(gone)} ended or cannot be reached, so this worker ({self._cluster.own}) ends too. Start "
            "all workers again by the same commands: they go on from the last checkpoint"
        )

    def _end(self, message: str) -> None:
        if self._stopped.is_set():
            return
        sys.stdout.flush()
        sys.stderr.write(f"error: {message}.\n")
        sys.stderr.flush()
        os._exit(1)


@contextlib.contextmanager
def naming_lost_workers() -> Iterator[None]:
    """Turns TensorFlow's errors of a connection that broke into one that says which worker is gone.

    Raises:
        WorkerLostError: an operation failed, and another worker does not answer.
    """
    try:
        yield
    except tf.errors.OpError as error:
        watch = PeerWatch.current
        # The connection may break a moment before the port is closed.
        for _ in range(10 if watch is not None else 0):
            lost = watch.lost() if watch is not None else None
            if lost is not None:
                raise WorkerLostError(f"{lost}.") from error
            time.sleep(0.2)
        raise
