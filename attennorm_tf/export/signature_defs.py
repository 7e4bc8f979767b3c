"""Names, shapes and types of a model's signatures, as a file or a server tells them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import meta_graph_pb2


def shapes_of(signatures: Mapping[str, Any]) -> dict[str, Any]:
    """Of SignatureDefs: {name: {"inputs" and "outputs": {name: {"shape", "dtype"}}}}, None where a size is free."""
    return {
        name: {"inputs": _described(signature.inputs), "outputs": _described(signature.outputs)}
        for name, signature in sorted(signatures.items())
        if not name.startswith("__")
    }


def shapes_of_json(signatures: Any) -> dict[str, Any]:
    """The same of SignatureDefs in JSON, as TensorFlow Serving's REST API has them.

    Raises:
        ValueError: they are none.
    """
    if not isinstance(signatures, dict):
        raise ValueError(f"expected signatures by name, got {type(signatures).__name__}.")
    found = {}
    for name, fields in signatures.items():
        try:
            found[name] = json_format.ParseDict(fields, meta_graph_pb2.SignatureDef(), ignore_unknown_fields=True)
        except (json_format.ParseError, AttributeError, TypeError) as error:
            raise ValueError(f"signature {name!r}: {error}") from error
    return shapes_of(found)


def _described(tensors: Any) -> dict[str, Any]:
    return {
        name: {
            "shape": [None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim],
            "dtype": tf.as_dtype(info.dtype).name,
        }
        for name, info in sorted(tensors.items())
    }
