"""The process of one subject of the harness: prepares it, checks its output, then times rounds when asked to.

Started by `benchmarks.harness`; speaks JSON lines, requests on its standard input and answers on a pipe of its own.
"""

from __future__ import annotations

import functools
import importlib
import json
import math
import os
import re
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import FAILED, MEASURED, OUT_OF_MEMORY, REFUSED, Prepared

GIB = 2**30
NO_ROOM = ("OOM when allocating", "Cannot parse tensor from proto", "annot allocate memory", "not enough memory",
           "Unable to allocate", "Out of memory", "RESOURCE_EXHAUSTED", "bad_alloc")  # fmt: skip


class WrongOutputError(Exception):
    """A subject computes something else than it should."""


def resident_mib(name: str) -> float:
    """This process's resident memory: "VmHWM", its peak, or "VmRSS", now.

    From /proc and not `getrusage`: a parent's `ru_maxrss` is handed on to the programs it starts.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


def arrays(outputs: Any) -> Iterator[Any]:
    """The arrays of nested outputs, as NumPy has them, in order; None is left out."""
    import numpy as np

    if outputs is None:
        return
    if isinstance(outputs, Mapping):
        outputs = list(outputs.values())
    if isinstance(outputs, (list, tuple)):
        for part in outputs:
            yield from arrays(part)
        return
    if hasattr(outputs, "detach"):  # a torch tensor
        outputs = outputs.detach().cpu()
    if hasattr(outputs, "values") and hasattr(outputs, "indices"):  # the gradient of a gather
        outputs = outputs.values
    array = np.asarray(outputs)
    yield array if array.dtype.kind in "fiub" else array.astype(np.float32)  # bfloat16 is no kind of NumPy's


def check(outputs: Any, prepared: Prepared) -> float | None:
    """Raises WrongOutputError unless the outputs are what they should be; returns their error, if it is known."""
    import numpy as np

    found = list(arrays(outputs))
    if not found:
        raise WrongOutputError("there is no output")
    shapes = [array.shape for array in found]
    if prepared.shapes and shapes != [tuple(shape) for shape in prepared.shapes]:
        raise WrongOutputError(f"the outputs have shapes {shapes}, expected {list(prepared.shapes)}")
    if not all(np.isfinite(array).all() for array in found):
        raise WrongOutputError("an output is not finite")
    if not any(array.size == 1 or np.ptp(array) > 0 for array in found):
        raise WrongOutputError("all outputs are of one value")
    if prepared.error is None:
        return None
    error = float(prepared.error(outputs))
    if not error <= prepared.tolerance:
        raise WrongOutputError(f"the outputs are {error:.2g} off the reference, {prepared.tolerance:.2g} is allowed")
    return error


def relative_error(actual: Any, expected: Any) -> float:
    """Largest difference of the arrays of nested outputs, over the largest value expected of each."""
    import numpy as np

    pairs = list(zip(arrays(actual), arrays(expected)))
    return max(float(np.max(np.abs(a - e)) / max(np.max(np.abs(e)), 1e-30)) for a, e in pairs)


def describe(error: BaseException, memory_gib: float) -> dict[str, Any]:
    """The answer for a subject that raised."""
    text = " ".join(str(error).split())
    if isinstance(error, WrongOutputError):
        return {"status": REFUSED, "reason": text}
    if not (isinstance(error, MemoryError) or any(sign in text for sign in NO_ROOM)):
        return {"status": FAILED, "reason": f"{type(error).__name__}: {text[:300]}"}
    reason = f"limit {memory_gib:g} GiB"
    refused = re.search(r"OOM when allocating tensor with shape\[([\d,]*)\]", text)
    sizes = [int(size) for size in refused.group(1).split(",")] if refused else []
    if "Cannot parse tensor from proto" in text:  # what TensorFlow calls a constant without room
        sizes = [int(size) for size in re.findall(r"size: (\d+)", text)]
    if sizes:
        needed = 4 * math.prod(sizes) / GIB
        reason = f"no room for a tensor of {' x '.join(map(str, sizes))}, {needed:.1f} GiB in float32; {reason}"
    return {"status": OUT_OF_MEMORY, "reason": reason}


def first_calls(prepared: Prepared) -> dict[str, Any]:
    """Memory, check and about the time of a call."""
    if prepared.warm_up is not None:
        prepared.warm_up()
    before = resident_mib("VmHWM")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    baseline = resident_mib("VmRSS")
    prepared.call()
    start = time.perf_counter()
    outputs = prepared.call()
    seconds = time.perf_counter() - start
    peak = resident_mib("VmHWM")
    error = check(outputs, prepared)
    return {
        "status": MEASURED,
        "call_seconds": seconds,
        "error": error,
        "peak_mib": max(before, peak),
        "added_mib": peak - baseline,
        "facts": dict(prepared.facts),
    }


def timed(prepared: Prepared, calls: int) -> dict[str, Any]:
    """Mean seconds of `calls` calls that follow an untimed one."""
    prepared.call()
    start = time.perf_counter()
    for _ in range(calls):
        prepared.call()
    return {"status": MEASURED, "seconds": (time.perf_counter() - start) / calls}


def main(arguments: Sequence[str]) -> None:
    """Answers until the requests end."""
    with os.fdopen(int(arguments[0]), "w", encoding="utf-8") as answers:

        def answer(message: dict[str, Any]) -> None:
            answers.write(json.dumps(message) + "\n")
            answers.flush()

        request = json.loads(sys.stdin.readline())
        limit = int(request["memory_gib"] * GIB)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        try:
            module, name = request["prepare"].split(":")
            prepare = functools.reduce(getattr, name.split("."), importlib.import_module(module))
            prepared = prepare(**request["arguments"])
            answer(first_calls(prepared))
            for line in sys.stdin:
                answer(timed(prepared, json.loads(line)["calls"]))
        except Exception as error:  # any failure is a result here
            answer(describe(error, request["memory_gib"]))


if __name__ == "__main__":
    main(sys.argv[1:])
