"""SavedModels that load without this package."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from attennorm_tf._compat import raw_variable


class ExportError(RuntimeError):
    """A file could not be exported, or does not compute what the model computes."""


def export_generator(generator: Any, path: str | os.PathLike[str], tolerance: float = 1e-4) -> Path:
    """Writes a generator as a SavedModel: variables and graphs only, no Keras, no random operation.

    Signatures:
        serving_default: latents (N, latent_dim) float32, class_ids (N,) int32 -> images (N, R, R, C) in [-1, 1],
            and layout (N, h, w, n) where the generator has attentive normalization.
        blend: latents, class_weights (N, K) float32 -> the same.

    The file is written aside, loaded again and compared with the generator before it takes its place.

    Args:
        generator: a built `ClassConditionalGenerator`, not made under a multi-replica strategy.
        path: the SavedModel's folder; replaced if it is there.
        tolerance: largest difference allowed between file and generator.

    Returns:
        The folder.

    Raises:
        ExportError: it could not be written, or its outputs differ.
    """
    path = Path(path)
    with_layout = generator.attentive_normalization is not None

    def infer(latents: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        if not with_layout:
            return {"images": generator([latents, labels], training=False)}
        images, layout = generator([latents, labels], training=False, return_layout=True)
        return {"images": images, "layout": layout}

    latents = tf.TensorSpec([None, generator.latent_dim], tf.float32, name="latents")
    class_ids = tf.TensorSpec([None], tf.int32, name="class_ids")
    class_weights = tf.TensorSpec([None, generator.num_classes], tf.float32, name="class_weights")
    signatures = {
        "serving_default": tf.function(
            lambda latents, class_ids: infer(latents, class_ids), input_signature=[latents, class_ids]
        ),
        "blend": tf.function(
            lambda latents, class_weights: infer(latents, class_weights), input_signature=[latents, class_weights]
        ),
    }
    module = tf.Module()
    module.variables_of_the_model = [raw_variable(weight) for weight in generator.weights]
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
    try:
        tf.saved_model.save(module, str(aside), signatures=signatures)
        _check_parity(generator, aside, tolerance)
        aside.chmod(0o755)
        if path.exists():
            shutil.rmtree(path)
        os.replace(aside, path)
    except (OSError, tf.errors.OpError) as error:
        raise ExportError(f"SavedModel {path} could not be written: {str(error).splitlines()[0]}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return path


def _check_parity(generator: Any, path: Path, tolerance: float) -> None:
    latents = np.random.default_rng(0).standard_normal((3, generator.latent_dim)).astype(np.float32)
    labels = (np.arange(3) % generator.num_classes).astype(np.int32)
    expected = generator([tf.constant(latents), tf.constant(labels)], training=False).numpy()
    signature = tf.saved_model.load(str(path)).signatures["serving_default"]
    written = signature(latents=tf.constant(latents), class_ids=tf.constant(labels))["images"].numpy()
    difference = float(np.abs(expected - written).max())
    if not difference <= tolerance:
        raise ExportError(f"SavedModel {path}: its images differ from the generator's by {difference:g}.")
