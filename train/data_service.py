"""A data service: decodes images on this machine for trainings on others, until it is stopped.

    python -m train.data_service --port=5050

and in the training, on a machine that sees the data at the same path and has the same versions of everything:

    python -m train.gan ... --config.data.service=grpc://this-machine:5050

docs/scaling.md says when that pays. It uses the port and the next one, and trusts whoever can reach them: keep them
inside your own network.
"""

from __future__ import annotations

import signal
import threading

import train.quiet  # noqa: F401  (before anything else that imports TensorFlow)

# isort: split
import os
import socket

from absl import flags

from attennorm_tf.cli.command import run_command
from attennorm_tf.data.data_server import DataServer

_PORT = flags.DEFINE_integer("port", 5050, "of the service; the next one is used too", lower_bound=1, upper_bound=65534)
_HOST = flags.DEFINE_string(
    "host", None, "name or address by which the trainings know this machine (default: its host name)"
)


def main() -> int:
    """Serves until SIGTERM (exit code 0) or Ctrl-C (130)."""
    stop = threading.Event()
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        received.append(number)
        stop.set()

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, note)
    server = DataServer(_PORT.value, _HOST.value or socket.gethostname())
    print(f"decoding at {server.address}", flush=True)
    while not stop.wait(1.0):
        pass
    # Threads of TensorFlow may be in the middle of a Python function: they would keep the interpreter from ending.
    os._exit(130 if received[0] == signal.SIGINT else 0)


if __name__ == "__main__":
    run_command(main)
