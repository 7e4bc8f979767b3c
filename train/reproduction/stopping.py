"""A run that was told to stop."""

from __future__ import annotations

import signal


class StoppedError(Exception):
    """Training ended by a signal, with a checkpoint."""

    def __init__(self, received: signal.Signals, experiment: str, step: int):
        super().__init__(
            f"stopped by {received.name}, saved {experiment} at step {step}; the same command goes on from there"
        )
        self.exit_code = 130 if received == signal.SIGINT else 0
