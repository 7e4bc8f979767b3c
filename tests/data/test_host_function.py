"""Python functions in pipelines: a program can end while one runs."""

from __future__ import annotations

import pytest

from tests.processes import run_module

_RUNNING_PIPELINE = """
import time
import numpy as np
import tensorflow as tf
from attennorm_tf.data.host_function import host_function

def slow(number):
    time.sleep(0.02)
    return np.sin(np.ones(1000)).sum() + number

numbers = tf.data.Dataset.range(10**9)
numbers = numbers.map(lambda n: host_function(slow, [tf.cast(n, tf.float64)], tf.float64), num_parallel_calls=8)
iterator = iter(numbers.prefetch(400))
next(iterator)
raise SystemExit(3)
"""


@pytest.mark.slow
def test_a_program_ends_while_its_pipeline_runs():
    done = run_module("-c", _RUNNING_PIPELINE, timeout=120)
    assert done.returncode == 3, done.stderr
    assert "Error" not in done.stderr
