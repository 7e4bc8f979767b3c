"""The inpainting task: step functions, phases and their switch, replicas, exact resume."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from attennorm_tf.config import InpaintingConfig
from attennorm_tf.losses import gradient_penalty, reconstruction_weights
from attennorm_tf.replica_random import replica_uniform
from attennorm_tf.training import (
    Adam,
    CheckpointStore,
    InpaintingTask,
    RunDirectory,
    critic_step,
    inpainter_step,
    make_strategy,
    run_training,
)
from attennorm_tf.training.checkpointing import restore
from attennorm_tf.training.inpainting_schedule import PhaseProgress, learning_rate

SIDE = 16


def config(steps: int = 3, phase_two_step: int = 1, network: str = "attentive") -> InpaintingConfig:
    made = InpaintingConfig()
    made.model.network = network
    made.model.resolution = SIDE
    made.model.width = 0.0625
    made.model.discriminator_width = 0.0625
    made.model.num_entities = 3
    made.masks.height = made.masks.width = 8
    made.masks.shrink = 2
    made.training.steps = steps
    made.training.phase_two_step = phase_two_step
    made.training.batch_size = 4
    made.training.discriminator_steps = 1
    made.training.learning_rate = 1e-3
    made.training.ema_decay = 0.9
    made.training.validate_every_steps = 2
    made.training.steps_per_call = 2
    made.logging.log_every_steps = 1
    made.logging.image_every_steps = 0
    made.logging.checkpoint_every_steps = 1
    made.validate()
    return made


def holes(count: int, seed: int = 0) -> np.ndarray:
    masks = np.zeros((count, SIDE, SIDE, 1), np.float32)
    for mask, (top, left) in zip(masks, np.random.default_rng(seed).integers(0, 8, (count, 2))):
        mask[top : top + 7, left : left + 8] = 1
    return masks


def photographs(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (count, SIDE, SIDE, 3)).astype(np.float32)


def task_of(settings: InpaintingConfig) -> InpaintingTask:
    keras.utils.set_random_seed(settings.training.seed)
    return InpaintingTask(settings, photographs(5, 8), holes(5, 8))


def numbered_batches(rows: int, start: int) -> tf.data.Dataset:
    """Element k, on whatever replica, is rows [k rows, (k + 1) rows) of an endless stream."""
    images, masks = tf.constant(photographs(512, 1)), tf.constant(holes(512, 1))

    def element(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        chosen = (number * rows + tf.range(rows, dtype=tf.int64)) % 512
        return tf.gather(images, chosen), tf.gather(masks, chosen)

    return tf.data.Dataset.range(start, 10**6).map(element)


def train(path: Path, settings: InpaintingConfig) -> InpaintingTask:
    task = task_of(settings)
    rows = settings.training.batch_size
    run_training(
        task,
        RunDirectory(path, tensorboard=False),
        make_strategy("one_device"),
        settings.training,
        settings.logging,
        lambda context, first: numbered_batches(rows, first),
        {"task": "inpainting", "config": settings.to_json()},
    )
    return task


def values(task: InpaintingTask) -> list[np.ndarray]:
    networks = [task.generator, task.average, *task.discriminators.values()]
    optimizers = [task.generator_optimizer, task.discriminator_optimizer]
    everything = [weight for network in networks for weight in network.weights]
    everything += [variable for optimizer in optimizers for variable in optimizer.variables]
    return [tf.convert_to_tensor(value).numpy() for value in everything]


def test_inpainter_step_is_equation_9() -> None:
    settings = config()
    settings.training.hole_weight, settings.training.discount = 3.0, 0.9
    task, other = task_of(settings), task_of(settings)
    images, masks = tf.constant(photographs(4)), tf.constant(holes(4))
    coarse, fine = other.generator([images, masks], training=True)
    weights = reconstruction_weights(masks, 3.0, 0.9).numpy()
    errors = [(np.abs(output - images) * weights).mean() for output in (coarse, fine)]
    fakes = fine * masks + images * (1 - masks)
    adversarial = -sum(float(tf.reduce_mean(d([fakes, masks]))) for d in other.discriminators.values())
    regularization = float(tf.add_n(other.generator.losses))
    before = [w.numpy() for network in task.discriminators.values() for w in network.weights]
    result = inpainter_step(
        task.generator, task.discriminators, task.generator_optimizer, images, masks, settings.training
    )
    np.testing.assert_allclose(result.metrics["coarse_loss"], errors[0], rtol=1e-5)
    np.testing.assert_allclose(result.metrics["reconstruction_loss"], errors[1], rtol=1e-5)
    np.testing.assert_allclose(result.metrics["adversarial_loss"], adversarial, rtol=1e-4)
    expected = 1.2 * sum(errors) + 1e-3 * adversarial + regularization
    np.testing.assert_allclose(result.guarded[0], expected, rtol=1e-5)
    after = [w.numpy() for network in task.discriminators.values() for w in network.weights]
    assert all(np.array_equal(x, y) for x, y in zip(before, after))
    # In phase one too, attentive normalization learns (in the authors' release it does not): rho, the way in.
    assert float(task.generator.attentive_normalization.rho.numpy()) != 0.0


def test_critic_step_is_equation_10() -> None:
    settings = config()
    task, other = task_of(settings), task_of(settings)
    images, masks, seed = tf.constant(photographs(4)), tf.constant(holes(4)), tf.constant([3, 4], tf.int64)
    fine = other.generator([images, masks], training=True)[1]
    fakes = fine * masks + images * (1 - masks)
    t = replica_uniform([4, 1, 1, 1], seed)
    between = t * fakes + (1 - t) * images
    expected = 0.0
    for network in other.discriminators.values():
        distance = tf.reduce_mean(network([fakes, masks]) - network([images, masks]))
        penalty = gradient_penalty(lambda x, network=network: network([x, masks]), between, masks)
        expected += float(distance + 10 * tf.reduce_mean(penalty))
    before = [w.numpy() for w in task.generator.trainable_weights]
    result = critic_step(
        task.generator, task.discriminators, task.discriminator_optimizer, images, masks, seed, settings.training
    )
    np.testing.assert_allclose(result.guarded[0], expected, rtol=1e-4)
    assert all(np.array_equal(x, y.numpy()) for x, y in zip(before, task.generator.trainable_weights))
    for name, network in task.discriminators.items():
        moved = [
            not np.array_equal(x, y) for x, y in zip(other.discriminators[name].get_weights(), network.get_weights())
        ]
        assert all(moved[:-1]), name  # the last is the bias of the score, which Eq. 10 does not see
    assert set(result.metrics) >= {"global_distance", "global_penalty", "local_distance", "local_penalty"}


class Run(NamedTuple):
    """A run of three steps, the first in phase one."""

    path: Path
    values: list[np.ndarray]

    def lines(self) -> list[dict[str, float]]:
        return [json.loads(line) for line in (self.path / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("whole")
    return Run(path, values(train(path, config())))


def test_phases_share_one_stream_of_batches() -> None:
    settings = config(phase_two_step=3)
    settings.training.discriminator_steps = 2
    task = task_of(settings)
    assert [task.batches_before(step) for step in (0, 1, 3, 4, 6)] == [0, 1, 3, 6, 12]
    assert [task.phase(step).batches_per_step for step in (0, 2, 3, 9)] == [1, 1, 3, 3]
    assert [task.next_control(step) for step in (0, 2, 3, 4)] == [2, 3, 4, 6]
    assert list(task.phase(2).guarded) == list(task.phase(3).guarded[-len(task.phase(2).guarded) :])
    assert list(task.phase(3).guarded).count("discriminator loss") == 2


def test_no_phase_one() -> None:
    task = task_of(config(phase_two_step=0))
    assert task.phase(0).batches_per_step == 2
    assert task.batches_before(4) == 8


def test_a_run_changes_phase_where_it_was_told_to(whole: Run) -> None:
    lines = whole.lines()
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert ["discriminator_loss" in line for line in lines] == [False, True, True]
    assert ["validation_hole_psnr" in line for line in lines] == [False, True, False]


def test_phase_one_ends_when_its_error_stops_falling() -> None:
    progress = PhaseProgress()
    for step, error in enumerate([3.0, 2.0, 2.5, 1.9, 2.0, 1.95]):
        progress.note(step, error, patience=3)
        assert progress.phase_one_steps == float("inf")
    progress.note(6, 1.9, patience=3)  # as low as before is no progress
    assert progress.phase_one_steps == 6


def test_automatic_switch_is_kept_in_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(phase_two_step=-1)
    settings.training.patience = 1
    task = task_of(settings)
    errors = iter([0.5, 0.7])
    monkeypatch.setattr(task.watch, "validate", lambda: {"validation_l1": next(errors)})
    assert task.control(2) == {"validation_l1": 0.5}
    assert task.batches_before(4) == 4
    task.control(4)
    assert task.batches_before(6) == 4 + 2 * 2
    checkpoint = CheckpointStore(tmp_path).save(6, task.checkpoint_items, {})
    again = task_of(settings)
    assert again.batches_before(6) == 6
    restore(checkpoint, again.checkpoint_items)
    assert again.batches_before(6) == 4 + 2 * 2


def test_resumed_equals_uninterrupted(tmp_path: Path, whole: Run) -> None:
    shutil.copytree(whole.path / "checkpoints" / "step-00000002", tmp_path / "checkpoints" / "step-00000002")
    resumed = values(train(tmp_path, config()))
    assert len(resumed) == len(whole.values)
    assert all(np.array_equal(x, y) for x, y in zip(resumed, whole.values))


def test_two_replicas_equal_one(two_cpus: tf.distribute.Strategy) -> None:
    """By plain descent: Adam's first steps are the gradient's sign, which rounding decides near 0."""
    outcomes = []
    for strategy in (make_strategy("one_device"), two_cpus):
        with strategy.scope():
            task = task_of(config())
            networks = list(task.discriminators.values())
            plain = {"learning_rate": 0.05e6, "beta_1": 0.0, "beta_2": 0.0, "epsilon": 1e6}
            task.generator_optimizer = Adam(task.generator.trainable_weights, **plain)
            task.discriminator_optimizer = Adam([w for n in networks for w in n.trainable_weights], **plain)
        rows = 4 // strategy.num_replicas_in_sync
        iterator = iter(strategy.distribute_datasets_from_function(lambda _, rows=rows: numbered_batches(rows, 0)))
        result = strategy.run(
            task.adversarial_train_step, args=(tf.constant(7, tf.int64), [next(iterator), next(iterator)])
        )
        metrics = {
            name: float(strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None))
            for name, value in result.metrics.items()
        }
        outcomes.append((metrics, values(task)))
    (metrics, one), (shared_metrics, two) = outcomes
    assert metrics == pytest.approx(shared_metrics, rel=1e-4, abs=1e-5)
    for x, y in zip(one, two):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


def test_learning_rate_falls_by_half_a_cosine() -> None:
    """Seen in what Adam moves a weight by, which for a constant gradient is the learning rate."""
    settings = config()
    assert learning_rate(settings.training) == 1e-3
    settings.training.decay_steps, settings.training.final_learning_rate = 4, 1e-4
    weight, moves = tf.Variable(0.0), []
    optimizer = Adam([weight], learning_rate(settings.training), 0.5, 0.9, epsilon=1e-12)
    for _ in range(6):
        before = float(weight.numpy())
        optimizer.apply([tf.constant(1.0)], [weight])
        moves.append(before - float(weight.numpy()))
    np.testing.assert_allclose(np.array(moves)[[0, 2, 4, 5]], [1e-3, (1e-3 + 1e-4) / 2, 1e-4, 1e-4], rtol=1e-3)


def test_watch_measures_the_hole_only() -> None:
    task = task_of(config())
    images, masks = photographs(5, 8), holes(5, 8)
    fine = task.average([images, masks], training=False)[1].numpy()
    expected: dict[str, list[Any]] = {"validation_l1": [], "validation_hole_psnr": []}
    for output, image, mask in zip(fine, images, masks):
        difference = (output - image)[mask[..., 0] == 1].astype(np.float64)
        expected["validation_l1"].append(np.abs(difference).mean())
        expected["validation_hole_psnr"].append(-10 * np.log10(np.mean((difference / 2) ** 2)))
    assert task.watch.validate() == pytest.approx({name: np.mean(v) for name, v in expected.items()}, rel=1e-4)
    filled = [np.broadcast_to(i[m[..., 0] == 0].mean(axis=0), i.shape) for i, m in zip(images, masks)]
    errors = [(f - i)[m[..., 0] == 1] / 2 for f, i, m in zip(filled, images, masks)]
    assert task.watch.mean_fill_psnr() == pytest.approx(
        np.mean([-10 * np.log10(np.mean(e**2)) for e in errors]), rel=1e-4
    )
    scalars = task.scalars()
    assert {name for name in scalars if "/" not in name} == {
        "rho", "t", "layout_entropy", "entities_in_use", "region_std_ratio"
    }  # fmt: skip
    assert 0 < scalars["region_std_ratio"] < 1.5
    assert any(name.startswith("region_std_ratio/0") for name in scalars)
    pictures = task.pictures()
    assert {name: picture.dtype for name, picture in pictures.items()} == dict.fromkeys(
        ("inpainted", "layouts", "statistics"), np.uint8
    )
    assert task_of(config(network="contextual")).scalars() == {}
