"""Updates compiled by XLA: the same as plain ones, and what is trained without it where it cannot be."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from attennorm_tf.training import GanTask
from attennorm_tf.training import gradients as gradients_module
from attennorm_tf.training.strategy import make_strategy
from attennorm_tf.training.updates import UpdateOptions
from tests.training.test_inpainting import config as inpainting_config
from tests.training.test_inpainting import task_of
from tests.training.test_updates import (
    BATCH,
    LABELS,
    assert_close,
    config,
    dense,
    dense_gradients,
    discriminate,
    discriminators,
    gan,
    generate,
    images,
    inpaint,
    state,
)


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Messages logged by the module, as a call."""
    monkeypatch.setattr(gradients_module, "_warned", set())
    caplog.set_level(logging.WARNING, gradients_module.__name__)
    return lambda: [record.getMessage() for record in caplog.records if record.name == gradients_module.__name__]


def test_compiled_gan_updates_equal_plain_ones(warnings: Any) -> None:
    outcomes = []
    for jit in (False, True):
        task = gan(config())
        results = [discriminate(task, UpdateOptions(jit_compile=jit)), generate(task, UpdateOptions(jit_compile=jit))]
        metrics = [value.numpy() for result in results for value in result.metrics.values()]
        outcomes.append([*metrics, *state(task.generator, task.discriminator)])
    assert_close(outcomes[1], outcomes[0], 1e-4)
    assert warnings() == []


@pytest.mark.parametrize("network", ["attentive", "contextual"])
def test_compiled_inpainting_updates_equal_plain_ones(network: str, warnings: Any) -> None:
    outcomes = []
    for jit in (False, True):
        settings = inpainting_config(network=network)
        settings.training.jit_compile = jit
        task = task_of(settings)
        outcomes.append([value.numpy() for value in inpaint(task)] + state(task.generator, *discriminators(task)))
    assert_close(outcomes[1], outcomes[0], 1e-4)
    assert warnings() == []


def test_what_xla_cannot_compile_is_trained_without_it(warnings: Any) -> None:
    def on_the_host(values: tf.Tensor) -> tf.Tensor:
        return values + tf.ensure_shape(tf.numpy_function(lambda x: 0 * x, [values], tf.float32), values.shape)

    network = dense()
    expected = dense_gradients(network)
    for _ in range(2):
        found = dense_gradients(network, transform=on_the_host, jit_compile=True, name="toy")
        for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(expected)):
            np.testing.assert_allclose(one, other, rtol=1e-6)
    assert len(warnings()) == 1
    assert "the toy is trained without XLA, which cannot compile it here" in warnings()[0]
    assert "PyFunc" in warnings()[0]


@pytest.mark.once
def test_batch_normalization_over_replicas_is_not_compiled(two_cpus: tf.distribute.Strategy, warnings: Any) -> None:
    metrics = []
    for strategy, jit_compile in ((make_strategy("one_device"), False), (two_cpus, True)):
        with strategy.scope():
            task = gan(config("sngan", jit_compile=jit_compile, discriminator_steps=1))
        rows = BATCH // strategy.num_replicas_in_sync
        batch = strategy.experimental_distribute_values_from_function(
            lambda context, rows=rows: images()[context.replica_id_in_sync_group * rows :][:rows]
        )
        labels = strategy.experimental_distribute_values_from_function(
            lambda context, rows=rows: LABELS[context.replica_id_in_sync_group * rows :][:rows]
        )

        @tf.function(autograph=False)
        def step(batch: Any, labels: Any, task: GanTask = task, strategy: Any = strategy) -> Any:
            number = tf.constant(4, tf.int64)
            found = strategy.run(lambda x, y: task.train_step(number, [(x, y)]).metrics, args=(batch, labels))
            return {n: strategy.reduce(tf.distribute.ReduceOp.SUM, v, axis=None) for n, v in found.items()}

        metrics.append({name: float(value) for name, value in step(batch, labels).items()})
    assert metrics[1] == pytest.approx(metrics[0], rel=1e-4, abs=1e-5)
    assert len(warnings()) == 1
    assert "the generator is trained without XLA: its batch normalization sums over the replicas" in warnings()[0]
