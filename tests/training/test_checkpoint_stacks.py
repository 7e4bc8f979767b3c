"""A checkpoint written on one stack is read on the other, bit for bit.

`checkpoints/` holds one written by each. To write that of the stack that runs:
    python -m tests.training.test_checkpoint_stacks
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from attennorm_tf._compat import raw_variable, stack_name
from attennorm_tf.config import GanConfig, gan_preset_config
from attennorm_tf.training import CheckpointStore, GanTask
from attennorm_tf.training.checkpointing import CheckpointError, restore
from attennorm_tf.training.weight_table import checkpoint_view, weight_table

FOLDER = Path(__file__).parent / "checkpoints"


def config() -> GanConfig:
    """All kinds of layers and state between them: self-attention, spectral and batch normalization, loss scales."""
    made = gan_preset_config("sagan", resolution=16, width=0.02, latent_dim=4)
    made.model.generator_spectral_normalization = True
    made.training.precision = "mixed_float16"
    return made


def variables(task: GanTask) -> dict[str, tf.Variable]:
    """All that a checkpoint holds, by item and name."""
    found: dict[str, tf.Variable] = {}
    for item, value in checkpoint_view(task.checkpoint_items).items():
        tables = {"": value}
        if not isinstance(value, (dict, tf.Variable)):
            tables = {key: part for key, part in vars(value).items() if key[0] != "_"}
        for key, part in tables.items():
            table = part if isinstance(part, dict) else {"": part}
            found.update({f"{item}/{key}/{name}": v for name, v in table.items() if isinstance(v, tf.Variable)})
    return found


def expected(name: str, variable: Any) -> np.ndarray:
    """Numbers that only this name has."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    return np.asarray(100 * random.normal(size=variable.shape)).astype(variable.dtype.as_numpy_dtype)


def write() -> None:
    task = GanTask(config(), 2, 1)
    for name, variable in variables(task).items():
        variable.assign(expected(name, variable))
    CheckpointStore(FOLDER / stack_name()).save(7, task.checkpoint_items, {})


@pytest.mark.parametrize("stack", ["current", "classic"])
def test_read_back_bit_for_bit(stack: str) -> None:
    task = GanTask(config(), 2, 1)
    found = variables(task)
    networks = [task.generator, task.discriminator, task.average]
    optimizers = [task.generator_optimizer, task.discriminator_optimizer]
    # Two numbers of each loss scale, and the rollbacks.
    assert len(found) == sum(len(n.weights) for n in networks) + sum(len(o.variables) for o in optimizers) + 4 + 1
    restore(FOLDER / stack / "step-00000007", task.checkpoint_items)
    for name, variable in found.items():
        np.testing.assert_array_equal(variable.numpy(), expected(name, variable), err_msg=name)
    for network in networks:
        assert all(raw_variable(w).dtype != tf.float16 for w in network.weights)


def test_a_network_of_another_shape_is_refused() -> None:
    other = config()
    other.model.width = 0.3
    with pytest.raises(CheckpointError, match="does not fit these networks"):
        restore(FOLDER / "current" / "step-00000007", GanTask(other, 2, 1).checkpoint_items)
    with pytest.raises(ValueError, match="two weights are called 'a'"):
        weight_table([tf.Variable(1.0, name="a"), tf.Variable(1.0, name="a")])


if __name__ == "__main__":
    write()
