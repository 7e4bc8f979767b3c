"""Weights after five clipped steps of a GAN on 1, 2 and 4 replicas; a program, since it needs four logical CPUs.

python -m tests.training.replica_weights OUTPUT.npz
"""

from __future__ import annotations

import sys

import numpy as np
import tensorflow as tf
from tensorflow import keras

from attennorm_tf.config import gan_preset_config
from attennorm_tf.data import load_dataset
from attennorm_tf.training import Adam, GanTask

BATCH, STEPS, RATE = 8, 5, 0.01


def weights(replicas: int) -> dict[str, np.ndarray]:
    """All networks' weights and how far they came, the batch shared by so many replicas.

    Plain descent (Adam so far from its square root), whose steps do not blow up roundings where gradients are near 0.
    They are short: on some processors a rounding decides on which side of 0 a rectified unit falls, and one unit's part
    of a gradient must stay below the bound.
    """
    config = gan_preset_config("attennorm", resolution=16, width=0.02, latent_dim=8, num_entities=2)
    config.training.gradient_clip_norm = 0.5
    config.training.discriminator_steps = 1
    config.training.ema_decay = 0.9
    strategy = tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(replicas)])
    keras.utils.set_random_seed(0)
    dataset = load_dataset("digits")
    with strategy.scope():
        task = GanTask(config, dataset.num_classes, dataset.channels)
        for name in ("generator", "discriminator"):
            plain = Adam(getattr(task, name).trainable_weights, RATE * 1e6, beta_1=0.0, beta_2=0.0, epsilon=1e6)
            setattr(task, f"{name}_optimizer", plain)
    batches = strategy.distribute_datasets_from_function(
        lambda context: dataset.batches(
            resolution=16, batch_size=BATCH, seed=0, start_step=0, replicas_per_pipeline=context.num_replicas_in_sync
        )
    )

    @tf.function(autograph=False)
    def step(number: tf.Tensor, batch: tuple) -> tf.Tensor:
        metrics = strategy.run(lambda n, b: task.train_step(n, [b]).metrics, args=(number, batch))
        names = ("generator_gradient_norm", "discriminator_gradient_norm")
        return tf.stack([strategy.reduce(tf.distribute.ReduceOp.SUM, metrics[name], axis=None) for name in names])

    def found() -> dict[str, np.ndarray]:
        networks = {name: getattr(task, name) for name in ("generator", "discriminator", "average")}
        return {
            f"{name}/{kind}/{i}": tf.convert_to_tensor(weight).numpy()
            for name, network in networks.items()
            for kind in ("trainable_weights", "non_trainable_weights")
            for i, weight in enumerate(getattr(network, kind))
        }

    before = found()
    norms = [step(tf.constant(number, tf.int64), batch) for number, batch in zip(range(STEPS), batches)]
    after = found()
    moved = {f"moved/{name}": after[name] - value for name, value in before.items()}
    return {**after, **moved, "norms": np.stack(norms)}


if __name__ == "__main__":
    count = int(sys.argv[1])
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    np.savez(sys.argv[2], **weights(count))
