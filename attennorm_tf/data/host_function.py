"""Python functions inside tf.data pipelines, such that a program with a running pipeline can end.

While the interpreter is being torn down, a thread of a pipeline that asks for its lock never gets it, and the
destructor of the pipeline's iterator waits for that thread: the process hangs. It happens whenever an iterator outlives
the main program while its buffers are being filled, for instance in the traceback of an exception. So at exit, calls
return zeros at once, and the interpreter lives on until the buffers are full and no call has come for a moment.
"""

from __future__ import annotations

import atexit
import threading
import time
from typing import Any, Callable

import numpy as np
import tensorflow as tf

_QUIET_SECONDS = 0.2
_LONGEST_WAIT_SECONDS = 10.0


class Calls:
    """Counts calls, and can end them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._latest = -_QUIET_SECONDS
        self._closing = False
        self._registered = False

    def wrap(self, function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        """`function` as it is until `end`; from then on, zeros like its last result."""
        last: np.ndarray | None = None

        @tf.autograph.experimental.do_not_convert
        def call(*arguments: Any) -> np.ndarray:
            nonlocal last
            with self._lock:
                if not self._registered:
                    # Not on import: what is registered last runs first, before TensorFlow's own.
                    atexit.register(self.end)
                    self._registered = True
                self._latest = time.monotonic()
                if self._closing and last is not None:
                    return np.zeros_like(last)
                self._running += 1
            try:
                last = function(*arguments)
                return last
            finally:
                with self._lock:
                    self._running -= 1
                    self._latest = time.monotonic()

        return call

    def end(self) -> None:
        """Returns when no call has come for a moment, or after 10 seconds."""
        deadline = time.monotonic() + _LONGEST_WAIT_SECONDS
        with self._lock:
            self._closing = True
        while time.monotonic() < deadline:
            with self._lock:
                if not self._running and time.monotonic() - self._latest > _QUIET_SECONDS:
                    return
            time.sleep(_QUIET_SECONDS / 10)


_calls = Calls()


def host_function(function: Callable[..., np.ndarray], inputs: list[tf.Tensor], dtype: tf.DType) -> tf.Tensor:
    """`function` of NumPy arrays as an operation of a tf.data pipeline: stateless, of unknown shape."""
    return tf.numpy_function(_calls.wrap(function), inputs, dtype, stateful=False)
