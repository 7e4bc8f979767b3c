"""Mixed precision: half-precision networks on float32 weights, and the loss scale of float16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from attennorm_tf.inference import load_generator
from attennorm_tf.training import Adam, CheckpointStore, GanTask
from attennorm_tf.training.checkpointing import restore
from attennorm_tf.training.precision import GROWTH_STEPS, INITIAL, LossScale, make_loss_scales, precision_policy
from attennorm_tf.training.updates import Update, UpdateOptions
from tests.training.test_inpainting import config as inpainting_config
from tests.training.test_inpainting import holes, photographs, task_of
from tests.training.test_updates import LABELS, config, gan, images

HALF = ("mixed_bfloat16", "mixed_float16")


def test_the_policy_is_restored_also_after_an_error() -> None:
    with precision_policy("mixed_bfloat16"):
        assert keras.layers.Dense(1).compute_dtype == "bfloat16"
    with pytest.raises(ValueError, match="invalid literal"), precision_policy("mixed_float16"):
        int("no")
    assert keras.mixed_precision.global_policy().name == "float32"


@pytest.mark.parametrize("precision", HALF)
def test_a_gan_step_is_that_of_float32_up_to_rounding(precision: str, tmp_path: Path) -> None:
    """Losses and gradients; networks compute in half precision, the average and what is loaded in float32."""
    outcomes = []
    for name in ("float32", precision):
        settings = config(precision=name, discriminator_steps=1)
        task = gan(settings)
        for scale in task.loss_scales.values():
            scale.value.assign(256.0)  # small enough for the first step, large enough to be seen if not divided by
        outcomes.append(task.train_step(tf.constant(4, tf.int64), [(images(), LABELS)]).metrics)
    assert keras.mixed_precision.global_policy().name == "float32"
    half = {"mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}[precision]
    assert task.generator.blocks[0].conv1.layer.compute_dtype == half
    assert task.average.blocks[0].conv1.layer.compute_dtype == "float32"
    for network in (task.generator, task.discriminator, task.average):
        assert {tf.as_dtype(w.dtype) for w in network.weights} <= {tf.float32, tf.int64}
        assert all(np.isfinite(tf.convert_to_tensor(weight)).all() for weight in network.weights)
    wide, narrow = outcomes
    assert all(value.dtype == tf.float32 for value in narrow.values())
    for name in ("discriminator_loss", "generator_loss", "discriminator_gradient_norm", "generator_gradient_norm"):
        np.testing.assert_allclose(narrow[name], wide[name], rtol=0.05, atol=0.02, err_msg=name)
    added = {"loss_scale", "discriminator_loss_scale", "skipped_updates"} if precision == "mixed_float16" else set()
    assert set(narrow) - set(wide) == added
    if added:
        assert (float(narrow["loss_scale"]), float(narrow["skipped_updates"])) == (256.0, 0.0)
    metadata = {"config": settings.to_json(), "class_names": [str(i) for i in range(10)], "channels": 1}
    path = CheckpointStore(tmp_path).save(1, {**task.checkpoint_items, "step": tf.Variable(1)}, metadata)
    loaded = load_generator(str(path)).generator
    inputs = [tf.ones([2, 8]), tf.constant([1, 2])]
    np.testing.assert_allclose(loaded(inputs), task.average(inputs), atol=1e-6)


@pytest.mark.parametrize("precision", HALF)
def test_an_inpainting_step_is_that_of_float32_up_to_rounding(precision: str) -> None:
    """With the penalty, whose gradient is derived twice."""
    batch = tf.constant(photographs(4)), tf.constant(holes(4))
    outcomes = []
    for name in ("float32", precision):
        settings = inpainting_config()
        settings.training.precision = name
        settings.masks.height = settings.masks.width = 12
        settings.validate()
        task = task_of(settings)
        for scale in task.loss_scales.values():
            scale.value.assign(256.0)
        outcomes.append(task.adversarial_train_step(tf.constant(4, tf.int64), [batch, batch]).metrics)
    wide, narrow = outcomes
    for name in ("global_penalty", "local_penalty", "discriminator_loss", "coarse_loss", "reconstruction_loss",
                 "discriminator_gradient_norm", "generator_gradient_norm"):  # fmt: skip
        np.testing.assert_allclose(narrow[name], wide[name], rtol=0.05, err_msg=name)
    assert set(task.checkpoint_items) >= {f"{name}_loss_scale" for name in task.loss_scales}


def test_a_crop_whose_gradients_bfloat16_would_make_up_is_refused() -> None:
    settings = inpainting_config()
    settings.training.precision = "mixed_bfloat16"
    with pytest.raises(ValueError, match=r"masks.height must be more than 8 with .*bfloat16.*; got 8"):
        settings.validate()


def test_the_loss_scale_doubles_after_good_updates_and_halves_after_a_bad_one() -> None:
    scale = LossScale()
    assert float(scale.read()) == INITIAL == 2.0**15
    scale.good_updates.assign(GROWTH_STEPS - 2)
    history = []
    for finite in (True, True, True, False, False):
        scale.move(tf.constant(finite))
        history.append((float(scale.read()) / INITIAL, int(scale.good_updates.numpy())))
    assert history == [(1.0, GROWTH_STEPS - 1), (2.0, 0), (2.0, 1), (1.0, 0), (0.5, 0)]
    scale.value.assign(1.5)
    scale.move(tf.constant(False))
    assert float(scale.read()) == 1.0
    assert set(make_loss_scales("mixed_float16")) == {"generator", "discriminator"}
    assert make_loss_scales("mixed_bfloat16") == make_loss_scales("float32") == {}


class _Network:
    def __init__(self, weight: Any):
        self.trainable_weights, self.non_trainable_weights = [weight], []


def test_an_overflow_is_excused_until_the_scale_is_at_its_smallest() -> None:
    """float16 holds 65504: a gradient of 1e4 overflows at every scale above 6."""
    weight, scale = tf.Variable([1.0], name="weight"), LossScale()
    scale.value.assign(16.0)
    optimizer = Adam([weight], 0.1)

    def compute(rows: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        narrow = tf.cast(tf.cast(weight, tf.float16) * tf.constant(10.0, tf.float16), tf.float32)
        return tf.reduce_sum(narrow * rows), {}

    def step(rows: float) -> tuple[float, bool, float, float]:
        before = float(weight.numpy()[0])
        update = Update(optimizer, [_Network(weight)], UpdateOptions(), scale)
        result = update.apply(compute, [tf.constant([[rows]])], [weight], "generator", [_Network(weight)])
        good = all(np.isfinite(value.numpy()).all() for value in result.guarded)
        moved = before - float(weight.numpy()[0])
        return float(result.metrics["skipped_updates"]), good, float(result.metrics["loss_scale"]), round(moved, 4)

    assert [step(1e3) for _ in range(3)] == [(1.0, True, 16.0, 0.0), (1.0, True, 8.0, 0.0), (0.0, True, 4.0, 0.1)]
    assert int(optimizer.iterations.numpy()) == 1
    scale.value.assign(1.0)
    assert step(1e6) == (1.0, False, 1.0, 0.0)


def test_loss_scales_are_kept(tmp_path: Path) -> None:
    first, second = (GanTask(config("sngan", precision="mixed_float16"), 10, 1) for _ in range(2))
    first.loss_scales["generator"].value.assign(64.0)
    first.loss_scales["discriminator"].good_updates.assign(7)
    restore(CheckpointStore(tmp_path).save(1, first.checkpoint_items, {}), second.checkpoint_items)
    assert float(second.loss_scales["generator"].read()) == 64.0
    assert int(second.loss_scales["discriminator"].good_updates.numpy()) == 7
