"""Whether a written file, loaded afresh, computes what the checkpoint's Keras model computes.

What is expected is computed by the Keras model and NumPy, without the exported graph's own padding, compositing,
decoding and rounding.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from attennorm_tf.export.latents import latents_of_seeds
from attennorm_tf.export.saved_model import ExportError
from attennorm_tf.models import ClassConditionalGenerator

TOLERANCE = 1e-5
# (batch, height, width): several images, sizes that are no multiples of 8, one smaller than the network's smallest.
SIZES = ((2, 32, 24), (1, 45, 51), (1, 5, 3))
_MULTIPLE = 8
_BATCHES = (1, 3)


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
    found: dict[str, float] = {}
    for example in examples(model):
        outputs = signatures[example.signature](**{name: tf.constant(v) for name, v in example.inputs.items()})
        gap = worst_difference(folder, example, outputs, tolerance)
        found[example.signature] = max(found.get(example.signature, 0.0), gap)
    check = _check_generator if isinstance(model, ClassConditionalGenerator) else _check_inpainter
    return {**found, "serving_default (levels of 255)": check(model, signatures["serving_default"], folder)}


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


class Example(NamedTuple):
    """Inputs of a signature and what the Keras model makes of them.

    Attributes:
        signature: its name.
        what: for messages.
        inputs: by name.
        expected: by name.
        nudged: what the model makes of inputs whose last bits are others, see `allowed`.
    """

    signature: str
    what: str
    inputs: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]
    nudged: dict[str, np.ndarray]


def examples(model: Any) -> Iterator[Example]:
    """For every signature that takes floats, several sizes and batches."""
    if isinstance(model, ClassConditionalGenerator):
        random = np.random.RandomState(0)
        for batch in _BATCHES:
            latents = random.standard_normal((batch, model.latent_dim)).astype(np.float32)
            ids = (np.arange(batch) * 7 % model.num_classes).astype(np.int32)
            weights = random.dirichlet(np.ones(model.num_classes), batch).astype(np.float32)
            for name, key, labels in (("latents", "class_ids", ids), ("blend", "class_weights", weights)):
                expected = expected_generation(model, latents, labels)
                nudged = expected_generation(model, nudge(latents), labels)
                inputs = {"latents": latents, key: labels}
                yield Example(name, f"{name!r} for a batch of {batch}", inputs, expected, nudged)
        return
    for index, size in enumerate(SIZES):
        pixels, holes = inpainting_example(*size, seed=index)
        images = to_floats(pixels)
        expected, nudged = (expected_inpainting(model, values, holes) for values in (images, nudge(images)))
        inputs = {"images": images, "masks": holes}
        yield Example("tensors", f"'tensors' for {size}", inputs, expected, nudged)


def worst_difference(file: Path, example: Example, found: Any, tolerance: float) -> float:
    """Largest difference between an example's outputs and those found.

    Raises:
        ExportError: it is larger than `allowed`, or outputs or shapes are others.
    """
    if set(example.expected) != set(found):
        raise ExportError(f"{file}: {example.what} gives {sorted(found)}, expected {sorted(example.expected)}.")
    worst = 0.0
    for name, values in example.expected.items():
        gap = difference(f"{file}: {name} of {example.what}", values, np.asarray(found[name]))
        limit = allowed(tolerance, values, example.nudged[name])
        if not gap <= limit:
            raise ExportError(
                f"{file}: {name} of {example.what} differ from the checkpoint's by {gap:.3g}, more than {limit:.3g}."
            )
        worst = max(worst, gap)
    return worst


def _check_pictures(what: str, expected: np.ndarray, encoded: Any) -> tuple[float, np.ndarray]:
    """PNG files against floats in [-1, 1]: equal but for roundings that fall to the other side."""
    written = np.stack([png_pixels(data) for data in encoded.numpy()])
    levels = np.clip(np.rint((expected + 1.0) * 127.5), 0, 255)
    gap = difference(what, levels, written)
    if not gap <= 1:
        raise ExportError(f"{what} differs from the checkpoint's by {gap:g} levels of 255.")
    return gap, written


def _check_inpainter(model: Any, serving: Any, folder: Path) -> float:
    worst = 0.0
    for index, size in enumerate(SIZES):
        pixels, holes = inpainting_example(*size, seed=index)
        encoded = serving(
            image_bytes=tf.constant([png_bytes(one) for one in pixels]),
            mask_bytes=tf.constant([png_bytes((one * 255).astype(np.uint8)) for one in holes]),
        )
        what = f"{folder}: 'serving_default' for {size}"
        expected = expected_inpainting(model, to_floats(pixels), holes)["inpainted"]
        gap, written = _check_pictures(what, expected, encoded["inpainted_bytes"])
        if difference(what, *(np.where(holes > 0, 0, values) for values in (pixels, written))):
            raise ExportError(f"{what} changes pixels outside the hole.")
        worst = max(worst, gap)
    return worst


def _check_generator(model: Any, serving: Any, folder: Path) -> float:
    seeds, truncation = tf.constant([0, -1, 1 << 62], tf.int64), tf.constant([0.5, 1.0, np.inf], tf.float32)
    ids = (np.arange(3) % model.num_classes).astype(np.int32)
    encoded = serving(class_ids=tf.constant(ids), seeds=seeds, truncation=truncation)["image_bytes"]
    latents = latents_of_seeds(seeds, truncation, model.latent_dim).numpy()
    images = expected_generation(model, latents, ids)["images"]
    return _check_pictures(f"{folder}: 'serving_default'", images, encoded)[0]
