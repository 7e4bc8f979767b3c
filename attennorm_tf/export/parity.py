"""Whether a written file, loaded afresh, computes what the checkpoint's Keras model computes.

What is expected is computed by the Keras model and NumPy, without the exported graph's own padding, compositing,
decoding and rounding.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from attennorm_tf.export.saved_model import ExportError
from attennorm_tf.models import ClassConditionalGenerator

TOLERANCE = 1e-5
# (batch, height, width): several images, sizes that are no multiples of 8, one smaller than the network's smallest.
SIZES = ((2, 32, 24), (1, 45, 51), (1, 5, 3))
_MULTIPLE = 8
_BATCHES = (1, 3)


class Parity(dict):
    """Largest absolute difference by what was compared: {"tensors": 1e-7, ...}."""


def check_saved_model(model: Any, folder: Path, tolerance: float = TOLERANCE) -> dict[str, float]:
    """Loads a SavedModel and compares every signature with the model.

    Args:
        model: the Keras model that was exported.
        folder: the SavedModel's.
        tolerance: largest difference of floats in [-1, 1]. Where the last bit of the input alone changes what the model
            itself computes by more than an eighth of that, as much more is allowed.

    Returns:
        The largest difference by signature: of floats, and of the PNG path in levels of 255.

    Raises:
        ExportError: a difference is larger, or a PNG's known pixel is another.
    """
    signatures = tf.saved_model.load(str(folder)).signatures
    if isinstance(model, ClassConditionalGenerator):
        return _check_generator(model, signatures, folder, tolerance)
    return _check_inpainter(model, signatures, folder, tolerance)


def expected_inpainting(model: Any, images: np.ndarray, masks: np.ndarray) -> dict[str, np.ndarray]:
    """What `tensors` should give, by the Keras model and NumPy; see `signatures`."""
    height, width = images.shape[1:3]
    edges = ((0, 0), (0, -height % _MULTIPLE), (0, -width % _MULTIPLE), (0, 0))
    padded = [tf.constant(np.pad(values, edges, mode="reflect")) for values in (images, masks)]
    layout = None
    if model.attentive_normalization is None:
        fine = model(padded, training=False)[1].numpy()
    else:
        _, fine, layout = (part.numpy() for part in model(padded, training=False, return_layout=True))
    fine = fine[:, :height, :width]
    expected = {"outputs": fine, "inpainted": np.where(masks > 0, fine, images)}
    if layout is not None:
        expected["layout"] = layout[:, : -(-height // 4), : -(-width // 4)]
    return expected


def expected_generation(model: Any, latents: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """What `latents` and `blend` should give, by the Keras model."""
    inputs = [tf.constant(latents), tf.constant(labels)]
    if model.attentive_normalization is None:
        return {"images": model(inputs, training=False).numpy()}
    images, layout = model(inputs, training=False, return_layout=True)
    return {"images": images.numpy(), "layout": layout.numpy()}


def inpainting_example(batch: int, height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """uint8 photographs-like images (B, H, W, 3) and holes (B, H, W, 1) float32; smooth, with noise."""
    random = np.random.RandomState(seed)
    grid = np.mgrid[:height, :width].transpose(1, 2, 0)[np.newaxis]
    slopes, phases = random.uniform(-0.3, 0.3, (batch, 1, 1, 2, 3)), random.uniform(0, 6, (batch, 1, 1, 3))
    waves = np.sin((grid[..., np.newaxis] * slopes).sum(axis=3) + phases)
    pixels = 127.5 + 90 * waves + random.uniform(-30, 30, (batch, height, width, 3))
    holes = np.zeros((batch, height, width, 1), np.float32)
    for row in range(batch):
        top, left = random.randint(0, max(1, height // 2)), random.randint(0, max(1, width // 2))
        holes[row, top : top + max(1, height // 2), left : left + max(1, width // 2)] = 1
    return np.clip(pixels, 0, 255).astype(np.uint8), holes


def to_floats(pixels: np.ndarray) -> np.ndarray:
    """uint8 -> float32 in [-1, 1]."""
    return pixels.astype(np.float32) / np.float32(127.5) - np.float32(1)


def png_bytes(pixels: np.ndarray) -> bytes:
    """A PNG of uint8 (H, W, 1 or 3)."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def png_pixels(data: bytes) -> np.ndarray:
    """uint8 (H, W, C) of a PNG."""
    pixels = np.asarray(Image.open(io.BytesIO(data)))
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels


def difference(name: str, expected: np.ndarray, found: np.ndarray) -> float:
    """Largest absolute difference; infinite where one is not a number.

    Raises:
        ExportError: another shape.
    """
    if expected.shape != found.shape:
        raise ExportError(f"{name}: shape {found.shape}, expected {expected.shape}.")
    gap = np.abs(expected.astype(np.float64) - found.astype(np.float64))
    return float(np.inf if np.isnan(gap).any() else gap.max(initial=0.0))


def nudge(values: np.ndarray) -> np.ndarray:
    """With the last bit of each changed."""
    return np.nextafter(values, np.zeros_like(values))


def allowed(tolerance: float, computed: np.ndarray, nudged: np.ndarray) -> float:
    """The tolerance, or eight times what the last bit of the inputs changes, where that is more.

    A network with large weights amplifies roundings: no other order of its sums can be nearer than that.
    """
    noise = float(np.abs(computed.astype(np.float64) - nudged).max(initial=0.0))
    return max(tolerance, 8.0 * noise) if tolerance > 0 else tolerance


def _compare(file: Path, what: str, expected: dict[str, np.ndarray], found: Any, limit: float) -> float:
    if set(expected) != set(found):
        raise ExportError(f"{file}: {what} gives {sorted(found)}, expected {sorted(expected)}.")
    worst = 0.0
    for name, values in expected.items():
        gap = difference(f"{file}: {name} of {what}", values, np.asarray(found[name]))
        if not gap <= limit:
            raise ExportError(
                f"{file}: {name} of {what} differ from the checkpoint's by {gap:.3g}, more than {limit:.3g}."
            )
        worst = max(worst, gap)
    return worst


def _check_inpainter(model: Any, signatures: Any, folder: Path, tolerance: float) -> dict[str, float]:
    limit = tolerance
    found = {"tensors": 0.0, "serving_default (levels of 255)": 0.0}
    for index, size in enumerate(SIZES):
        pixels, holes = inpainting_example(*size, seed=index)
        images = to_floats(pixels)
        expected = expected_inpainting(model, images, holes)
        if index == 0:
            nudged = expected_inpainting(model, nudge(images), holes)
            limit = allowed(tolerance, expected["outputs"], nudged["outputs"])
        outputs = signatures["tensors"](images=tf.constant(images), masks=tf.constant(holes))
        gap = _compare(folder, f"'tensors' for {size}", expected, outputs, limit)
        found["tensors"] = max(found["tensors"], gap)
        encoded = signatures["serving_default"](
            image_bytes=tf.constant([png_bytes(one) for one in pixels]),
            mask_bytes=tf.constant([png_bytes((one * 255).astype(np.uint8)) for one in holes]),
        )["inpainted_bytes"].numpy()
        written = np.stack([png_pixels(data) for data in encoded])
        if difference("serving_default", *(np.where(holes > 0, 0, values) for values in (pixels, written))):
            raise ExportError(f"{folder}: 'serving_default' changes pixels outside the hole.")
        levels = np.clip(np.rint((expected["inpainted"] + 1.0) * 127.5), 0, 255)
        gap = _compare(folder, f"'serving_default' for {size}", {"image": levels}, {"image": written}, 1.0)
        found["serving_default (levels of 255)"] = max(found["serving_default (levels of 255)"], gap)
    return found


def _check_generator(model: Any, signatures: Any, folder: Path, tolerance: float) -> dict[str, float]:
    found = {"latents": 0.0, "blend": 0.0, "serving_default (levels of 255)": 0.0}
    random = np.random.RandomState(0)
    classes = model.num_classes
    for batch in _BATCHES:
        latents = random.standard_normal((batch, model.latent_dim)).astype(np.float32)
        ids = (np.arange(batch) * 7 % classes).astype(np.int32)
        weights = random.dirichlet(np.ones(classes), batch).astype(np.float32)
        for name, key, labels in (("latents", "class_ids", ids), ("blend", "class_weights", weights)):
            outputs = signatures[name](latents=tf.constant(latents), **{key: tf.constant(labels)})
            expected = expected_generation(model, latents, labels)
            nudged = expected_generation(model, nudge(latents), labels)
            limit = allowed(tolerance, expected["images"], nudged["images"])
            found[name] = max(found[name], _compare(folder, f"{name!r} for {batch}", expected, outputs, limit))
    return {**found, **_check_pictures(model, signatures, folder)}


def _check_pictures(model: Any, signatures: Any, folder: Path) -> dict[str, float]:
    """The PNG path: what `latents_of_seeds` gives through the Keras model, rounded by NumPy."""
    from attennorm_tf.export.latents import latents_of_seeds

    seeds, truncation = tf.constant([0, -1, 1 << 62], tf.int64), tf.constant([0.5, 1.0, np.inf], tf.float32)
    ids = (np.arange(3) % model.num_classes).astype(np.int32)
    encoded = signatures["serving_default"](class_ids=tf.constant(ids), seeds=seeds, truncation=truncation)
    written = np.stack([png_pixels(data) for data in encoded["image_bytes"].numpy()])
    latents = latents_of_seeds(seeds, truncation, model.latent_dim).numpy()
    images = expected_generation(model, latents, ids)["images"]
    levels = np.clip(np.rint((images + 1.0) * 127.5), 0, 255)
    gap = _compare(folder, "'serving_default'", {"image": levels}, {"image": written}, 1.0)
    return {"serving_default (levels of 255)": gap}
