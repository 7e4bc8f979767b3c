"""Warm-up records: requests that TensorFlow Serving replays when it loads a version, before the first client's."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2

from attennorm_tf.export.serving_api import import_serving_api

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"  # where the server looks
MOST_RECORDS = 1000  # that the server reads


def write_warmup(
    version_folder: str | os.PathLike[str],
    model_name: str,
    sizes: Sequence[tuple[int, int]] = ((256, 256),),
    batch_sizes: Sequence[int] = (1,),
) -> Path:
    """Writes one record for each signature, image size and batch size of an exported version.

    Inputs are made by name, type and shape of the signature, as `attennorm_tf.export` writes them: noise for
    photographs, a square in the middle as the hole, class 0, evenly mixed classes.

    Args:
        version_folder: a SavedModel; the file goes to `assets.extra` in it, atomically.
        model_name: as the server knows the model.
        sizes: (height, width) of the images in requests; only signatures that take images have more than one.
        batch_sizes: numbers of rows of a request.

    Returns:
        The file.

    Raises:
        ValueError: no SavedModel there, an input that this module does not know, or a size, batch size or number of
            records that no server takes.
        ImportError: tensorflow-serving-api is not installed.
    """
    api = import_serving_api()
    folder = Path(version_folder)
    if not sizes or any(len(size) != 2 or min(size) < 1 for size in sizes):
        raise ValueError(f"sizes must be pairs (height, width) of at least 1, got {list(sizes)}.")
    if not batch_sizes or min(batch_sizes) < 1:
        raise ValueError(f"batch_sizes must be 1 or more, got {list(batch_sizes)}.")
    records = []
    for signature, inputs in sorted(_signatures(folder).items()):
        for size in sizes if any(_is_image(name) for name in inputs) else sizes[:1]:
            for batch_size in batch_sizes:
                request = api.predict.PredictRequest()
                request.model_spec.name, request.model_spec.signature_name = model_name, signature
                for name, info in inputs.items():
                    dtype = tf.as_dtype(info.dtype)
                    values = _values(name, [dim.size for dim in info.tensor_shape.dim], batch_size, size)
                    request.inputs[name].CopyFrom(tf.make_tensor_proto(values, dtype=dtype))
                log = api.prediction_log.PredictionLog(predict_log=api.prediction_log.PredictLog(request=request))
                records.append(log.SerializeToString())
    if not 0 < len(records) <= MOST_RECORDS:
        raise ValueError(f"{len(records)} warm-up records for '{folder}'; the server reads 1 to {MOST_RECORDS}.")
    target = folder / WARMUP_FILE
    target.parent.mkdir(exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    os.close(descriptor)
    try:
        with tf.io.TFRecordWriter(temporary) as writer:
            for record in records:
                writer.write(record)
        os.chmod(temporary, 0o644)  # mkstemp makes a private file; the server is another user
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise
    return target


def read_warmup(version_folder: str | os.PathLike[str]) -> Iterator[Any]:
    """The requests (PredictRequest) of a version's warm-up records, in order."""
    api = import_serving_api()
    for record in tf.data.TFRecordDataset(str(Path(version_folder) / WARMUP_FILE)).as_numpy_iterator():
        yield api.prediction_log.PredictionLog.FromString(record).predict_log.request


def _signatures(folder: Path) -> dict[str, dict[str, Any]]:
    """Signature: input: TensorInfo; from the file alone, loading a model takes seconds."""
    path = folder / "saved_model.pb"
    if not path.is_file():
        raise ValueError(f"'{folder}' is no SavedModel: there is no saved_model.pb; name one version's folder.")
    (graph, *_) = saved_model_pb2.SavedModel.FromString(path.read_bytes()).meta_graphs
    return {
        name: dict(signature.inputs) for name, signature in graph.signature_def.items() if not name.startswith("__")
    }


def _is_image(name: str) -> bool:
    return name in ("image_bytes", "mask_bytes", "images", "masks")


def _values(name: str, shape: list[int], rows: int, size: tuple[int, int]) -> Any:
    """Values for one input; `shape` is the signature's, -1 where free."""
    height, width = size
    hole = np.zeros((height, width), bool)
    hole[height // 4 : -(-3 * height // 4), width // 4 : -(-3 * width // 4)] = True
    noise = np.random.default_rng(0)
    if name == "image_bytes":
        return [_png(noise.integers(0, 256, (height, width, 3), np.uint8))] * rows
    if name == "mask_bytes":
        return [_png(np.where(hole, np.uint8(255), np.uint8(0)))] * rows
    if name == "images":
        return noise.uniform(-1, 1, (rows, height, width, 3)).astype(np.float32)
    if name == "masks":
        return np.tile(hole[None, :, :, None].astype(np.float32), (rows, 1, 1, 1))
    if name == "class_ids":
        return np.zeros(rows, np.int32)
    if name == "seeds":
        return np.arange(rows, dtype=np.int64)
    if name == "truncation":
        return np.ones(rows, np.float32)
    if name == "latents" and shape[1:] and shape[1] > 0:
        return noise.standard_normal((rows, shape[1])).astype(np.float32)
    if name == "class_weights" and shape[1:] and shape[1] > 0:
        return np.full((rows, shape[1]), 1 / shape[1], np.float32)
    raise ValueError(f"no warm-up value is known for the input {name!r} of shape {shape}.")


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
