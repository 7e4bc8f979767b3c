"""Jobs of several real processes on this machine: one command, a TF_CONFIG for each worker."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable

from tests.processes import Process, start_module


def free_addresses(count: int) -> list[str]:
    """Addresses on loopback whose ports the system says are free."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return addresses


def tf_config(addresses: list[str], index: int) -> str:
    return json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})


def start_job(
    count: int, module: str, *arguments: object, own: dict[int, tuple[str, ...]] | None = None
) -> list[Process]:
    """Starts the workers of a job; `own` are further arguments of some of them."""
    addresses = free_addresses(count)
    return [
        start_module(module, *arguments, *(own or {}).get(index, ()), env={"TF_CONFIG": tf_config(addresses, index)})
        for index in range(count)
    ]


def wait_for(condition: Callable[[], bool], processes: list[Process], timeout: float = 120) -> None:
    """Until the condition holds.

    Raises:
        AssertionError: a process ended before that, or the time is over; with what the processes said.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        ended = [process.poll() is not None for process in processes]
        said = "\n".join(f"{process.stdout[-1500:]}\n{process.stderr[-3000:]}" for process in processes)
        assert not any(ended), f"a worker ended with {[process.poll() for process in processes]}:\n{said}"
        assert time.monotonic() < deadline, said
        time.sleep(0.1)


def finish(processes: list[Process], timeout: float = 120) -> list[int]:
    """Exit codes of processes that are about to end; what does not is killed."""
    deadline = time.monotonic() + timeout
    try:
        return [process.wait(max(0.1, deadline - time.monotonic())) for process in processes]
    finally:
        for process in processes:
            process.kill_group()
