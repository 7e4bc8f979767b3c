"""What the log says of a metric over several steps: its mean, or of a count the sum."""

from __future__ import annotations

# Metrics that count events: logged as their sum since the last line, not as a mean.
COUNTS = ("skipped_updates",)


class StepMeans:
    """Means of metrics over the steps since they were last taken, those steps left out in which they are not finite."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, sums: dict[str, tuple[float, int]]) -> None:
        """Adds sums over some steps, each with their number."""
        for name, (total, steps) in sums.items():
            before, steps_before = self._sums.get(name, (0.0, 0))
            self._sums[name] = before + total, steps_before + steps

    def take(self) -> dict[str, float]:
        """Means (of `COUNTS`: sums), without the metrics that were finite in no step."""
        divided = {name: (total, 1 if name in COUNTS else steps) for name, (total, steps) in self._sums.items()}
        self._sums = {}
        return {name: total / steps for name, (total, steps) in divided.items() if steps}
