"""TensorFlow Lite files: the network alone, on floats, in built-in operations only.

Signatures, by the names of the SavedModel's: inpainting has `tensors`, generation `latents` and `blend`, without the
checks of requests. Batch, height and width are free: a signature runner resizes the tensors to what it is given.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from attennorm_tf.export.folded_networks import folded_network
from attennorm_tf.export.parity import examples, worst_difference
from attennorm_tf.export.saved_model import ExportError
from attennorm_tf.export.signatures import bare_signatures
from attennorm_tf.models import ClassConditionalGenerator, ContextualAttentionInpainter

# Weights of 8 bits move outputs in [-1, 1]; the least ratio of peak to noise that passes, in dB.
INT8_PSNR = 30.0
FLOAT_TOLERANCE = 1e-5


def check_convertible(model: Any) -> None:
    """Raises ValueError for a network that has operations which TensorFlow Lite lacks."""
    if isinstance(model, ContextualAttentionInpainter):
        raise ValueError(
            "format: the contextual network cannot be converted to TensorFlow Lite, which lacks the rolled score maps "
            "and the eight-dimensional slices of its attention; the attentive network can, or choose saved_model."
        )


def write_tflite(model: Any, path: Path, int8: bool = False) -> None:
    """Converts a network, folded.

    Args:
        model: the Keras model.
        path: of the file.
        int8: dynamic-range quantization: weights of 8 bits, activations float32.

    Raises:
        ValueError: see `check_convertible`.
        ExportError: the converter failed, or left operations that are not built in.
    """
    check_convertible(model)
    network = folded_network(model)
    if isinstance(model, ClassConditionalGenerator):
        signatures = bare_signatures(network, model.latent_dim, model.num_classes)
    else:
        signatures = bare_signatures(network)
    module = tf.Module()
    module.variables_of_the_model = list(network.variables)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=sorted(signatures))
        if int8:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        try:
            content = converter.convert()
        except Exception as error:  # the converter has an exception of its own, which no public name leads to
            raise ExportError(f"{path}: TensorFlow Lite: {(str(error).splitlines() or ['failed'])[0]}") from error
    wrong = sorted(name for name in operations(content) if name.startswith(("Flex", "CUSTOM")))
    if wrong:
        raise ExportError(f"{path}: operations that are not built into TensorFlow Lite: {', '.join(wrong)}.")
    path.write_bytes(content)


def operations(content: bytes) -> set[str]:
    """Names of the operations in a file."""
    return {one["op_name"] for one in interpreter(content)._get_ops_details()}


def interpreter(content: bytes) -> Any:
    """An interpreter of the file; TensorFlow's own, without its announcement that it will move to another package."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"(?s).*tf\.lite\.Interpreter is deprecated", category=UserWarning)
        return tf.lite.Interpreter(model_content=content)


def check_tflite(model: Any, path: Path, int8: bool = False, tolerance: float = FLOAT_TOLERANCE) -> dict[str, float]:
    """Loads a file and compares every signature with the model, for several sizes and batches.

    Returns:
        The largest difference by signature; with `int8` also the least PSNR in dB, "PSNR of <signature>".

    Raises:
        ExportError: a difference is larger than `tolerance` (see `check_saved_model`), or with `int8` a PSNR lower
            than `INT8_PSNR`.
    """
    loaded = interpreter(path.read_bytes())
    found: dict[str, float] = {}
    for example in examples(model):
        outputs = loaded.get_signature_runner(example.signature)(**example.inputs)
        if not int8:
            gap = worst_difference(path, example, outputs, tolerance)
            found[example.signature] = max(found.get(example.signature, 0.0), gap)
            continue
        gap = worst_difference(path, example, outputs, np.inf)
        found[example.signature] = max(found.get(example.signature, 0.0), gap)
        main = "images" if "images" in example.expected else "outputs"
        error = np.mean((outputs[main].astype(np.float64) - example.expected[main]) ** 2)
        psnr = float(10 * np.log10(4.0 / max(error, 1e-20)))
        if not psnr >= INT8_PSNR:
            raise ExportError(
                f"{path}: PSNR of {example.what} against the checkpoint's outputs is {psnr:.1f} dB, less than "
                f"{INT8_PSNR:g} dB: this network does not stand weights of 8 bits."
            )
        name = f"PSNR of {example.signature} (dB)"
        found[name] = min(found.get(name, np.inf), psnr)
    return found
