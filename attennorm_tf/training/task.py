"""What the training loop asks of a task and of a config: it knows nothing else of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable, Protocol

import tensorflow as tf

from attennorm_tf.training.compiled_steps import Phase

# (input context, global batches consumed before) -> this worker's per-replica batches.
MakeBatches = Callable[[tf.distribute.InputContext, int], tf.data.Dataset]


class Task(Protocol):
    """What the loop trains.

    Attributes:
        rollbacks: of `rollback_counter`; one of `checkpoint_items`, and part of the seed of all noise.
    """

    rollbacks: tf.Variable

    @property
    def checkpoint_items(self) -> dict[str, Any]:
        """Name -> trackable, built."""

    def phase(self, step: int) -> Phase:
        """How the step after `step` is done; the same object while nothing changes."""

    def batches_before(self, step: int) -> int:
        """Global batches consumed by the first `step` steps."""

    def next_control(self, step: int) -> int | None:
        """The first step after `step` at which `control` is due, or None."""

    def control(self, step: int) -> dict[str, float]:
        """Measures, decides (what it decides is kept in `checkpoint_items`); returns values for the log."""

    def scalars(self) -> dict[str, float]:
        """Further values for the log."""

    def pictures(self) -> dict[str, Any]:
        """Name -> (H, W, 3) uint8."""

    def look(self, step: int, values: Mapping[str, float]) -> None:
        """Told what goes into the log; warns of what does not look healthy."""


class Pace(Protocol):
    """The fields of a config's training section that the loop reads."""

    steps: int
    batch_size: int
    steps_per_call: int
    non_finite: str
    max_rollbacks: int
