"""Reading and writing this replica's own copy of a variable, which costs no communication and may stand in a branch.

A distributed variable's own `assign` combines what the replicas assign, for which they must meet; where they compute
the same value anyway, each may write its own copy.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from attennorm_tf._compat import raw_variable


def local_handle(weight: Any) -> tf.Tensor:
    """The resource of a Keras weight or variable on this replica."""
    return raw_variable(weight).handle


def read_local(weight: Any) -> tf.Tensor:
    """The value on this replica as it is stored, not cast to the compute type of a mixed policy."""
    variable = raw_variable(weight)
    value = tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype)
    return tf.ensure_shape(value, variable.shape)


def write_local(weight: Any, value: tf.Tensor) -> None:
    """Sets the value on this replica; the others are expected to set the same."""
    tf.raw_ops.AssignVariableOp(resource=local_handle(weight), value=value)
