"""What every test shares: two logical CPUs, fixed seeds, and nothing left behind in Keras' global state."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")
# What XLA compiles here runs once or twice on a few pixels: LLVM's optimization of it takes longer than all the rest.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")

import pytest

from tests.ordering import is_once, place

if TYPE_CHECKING:
    import tensorflow as tf

SEED = 20200614


def pytest_configure(config: pytest.Config) -> None:
    """Two logical CPUs give a strategy two replicas; GPUs are hidden, the tests' tolerances are the CPU's."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return  # only deals out the tests: the processes that run them need not wait until it has imported TensorFlow
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


# TensorFlow's graphs are many objects, of which few are garbage before a test ends: looking for it took a twentieth of
# the time. Every test begins with a collection, see below.
gc.set_threshold(100_000, 50, 100)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take long go first; those of one stack are marked."""
    items.sort(key=lambda item: place(item.path))
    for item in items:
        if is_once(item.path):
            item.add_marker(pytest.mark.once)


@pytest.fixture(autouse=True)
def _isolated_keras() -> Iterator[None]:
    """Starts with cleared Keras state and seeded generators; afterwards restores the precision policy."""
    from tensorflow import keras

    policy = keras.mixed_precision.global_policy()
    keras.backend.clear_session()
    # clear_session collects garbage: 0.4 s a test for walking all that TensorFlow and earlier tests keep alive, unless
    # it is frozen. What is garbage by now has just been collected.
    gc.freeze()
    keras.utils.set_random_seed(SEED)
    yield
    keras.mixed_precision.set_global_policy(policy)


@pytest.fixture(scope="session")
def two_cpus() -> tf.distribute.Strategy:
    """A mirrored strategy over two logical CPUs."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
