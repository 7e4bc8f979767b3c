"""The same training step here and in PyTorch: what the other process is given, and what it must compute.

The step of `sngan_star` in `benchmarks/peers/torch_gan.py` starts from the package's own weights, batches and noise,
in an interpreter that has torch. It is timed only after both networks were found to have the same parameters, by name
and shape, and the losses and gradient norms of its first steps to be the package's. In these the rates are a
thousandth of the preset's: Adam's first steps are as long where a gradient is all rounding as elsewhere, so that at the
full rate two runs of one program that rounds otherwise part within three steps. (The time of a step does not depend on
the rate.)
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Prepared

PEER = Path(__file__).parent / "peers" / "torch_gan.py"
CHECKED_STEPS = 3
TOLERANCE = 1e-3  # of losses and gradient norms, relative
RATE_FACTOR = 1e-3
METRICS = ("discriminator_loss", "generator_loss", "discriminator_gradient_norm", "generator_gradient_norm")


def cannot_import_torch(python: str) -> str | None:
    """Why that interpreter cannot run the peer, and what to do; None where it can."""
    try:
        done = subprocess.run([python, "-c", "import numpy, torch"], capture_output=True, text=True, check=False)
        why = done.stderr.strip().splitlines()[-1] if done.returncode else ""
    except OSError as error:
        why = str(error)
    if not why:
        return None
    return (
        f"PyTorch was not measured: {python} cannot import torch and NumPy ({why}). Install the extra `peers` there, "
        "or name an interpreter that has both with --torch_python=PATH"
    )


class Peer:
    """The other process.

    Args:
        python: interpreter with torch.
        folder: what `write_start` filled.
        channels_last: PyTorch's memory format.

    Raises:
        RuntimeError: it ended, or refused the weights.
    """

    def __init__(self, python: str, folder: Path, channels_last: bool):
        command = [python, str(PEER), str(folder)] + ["--channels_last"] * channels_last
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.about = self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"refused": f"exit code {self._process.wait()}"}
        for reason in ("refused", "missing"):
            if reason in answer:
                for stream in (self._process.stdin, self._process.stdout):
                    stream.close()
                self._process.wait()
                raise RuntimeError(f"the step in PyTorch: {answer[reason]}")
        return answer

    def ask(self, what: Any) -> dict[str, Any]:
        """Sends "check" or a number of steps; waits for the answer."""
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        return self._answer()


def write_start(task: Any, batches: list[tuple[np.ndarray, np.ndarray]], folder: Path) -> None:
    """Sizes, rates, weights and what each step of `task` will draw.

    Args:
        task: `GanTask` of `sngan_star`, untrained, one discriminator update a step.
        batches: (images, labels) of one step each.
        folder: for the peer.
    """
    import tensorflow as tf

    from attennorm_tf.training.gan import draw_noise
    from attennorm_tf.training.rollbacks import noise_seed
    from attennorm_tf.training.weight_table import weight_table

    config, training = task.config, task.config.training
    generator, discriminator = task.generator, task.discriminator
    down = []
    for block in discriminator.blocks:
        inputs, hidden = block.conv1.layer.kernel.shape[2:]
        names = ("first", "downsample", "learned_shortcut")
        down.append(
            {"inputs": inputs, "outputs": block.filters, "hidden": hidden, **{n: getattr(block, n) for n in names}}
        )
    settings = {
        "threads": threads(),
        "classes": task.num_classes,
        "latent_dim": config.model.latent_dim,
        "first": generator.dense.layer.units // 16,
        "up": [block.filters for block in generator.blocks],
        "down": down,
        "rates": {
            "generator": training.generator_learning_rate,
            "discriminator": training.discriminator_learning_rate,
        },
        "betas": [training.beta_1, training.beta_2],
        "ema_decay": training.ema_decay,
        "batches": len(batches),
    }
    arrays = {}
    for network in (generator, discriminator):
        arrays.update({path: variable.numpy() for path, variable in weight_table(network.weights).items()})
    for step, (images, labels) in enumerate(batches):
        seed = tf.stack([noise_seed(training.seed, task.rollbacks), tf.constant(step, tf.int64)])
        seeds = tf.random.experimental.stateless_split(seed, 2, alg="philox")
        arrays[f"batch{step}/images"], arrays[f"batch{step}/labels"] = images, labels.astype(np.int64)
        for index in (1, 2):
            noise = draw_noise(seeds[index - 1], len(images), config.model.latent_dim, task.num_classes)
            arrays[f"batch{step}/latents{index}"] = noise.latents.numpy()
            arrays[f"batch{step}/labels{index}"] = noise.labels.numpy().astype(np.int64)
    (folder / "step.json").write_text(json.dumps(settings))
    np.savez(folder / "start.npz", **arrays)


def threads() -> int:
    """Of either side."""
    return len(os.sched_getaffinity(0))


def prepare_torch(python: str, channels_last: bool, resolution: int, width: float, batch_size: int) -> Prepared:
    """The step in PyTorch, checked against the package's."""
    from benchmarks.training_step import draw_batch, make_task, run_step

    task = make_task("sngan_star", resolution, width, rate_factor=RATE_FACTOR)
    batches = [draw_batch(resolution, batch_size, seed) for seed in range(CHECKED_STEPS)]
    with tempfile.TemporaryDirectory() as name:
        write_start(task, batches, Path(name))
        peer = Peer(python, Path(name), channels_last)
    parameters = {
        network: sum(int(np.prod(w.shape)) for w in getattr(task, network).trainable_weights)
        for network in ("generator", "discriminator")
    }
    if peer.about["parameters"] != parameters:
        raise RuntimeError(f"PyTorch has {peer.about['parameters']} parameters, the package {parameters}")
    step = run_step(task)
    expected = [
        [metrics[name] for name in METRICS] for metrics in (step(index, *batch) for index, batch in enumerate(batches))
    ]
    checked = peer.ask("check")
    error = float(np.max(np.abs(np.subtract(checked["losses"], expected)) / np.maximum(np.abs(expected), 1e-2)))
    return Prepared(
        lambda: np.array(peer.ask(1)["losses"], np.float32),
        shapes=[(1, len(METRICS))],
        error=lambda _: error,
        tolerance=TOLERANCE,
        facts={
            "torch": peer.about["torch"],
            "threads": peer.about["threads"],
            "parameters": parameters,
            "process_peak_mib": checked["peak_mib"],
        },
    )
