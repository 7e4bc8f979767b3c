"""Latency and throughput of an exported inpainting network: `python -m benchmarks.serving`.

The attentive network by its SavedModel (its floats, and PNG files in and out as a server takes them), by OpenVINO, by
TensorFlow Lite (float32 and 8-bit weights), and by Keras in a tf.function, for one and many clients (threads of one
process, each with one request at a time) and batches of 1 to 16 images. Each runtime runs in a fresh process; before it
is timed, its output is compared with the Keras model's. Cold start: a fresh process loads the SavedModel and answers
its first requests, with and without the warm-up records that a server replays. And the exported networks against the
Keras models in a tf.function, call by call in turn in one process. `--sections` measures some of these parts and keeps
what a run before found of the others. Add `--quick` for a smoke run (a narrow network, few cells). Writes a JSON, a
Markdown table and a plot into `--output`.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from absl import app, flags

from benchmarks.output_folder import define_output, output_folder
from benchmarks.serving_report import markdown, plot
from benchmarks.serving_runtimes import RUNTIMES, Case, callers, inputs, keras_call, network, pixels, prepare

FLAGS = flags.FLAGS
define_output("serving.{json,md,png}")
flags.DEFINE_bool("quick", False, "A narrow network and few cells: shows that the benchmark runs, measures nothing.")
flags.DEFINE_float("seconds", 6.0, "Time for the timed calls of a cell; every client makes at least three.")
flags.DEFINE_integer("repeats", 5, "Cold starts of each kind; a tenth of the turns of the comparison.", lower_bound=1)
flags.DEFINE_list("sections", ["compared", "cold", "runtimes"], "Parts to measure; the others stay as they were.")
flags.DEFINE_string("measure", None, "Internal: measure one part in this process.")
flags.DEFINE_string("models", None, "Internal: folder of the exported models.")

CASE, CLIENTS, BATCHES = Case(128, 0.5), (1, 8), (1, 2, 4, 8, 16)
QUICK_CASE, QUICK_CLIENTS, QUICK_BATCHES = Case(32, 0.0625), (1, 4), (1, 4)
COMPARED = {"inpainting": (1, 8), "generation": (1, 16)}  # batches
AT_MOST = 1.0  # time of the exported network over the Keras model's
FEW = 3


def case() -> Case:
    """What is measured."""
    return QUICK_CASE if FLAGS.quick else CASE


def generator() -> Any:
    """The class-conditional generator of the paper's layout, at 32 x 32."""
    from attennorm_tf.config import gan_preset_config
    from attennorm_tf.models import build_gan

    config = gan_preset_config("attennorm", resolution=32, width=0.125 if FLAGS.quick else 0.5)
    made, _ = build_gan(config.model, 10, 3)
    made.attentive_normalization.rho.assign(1.0)
    return made


def measure_runtime(runtime: str, folder: Path) -> dict[str, Any]:
    """All cells of a runtime."""
    import numpy as np

    make = callers(case(), runtime, folder)
    expected = keras_call(case(), folder)(inputs(case(), 2))
    difference = float(np.abs(pixels(make()(inputs(case(), 2))) - expected).max())
    if not difference <= RUNTIMES[runtime]:
        raise RuntimeError(f"{runtime} differs from the Keras model by {difference:g}; not timed")
    cells = []
    for clients in QUICK_CLIENTS if FLAGS.quick else CLIENTS:
        calls = [make() for _ in range(clients)]
        for batch in QUICK_BATCHES if FLAGS.quick else BATCHES:
            values = inputs(case(), batch)
            for call in calls:
                call(values)  # memory for this shape
            times: list[list[float]] = [[] for _ in calls]
            start = threading.Barrier(clients + 1)
            end = [0.0]

            def client(call: Any, found: list[float], values: Any = values, start: Any = start, end: Any = end) -> None:
                start.wait()
                while len(found) < FEW or time.perf_counter() < end[0]:
                    before = time.perf_counter()
                    call(values)
                    found.append(1e3 * (time.perf_counter() - before))

            threads = [threading.Thread(target=client, args=pair) for pair in zip(calls, times)]
            for thread in threads:
                thread.start()
            begun = time.perf_counter()
            end[0] = begun + (0.2 if FLAGS.quick else FLAGS.seconds)
            start.wait()
            for thread in threads:
                thread.join()
            took = time.perf_counter() - begun
            together = np.concatenate(times)
            p50, p95, p99 = (float(value) for value in np.percentile(together, (50, 95, 99)))
            cells.append({"clients": clients, "batch": batch, "calls": len(together), "p50_ms": p50, "p95_ms": p95,
                          "p99_ms": p99, "images_per_second": float(len(together) * batch / took)})  # fmt: skip
    return {"difference": difference, "cells": cells}


def measure_cold(folder: Path, warmed: bool) -> dict[str, float]:
    """Milliseconds until a fresh process has the model, and of its first answers."""
    import tensorflow as tf

    from attennorm_tf.export.warmup import read_warmup

    values = {name: tf.constant(value) for name, value in inputs(case(), 1).items()}
    start = time.perf_counter()
    loaded = tf.saved_model.load(str(folder / "saved_model"))
    loading = time.perf_counter()
    if warmed:
        for request in read_warmup(folder / "saved_model"):
            given = {name: tf.constant(tf.make_ndarray(proto)) for name, proto in request.inputs.items()}
            loaded.signatures[request.model_spec.signature_name](**given)
    ready = time.perf_counter()
    answers = []
    for _ in range(3):
        before = time.perf_counter()
        loaded.signatures["tensors"](**values)["inpainted"].numpy()
        answers.append(1e3 * (time.perf_counter() - before))
    found = {"load_ms": 1e3 * (loading - start), "warm_up_ms": 1e3 * (ready - loading)}
    return {**found, "first_ms": answers[0], "third_ms": answers[2]}


def answer(function: Any, values: dict[str, Any], output: str) -> Any:
    """One output of a function of named tensors, or its only one, waited for."""
    found = function(**values)
    return (found[output] if isinstance(found, dict) else found).numpy()


def measure_compared(task: str) -> list[dict[str, Any]]:
    """The exported network and the Keras model in turn."""
    import numpy as np
    import tensorflow as tf

    from attennorm_tf.export import write_saved_model

    model = network(case()) if task == "inpainting" else generator()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_saved_model(model, folder)
        loaded = tf.saved_model.load(folder)
        for batch in COMPARED[task]:
            if task == "inpainting":
                values = {name: tf.constant(value) for name, value in inputs(case(), batch).items()}
                exported, output = loaded.signatures["tensors"], "outputs"
                keras = tf.function(lambda images, masks: model([images, masks], training=False)[1])
            else:
                values = {"latents": tf.random.stateless_normal([batch, model.latent_dim], [1, 2]),
                          "class_ids": tf.range(batch) % 10}  # fmt: skip
                exported, output = loaded.signatures["latents"], "images"
                keras = tf.function(lambda latents, class_ids: model([latents, class_ids], training=False))
            gap = answer(exported, values, output) - answer(keras, values, output)
            difference = float(np.abs(gap).max())
            if not difference <= 1e-4:
                raise RuntimeError(f"the exported {task} network differs from the Keras model by {difference:g}")
            pairs = []
            for _ in range(3 if FLAGS.quick else 10 * FLAGS.repeats):
                turn = []
                for call in (exported, keras):
                    answer(call, values, output)  # refills the caches that the other one emptied
                    before = time.perf_counter()
                    for _ in range(FEW):
                        answer(call, values, output)
                    turn.append(1e3 * (time.perf_counter() - before) / FEW)
                pairs.append(turn)
            ours, theirs = np.array(pairs).T
            low, ratio, high = (float(value) for value in np.percentile(ours / theirs, (25, 50, 75)))
            rows.append({"task": task, "batch": batch, "difference": difference, "exported_ms": float(np.median(ours)),
                         "keras_ms": float(np.median(theirs)), "ratio": ratio, "quartiles": [low, high]})  # fmt: skip
    return rows


def in_process(part: str, folder: Path) -> Any:
    """A part measured by a fresh process."""
    command = [sys.executable, "-m", "benchmarks.serving", f"--measure={part}", f"--models={folder}"]
    command += [f"--seconds={FLAGS.seconds}", f"--repeats={FLAGS.repeats}", f"--quick={FLAGS.quick}"]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"{part} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(part: str, folder: Path) -> Any:
    """What `in_process` asked for."""
    kind, _, name = part.partition(":")
    if kind == "prepare":
        return prepare(case(), folder)
    if kind == "cold":
        return measure_cold(folder, name == "warmed")
    return measure_compared(name) if kind == "compare" else measure_runtime(name, folder)


def run(before: dict[str, Any]) -> dict[str, Any]:
    """The sections asked for, and those of `before` that are not, where versions and settings are the same."""
    import importlib.metadata

    results: dict[str, Any] = {
        "versions": {name: importlib.metadata.version(name) for name in ("tensorflow", "openvino", "keras")},
        "python": platform.python_version(), "cores": os.cpu_count(),
        "quick": FLAGS.quick, **case()._asdict(),
    }  # fmt: skip
    if any(before.get(name) != value for name, value in results.items()):
        before = {}
    results |= {name: before[name] for name in (*SECTIONS, "load") if name in before}
    load = results.setdefault("load", {})
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        if set(FLAGS.sections) - {"compared"}:
            in_process("prepare:", folder)
        for section in FLAGS.sections:
            at_start = os.getloadavg()[0]
            results[section] = SECTIONS[section](folder)
            load[section] = at_start, os.getloadavg()[0]
    return results


def compared(folder: Path) -> list[dict[str, Any]]:
    """Exported networks and Keras models, by task and batch."""
    return [row for task in COMPARED for row in in_process(f"compare:{task}", folder)]


def cold(folder: Path) -> dict[str, list[Any]]:
    """Starts of both kinds in turn."""
    found: dict[str, list[Any]] = {"bare": [], "warmed": []}
    for _ in range(1 if FLAGS.quick else FLAGS.repeats):
        for kind, starts in found.items():
            starts.append(in_process(f"cold:{kind}", folder))
    return found


def runtimes(folder: Path) -> dict[str, Any]:
    """All cells by runtime."""
    return {name: in_process(f"runtime:{name}", folder) for name in RUNTIMES}


SECTIONS = {"compared": compared, "cold": cold, "runtimes": runtimes}


def main(argv: list[str]) -> None:
    """Measures, writes and prints."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    if FLAGS.measure:
        print(json.dumps(measure(FLAGS.measure, Path(FLAGS.models))))
        return
    if unknown := set(FLAGS.sections) - set(SECTIONS):
        raise app.UsageError(f"--sections: {', '.join(sorted(unknown))}; expected some of {', '.join(SECTIONS)}")
    folder = output_folder()
    there = folder / "serving.json"
    results = run(json.loads(there.read_text(encoding="utf-8")) if there.is_file() else {})
    folder.mkdir(parents=True, exist_ok=True)
    table = markdown(results, AT_MOST)
    for name, text in (("json", json.dumps(results, indent=2) + "\n"), ("md", table)):
        temporary = folder / f"serving.{name}.tmp"
        temporary.write_text(text)
        temporary.replace(folder / f"serving.{name}")
    if "runtimes" in results:
        plot(results, folder / "serving.png")
    print(table)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    app.run(main)
