"""What can go wrong between a client and a server, and how often it is tried again."""

from __future__ import annotations

import random
import re
import time
from typing import Callable, NamedTuple, TypeVar

Result = TypeVar("Result")

# Worth another try: the server is starting, busy or changing over. Everything else would fail again.
TRANSIENT = ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "ABORTED")

_LONGEST_REASON = 600
_HINTS = {
    "UNAVAILABLE": "is the server running, and is this its port for this protocol (usually gRPC 8500, REST 8501)?",
    "DEADLINE_EXCEEDED": "allow a longer deadline, or send smaller images or fewer at a time.",
    "NOT_FOUND": "`attennorm-client status` shows which versions of a model are loaded.",
    "UNIMPLEMENTED": "the server is not a TensorFlow Serving of this protocol.",
}


class ServingError(RuntimeError):
    """A request that was not answered as it should have been.

    Args:
        where: server and model, as in messages.
        code: gRPC's name for what happened, such as "INVALID_ARGUMENT"; REST answers are given the same names.
        reason: what the server said, or what was found.
        transient: whether another try may succeed; by default, whether the code is one of `TRANSIENT`.
        retry_after: seconds after which the server asked to be tried again, or None.
        hint: how to mend it; by default what usually helps with the code.
    """

    def __init__(
        self,
        where: str,
        code: str,
        reason: str,
        transient: bool | None = None,
        retry_after: float | None = None,
        hint: str | None = None,
    ):
        # TensorFlow adds the node's place in the graph, in lines of its own.
        reason = " ".join(re.sub(r"\[\[\{\{node .*?\}\}\]\]", "", reason).split())[:_LONGEST_REASON]
        hint = _HINTS.get(code, "") if hint is None else hint
        super().__init__(f"{where}: {code}: {reason.rstrip('.')}." + (f" Hint: {hint}" if hint else ""))
        self.where = where
        self.code = code
        self.reason = reason
        self.transient = code in TRANSIENT if transient is None else transient
        self.retry_after = retry_after
        self.attempts = 1

    def __str__(self) -> str:
        return super().__str__() + (f" (Tried {self.attempts} times.)" if self.attempts > 1 else "")

    @property
    def concerns_all(self) -> bool:
        """Whether other requests to this server would fail, too: it is the server or the model, not the input."""
        return self.code not in ("INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "TOO_LARGE")


class RetryPolicy(NamedTuple):
    """How often a transient failure is tried again, and the waits in between in seconds.

    The wait doubles from `first_wait` to at most `longest_wait`; a random half of it is left out, so that clients that
    failed together do not come back together.
    """

    retries: int = 4
    first_wait: float = 0.2
    longest_wait: float = 5.0

    def check(self) -> None:
        """Raises ValueError for a number out of range."""
        if self.retries < 0:
            raise ValueError(f"retries must be >= 0, got {self.retries}.")
        if not 0 < self.first_wait <= self.longest_wait:
            raise ValueError(f"waits must be 0 < first <= longest, got {self.first_wait} and {self.longest_wait}.")

    def wait(self, failures: int, share: float) -> float:
        """Seconds after so many failures (1 or more); `share` in [0, 1) is the random part."""
        full = min(self.longest_wait, self.first_wait * 2.0 ** (failures - 1))
        return full * (0.5 + 0.5 * share)


def call_with_retries(
    attempt: Callable[[float], Result],
    policy: RetryPolicy,
    deadline: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    share: Callable[[], float] = random.random,
) -> Result:
    """Calls until it succeeds, fails for good, was tried often enough, or the time is up.

    Args:
        attempt: given the seconds that are left; raises ServingError.
        policy: how often, and the waits.
        deadline: seconds for everything, waits included.
        sleep: waits.
        clock: seconds from some moment on.
        share: random numbers in [0, 1).

    Returns:
        What the first successful attempt returned.

    Raises:
        ServingError: the last one.
    """
    end = clock() + deadline
    failures = 0
    last: ServingError | None = None
    while True:
        try:
            return attempt(max(end - clock(), 0.001))
        except ServingError as error:
            failures += 1
            error.attempts = failures
            if error.code == "DEADLINE_EXCEEDED" and last is not None:
                reason = f"{error.reason}; before that {last.code}: {last.reason}"
                raise ServingError(error.where, error.code, reason) from error
            if not error.transient or failures > policy.retries:
                raise
            last = error
            wait = max(policy.wait(failures, share()), error.retry_after or 0.0)
            if clock() + wait >= end:
                raise
            sleep(wait)
