"""The process that `tests/processes.py` starts: it has imported TensorFlow, and forks a child for every command.

It neither creates devices nor runs an operation: a child starts TensorFlow's runtime by itself, with its own settings.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import struct
import sys
import types
import warnings
from typing import Any, NoReturn

DEFAULT_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD)


class Server:
    """Forks a child for each job that comes in by `jobs`, and tells what becomes of it by the job's status pipe."""

    def __init__(self, jobs: socket.socket) -> None:
        self.jobs = jobs
        self.status_pipes: dict[int, int] = {}  # by the child's process id
        self.wake_read, self.wake_write = os.pipe()

    def serve(self) -> dict[str, Any]:
        """Serves until the other end of `jobs` closes. Returns in children only: with the job to do."""
        for end in (self.wake_read, self.wake_write):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        with selectors.DefaultSelector() as ready:
            ready.register(self.jobs, selectors.EVENT_READ)
            ready.register(self.wake_read, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    if key.fileobj is not self.jobs:
                        self._reap()
                        continue
                    job, descriptors = receive(self.jobs)
                    if job is None:
                        self._end()
                    if self._fork(descriptors):
                        return job

    def _fork(self, descriptors: list[int]) -> bool:
        """Whether this is the child. It has the job's output, a process group and signals like a fresh process."""
        *streams, status = descriptors
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of the numeric libraries' threads
            pid = os.fork()
        if pid:
            for stream in streams:
                os.close(stream)
            self.status_pipes[pid] = status
            tell(status, pid)
            return False
        os.setsid()
        signal.set_wakeup_fd(-1)
        for name in DEFAULT_SIGNALS:
            signal.signal(name, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        for number, stream in enumerate(streams, start=1):
            os.dup2(stream, number)
        self.jobs.close()
        for descriptor in (*descriptors, *self.status_pipes.values(), self.wake_read, self.wake_write):
            os.close(descriptor)
        return True

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake_read, 4096)
        while self.status_pipes:
            # Not yet reaped, a child still holds its id, and so its group's: what it left behind can be killed by that.
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                return
            kill_group(ended.si_pid)
            _, status = os.waitpid(ended.si_pid, 0)
            pipe = self.status_pipes.pop(ended.si_pid)
            tell(pipe, os.waitstatus_to_exitcode(status))
            os.close(pipe)

    def _end(self) -> NoReturn:
        """The tests are over, or were killed."""
        for pid in self.status_pipes:
            kill_group(pid)
        for pid in self.status_pipes:
            os.waitpid(pid, 0)
        os._exit(0)


def receive(jobs: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """The next job and the descriptors that came with it; None at the end."""
    header, descriptors, _, _ = socket.recv_fds(jobs, 4, 3)
    if len(header) < 4:
        return None, descriptors
    (length,) = struct.unpack("!I", header)
    text = b""
    while len(text) < length:
        piece = jobs.recv(length - len(text))
        if not piece:
            return None, descriptors
        text += piece
    return json.loads(text), descriptors


def tell(pipe: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # who started the command no longer asks
        os.write(pipe, struct.pack("!i", number))


def kill_group(pid: int) -> None:
    # A child that was only just forked has no group yet.
    for kill in (os.kill, os.killpg):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def become(job: dict[str, Any]) -> Any:
    """Runs the job as `python TARGET ARGUMENTS` would. What it defines is returned, to live as long as the process."""
    target, arguments = job["target"], job["arguments"]
    own_paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    if os.environ.get("PYTHONUNBUFFERED"):
        sys.stdout.reconfigure(write_through=True)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()  # seeded when it was imported: all children would draw the same numbers
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    first = (
        os.path.dirname(os.path.abspath(target)) if target.endswith(".py") else "" if target == "-c" else os.getcwd()
    )
    sys.path[:] = [first, *paths, *(path for path in sys.path[1:] if path not in own_paths)]
    importlib.invalidate_caches()
    sys.argv[:] = [target, *arguments]
    if target.endswith(".py"):
        return runpy.run_path(target, run_name="__main__")
    if ":" not in target and target != "-c":
        return runpy.run_module(target, run_name="__main__", alter_sys=True)
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    if target == "-c":
        code, *sys.argv[1:] = arguments
        exec(compile(code, "<string>", "exec"), main.__dict__)
        return main
    module, function = target.split(":")
    sys.argv[0] = function
    sys.exit(getattr(importlib.import_module(module), function)())


def preload(names: list[str]) -> None:
    for name in names:
        # What a stack or an installation lacks, the commands do without.
        with contextlib.suppress(ImportError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # children neither walk nor copy what they share


if __name__ == "__main__":
    preload(sys.argv[2:])
    kept = become(Server(socket.socket(fileno=int(sys.argv[1]))).serve())
