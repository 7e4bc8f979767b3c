"""What a graph keeps from its forward for its backward pass.

The size of a process does not tell: TensorFlow's allocator keeps what it has freed. The graph does: a tensor must stay
in memory when it is made by the forward pass and read by an operation of the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

# Their output is their input's memory.
SAME_MEMORY = ("Identity", "IdentityN", "Reshape", "ExpandDims", "Squeeze", "StopGradient", "PreventGradient")
NO_ACTIVATION = ("Const", "ReadVariableOp", "VariableV2", "VarHandleOp")


class Kept(NamedTuple):
    """A tensor that stays."""

    operation: str
    shape: tuple[int, ...]
    nbytes: int


def origin(tensor: tf.Tensor) -> tf.Tensor:
    """The tensor whose memory it is."""
    while tensor.op.type in SAME_MEMORY:
        tensor = tensor.op.inputs[tensor.value_index if tensor.op.type == "IdentityN" else 0]
    return tensor


def kept_tensors(
    forward: Callable[[tf.Tensor], tf.Tensor], features: tf.Tensor, upstream: tf.Tensor
) -> tuple[list[Kept], Callable[..., tf.Tensor]]:
    """Activations read by the gradient of `forward`, by the input and by all variables; and the gradient by the input.

    Args:
        forward: features -> outputs, a function that can be traced.
        features: (B, H, W, C).
        upstream: like the outputs.

    Raises:
        RuntimeError: a tensor between the two whose size the graph does not know.
    """
    made: set[str] = set()

    @tf.function(autograph=False)
    def gradient(maps: tf.Tensor, upstream: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(maps)
            outputs = forward(maps)
        made.update(operation.name for operation in tf.compat.v1.get_default_graph().get_operations())
        return tape.gradient(outputs, [maps, *tape.watched_variables()], upstream)

    graph = gradient.get_concrete_function(features, upstream).graph
    # Not activations: the variables' handles, and the upstream gradient, which the backward pass is given.
    given = {inner.name for _, inner in graph.captures} | {graph.inputs[1].name}
    found: dict[str, Kept] = {}
    for operation in graph.get_operations():
        if operation.name in made:
            continue
        for tensor in operation.inputs:
            source = origin(tensor)
            if source.op.name not in made or source.op.type in NO_ACTIVATION or source.name in given:
                continue
            if source.dtype in (tf.variant, tf.resource) or not source.shape.is_fully_defined():
                raise RuntimeError(f"{source.op.name} has no size in the graph: {source.dtype.name} {source.shape}")
            shape = tuple(source.shape.as_list())
            found[source.name] = Kept(source.op.type, shape, source.shape.num_elements() * source.dtype.size)
    return sorted(found.values(), key=lambda kept: -kept.nbytes), lambda *given: gradient(*given)[0]
