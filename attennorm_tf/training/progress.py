"""Progress of a run: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

from tqdm import tqdm


class Progress:
    """Shows step, rate, time left and a few metrics.

    On a terminal a bar that renews itself; elsewhere one line per `update` that has metrics.

    Args:
        total: steps of the whole run.
        start: steps done before.
        images_per_step: real images a step consumes, for the rate.
        stream: where to write; standard error by default.
        silent: only measures.
    """

    def __init__(
        self, total: int, start: int, images_per_step: int, stream: TextIO | None = None, silent: bool = False
    ):
        self._stream = sys.stderr if stream is None else stream
        self._total = total
        self._images = images_per_step
        self._first_step = self._step = start
        self._first_time: float | None = None
        self._last_time = time.monotonic()
        self._bar: Any = None
        self._silent = silent
        if self._stream.isatty() and not silent:
            self._bar = tqdm(total=total, initial=start, unit="step", file=self._stream, dynamic_ncols=True)

    def update(self, step: int, metrics: dict[str, float] | None = None) -> None:
        """Moves to `step`; the first call only starts the clock, so that compilation does not count into the rate."""
        now = time.monotonic()
        if self._first_time is None:
            self._first_time, self._first_step = now, step
        self._last_time = now
        if self._bar is not None:
            self._bar.update(step - self._step)
            if metrics:
                self._bar.set_postfix_str(_short(metrics))
        self._step = step
        if self._bar is None and metrics and not self._silent:
            self._stream.write(self._line(metrics) + "\n")
            self._stream.flush()

    def restart(self, images_per_step: int) -> None:
        """Measures the rate anew: steps change from here on."""
        self._images = images_per_step
        self._first_time = None

    @property
    def images_per_second(self) -> float:
        """Real images per second since the first update; 0 before a second one."""
        if self._first_time is None or self._last_time <= self._first_time:
            return 0.0
        return (self._step - self._first_step) * self._images / (self._last_time - self._first_time)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _line(self, metrics: dict[str, float]) -> str:
        width = len(str(self._total))
        line = f"step {self._step:>{width}}/{self._total} {100 * self._step // self._total:3d}%"
        if self.images_per_second:
            left = (self._total - self._step) * self._images / self.images_per_second
            line += f"  {self.images_per_second:.0f} images/s  {tqdm.format_interval(left)} left"
        return f"{line}  {_short(metrics)}"


def _short(metrics: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.3g}" for name, value in metrics.items())
