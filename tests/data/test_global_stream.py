"""The order of the stream, against its definition, on both stacks the same."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tensorflow as tf

from attennorm_tf.data import load_dataset
from attennorm_tf.data.global_stream import StreamPlan, flip_decisions, shuffled_examples


@pytest.mark.parametrize("num_examples", [1, 2, 3, 7, 64, 1000])
def test_every_epoch_is_a_permutation_of_its_own(num_examples):
    epochs = 5
    positions = tf.range(epochs * num_examples, dtype=tf.int64)
    orders = shuffled_examples(positions, num_examples, 0).numpy().reshape(epochs, num_examples)
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.tile(np.arange(num_examples), (epochs, 1)))
    if num_examples > 7:
        assert len({order.tobytes() for order in orders}) == epochs
        assert len({shuffled_examples(positions, num_examples, seed).numpy().tobytes() for seed in range(9)}) == 9


def test_shuffle_is_unbiased_on_a_folder_sorted_by_class():
    # 4 cipher rounds fail this by far: neighbours correlate at 94 standard errors.
    num_examples = 50_000
    order = shuffled_examples(tf.range(num_examples, dtype=tf.int64), num_examples, 7).numpy()
    upper = np.where(order < num_examples // 2, -1.0, 1.0)
    for lag in (1, 2, 4, 16, 64, 256):
        assert abs((upper[:-lag] * upper[lag:]).mean()) < 4.5 / np.sqrt(num_examples)
    assert abs(np.corrcoef(order, np.arange(num_examples))[0, 1]) < 4.5 / np.sqrt(num_examples)
    counts = np.stack([np.bincount(part * 10 // num_examples, minlength=10) for part in order.reshape(-1, 500)])
    chi_squared = ((counts - 50.0) ** 2 / 50.0).sum(axis=1).mean() / 9
    assert 0.8 < chi_squared < 1.2


def test_order_does_not_depend_on_where_a_batch_begins():
    whole = shuffled_examples(tf.range(100, dtype=tf.int64), 7, 3).numpy()
    for begin, end in ((0, 1), (6, 8), (13, 50), (99, 100)):
        part = shuffled_examples(tf.range(begin, end, dtype=tf.int64), 7, 3).numpy()
        np.testing.assert_array_equal(part, whole[begin:end])


def test_order_is_pinned_so_that_both_stacks_and_later_versions_agree():
    positions = tf.constant([0, 1, 2, 999, 1000, 1001, 10**12], tf.int64)
    assert shuffled_examples(positions, 1000, 42).numpy().tolist() == [903, 535, 825, 892, 775, 822, 107]
    flips = flip_decisions(tf.range(16, dtype=tf.int64), 42).numpy().astype(int)
    assert flips.tolist() == [1, 1, 0, 1, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0]


def test_any_python_integer_is_a_seed():
    positions = tf.range(50, dtype=tf.int64)
    orders = {shuffled_examples(positions, 50, seed).numpy().tobytes() for seed in (0, -1, 2**31, 2**40)}
    assert len(orders) == 4


def test_flips_are_fair_and_independent():
    count = 20_000
    flips = flip_decisions(tf.range(count, dtype=tf.int64), 0).numpy() * 2.0 - 1.0
    bound = 4.5 / np.sqrt(count)
    assert abs(flips.mean()) < bound
    for lag in (1, 2, 64, 1024, 1437):
        assert abs((flips[:-lag] * flips[lag:]).mean()) < bound
    other = flip_decisions(tf.range(count, dtype=tf.int64), 1).numpy() * 2.0 - 1.0
    assert abs((flips * other).mean()) < bound


def test_global_random_seed_has_no_influence():
    data = load_dataset("digits")
    batches = []
    for seed in (1, 2):
        tf.random.set_seed(seed)
        batches.append(next(iter(data.batches(resolution=8, batch_size=8, seed=0)))[1].numpy())
    np.testing.assert_array_equal(*batches)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"start_step": -1}, "start_step must be 0 or more, got -1"),
        ({"num_input_pipelines": 0}, "num_input_pipelines must be at least 1"),
        ({"input_pipeline_id": 1}, "input_pipeline_id must be in [0, num_input_pipelines=1), got 1"),
        (
            {"replicas_per_pipeline": 3},
            "batch_size=8 is the global batch and must be divisible by the 3 replicas",
        ),
        ({"batch_size": 11, "repeat": False}, "batch_size=11 is larger than the 10 examples"),
    ],
)
def test_bad_arguments_are_named(change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        StreamPlan(**{"num_examples": 10, "batch_size": 8, **change})


def test_a_distribution_strategy_gets_the_same_global_batches(two_cpus):
    data = load_dataset("digits")
    options = {"resolution": 8, "batch_size": 8, "seed": 0, "start_step": 2}

    def pipeline(context):
        return data.batches(
            **options,
            num_input_pipelines=context.num_input_pipelines,
            input_pipeline_id=context.input_pipeline_id,
            replicas_per_pipeline=context.num_replicas_in_sync // context.num_input_pipelines,
        )

    distributed = iter(two_cpus.distribute_datasets_from_function(pipeline))
    for images, labels in data.batches(**options).take(3):
        shared_images, shared_labels = next(distributed)
        np.testing.assert_array_equal(tf.concat(two_cpus.experimental_local_results(shared_images), 0), images)
        np.testing.assert_array_equal(tf.concat(two_cpus.experimental_local_results(shared_labels), 0), labels)
