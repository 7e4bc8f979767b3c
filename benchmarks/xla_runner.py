"""Runs and times programs of `benchmarks.xla_program` by jaxlib alone: no TensorFlow, nothing else of this project.

    python xla_runner.py programs/attentive_normalization-128-float32 programs/self_attention-128-float32

One file that needs jax and NumPy; copy it beside the programs' folders to a machine with a GPU. The programs given are
loaded into one process and timed in turn, round by round, so that a ratio of two of them is one of the same moments.
First every program runs once, and its outputs are compared with those that TensorFlow computed: what differs by more
than the tolerance is not timed, and the exit code is 1. What a program updates (weights, moments, counters) is handed
to its next call. A round is as many calls as make `--round_seconds` of work, dispatched one after the other, and one
wait at their end. The last line printed is a JSON list with a row for each program.

Matrix products in float32 are rounded to TF32 by default on many GPUs: for the comparison set NVIDIA_TF32_OVERRIDE=0,
or give `--tolerance=1e-2`.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

MOST_CALLS = 1000  # of a round
MISSING = "float32 matrix products may be TF32 here: NVIDIA_TF32_OVERRIDE=0 computes them in full"


def seeded(recipe: dict[str, Any], shape: list[int]) -> np.ndarray:
    """Values of an input that is described, not stored, in float32; the stream of RandomState never changes.

    Args:
        recipe: "mean" and "std" of a normal distribution, "seed", and whether "softmax" is taken over the last axis.
        shape: of the input.
    """
    values = np.full(shape, recipe["mean"], np.float32)
    if recipe["std"]:
        random = np.random.RandomState(recipe["seed"])
        values += np.float32(recipe["std"]) * random.standard_normal(shape).astype(np.float32)
    if recipe["softmax"]:
        values = np.exp(values - values.max(axis=-1, keepdims=True))
        values /= values.sum(axis=-1, keepdims=True)
    return values


def sampled(values: np.ndarray, sample: dict[str, Any] | None) -> np.ndarray:
    """The values compared: all of them, or at the places that "count" and "seed" say."""
    flat = values.reshape(-1)
    return (
        flat if sample is None else flat[np.random.RandomState(sample["seed"]).randint(0, flat.size, sample["count"])]
    )


def as_stored(values: np.ndarray) -> np.ndarray:
    """bfloat16 as its 16 bits: .npy has no such type."""
    return values.view(np.uint16) if values.dtype.name == "bfloat16" else values


def load(folder: Path, entry: dict[str, Any]) -> np.ndarray:
    """Values of an input, of the type that the program takes."""
    import ml_dtypes

    dtype = np.dtype(ml_dtypes.bfloat16 if entry["dtype"] == "bfloat16" else entry["dtype"])
    if "seeded" in entry:
        return seeded(entry["seeded"], entry["shape"]).astype(dtype)
    values = np.load(folder / entry["file"], allow_pickle=False)
    return values.view(dtype) if entry["dtype"] == "bfloat16" else values


class Program:
    """A program on a device: compiled, its inputs there."""

    def __init__(self, folder: Path, device: Any):
        import jax
        from jaxlib import xla_client

        self.folder = folder
        self.about = json.loads((folder / "program.json").read_text(encoding="utf-8"))
        code = (folder / "program.hlo").read_bytes()
        mlir = xla_client._xla.mlir
        if hasattr(mlir, "hlo_to_stablehlo"):
            code = mlir.hlo_to_stablehlo(code)
        else:
            code = mlir.xla_computation_to_mlir_module(xla_client.XlaComputation(code))
        start = time.perf_counter()
        options = xla_client.CompileOptions()
        if hasattr(device.client, "compile_and_load"):
            self._compiled = device.client.compile_and_load(code, xla_client.DeviceList((device,)), options)
        else:
            self._compiled = device.client.compile(code, options)
        self.compile_seconds = time.perf_counter() - start
        self._inputs = [jax.device_put(load(folder, entry), device) for entry in self.about["inputs"]]
        self._updates = [(index, entry["updates"]) for index, entry in enumerate(self.about["outputs"])]

    def call(self) -> list[Any]:
        """One call, dispatched; what it updates becomes the next call's input."""
        results = self._compiled.execute_sharded(self._inputs).disassemble_into_single_device_arrays()
        outputs = [result[0] for result in results]
        for index, updated in self._updates:
            if updated is not None:
                self._inputs[updated] = outputs[index]
        return outputs

    def error(self) -> tuple[float | None, str]:
        """Largest difference of any output from what is expected, over that output's "scale", and which output.

        None where the folder holds no expected outputs.
        """
        worst: tuple[float | None, str] = (None, "")
        for entry, output in zip(self.about["outputs"], self.call()):
            actual = np.asarray(output)
            if list(actual.shape) != entry["shape"] or actual.dtype.name != entry["dtype"]:
                raise ValueError(f"{self.folder}: {entry['name']} is {actual.dtype} {actual.shape}, expected {entry}")
            if entry["expected"] is None:
                continue
            stored = {"file": entry["expected"], "dtype": entry["dtype"]}
            expected = load(self.folder, stored).reshape(-1).astype(np.float64)
            found = sampled(actual, entry["sample"]).astype(np.float64)
            error = float(np.abs(found - expected).max(initial=0.0)) / (entry["scale"] or 1.0)
            if worst[0] is None or not error <= worst[0]:
                worst = (error, entry["name"])
        return worst

    def memory_mib(self) -> float | None:
        """Arguments, results and temporaries by the compiler's account."""
        try:
            stats = self._compiled.get_compiled_memory_stats()
        except Exception:  # not every backend keeps one
            return None
        size = stats.argument_size_in_bytes + stats.output_size_in_bytes + stats.temp_size_in_bytes
        return (size - stats.alias_size_in_bytes) / 2**20

    def seconds(self, calls: int) -> float:
        """Of so many calls, dispatched one after the other, until all are done."""
        start = time.perf_counter()
        for _ in range(calls):
            outputs = self.call()
        for output in outputs:
            output.block_until_ready()
        return time.perf_counter() - start


def measure(folders: list[Path], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each program."""
    import jax

    jax.config.update("jax_enable_x64", True)  # counters and seeds are int64
    device = jax.devices(arguments.platform)[0] if arguments.platform else jax.devices()[0]
    rows, timed = [], []
    for folder in folders:
        about = json.loads((folder / "program.json").read_text(encoding="utf-8"))
        row = {"name": about["name"], "device": device.device_kind, "platform": device.platform, "jax": jax.__version__}
        rows.append(row)
        try:
            program = Program(folder, device)
            error, output = program.error()
        except Exception as failure:  # jaxlib's own errors, above all too little memory, are results here
            row["failed"] = " ".join(str(failure).split())[:300]
            continue
        tolerance = arguments.tolerance or about["tolerance"]
        row |= {"error": error, "worst_output": output, "tolerance": tolerance, "memory_mib": program.memory_mib()}
        row["compile_seconds"] = program.compile_seconds
        if error is not None and not error <= tolerance:
            row["failed"] = f"{output} differs from TensorFlow's by {error:.2g} of its largest value; {MISSING}"
            continue
        program.seconds(2)  # warm-up
        calls = math.ceil(arguments.round_seconds / max(program.seconds(3) / 3, 1e-9))
        timed.append((program, row, min(max(calls, 1), MOST_CALLS)))
    times: list[list[float]] = [[] for _ in timed]
    for _ in range(arguments.rounds):
        for (program, _, calls), found in zip(timed, times):
            program.seconds(1)  # caches that another program emptied
            found.append(1e3 * program.seconds(calls) / calls)
    for (_, row, calls), found in zip(timed, times):
        row |= {"ms": statistics.median(found), "rounds_ms": found, "calls_of_a_round": calls}
    return rows


def main() -> int:
    """Runs the programs; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="written by benchmarks.xla_program")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--round_seconds", type=float, default=0.05)
    parser.add_argument("--tolerance", type=float, default=0.0, help="instead of the programs' own")
    parser.add_argument("--platform", default="", help="of jax, as cpu or gpu; default: its first")
    arguments = parser.parse_args()
    for folder in arguments.folders:
        if not (folder / "program.json").is_file():
            parser.error(f"{folder} is no program: it holds no program.json")
    rows = measure(arguments.folders, arguments)
    for row in rows:
        took = f"{row['ms']:.3f} ms on {row['device']}" if "ms" in row else row["failed"]
        error = row.get("error")
        checked = "not compared" if error is None else f"differs by {error:.1e} (allowed: {row['tolerance']:g})"
        print(f"{row['name']}: {took}; {checked}", file=sys.stderr, flush=True)
    print(json.dumps(rows))
    return 1 if any("failed" in row for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
