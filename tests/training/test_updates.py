"""From a loss to updated weights: clipping, parts of a batch, replicas, updates left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from attennorm_tf.config import GanConfig, gan_preset_config
from attennorm_tf.layers.spectral_normalization import update_spectral_norms
from attennorm_tf.training import (
    Adam,
    GanTask,
    StepResult,
    critic_step,
    discriminator_step,
    generator_step,
    inpainter_step,
)
from attennorm_tf.training.gan import draw_noise
from attennorm_tf.training.gradients import Gradients, loss_and_gradients
from attennorm_tf.training.inpainting import InpaintingTask
from attennorm_tf.training.strategy import check_global_batch
from attennorm_tf.training.updates import Update, UpdateOptions
from tests.processes import start_module
from tests.training.test_inpainting import config as inpainting_config
from tests.training.test_inpainting import holes, photographs, task_of

BATCH = 4
LABELS = tf.constant([1, 2, 3, 4])


def config(preset: str = "attennorm", **training: Any) -> GanConfig:
    made = gan_preset_config(preset, resolution=16, width=0.02, latent_dim=8, num_entities=2)
    made.training.ema_decay = 0.9
    for name, value in training.items():
        setattr(made.training, name, value)
    return made


def gan(settings: GanConfig) -> GanTask:
    """The same weights each time; what a network is good for only after training is switched on."""
    keras.utils.set_random_seed(3)
    task = GanTask(settings, 10, 1)
    for network in (task.generator, task.discriminator):
        for weight in network.trainable_weights:
            if weight.name.split(":")[0].endswith("rho"):
                weight.assign(0.5)
    return task


def plain(weights: Any, rate: float = 0.1) -> Adam:
    """Adam so far from its square root that it is plain descent."""
    return Adam(weights, 1e6 * rate, beta_1=0.0, beta_2=0.0, epsilon=1e6)


def images() -> tf.Tensor:
    return tf.constant(np.random.default_rng(1).uniform(-1, 1, (BATCH, 16, 16, 1)).astype(np.float32))


def noise() -> Any:
    return draw_noise(tf.constant([3, 5], tf.int64), BATCH, 8, 10)


def discriminate(task: GanTask, options: UpdateOptions, pictures: Any = None, **more: Any) -> StepResult:
    return discriminator_step(
        task.generator, task.discriminator, plain(task.discriminator.trainable_weights),
        images() if pictures is None else pictures, LABELS, noise(), options=options, **more,
    )  # fmt: skip


def generate(task: GanTask, options: UpdateOptions, **more: Any) -> StepResult:
    optimizer = plain(task.generator.trainable_weights)
    return generator_step(task.generator, task.discriminator, optimizer, noise(), options=options, **more)


def state(*networks: Any) -> list[np.ndarray]:
    return [tf.convert_to_tensor(weight).numpy() for network in networks for weight in network.weights]


def assert_close(first: list[np.ndarray], second: list[np.ndarray], tolerance: float = 1e-5) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


# Clipping, after the sum over replicas.


@pytest.mark.parametrize("limit", [0.05, 1e3])
def test_clipping_is_by_the_norm_of_the_whole_gradient(limit: float) -> None:
    task, other = gan(config()), gan(config())
    result = generate(task, UpdateOptions(gradient_clip_norm=limit))
    update_spectral_norms(other.generator)
    with tf.GradientTape() as tape:
        fakes = other.generator([*noise()], training=True)
        logits = other.discriminator([fakes, noise().labels], training=True)
        loss = -tf.reduce_mean(logits) + tf.add_n(other.generator.losses)
    weights = other.generator.trainable_weights
    found = [tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, weights)]
    clipped, norm = tf.clip_by_global_norm(found, limit)
    assert limit != 0.05 or float(norm) > 0.06
    np.testing.assert_allclose(result.metrics["generator_gradient_norm"], norm, rtol=1e-4)
    expected = [tf.convert_to_tensor(w).numpy() - 0.1 * g.numpy() for w, g in zip(weights, clipped)]
    assert_close([tf.convert_to_tensor(w).numpy() for w in task.generator.trainable_weights], expected, 2e-5)


@pytest.mark.once  # on both stacks every layer by two replicas (tests/layers/test_battery.py), and inpainting
def test_one_two_and_four_replicas_train_the_same_weights(tmp_path: Path) -> None:
    """With synchronised batch normalization, gradients clipped, the moving average."""
    processes = {n: start_module("tests.training.replica_weights", n, tmp_path / f"{n}.npz") for n in (1, 2, 4)}
    for process in processes.values():
        assert process.wait(240) == 0, process.stderr[-3000:]
    one, *others = ({**np.load(tmp_path / f"{n}.npz")} for n in processes)
    assert (one["norms"] > 0.5).any(), "nothing was clipped"
    assert len(one) > 200
    for other in others:
        for name in one:
            np.testing.assert_allclose(other[name], one[name], rtol=1e-5, atol=1e-5, err_msg=name)
        for network in ("generator", "discriminator"):
            way, difference = (
                np.concatenate([run[name].ravel() for name in one if name.startswith(f"moved/{network}/trainable")])
                for run in (one, {name: other[name] - one[name] for name in one})
            )
            assert np.linalg.norm(difference) < 2e-3 * np.linalg.norm(way), network


# Parts of a batch.


@pytest.mark.parametrize("joint_batch", [True, False])
def test_a_discriminator_update_in_parts_equals_the_whole(joint_batch: bool) -> None:
    """Attentive normalization draws the same places, one after the other, and its counter moves once per call."""
    outcomes = []
    for parts in (1, 2):
        task = gan(config())
        result = discriminate(task, UpdateOptions(accumulation_steps=parts), joint_batch=joint_batch)
        outcomes.append((state(task.generator, task.discriminator), [float(v) for v in result.metrics.values()]))
    (weights, metrics), (weights_in_parts, metrics_in_parts) = outcomes
    assert_close(weights_in_parts, weights)
    np.testing.assert_allclose(metrics_in_parts, metrics, rtol=1e-5)


def test_a_generator_update_in_parts_equals_the_whole_where_no_layer_looks_across_images() -> None:
    outcomes = []
    for parts in (1, 4):
        task = gan(config())
        for layer in [task.generator.norm, *(block.norm1 for block in task.generator.blocks)]:
            layer.trainable = False  # batch normalization by its moving averages
        for block in task.generator.blocks:
            if block.attention_options is None:
                block.norm2.trainable = False
        before = state(task.generator)
        task.generator_optimizer = plain(task.generator.trainable_weights)
        result = generator_step(
            task.generator, task.discriminator, task.generator_optimizer, noise(),
            options=UpdateOptions(accumulation_steps=parts),
        )  # fmt: skip
        assert sum(not np.array_equal(x, y) for x, y in zip(before, state(task.generator))) > 10
        outcomes.append([*state(task.generator, task.discriminator), result.metrics["generator_loss"].numpy()])
    assert_close(outcomes[1], outcomes[0])


def test_inpainting_updates_in_parts_equal_the_whole() -> None:
    """The penalty's interpolation and the self-sampling too."""
    outcomes = []
    for parts in (1, 2):
        settings = inpainting_config()
        settings.training.accumulation_steps = parts
        task = task_of(settings)
        task.generator.attention.rho.assign(0.5)
        outcomes.append([value.numpy() for value in inpaint(task)] + state(task.generator, *discriminators(task)))
    assert_close(outcomes[1], outcomes[0])


def discriminators(task: InpaintingTask) -> list[Any]:
    return list(task.discriminators.values())


def inpaint(task: InpaintingTask) -> list[tf.Tensor]:
    """Both updates of phase two; their metrics."""
    batch, training = (tf.constant(photographs(4)), tf.constant(holes(4))), task.config.training
    critic = plain([w for network in discriminators(task) for w in network.trainable_weights])
    seed = tf.constant([3, 4], tf.int64)
    first = critic_step(task.generator, task.discriminators, critic, *batch, seed, training)
    second = inpainter_step(
        task.generator, task.discriminators, plain(task.generator.trainable_weights), *batch, training
    )
    return [*first.metrics.values(), *second.metrics.values()]


def dense() -> Any:
    network = keras.Sequential([keras.layers.Dense(3, name="a"), keras.layers.Dense(1, name="b")])
    network.build((None, 5))
    return network


def dense_gradients(network: Any, rows: int = 24, transform: Any = tf.identity, **options: Any) -> Gradients:
    def compute(values: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        loss = tf.reduce_mean(transform(network(values)) ** 2) / options.get("parts", 1)
        return loss, {"loss": loss}

    values = tf.reshape(tf.range(5.0 * rows), [rows, 5]) / 100.0
    return loss_and_gradients(
        compute, [values], network.trainable_variables, tf.constant(1.0), networks=[network], **options
    )


def test_the_graph_does_not_grow_with_the_parts() -> None:
    network = dense()

    def operations(parts: int) -> int:
        graph = tf.function(lambda: dense_gradients(network, parts=parts)).get_concrete_function().graph
        return len(graph.get_operations())

    assert operations(3) == operations(12)
    for one, other in zip(
        tf.nest.flatten(dense_gradients(network, parts=12)), tf.nest.flatten(dense_gradients(network))
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_batches_that_cannot_be_cut_are_refused(two_cpus: tf.distribute.Strategy) -> None:
    with pytest.raises(ValueError, match=r"accumulation_steps=5 must divide the images of a replica, got 24"):
        dense_gradients(dense(), parts=5)
    check_global_batch(12, two_cpus, 3)
    with pytest.raises(ValueError, match=r"batch_size must be a multiple of 6, 2 replicas times .*=3; got 9"):
        check_global_batch(9, two_cpus, 3)


# Updates that are not finite.


def test_an_update_that_is_not_finite_changes_nothing() -> None:
    """Nor do batch statistics, spectral vectors, the optimizer; afterwards all goes on as if it had not been."""
    options = UpdateOptions(skip_non_finite=True)
    task, other = gan(config()), gan(config())
    before = state(task.generator, task.discriminator)
    bad = tf.tensor_scatter_nd_update(images(), [[1, 2, 3, 0]], [np.nan])
    optimizer = Adam(task.discriminator.trainable_weights, 1e-3)
    result = discriminator_step(task.generator, task.discriminator, optimizer, bad, LABELS, noise(), options=options)
    assert float(result.metrics["skipped_updates"]) == 1.0
    assert not bool(result.applied)
    assert all(np.isfinite(value.numpy()).all() for value in result.guarded)
    assert all(np.array_equal(x, y) for x, y in zip(before, state(task.generator, task.discriminator)))
    assert [float(np.abs(variable.numpy()).max()) for variable in optimizer.variables] == [0.0] * len(
        optimizer.variables
    )
    for one in (task, other):
        assert float(discriminate(one, options).metrics["skipped_updates"]) == 0.0
    assert all(
        np.array_equal(x, y)
        for x, y in zip(state(task.generator, task.discriminator), state(other.generator, other.discriminator))
    )
    assert not np.array_equal(state(task.discriminator)[0], before[-len(state(task.discriminator))])


def test_one_bad_replica_stops_the_update_of_all(two_cpus: tf.distribute.Strategy) -> None:
    with two_cpus.scope():
        weight = tf.Variable([1.0, 2.0], name="weight")
        network = _Network(weight)
        optimizer = Adam([weight], 0.1)

    @tf.function
    def step(values: Any) -> tf.Tensor:
        def replica_step(rows: tf.Tensor) -> tf.Tensor:
            def compute(rows: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
                return tf.reduce_sum(rows * weight), {}

            update = Update(optimizer, [network], UpdateOptions(skip_non_finite=True))
            return update.apply(compute, [rows], [weight], "generator", [network]).metrics["skipped_updates"]

        return two_cpus.reduce(tf.distribute.ReduceOp.SUM, two_cpus.run(replica_step, args=(values,)), axis=None)

    def rows_of(second: float) -> Any:
        return two_cpus.experimental_distribute_values_from_function(
            lambda context: tf.constant([[1.0, second if context.replica_id_in_sync_group else 1.0]])
        )

    assert float(step(rows_of(np.inf))) == 1.0
    assert [copy.numpy().tolist() for copy in two_cpus.experimental_local_results(weight)] == [[1.0, 2.0]] * 2
    assert float(step(rows_of(1.0))) == 0.0
    for copy in two_cpus.experimental_local_results(weight):
        np.testing.assert_allclose(copy, [0.9, 1.9], rtol=1e-6)


class _Network:
    """One weight, no state."""

    def __init__(self, weight: tf.Variable):
        self.trainable_weights = [weight]
        self.non_trainable_weights: list[Any] = []


def test_a_skipped_generator_update_leaves_the_average_alone() -> None:
    settings = config(non_finite="skip", discriminator_steps=1)
    task = gan(settings)
    task.generator.to_image.layer.bias.assign([np.nan])
    before = state(task.average)
    metrics = task.train_step(tf.constant(4, tf.int64), [(images(), LABELS)]).metrics
    assert float(metrics["skipped_updates"]) == 2.0  # the discriminator's too, which saw such images
    assert all(np.array_equal(x, y) for x, y in zip(before, state(task.average)))
