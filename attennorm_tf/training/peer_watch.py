"""Another worker of the job that is gone: which, and what it said last."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from attennorm_tf.training.cluster import Cluster
from attennorm_tf.training.port_watch import PortWatch

_ANNOUNCED = 20.0  # seconds between two lines about workers that have not come yet
_POLL = 0.2  # seconds between two looks while waiting for all to come
_START_LIMIT = 600.0  # seconds in which all must have come
_LAST_WORDS = 1000  # bytes

logger = logging.getLogger(__name__)


class WorkerLostError(RuntimeError):
    """Another worker ended or cannot be reached, so that this one cannot go on."""


class PeerWatch(PortWatch):
    """Waits until all workers have come, then looks whether their ports still answer.

    Args:
        cluster: of the job.
    """

    current: PeerWatch | None = None

    def __init__(self, cluster: Cluster):
        others = {index: address for index, address in enumerate(cluster.addresses) if index != cluster.own}
        super().__init__(others, self._said_of)
        self._cluster = cluster
        self._folder: Path | None = None

    def wait_for_all(self) -> None:
        """Returns when every worker listens at its port, as this one does meanwhile.

        TensorFlow would wait too, but without a word, and deaf to signals.

        Raises:
            WorkerLostError: some did not come in 10 minutes.
        """
        port = int(self._cluster.address.rpartition(":")[2])
        missing, begun, announced = set(self._addresses), time.monotonic(), time.monotonic()
        with socket.create_server(("", port), backlog=4 * len(self._addresses) + 4) as own:
            own.setblocking(False)
            while missing := {index for index in missing if self.answer(index) is not None}:
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
        PeerWatch.current = self
        super().start()

    def leave_words_in(self, folder: Path) -> None:
        """From now on, what ends a worker is kept in a folder that all see; there must be room for it now."""
        self._folder = folder
        self._write("")

    def leave_words(self, words: str) -> None:
        """Tells the others what ends this worker."""
        if self._folder is not None and not self._stopped.is_set():
            self._write(words)

    def stop(self) -> None:
        super().stop()
        if self._folder is not None:
            with contextlib.suppress(OSError):
                self._words_of(self._cluster.own).unlink(missing_ok=True)

    def _write(self, words: str) -> None:
        """Over what is there, of the same length: that needs no room on a full disk."""
        content = words.encode()[:_LAST_WORDS].ljust(_LAST_WORDS)
        file = self._words_of(self._cluster.own)
        with contextlib.suppress(OSError), open(file, "r+b" if file.exists() else "wb") as opened:
            opened.write(content)

    def _words_of(self, index: int) -> Path:
        assert self._folder is not None
        return self._folder / f".worker-{index}"

    def _named(self, indices: list[int]) -> str:
        return ", ".join(f"worker {index} at {self._cluster.addresses[index]}" for index in indices)

    def _said_of(self, gone: list[int]) -> str:
        words = ""
        for index in gone if self._folder is not None else []:
            with contextlib.suppress(OSError):
                said = self._words_of(index).read_text(encoding="utf-8", errors="replace").strip()
                words += f" Worker {index} said: {said.rstrip('.')}." if said else ""
        return (
            f"{self._named(gone)} ended or cannot be reached, so this worker ({self._cluster.own}) ends too.{words} "
            "Start all workers again by the same commands: they go on from the last checkpoint"
        )


@contextlib.contextmanager
def naming_lost_workers() -> Iterator[None]:
    """Turns TensorFlow's errors of a connection that broke into one that says which worker is gone.

    Raises:
        WorkerLostError: an operation failed, and another worker does not answer.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, tf.errors.OpError) and not isinstance(error.__cause__, tf.errors.OpError):
            raise  # not of an operation; a checkpoint that could not be written for one has it as its cause
        watch = PeerWatch.current
        # The connection may break a moment before the port is closed.
        for _ in range(10 if watch is not None else 0):
            lost = watch.lost() if watch is not None else None
            if lost is not None:
                raise WorkerLostError(f"{lost}.") from error
            time.sleep(0.2)
        raise
