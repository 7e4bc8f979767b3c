"""Commands as processes of their own, without waiting for TensorFlow's import each time.

    done = run_module("train.gan", "--config=...", env={"TF_CONFIG": "..."})
    process = start_module("train.gan", "--config=...")
    process.send_signal(signal.SIGINT)

One server process (tests/process_server.py) per test process has imported TensorFlow and forks a child for each
command. A child differs from a fresh process in this only: what TensorFlow says while it is imported is not in its
output, and environment variables that are read during that import or at Python's start are the server's
(`TF_CPP_MIN_LOG_LEVEL` and those of `READ_AT_IMPORT`); tests of these use `subprocess`.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
# What commands import and what takes long. Nothing of this repository: a child imports it from its own folder.
PRELOADED = (
    "tensorflow", "keras", "numpy", "absl.app", "absl.flags", "ml_collections.config_flags", "PIL.Image", "tqdm",
    "matplotlib.pyplot", "sklearn.datasets", "skimage.io", "cv2",
)  # fmt: skip
READ_AT_IMPORT = ("TF_ENABLE_ONEDNN_OPTS", "KERAS_BACKEND", "TF_USE_LEGACY_KERAS", "MPLBACKEND", "OPENBLAS_NUM_THREADS",
                  "PYTHONHASHSEED", "PYTHONWARNINGS", "PYTHONDEVMODE", "PYTHONFAULTHANDLER")  # fmt: skip


def run_module(
    module: str, *arguments: object, env: Mapping[str, str | None] | None = None, cwd: str | os.PathLike = ROOT,
    timeout: float = 240,
) -> subprocess.CompletedProcess:  # fmt: skip
    """Runs a command to its end, as `subprocess.run` with captured text does.

    Args:
        module: what `python -m` takes; or `-c` with the code as the first argument; or the path of a script, which ends
            in `.py`; or a console script as `package.module:function`.
        *arguments: of the command.
        env: variables beside those of this process; None as a value removes one.
        cwd: the command's working folder, first on its `sys.path`.
        timeout: seconds after which the command and all that it started are killed.

    Raises:
        subprocess.TimeoutExpired: with what the command wrote until then.
    """
    process = start_module(module, *arguments, env=env, cwd=cwd)
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired as error:
        process.kill_group()
        process.wait()
        error.output, error.stderr = process.stdout, process.stderr
        raise
    finally:
        process.kill_group()
    return subprocess.CompletedProcess(process.args, process.returncode, process.stdout, process.stderr)


def start_module(
    module: str, *arguments: object, env: Mapping[str, str | None] | None = None, cwd: str | os.PathLike = ROOT
) -> Process:
    """Starts a command and returns at once; arguments as for `run_module`.

    In a `with`, what is left of it at the end is killed.
    """
    environment = {**os.environ, **(env or {})}
    environment = {name: value for name, value in environment.items() if value is not None}
    for name in READ_AT_IMPORT:
        if environment.get(name) != os.environ.get(name):
            raise ValueError(f"env: {name} is read before a command of the server starts; use subprocess.")
    arguments = tuple(os.fspath(part) if isinstance(part, os.PathLike) else str(part) for part in arguments)
    return Process((module, *arguments), environment, os.fspath(cwd))


class Process:
    """A command that was started.

    Attributes:
        args: the module and its arguments.
        pid: its process id; it leads a session and process group of its own.
        returncode: None until `poll` or `wait` has seen it end; then as subprocess has it, -N after signal N.
    """

    def __init__(self, args: tuple[str, ...], environment: Mapping[str, str], cwd: str) -> None:
        self.args = args
        self.returncode: int | None = None
        self._output = {name: _unnamed_file() for name in ("stdout", "stderr")}
        self._status, status = os.pipe()
        self._close = weakref.finalize(self, _close_all, [*self._output.values(), self._status])
        self._poller = select.poll()
        self._poller.register(self._status, select.POLLIN)
        job = {"target": args[0], "arguments": args[1:], "env": environment, "cwd": cwd}
        try:
            _server().send(job, [*self._output.values(), status])
        finally:
            os.close(status)
        self.pid = self._number()

    @property
    def stdout(self) -> str:
        """What it has written so far."""
        return _text(self._output["stdout"])

    @property
    def stderr(self) -> str:
        """What it has written so far."""
        return _text(self._output["stderr"])

    def poll(self) -> int | None:
        """The return code, or None while it runs."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end and returns the return code.

        Raises:
            subprocess.TimeoutExpired: it still runs after `timeout` seconds; it is left running.
        """
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0, self.stdout, self.stderr)
        return code

    def send_signal(self, number: int) -> None:
        """Sends a signal to the process alone; nothing once it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def kill_group(self) -> None:
        """Kills it and all that it started; what it left behind when it ended by itself, the server has killed."""
        if self.poll() is None:
            for kill in (os.killpg, os.kill):
                with contextlib.suppress(ProcessLookupError):
                    kill(self.pid, signal.SIGKILL)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_group()
        self.wait()

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None and self._poller.poll(None if timeout is None else max(0.0, timeout) * 1000):
            self.returncode = self._number()
        return self.returncode

    def _number(self) -> int:
        answer = os.read(self._status, 4)
        if len(answer) < 4:
            raise RuntimeError(f"the server of processes has died: {_server().last_words()}")
        return struct.unpack("!i", answer)[0]


class _Server:
    """The server's process and the way to it."""

    def __init__(self, preloaded: tuple[str, ...] = PRELOADED) -> None:
        self._lock = threading.Lock()
        self._jobs, theirs = socket.socketpair()
        self._stderr = _unnamed_file()
        with theirs:
            server = Path(__file__).with_name("process_server.py")
            self._process = subprocess.Popen(
                [sys.executable, str(server), str(theirs.fileno()), *preloaded], pass_fds=[theirs.fileno()],
                env={"MPLBACKEND": "Agg", **os.environ}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=self._stderr, start_new_session=True,
            )  # fmt: skip
        atexit.register(self.close)

    def send(self, job: dict, descriptors: list[int]) -> None:
        text = json.dumps(job).encode()
        with self._lock:
            try:
                socket.send_fds(self._jobs, [struct.pack("!I", len(text))], descriptors)
                self._jobs.sendall(text)
            except BrokenPipeError:
                raise RuntimeError(f"the server of processes has died: {self.last_words()}") from None

    def last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        return f"exit code {self._process.returncode}\n{_text(self._stderr)[-2000:]}"

    def close(self) -> None:
        """Ends the server, which kills what still runs; the same happens when this process dies."""
        self._jobs.close()
        self._process.wait()


@functools.lru_cache(maxsize=1)
def _server_of(process: int) -> _Server:
    return _Server()


def _server() -> _Server:
    return _server_of(os.getpid())  # a fork of this process must not talk to its parent's


def _unnamed_file() -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _text(descriptor: int) -> str:
    # Not by the file position, which is the writer's.
    data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    return data.decode("utf-8", errors="replace").replace("\r\n", "\n")
