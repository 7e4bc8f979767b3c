"""A TensorBoard profile of some steps, and the share of their time that went by waiting for data."""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from attennorm_tf.training.checkpointing import first_line
from attennorm_tf.training.compiled_steps import CompiledSteps, StepsDone

logger = logging.getLogger(__name__)


class StepRange(NamedTuple):
    """The `number` steps that follow when `first` steps are done."""

    first: int
    number: int

    def check(self, begin: int, end: int) -> None:
        """Raises ValueError unless a run that has done `begin` steps and ends after `end` does all of these."""
        if self.first < begin:
            raise ValueError(
                f"profile {self.first}:{self.number}: this run goes on from step {begin}, so the first step to profile "
                f"must be at least {begin}."
            )
        if self.first + self.number > end:
            raise ValueError(
                f"profile {self.first}:{self.number}: ends after step {self.first + self.number}, but training.steps "
                f"is {end}."
            )


def parse_step_range(text: str) -> StepRange:
    """The range that "FIRST:COUNT" means.

    Raises:
        ValueError: anything else.

    Example:
        >>> parse_step_range("100:20")
        StepRange(first=100, number=20)
    """
    match = re.fullmatch(r"([0-9]{1,18}):([0-9]{1,18})", text)
    if not match or int(match.group(2)) < 1:
        raise ValueError(
            f"profile must be FIRST:COUNT, two whole numbers with COUNT at least 1, as in 100:20 (20 steps once 100 "
            f"are done); got {text!r}."
        )
    return StepRange(int(match.group(1)), int(match.group(2)))


class StepProfile:
    """Runs steps one by one up to the end of a range, and profiles those in the range.

    What a compiled call does in one go is done here in two: the batches are fetched, and the step is computed from
    them. As in a compiled call, the input pipeline works ahead meanwhile. Steps before the range are done this way
    too, since making another graph would give the pipeline seconds to fill its buffers.

    Args:
        steps: the range.
        folder: where the profile is written; None: only the time is measured.

    Attributes:
        waited: seconds that fetching took, in the steps of the range that made no graph.
        computed: seconds that computing took in the same steps.
    """

    def __init__(self, steps: StepRange, folder: Path | None):
        self._steps, self._folder = steps, folder
        self._counted = 0
        self._running = False
        self.waited = self.computed = 0.0

    def pending(self, step: int) -> bool:
        """Whether the step after `step` is to be done by `run`."""
        return step < self._steps.first + self._steps.number

    @property
    def share(self) -> float:
        """Of the time, in [0, 1]; NaN before a step was counted."""
        return self.waited / (self.waited + self.computed) if self._counted else float("nan")

    def run(self, step: int, compiled: CompiledSteps, iterator: Any) -> StepsDone:
        """The step after `step`."""
        if step == self._steps.first:
            self._start()
        fresh = not compiled.made_apart
        with tf.profiler.experimental.Trace("train", step_num=step, _r=1):
            began = time.perf_counter()
            batches = compiled.fetch(iterator)
            fetched = time.perf_counter()
            done = compiled.apart(batches)
            ended = time.perf_counter()
        if step >= self._steps.first and not fresh:
            self.waited += fetched - began
            self.computed += ended - fetched
            self._counted += 1
        if step + 1 == self._steps.first + self._steps.number:
            self.close()
        return done

    def close(self) -> None:
        """Writes the profile and says how the time was spent; nothing outside the range."""
        if not self._running:
            return
        self._running = False
        where = ""
        if self._folder is not None:
            try:
                tf.profiler.experimental.stop()
                where = (
                    f"; look at it with `tensorboard --logdir {self._folder}` (which needs tensorboard-plugin-profile)"
                )
            except tf.errors.OpError as error:  # a full disk, say: no reason to end a run
                logger.warning("the profile could not be written to %s: %s", self._folder, first_line(error))
        if not self._counted:
            logger.warning("profile: the only step made its graph, so its time says nothing; profile more%s", where)
            return
        logger.info(
            "profile of %d steps: %.1f%% of their time went by waiting for data (%.3f of %.3f s)%s",
            self._counted, 100 * self.share, self.waited, self.waited + self.computed, where,
        )  # fmt: skip

    def _start(self) -> None:
        self._running = True
        if self._folder is not None:
            try:
                tf.profiler.experimental.start(str(self._folder))
            except tf.errors.OpError as error:
                logger.warning("no profile is written, only the time measured: %s", first_line(error))
                self._folder = None
