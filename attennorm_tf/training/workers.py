"""The processes that train together, as one of them sees them: agreements that all must reach."""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable

import numpy as np
import tensorflow as tf

from attennorm_tf.training.peer_watch import PeerWatch, WorkerLostError, naming_lost_workers
from attennorm_tf.training.strategy import num_workers, worker_index

_VISIBLE_WITHIN = 20.0  # seconds that a file system may take to show another machine's file

logger = logging.getLogger(__name__)


class Workers:
    """All calls are collective: every worker makes the same ones in the same order. With one worker they do nothing.

    Args:
        strategy: what the workers train by.

    Attributes:
        count: of the workers.
        index: of this one.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self._strategy = strategy
        self.count, self.index = num_workers(strategy), worker_index(strategy)

    @property
    def is_chief(self) -> bool:
        """Whether this one writes the work directory and speaks to the user."""
        return self.index == 0

    def gather(self, text: str) -> list[str]:
        """The texts of all workers, by index."""
        if self.count == 1:
            return [text]
        content = np.frombuffer(text.encode(), np.uint8).astype(np.float32)  # a type that every collective knows
        lengths = self._sum(_row(self.count, self.index, np.array([len(content)], np.float32)))[:, 0].astype(int)
        padded = np.pad(
            content, (0, max(1, lengths.max()) - len(content))
        )  # TensorFlow crashes when it reduces nothing
        rows = self._sum(_row(self.count, self.index, padded)).astype(np.uint8)
        return [row[:length].tobytes().decode() for row, length in zip(rows, lengths)]

    def barrier(self) -> None:
        """Returns when all workers have come here."""
        self.gather("")

    def together(self, action: Callable[[], None]) -> None:
        """Every worker does it; where it fails for one, all fail.

        Raises:
            ValueError: of this worker, or with what the first that failed said.
        """
        own = ""
        try:
            action()
        except (ValueError, OSError) as error:
            if self.count == 1:
                raise
            own = str(error)
        for index, said in enumerate(self.gather(own)):
            if own or said:
                raise ValueError(own or f"worker {index}: {said}")

    def check_equal(self, facts: dict[str, Any]) -> None:
        """Checks that every worker was started with the same settings and programs.

        Args:
            facts: name -> JSON value.

        Raises:
            ValueError: on every worker; one that differs from the chief's lists its differences.
        """
        gathered = [json.loads(text) for text in self.gather(json.dumps(facts))]
        expected, own = gathered[0], gathered[self.index]
        different = [index for index, other in enumerate(gathered) if other != expected]
        if not different:
            return
        shown = [self.index] if self.index in different else different
        lines = [
            f"worker {index}: {name}: {expected.get(name)!r} -> {gathered[index].get(name)!r}"
            for index in shown
            for name in sorted(expected | own)
            if expected.get(name) != gathered[index].get(name)
        ]
        raise ValueError(
            "the workers of a job must have the same config and programs. Other than worker 0's:\n  "
            + "\n  ".join(lines)
        )

    def check_shared(self, folder: Path) -> None:
        """Checks that all workers see the same folder.

        Raises:
            ValueError: on every worker, if one does not see what the chief writes there.
        """
        if self.count == 1:
            return
        [name, *_] = self.gather(f".shared-{secrets.token_hex(8)}" if self.is_chief else "")
        token = folder / name

        def write() -> None:
            if self.is_chief:
                folder.mkdir(parents=True, exist_ok=True)
                token.touch()

        def look() -> None:
            deadline = time.monotonic() + _VISIBLE_WITHIN
            while not (folder.is_dir() and any(entry.name == name for entry in folder.iterdir())):
                if time.monotonic() > deadline:
                    raise ValueError(
                        f"workdir: {folder} is not the chief's folder of this name. With several workers the work "
                        "directory must lie on storage that all of them see, at the same path."
                    )
                time.sleep(0.2)

        self.together(write)
        try:
            self.together(look)
        finally:
            if self.is_chief:
                token.unlink(missing_ok=True)
        if PeerWatch.current is not None:
            PeerWatch.current.leave_words_in(folder)

    @contextmanager
    def named_when_lost(self) -> Iterator[None]:
        """While it lasts, an error of TensorFlow because a worker is gone says which; others are told of any error.

        Raises:
            WorkerLostError: another worker ended or cannot be reached.
        """
        if self.count == 1:
            yield
            return
        try:
            with naming_lost_workers():
                yield
        except WorkerLostError:
            raise
        except Exception as error:
            if PeerWatch.current is not None:
                PeerWatch.current.leave_words(str(error).strip() or type(error).__name__)
            raise

    def leave(self) -> None:
        """The end of what the workers do together: from here on each may end when it likes."""
        if self.count > 1:
            self.barrier()
            if PeerWatch.current is not None:
                PeerWatch.current.stop()

    def _sum(self, rows: np.ndarray) -> np.ndarray:
        """Sum over workers, each of whom gives this from its first replica alone."""
        own: list[int] = []

        def of_replica(context: Any) -> tf.Tensor:
            own.append(context.replica_id_in_sync_group)
            return tf.constant(rows if len(own) == 1 else np.zeros_like(rows))

        values = self._strategy.experimental_distribute_values_from_function(of_replica)
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None).numpy()


def _row(count: int, index: int, values: np.ndarray) -> np.ndarray:
    """Zeros but for one row."""
    rows = np.zeros([count, len(values)], np.float32)
    rows[index] = values
    return rows
