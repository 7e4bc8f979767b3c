"""The GAN's step functions and task: losses, replicas, spectral updates, moving average, exact resume."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from attennorm_tf.config import GanConfig, gan_preset_config
from attennorm_tf.data import load_dataset
from attennorm_tf.inference import draw_latents, load_generator, sample
from attennorm_tf.layers import SpectralNormalization
from attennorm_tf.layers.spectral_normalization import update_spectral_norms
from attennorm_tf.training import GanTask, RunDirectory, make_strategy, run_training
from attennorm_tf.training.gan import Noise, discriminator_step, draw_noise, generator_step, update_moving_average
from attennorm_tf.visualization import image_grid, layout_sheet


def config(preset: str = "attennorm", steps: int = 6, **model: Any) -> GanConfig:
    made = gan_preset_config(preset, **{"resolution": 16, "width": 0.125, "latent_dim": 8, "num_entities": 4, **model})
    made.training.steps = steps
    made.training.batch_size = 8
    made.training.steps_per_call = 2
    made.training.ema_decay = 0.9
    made.logging.log_every_steps = 2
    made.logging.image_every_steps = 0
    made.logging.checkpoint_every_steps = 2
    return made


def train(path: Path, settings: GanConfig) -> GanTask:
    """A run on digits, as train.gan does it."""
    strategy = make_strategy("one_device")
    dataset = load_dataset("digits")
    keras.utils.set_random_seed(settings.training.seed)
    with strategy.scope():
        task = GanTask(settings, dataset.num_classes, dataset.channels)
    run_training(
        task,
        RunDirectory(path, tensorboard=False),
        strategy,
        settings.training,
        settings.logging,
        lambda context, first: dataset.batches(
            resolution=16,
            batch_size=settings.training.batch_size,
            seed=settings.training.seed,
            start_step=first,
            replicas_per_pipeline=context.num_replicas_in_sync,
        ),
        {"config": settings.to_json(), "class_names": list(dataset.class_names), "channels": dataset.channels},
    )
    return task


def values(task: GanTask) -> list[np.ndarray]:
    """Every number that a run changes: networks, average, optimizer slots and counters, loss scales."""
    weights = [*task.generator.weights, *task.discriminator.weights, *task.average.weights]
    slots = [*task.generator_optimizer.variables, *task.discriminator_optimizer.variables]
    scales = [variable for scale in task.loss_scales.values() for variable in scale.variables]
    return [tf.convert_to_tensor(v).numpy() for v in [*weights, *slots, *scales]]


def digest(task: GanTask) -> str:
    return hashlib.sha256(b"".join(value.tobytes() for value in values(task))).hexdigest()


def spectral_vectors(model: Any) -> list[np.ndarray]:
    layers = [p for p in tf.train.TrackableView(model).descendants() if isinstance(p, SpectralNormalization)]
    # A kernel with one output channel has a vector of length one, which has nowhere to go.
    return [tf.convert_to_tensor(layer.u).numpy() for layer in layers if np.prod(layer.u.shape) > 1]


@pytest.fixture
def task() -> GanTask:
    return GanTask(config(), 10, 1)


def noise(count: int = 4) -> Noise:
    return draw_noise(tf.constant([3, 5], tf.int64), count, 8, 10)


def changed(before: list[np.ndarray], after: list[np.ndarray]) -> list[bool]:
    return [not np.array_equal(x, y) for x, y in zip(before, after)]


def test_discriminator_step_updates_only_the_discriminator(task: GanTask) -> None:
    images, labels = tf.random.uniform([4, 16, 16, 1], -1, 1), tf.constant([1, 2, 3, 4])
    generator = [w.numpy() for w in task.generator.trainable_weights]
    discriminator = [w.numpy() for w in task.discriminator.trainable_weights]
    spectral = spectral_vectors(task.discriminator)
    fakes = task.generator([noise().latents, noise().labels], training=True)
    # The step itself updates u first, so the oracle's logits are taken from a second discriminator that did.
    other = GanTask(config(), 10, 1).discriminator
    other.set_weights(task.discriminator.get_weights())
    result = discriminator_step(
        task.generator, task.discriminator, task.discriminator_optimizer, images, labels, noise()
    )
    assert not any(changed(generator, [w.numpy() for w in task.generator.trainable_weights]))
    moved = changed(discriminator, [w.numpy() for w in task.discriminator.trainable_weights])
    # With rho at 0 nothing inside the attentive normalization has a gradient but rho, and the entities by Eq. 1.
    inside = {f"{part}_{kind}" for part in ("key", "query", "value") for kind in ("kernel", "bias")}
    inside |= {"t", "beta", "alpha"}
    names = [w.name.split(":")[0].split("/")[-1] for w in task.discriminator.trainable_weights]
    assert {name for name, moves in zip(names, moved) if not moves} == inside
    assert moved.count(False) == len(inside)
    assert all(changed(spectral, spectral_vectors(task.discriminator)))
    assert len(result.guarded) == 1 + len(task.discriminator.trainable_weights)
    update_spectral_norms(other)
    both = tf.reshape(tf.stack([images, fakes], axis=1), [-1, 16, 16, 1])
    both_labels = tf.reshape(tf.stack([labels, noise().labels], axis=1), [-1])
    logits = other([both, both_labels], training=True).numpy().reshape(-1, 2)
    hinge = np.maximum(0, 1 - logits[:, 0]).mean() + np.maximum(0, 1 + logits[:, 1]).mean()
    np.testing.assert_allclose(result.metrics["discriminator_loss"], hinge, rtol=1e-4)
    np.testing.assert_allclose(result.metrics["real_logit"], logits[:, 0].mean(), atol=1e-4)


def test_generator_step_updates_only_the_generator(task: GanTask) -> None:
    generator = [w.numpy() for w in task.generator.trainable_weights]
    discriminator = [w.numpy() for w in task.discriminator.weights if w.trainable]
    result = generator_step(task.generator, task.discriminator, task.generator_optimizer, noise())
    assert not any(changed(discriminator, [w.numpy() for w in task.discriminator.weights if w.trainable]))
    moved = changed(generator, [w.numpy() for w in task.generator.trainable_weights])
    assert sum(moved) > 0.6 * len(moved)
    norms = [float(n) for n in result.guarded[1:]]
    np.testing.assert_allclose(float(result.metrics["generator_gradient_norm"]), np.sqrt(np.sum(norms)), rtol=1e-5)


def test_orthogonal_term_reaches_the_gradient() -> None:
    """With rho at 0 the layout has no say in the images: what moves the entities is Eq. 1 alone."""
    for preset, moves in (("attennorm", True), ("attennorm_no_orthogonal", False)):
        made = GanTask(config(preset), 10, 1)
        before = made.generator.attentive_normalization.entities.numpy()
        generator_step(made.generator, made.discriminator, made.generator_optimizer, noise())
        assert np.array_equal(before, made.generator.attentive_normalization.entities.numpy()) is not moves


def test_noise_is_fresh_every_step_and_reaches_all_classes() -> None:
    first = draw_noise(tf.constant([0, 1], tf.int64), 500, 8, 10)
    second = draw_noise(tf.constant([0, 2], tf.int64), 500, 8, 10)
    assert not np.array_equal(first.latents, second.latents)
    assert sorted(set(first.labels.numpy())) == list(range(10))
    assert abs(float(tf.reduce_mean(first.latents))) < 0.1
    assert abs(float(tf.math.reduce_std(first.latents)) - 1) < 0.1


def test_moving_average_formula(task: GanTask) -> None:
    before = [w.numpy() for w in task.average.weights]
    for weight in task.generator.weights:
        weight.assign(weight + tf.ones_like(weight))
    update_moving_average(task.average, task.generator, 0.9, tf.constant(1000, tf.int64))
    for old, average, weight in zip(before, task.average.weights, task.generator.weights):
        averaged = weight.trainable or "moving_" in str(getattr(weight, "path", weight.name))
        expected = 0.9 * old + 0.1 * weight.numpy() if averaged else weight.numpy()
        np.testing.assert_allclose(average.numpy(), expected, rtol=1e-5, atol=1e-6)
    update_moving_average(task.average, task.generator, 0.9, tf.constant(0, tf.int64))
    for average, weight in zip(task.average.trainable_weights, task.generator.trainable_weights):
        assert float(tf.reduce_max(tf.abs(average - weight))) <= 0.1


@pytest.mark.parametrize("joint_batch", [True, False])
def test_auxiliary_classifier_in_both_steps(joint_batch: bool) -> None:
    """Loss = hinge + weight * (cross entropy on real + on generated): its gradient, taken apart outside the step."""
    settings = config("acgan")
    made, other = GanTask(settings, 10, 1), GanTask(settings, 10, 1)
    for task, before in ((other.generator, made.generator), (other.discriminator, made.discriminator)):
        task.set_weights(before.get_weights())
    images, labels = tf.random.uniform([4, 16, 16, 1], -1, 1), tf.constant([1, 2, 3, 4])
    result = discriminator_step(
        made.generator, made.discriminator, made.discriminator_optimizer, images, labels, noise(),
        joint_batch=joint_batch, auxiliary_weight=0.25,
    )  # fmt: skip
    fakes = other.generator([noise().latents, noise().labels], training=True)
    update_spectral_norms(other.discriminator)
    parts, hinge = {}, 0.0
    with tf.GradientTape(persistent=True) as tape:
        for name, pictures, ids, sign in (("real", images, labels, 1.0), ("fake", fakes, noise().labels, -1.0)):
            logits, classes = other.discriminator([pictures, ids], training=True, return_classes=True)
            hinge += tf.reduce_mean(tf.nn.relu(1.0 - sign * logits))
            likelihood = tf.gather(tf.nn.softmax(classes), ids, batch_dims=1)
            parts[name] = tf.reduce_mean(-tf.math.log(likelihood))
            hits = np.mean(classes.numpy().argmax(axis=1) == ids.numpy())
            np.testing.assert_allclose(result.metrics[f"{name}_class_accuracy"], hits)
        total = hinge + 0.25 * (parts["real"] + parts["fake"])
    for name, part in parts.items():
        np.testing.assert_allclose(result.metrics[f"{name}_class_loss"], part, rtol=1e-4)
    np.testing.assert_allclose(result.guarded[0], total, rtol=1e-4)
    gradients = tape.gradient(total, other.discriminator.trainable_variables)
    norm = np.sqrt(sum(float(tf.reduce_sum(g**2)) for g in gradients))
    np.testing.assert_allclose(result.metrics["discriminator_gradient_norm"], norm, rtol=1e-3)

    other.discriminator.set_weights(made.discriminator.get_weights())
    other.generator.set_weights(made.generator.get_weights())
    result = generator_step(made.generator, made.discriminator, made.generator_optimizer, noise(), 0.25)
    update_spectral_norms(other.generator)
    fakes = other.generator([noise().latents, noise().labels], training=True)
    logits, classes = other.discriminator([fakes, noise().labels], training=True, return_classes=True)
    entropy = -np.mean(np.log(tf.gather(tf.nn.softmax(classes), noise().labels, batch_dims=1)))
    np.testing.assert_allclose(result.metrics["generator_class_loss"], entropy, rtol=1e-4)
    np.testing.assert_allclose(result.guarded[0], -np.mean(logits) + 0.25 * entropy, rtol=1e-4)


def test_scalars_name_the_network_and_are_finite() -> None:
    made = GanTask(config(), 10, 1)
    scalars = made.scalars()
    kinds = {"rho", "t", "layout_entropy", "entities_in_use", "region_std_ratio", "largest_sigma"}
    assert {name for name in scalars if "/" not in name} == {"sample_variance"} | {
        f"{network}_{kind}" for network in ("generator", "discriminator") for kind in kinds
    }
    assert np.isfinite(list(scalars.values())).all()
    inputs = [made._watch._latents, made._watch._labels]
    layouts = made.average(inputs, training=False, return_layout=True)[1].numpy()
    entropy = -np.sum(layouts * np.log(layouts), axis=-1).mean()
    assert scalars["generator_layout_entropy"] == pytest.approx(entropy, rel=1e-4)
    shares = np.bincount(layouts.argmax(axis=-1).ravel(), minlength=4) / layouts[..., 0].size
    assert scalars["generator_entities_in_use"] == (shares >= 0.01).sum()
    sigmas = [float(p.sigma()) for p in tf.train.TrackableView(made.discriminator).descendants()
              if isinstance(p, SpectralNormalization)]  # fmt: skip
    assert scalars["discriminator_largest_sigma"] == pytest.approx(max(sigmas), rel=1e-5)
    images = made.average(inputs, training=False).numpy()
    pictures = made.pictures()
    assert list(pictures) == ["samples", "layouts", "statistics", "interpolation"]
    np.testing.assert_allclose(pictures["samples"], image_grid(images, 8, 10, scale=3).astype(float), atol=1)
    assert (pictures["layouts"] != layout_sheet(images[:10], layouts[:10], over_images=True)).mean() < 0.01
    assert set(GanTask(config("sngan_star"), 10, 1).scalars()) == {
        "generator_largest_sigma", "discriminator_largest_sigma", "sample_variance"
    }  # fmt: skip


def everything() -> GanConfig:
    """All kinds of state: moving averages within attentive normalization and loss scales too."""
    made = config("attennorm_bn", steps=4)
    made.training.precision = "mixed_float16"
    return made


class Run(NamedTuple):
    """A run of four steps that kept the checkpoint of the second too, and what it must agree with later."""

    path: Path
    task: GanTask
    digest: str


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("whole")
    task = train(path, everything())
    return Run(path, task, digest(task))


def test_interrupted_equals_uninterrupted_bit_for_bit(tmp_path: Path, whole: Run) -> None:
    shutil.copytree(whole.path / "checkpoints" / "step-00000002", tmp_path / "checkpoints" / "step-00000002")
    resumed = train(tmp_path, everything())
    assert digest(resumed) == whole.digest
    assert whole.digest != digest(GanTask(everything(), 10, 1))


def test_a_checkpoint_holds_every_weight_and_slot(whole: Run) -> None:
    task = whole.task
    saved = tf.train.list_variables(str(whole.path / "checkpoints" / "step-00000004" / "state"))
    names = [name for name, _ in saved if name.endswith("VARIABLE_VALUE")]
    assert len(names) == len(values(task)) + 2  # and the step and the rollbacks


def test_a_loaded_generator_makes_the_same_images(whole: Run) -> None:
    task = whole.task
    latents, labels = draw_latents(5, 8, seed=1), np.array([0, 3, 9, 9, 1])
    # What is loaded computes in float32, the trained network in float16.
    plain = GanTask(config("attennorm_bn"), 10, 1).generator
    plain.set_weights(task.generator.get_weights())
    for average, model in ((True, task.average), (False, plain)):
        loaded = load_generator(str(whole.path), average=average)
        assert loaded.step == 4
        assert loaded.class_names == [str(i) for i in range(10)]
        images = sample(loaded.generator, latents, labels, batch_size=2).images
        expected = model([tf.constant(latents), tf.constant(labels)], training=False)
        np.testing.assert_allclose(images, expected, atol=1e-5)
        for found, trained in zip(loaded.generator.weights, model.weights):
            np.testing.assert_array_equal(tf.convert_to_tensor(found), tf.convert_to_tensor(trained))
