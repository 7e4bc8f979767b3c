"""One training step, discriminator and generator, of the class-conditional networks, and of one of them in PyTorch.

    python -m benchmarks.training_step [--torch_python=PATH] [--cases=64] [--quick]

A step is what `train.gan` runs: the task's own step functions in the loop's graph, one discriminator and one generator
update, spectral norms, Adam, moving average, at the paper's widths with 10 classes and batches of 16 random images.
"attennorm" has the paper's discriminator, which joins the label as a map; SN-GAN* and SAGAN have the projection. The
row "attennorm, projection" has theirs, so that it differs from SN-GAN* by the attentive normalization alone.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from benchmarks import training_peer
from benchmarks.harness import MEASURED, Case, Prepared, Subject, ratio
from benchmarks.harness_report import Benchmark, Results, Target, milliseconds, run, target_of_ratio

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "torch_python", sys.executable, "Interpreter with torch and NumPy, for the comparison with PyTorch."
)

BATCH = 16
CLASSES = 10
RESOLUTIONS = (32, 64)
PROJECTION = "attennorm, projection"
TORCH = ("PyTorch", "PyTorch, channels last")
NOTES: dict[str, str] = {}  # of targets, known once the cases are


def draw_batch(resolution: int, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random images in [-1, 1] and class ids."""
    generator = np.random.default_rng(seed)
    images = generator.uniform(-1.0, 1.0, (size, resolution, resolution, 3)).astype(np.float32)
    return images, generator.integers(0, CLASSES, size).astype(np.int32)


def make_task(preset: str, resolution: int, width: float, rate_factor: float = 1.0, **overrides: Any) -> Any:
    """An untrained `GanTask`, always the same one; `rate_factor` multiplies both learning rates."""
    import tensorflow as tf
    from tensorflow import keras

    from attennorm_tf.config import gan_preset_config
    from attennorm_tf.training import GanTask

    tf.config.threading.set_intra_op_parallelism_threads(training_peer.threads())
    tf.config.threading.set_inter_op_parallelism_threads(training_peer.threads())
    config = gan_preset_config(preset, resolution=resolution, width=width, **overrides)
    config.training.discriminator_steps = 1
    config.training.generator_learning_rate *= rate_factor
    config.training.discriminator_learning_rate *= rate_factor
    config.validate()
    keras.utils.set_random_seed(config.training.seed)
    return GanTask(config, CLASSES, 3)


def run_step(task: Any) -> Callable[[int, np.ndarray, np.ndarray], dict[str, float]]:
    """(steps done, images, labels) -> metrics of one step, as a graph."""
    import tensorflow as tf

    phase = task.phase(0)

    @tf.function(autograph=False)
    def train_step(step: tf.Tensor, images: tf.Tensor, labels: tf.Tensor) -> Any:
        return phase.train_step(step, [(images, labels)]).metrics

    def one(step: int, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        metrics = train_step(tf.constant(step, tf.int64), tf.constant(images), tf.constant(labels))
        return {name: float(value) for name, value in metrics.items()}

    return one


def prepare(preset: str, resolution: int, width: float, batch_size: int, **overrides: Any) -> Prepared:
    """A call is one step by the training loop's own graph, on a batch that is there."""
    import tensorflow as tf

    from attennorm_tf.training.compiled_steps import CompiledSteps
    from attennorm_tf.training.signals import StopSignals
    from attennorm_tf.training.strategy import make_strategy

    task = make_task(preset, resolution, width, **overrides)
    images, labels = draw_batch(resolution, batch_size)
    iterator = iter(tf.data.Dataset.from_tensors((images, labels)).cache().repeat())
    counter = tf.Variable(0, dtype=tf.int64, trainable=False)
    steps = CompiledSteps(task.phase(0), make_strategy("one_device"), counter, StopSignals())

    def call() -> np.ndarray:
        done = steps(iterator, 1)
        if done.steps != 1 or done.not_finite is not None:
            raise RuntimeError(f"the step was not done: {done}")
        return np.array([total for total, _ in done.sums.values()], np.float32)

    networks = (task.generator, task.discriminator)
    counts = [sum(int(np.prod(weight.shape)) for weight in network.trainable_weights) for network in networks]
    return Prepared(call, facts={"parameters": dict(zip(("generator", "discriminator"), counts))})


def cases(quick: bool) -> list[Case]:
    """For each resolution the presets side by side, and SN-GAN* against PyTorch."""
    sizes = {"width": 0.125 if quick else 1.0, "batch_size": 4 if quick else BATCH}
    missing = training_peer.cannot_import_torch(FLAGS.torch_python)
    if missing:
        print(missing, file=sys.stderr, flush=True)
        NOTES["torch"] = missing
    made = []
    limits = {"rounds": 3, "seconds": 1.0} if quick else {"rounds": 15, "seconds": 75.0}
    for resolution in RESOLUTIONS[:1] if quick else RESOLUTIONS:
        common = {"resolution": resolution, **sizes}
        subjects = [Subject(name, prepare, {"preset": name, **common}) for name in ("sngan_star", "sagan", "attennorm")]
        subjects.append(Subject(PROJECTION, prepare, {"preset": "attennorm", "conditioning": "projection", **common}))
        made.append(Case(f"presets at {resolution}x{resolution}", subjects, baseline="sngan_star", **limits))
        if not missing:
            arguments = {"python": FLAGS.torch_python, **common}
            subjects = [
                Subject("sngan_star", prepare, {"preset": "sngan_star", **common}),
                *(
                    Subject(name, training_peer.prepare_torch, {"channels_last": name != TORCH[0], **arguments})
                    for name in TORCH
                ),
            ]
            made.append(Case(f"SN-GAN* against PyTorch at {resolution}x{resolution}", subjects, **limits))
    return made


def targets(results: Results) -> list[Target]:
    """Those of the cases that are there."""
    found = []
    for resolution in RESOLUTIONS:
        size = f"{resolution}x{resolution}"
        presets = results.get(f"presets at {size}")
        if presets is not None:
            for attentive, note in (
                ("attennorm", "the presets as they are"),
                (PROJECTION, "one discriminator for all"),
            ):
                over = ratio(presets, attentive, "sngan_star")
                found.append(target_of_ratio(f"step of {attentive} over sngan_star's, {size}", "<=", 1.10, over, note))
                if resolution >= 64:
                    over = ratio(presets, "sagan", attentive)
                    found.append(
                        target_of_ratio(f"step of sagan over that of {attentive}, {size}", ">=", 1.0, over, note)
                    )
        against = results.get(f"SN-GAN* against PyTorch at {size}")
        over = None
        if against is not None:  # the faster of PyTorch's two memory formats
            rates = [rate for rate in (ratio(against, name, "sngan_star") for name in TORCH) if rate is not None]
            over = min(rates, key=lambda rate: rate.median) if rates else None
        name = f"images/s of sngan_star over PyTorch's, {size}"
        found.append(target_of_ratio(name, ">=", 1.0, over, NOTES.get("torch", "")))
    return found


def images_per_second(result: dict[str, Any], batch_size: int) -> float:
    """Of the median step."""
    return batch_size / result["median"]


def tables(results: Results) -> str:
    """A line for each subject of each case."""
    parts = []
    for name, case in results.items():
        lines = [
            f"**{name}** (load average before: {case['load_before']:.1f})",
            "",
            f"| step | parameters, G + D | a step, median (quartiles) | images/s | over {case['baseline']} | off the "
            "package's numbers | rounds |",
            "|---|---|---|---|---|---|---|",
        ]
        for subject, found in case["subjects"].items():
            if found["status"] != MEASURED:
                lines.append(f"| {subject} | {found['status']}: {found['reason']} | | | | | |")
                continue
            low, high = (milliseconds(value) for value in found["quartiles"])
            over = ratio(case, subject, case["baseline"])
            weights = found["facts"]["parameters"]
            error = "" if found["error"] is None else f"{found['error']:.1e}"
            lines.append(
                f"| {subject} | {weights['generator']:,} + {weights['discriminator']:,} | "
                f"{milliseconds(found['median'])} ({low}, {high}) | {images_per_second(found, BATCH):.1f} | "
                f"{over.median:.2f} ({over.quartiles[0]:.2f}, {over.quartiles[1]:.2f}) | {error} | "
                f"{len(found['seconds'])} |"
            )
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def plot(results: Results, path: Path) -> None:
    """Images per second, a panel for each case."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(results), figsize=(3.4 * len(results), 3.6), squeeze=False)
    for panel, (name, case) in zip(panels[0], results.items()):
        measured = {s: found for s, found in case["subjects"].items() if found["status"] == MEASURED}
        rates = [images_per_second(found, BATCH) for found in measured.values()]
        colors = ["#7a7a7a" if subject.startswith("PyTorch") else "#2f6f9f" for subject in measured]
        bars = panel.bar([subject.replace(", ", ",\n") for subject in measured], rates, color=colors)
        panel.bar_label(bars, fmt="%.1f", padding=2, fontsize=8)
        panel.set_title(name.replace(" at ", "\nat "), fontsize=9)
        panel.tick_params(axis="x", labelsize=7, rotation=20)
        panel.spines[["top", "right"]].set_visible(False)
        panel.margins(y=0.15)
    panels[0][0].set_ylabel("images/s, higher is better")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


TITLE = (
    f"Training steps (one update of each network) of batches of {BATCH} images, {CLASSES} classes, the paper's widths."
)


def benchmark() -> Benchmark:
    """For the harness."""
    command = " ".join(["python -m benchmarks.training_step", *named_flags()])
    return Benchmark("training_step", TITLE, cases, targets, command=command, tables=tables, plot=plot)


def named_flags() -> Sequence[str]:
    """What belongs into the command as others would type it: not where an interpreter lies here."""
    return ["--torch_python=PATH"] if any(flag.startswith("--torch_python") for flag in sys.argv) else []


if __name__ == "__main__":
    run(benchmark())
