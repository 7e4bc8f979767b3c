"""The global stream over records that can only be read in order: shuffled in blocks, shared out to replicas."""

from __future__ import annotations

import tensorflow as tf

from attennorm_tf.data.global_stream import StreamPlan, shuffled_examples


def stream_records(records: tf.data.Dataset, plan: StreamPlan, block_size: int) -> tf.data.Dataset:
    """One input pipeline's elements.

    Args:
        records: `plan.num_examples` tuples of scalar tensors, always in the same order.
        plan: which positions to deliver.
        block_size: records shuffled together in memory.

    Returns:
        Elements (positions int64 (b,), the columns of the records (b,)).
    """
    start = plan.start_step * plan.batch_size
    first_epoch, offset = divmod(start, plan.num_examples)
    stream = _epoch(records, plan, block_size, tf.constant(first_epoch, tf.int64), offset)
    if plan.repeat:

        @tf.autograph.experimental.do_not_convert
        def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
            return _epoch(records, plan, block_size, epoch, 0)

        later = tf.data.Dataset.range(first_epoch + 1, tf.int64.max)
        stream = stream.concatenate(later.flat_map(one_epoch))
    elif first_epoch:
        stream = stream.take(0)

    @tf.autograph.experimental.do_not_convert  # plain Python, like the functions below
    def replicas(positions: tf.Tensor, rows: tuple[tf.Tensor, ...]) -> tf.data.Dataset:
        def one(replica: tf.Tensor) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
            first = (plan.input_pipeline_id * plan.replicas_per_pipeline + replica) * plan.per_replica_batch
            own = slice(first, first + plan.per_replica_batch)
            return positions[own], tuple(column[own] for column in rows)

        return tf.data.Dataset.range(plan.replicas_per_pipeline).map(one)

    batches = stream.enumerate(start).batch(plan.batch_size, drop_remainder=plan.static_batch is not None)
    return batches.flat_map(replicas)


def _epoch(
    records: tf.data.Dataset, plan: StreamPlan, block_size: int, epoch: tf.Tensor, offset: int
) -> tf.data.Dataset:
    """Records of one epoch from `offset` on."""
    if not plan.shuffle:
        return records.skip(offset)
    size = min(block_size, plan.num_examples)
    first_block, rest = divmod(offset, size)
    num_blocks = -(-plan.num_examples // size)

    @tf.autograph.experimental.do_not_convert
    def shuffled(block: tf.Tensor, rows: tuple[tf.Tensor, ...]) -> tf.data.Dataset:
        count = tf.shape(rows[0], out_type=tf.int64)[0]
        # Every block of every epoch has a permutation of its own, as if it were an epoch of `count` examples.
        positions = (epoch * num_blocks + block) * count + tf.range(count)
        order = shuffled_examples(positions, count, plan.seed)
        return tf.data.Dataset.from_tensor_slices(tuple(tf.gather(column, order) for column in rows))

    blocks = records.skip(first_block * size).batch(size).enumerate(first_block)
    return blocks.flat_map(shuffled).skip(rest)
