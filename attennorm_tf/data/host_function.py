"""Python functions inside tf.data pipelines, such that a program with a running pipeline can end.

While the interpreter is being torn down, a thread of a pipeline that asks for its lock never gets it, and the
destructor of the pipeline's iterator waits for that thread: the process hangs. It happens whenever an iterator outlives
the main program while its buffers are being filled, for instance in the traceback of an exception. So at exit, calls
return at once with an error, and the interpreter lives on until the buffers are full and no call has come for a moment.
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


class _Calls:
    """How many calls run, and when the last one began or ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._latest = -_QUIET_SECONDS
        self._closing = False
        self._registered = False

    def run(self, function: Callable[..., np.ndarray], arguments: tuple[Any, ...]) -> np.ndarray:
        with self._lock:
            if not self._registered:
                # Here, not on import: what is registered last runs first, before TensorFlow's own.
                atexit.register(self.wait_until_quiet)
                self._registered = True
            self._latest = time.monotonic()
            if self._closing:
                raise RuntimeError("the program is ending: nothing more is read.")
            self._running += 1
        try:
            return function(*arguments)
        finally:
            with self._lock:
                self._running -= 1
                self._latest = time.monotonic()

    def wait_until_quiet(self) -> None:
        deadline = time.monotonic() + _LONGEST_WAIT_SECONDS
        with self._lock:
            self._closing = True
        while time.monotonic() < deadline:
            with self._lock:
                if not self._running and time.monotonic() - self._latest > _QUIET_SECONDS:
                    return
            time.sleep(_QUIET_SECONDS / 10)


_calls = _Calls()


def host_function(function: Callable[..., np.ndarray], inputs: list[tf.Tensor], dtype: tf.DType) -> tf.Tensor:
    """`function` of NumPy arrays as an operation of a tf.data pipeline: stateless, of unknown shape."""
    return tf.numpy_function(lambda *arrays: _calls.run(function, arrays), inputs, dtype, stateful=False)
