"""The harness of all benchmarks: every subject in a fresh process, rounds in turn, outputs checked before timing.

    def prepare(kind: str, size: int) -> Prepared:     # at module level; runs in the process of its own
        import tensorflow as tf
        images = tf.constant(np.random.default_rng(0).standard_normal((1, size, size, 32), np.float32))
        layer = tf.function(make(kind))
        return Prepared(lambda: layer(images), shapes=[(1, size, size, 32)], error=lambda outputs: ...)

    def cases(quick: bool) -> list[Case]:
        subjects = [Subject(kind, prepare, {"kind": kind, "size": 128}) for kind in ("ours", "peer")]
        return [Case("forward at 128", subjects, baseline="peer")]

    if __name__ == "__main__":
        run(Benchmark("layer", "Title", cases, targets, command="python -m benchmarks.layer"))  # harness_report

What is compared in a `Case` runs side by side, each `Subject` in a process of its own (`harness_worker`), and the
processes take turns, round by round: a ratio is that of one round, so a disturbance meets both sides of it. A round is
an untimed call, which refills the caches, and a few timed ones. A subject whose output is wrong is not timed; one that
asks for more memory than the limit has that as its result. `harness_report` writes results, tables and plots.
Linux only.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, NamedTuple

ROOT = Path(__file__).parents[1]
TURN_SECONDS = 0.03  # a round makes this much timed work at least, in at most `MOST_CALLS` calls
MOST_CALLS = 20
OUT_OF_MEMORY = "does not fit"
REFUSED = "refused"
FAILED = "failed"
MEASURED = "measured"


class Prepared(NamedTuple):
    """What a subject's `prepare` returns, in the process of that subject."""

    call: Callable[[], Any]  # does the work once and returns arrays, nested at will, when they are there
    shapes: Sequence[tuple[int, ...]] = ()  # of the arrays returned, in order; () for any
    error: Callable[[Any], float] | None = None  # outputs -> largest error against a reference, over the largest value
    tolerance: float = 1e-3  # what `error` may be
    warm_up: Callable[[], Any] | None = None  # like `call` on something small: kernels belong to the memory baseline
    facts: Mapping[str, Any] = {}  # numbers of the benchmark's own, into the results


@dataclass(frozen=True)
class Subject:
    """One side of a comparison.

    Attributes:
        name: as the tables show it, unique within its case.
        prepare: function at module level that makes a `Prepared`; called in the subject's own process.
        arguments: of `prepare`, as JSON holds them.
        environment: variables of its process beside those of this one.
    """

    name: str
    prepare: Callable[..., Prepared]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """Subjects that are timed in turn.

    Attributes:
        name: key of the results.
        subjects: at least one.
        baseline: name of the subject to which the tables relate the others; None for the first.
        rounds: timed rounds of each subject, at least 3.
        seconds: time for the rounds of all subjects together; at least 3 rounds are made.
        input_bytes: size of the input, to which memory is related; None to leave that out.
    """

    name: str
    subjects: Sequence[Subject]
    baseline: str | None = None
    rounds: int = 60
    seconds: float = 40.0
    input_bytes: int | None = None


class Limits(NamedTuple):
    """What a subject's process may use."""

    memory_gib: float = 16.0  # more is refused, as on a machine of that size
    seconds: float = 600.0  # for its preparation, or one round


class Worker:
    """The process of one subject, as seen from here. `state` is None as long as the subject can be timed."""

    def __init__(self, subject: Subject, limits: Limits):
        self.subject = subject
        self.limits = limits
        self.state: dict[str, Any] | None = None
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        answers, theirs = os.pipe()
        self._answers = os.fdopen(answers, "r", encoding="utf-8")
        environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ, **subject.environment}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.harness_worker", str(theirs)], pass_fds=[theirs], cwd=ROOT,
            stdin=subprocess.PIPE, stdout=self._output, stderr=self._output, env=environment,
        )  # fmt: skip
        os.close(theirs)
        arguments = dict(subject.arguments)
        self._send({"prepare": address(subject.prepare), "arguments": arguments, "memory_gib": limits.memory_gib})

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # what became of it shows when its answer is read
            os.write(self._process.stdin.fileno(), json.dumps(message).encode() + b"\n")

    def answer(self) -> dict[str, Any]:
        """The next answer; one that says that the subject failed ends its process and stays as `state`."""
        if self.state is not None:
            return self.state
        readable, _, _ = select.select([self._answers], [], [], self.limits.seconds)
        line = self._answers.readline() if readable else ""
        if line:
            message = json.loads(line)
        elif not readable:
            message = {"status": FAILED, "reason": f"stopped after {self.limits.seconds:g} s"}
        else:
            message = self._death()
        if message["status"] != MEASURED:
            self.state = message
            self.close()
        return message

    def round(self, calls: int) -> float | None:
        """Seconds of a call, the mean of `calls`; None when the subject failed."""
        self._send({"calls": calls})
        return self.answer().get("seconds")

    def _death(self) -> dict[str, Any]:
        code = self._process.wait()
        words = self.last_words()
        reason = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        if "bad_alloc" in words or "annot allocate memory" in words or code == -signal.SIGKILL:
            return {"status": OUT_OF_MEMORY, "reason": f"{reason}; limit {self.limits.memory_gib:g} GiB"}
        return {"status": FAILED, "reason": f"{reason}: {' '.join(words.split())[-300:]}"}

    def last_words(self) -> str:
        """The end of what the process has written."""
        self._output.seek(0)
        return self._output.read().decode(errors="replace")[-3000:]

    def close(self) -> None:
        """Ends the process."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for file in (self._process.stdin, self._answers, self._output):
            file.close()


def address(function: Callable[..., Any]) -> str:
    """`module:function`, also for a function of the module that is being run."""
    module = function.__module__
    if module == "__main__":
        module = sys.modules["__main__"].__spec__.name
    return f"{module}:{function.__qualname__}"


def measure(case: Case, limits: Limits = Limits()) -> dict[str, Any]:  # noqa: B008 (immutable)
    """Runs a case.

    Returns:
        {"subjects": {name: result}, "baseline": name, "input_bytes", "load_before", "rounds"}. A result has `status`:
        "measured", with `seconds` (one a round), `median`, `quartiles`, `fastest`, `error` (against the reference, or
        None), `peak_mib` (VmHWM of the process: all it ever held until it was timed), `added_mib` (by how much two
        calls raised it above what inputs, weights and libraries take) and `facts`; or "does not fit", "refused" (its
        output is wrong) or "failed", with a `reason`.
    """
    load = os.getloadavg()[0]
    workers = []
    try:
        workers = [Worker(subject, limits) for subject in case.subjects]
        results = {worker.subject.name: dict(worker.answer()) for worker in workers}
        times: dict[str, list[float]] = {worker.subject.name: [] for worker in workers if worker.state is None}
        began = time.monotonic()
        for turn in range(case.rounds):
            if turn >= 3 and time.monotonic() - began > case.seconds:
                break
            for worker in workers if turn % 2 else workers[::-1]:  # who goes first changes
                name = worker.subject.name
                if worker.state is None:
                    calls = min(max(int(TURN_SECONDS / results[name]["call_seconds"]), 1), MOST_CALLS)
                    seconds = worker.round(calls)
                    if seconds is None:
                        results[name] = dict(worker.state)
                        del times[name]
                    else:
                        times[name].append(seconds)
    finally:
        for worker in workers:
            worker.close()
    for name, values in times.items():
        results[name].update(summary(values))
    baseline = case.baseline or case.subjects[0].name
    return {"subjects": results, "baseline": baseline, "input_bytes": case.input_bytes, "load_before": load}


def summary(values: list[float]) -> dict[str, Any]:
    """Median, quartiles and the smallest, beside the values themselves."""
    return {
        "median": statistics.median(values),
        "quartiles": quartiles(values),
        "fastest": min(values),
        "seconds": values,
    }


def quartiles(values: Sequence[float]) -> list[float]:
    """First and third quartile."""
    if len(values) < 2:
        return [values[0], values[0]]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return [first, third]


class Ratio(NamedTuple):
    """Of times, round by round."""

    median: float
    quartiles: list[float]


def ratio(result: dict[str, Any], numerator: str, denominator: str) -> Ratio | None:
    """How many times as long `numerator` takes as `denominator`, or None where either was not measured.

    Args:
        result: of `measure`.
        numerator: name of a subject.
        denominator: name of a subject.
    """
    sides = [result["subjects"].get(name, {}).get("seconds") for name in (numerator, denominator)]
    if not all(sides):
        return None
    values = [above / below for above, below in zip(*sides)]
    return Ratio(statistics.median(values), quartiles(values))
