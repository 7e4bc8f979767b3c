"""Adam: against Keras', against float64, over replicas, within a branch, through a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from attennorm_tf.training import Adam, CheckpointStore
from attennorm_tf.training.checkpointing import restore

SHAPES = {"kernel": (3, 2), "bias": (2,), "scale": ()}
STEPS = 5


def weights() -> list[tf.Variable]:
    random = np.random.default_rng(0)
    return [tf.Variable(random.normal(size=shape).astype(np.float32), name=name) for name, shape in SHAPES.items()]


def gradients(step: int) -> list[np.ndarray]:
    """Of very different sizes: epsilon decides for the smallest."""
    random = np.random.default_rng(100 + step)
    return [
        (size * random.normal(size=shape)).astype(np.float32) for size, shape in zip((1e2, 1e-3, 1e-8), SHAPES.values())
    ]


def schedule() -> Any:
    return keras.optimizers.schedules.CosineDecay(0.1, 4, alpha=0.1)


def moved(optimizer: Adam, variables: list[tf.Variable], steps: range = range(STEPS)) -> list[np.ndarray]:
    for step in steps:
        optimizer.apply([tf.constant(gradient) for gradient in gradients(step)], variables)
    return [variable.numpy() for variable in variables]


@pytest.mark.parametrize("rate", [0.1, schedule()], ids=["constant", "cosine"])
def test_equal_to_keras(rate: Any) -> None:
    ours, theirs = weights(), weights()
    moved(Adam(ours, rate, 0.5, 0.9), ours)
    optimizer = keras.optimizers.Adam(rate, 0.5, 0.9)
    optimizer.build(theirs)
    for step in range(STEPS):
        optimizer.apply_gradients(zip([tf.constant(gradient) for gradient in gradients(step)], theirs))
    for one, other in zip(ours, theirs):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


def test_equal_to_the_closed_form() -> None:
    """m and v are sums over all gradients; in float64."""
    variables = weights()
    before = [variable.numpy().astype(np.float64) for variable in variables]
    beta_1, beta_2, epsilon = 0.8, 0.95, 1e-7
    after = moved(Adam(variables, 0.1, beta_1, beta_2, epsilon), variables)
    history = [[gradient.astype(np.float64) for gradient in gradients(step)] for step in range(STEPS)]
    for index, (value, result) in enumerate(zip(before, after)):
        for t in range(1, STEPS + 1):
            past = [history[step][index] for step in range(t)]
            m = (1 - beta_1) * sum(beta_1 ** (t - 1 - s) * g for s, g in enumerate(past))
            v = (1 - beta_2) * sum(beta_2 ** (t - 1 - s) * g**2 for s, g in enumerate(past))
            value = value - 0.1 * np.sqrt(1 - beta_2**t) / (1 - beta_1**t) * m / (np.sqrt(v) + epsilon)
        np.testing.assert_allclose(result, value, rtol=1e-5, atol=1e-6)


def test_replicas_move_their_own_copies_within_a_branch(two_cpus: tf.distribute.Strategy) -> None:
    alone = weights()
    expected = moved(Adam(alone, schedule()), alone)
    with two_cpus.scope():
        variables = weights()
        optimizer = Adam(variables, schedule())

    @tf.function
    def step(wanted: tf.Tensor, *values: tf.Tensor) -> None:
        def replica_step() -> None:
            tf.cond(wanted, lambda: optimizer.apply(values, variables), lambda: None)

        two_cpus.run(replica_step)

    for number in range(STEPS):
        step(tf.constant(True), *(tf.constant(gradient) for gradient in gradients(number)))
        step(tf.constant(False), *(tf.constant(gradient) for gradient in gradients(99)))
    assert int(optimizer.iterations.numpy()) == STEPS
    for variable, value in zip(variables, expected):
        for copy in two_cpus.experimental_local_results(variable):
            np.testing.assert_allclose(copy, value, rtol=1e-6, atol=1e-7)


def test_resumed_from_a_checkpoint_bit_for_bit(tmp_path: Path) -> None:
    whole = weights()
    expected = moved(Adam(whole, schedule()), whole)
    first = weights()
    optimizer = Adam(first, schedule())
    moved(optimizer, first, range(2))
    path = CheckpointStore(tmp_path).save(2, {"optimizer": optimizer, "weights": first}, {})
    second = weights()
    again = Adam(second, schedule())
    restore(path, {"optimizer": again, "weights": second})
    assert int(again.iterations.numpy()) == 2
    assert [np.array_equal(x, y) for x, y in zip(moved(again, second, range(2, STEPS)), expected)] == [True] * 3
    assert len(again.variables) == 7


def test_weights_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two weights are called 'kernel'"):
        Adam([weights()[0], weights()[0]], 0.1)
