"""A trained inpainting network, and completions by it."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from attennorm_tf.config import InpaintingConfig
from attennorm_tf.models.inpainting_presets import build_inpainter
from attennorm_tf.training.checkpointing import CheckpointError, find_checkpoint, read_manifest, restore

MULTIPLE = 8  # height and width that both networks take


class LoadedInpainter:
    """An inpainting network ready for use, and what is known of it.

    Args:
        model: built, called with [images, masks], returns (coarse, fine).
        config: of the run it comes from, or None where that is not known.
        step: of the checkpoint.
        name: what to call it in tables and messages.
        path: the checkpoint's folder, or None.

    Attributes:
        model: the network.
        config: as given.
        step: as given.
        name: as given.
        path: as given.
    """

    def __init__(
        self,
        model: Any,
        config: InpaintingConfig | None = None,
        step: int = 0,
        name: str = "inpainter",
        path: Path | None = None,
    ):
        self.model = model
        self.config = config
        self.step = step
        self.name = name
        self.path = path
        # One graph for every size and number of images.
        self._fine = tf.function(
            lambda images, masks: model([images, masks], training=False)[1],
            input_signature=[tf.TensorSpec([None] * 3 + [3]), tf.TensorSpec([None] * 3 + [1])],
        )

    @property
    def resolution(self) -> int | None:
        """Side of the images it was trained on, where known."""
        return self.config.model.resolution if self.config is not None else None

    def complete(self, images: Any, masks: Any, batch_size: int = 8) -> np.ndarray:
        """Fills holes: the network's fine output in the hole, the input's own values elsewhere.

        Sizes that are not multiples of 8 are reflected at the right and bottom edge, and the result is cut back.

        Args:
            images: (B, H, W, 3) floats in [-1, 1]; what they hold in the hole has no influence.
            masks: (B, H, W, 1), or (1, H, W, 1) for all images; 1 = missing, 0 = known, nothing between.
            batch_size: images computed at a time.

        Returns:
            (B, H, W, 3) float32 in [-1, 1], known pixels exactly those of `images`.

        Raises:
            ValueError: shapes or values are not these.
        """
        images, masks = _checked(images, masks)
        height, width = images.shape[1:3]
        edges = ((0, 0), (0, -height % MULTIPLE), (0, -width % MULTIPLE), (0, 0))
        completed = images.copy()
        for start in range(0, len(images), batch_size):
            rows = slice(start, start + batch_size)
            here = [tf.constant(np.pad(values[rows], edges, mode="reflect")) for values in (images, masks)]
            fine = self._fine(*here).numpy()[:, :height, :width]
            np.copyto(completed[rows], fine, where=masks[rows] > 0)
        return completed


def load_inpainter(checkpoint: str | os.PathLike[str], average: bool = True) -> LoadedInpainter:
    """The generator of an inpainting run.

    Args:
        checkpoint: a work directory of `train.inpainting`, its `checkpoints` folder, or one checkpoint's folder.
        average: the moving average of the weights, where the run keeps one, or the weights as trained.

    Returns:
        The built network with the checkpoint's weights, the run's config, name and step.

    Raises:
        CheckpointError: nothing there, damaged, of another task, or the weights are another network's than the config
            describes.
    """
    path = find_checkpoint(checkpoint)
    manifest = read_manifest(path)
    facts = manifest["metadata"]
    if facts.get("task") != "inpainting":
        raise CheckpointError(
            f"checkpoint {path} holds no inpainting network but {_kind(facts)}; expected a run of train.inpainting."
        )
    try:
        config = InpaintingConfig.from_json(facts["config"])
        config.validate()
        model = build_inpainter(config.model)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"checkpoint {path}: the config in its manifest is not valid: {error}") from error
    item = "average" if average and config.training.ema_decay > 0 else "generator"
    _check_shapes(path, manifest, item, model)
    restore(path, {item: model}, partial=True)
    return LoadedInpainter(model, config, manifest["step"], config.name, path)


def _check_shapes(path: Path, manifest: dict[str, Any], item: str, model: Any) -> None:
    """Refuses weights that are not exactly the model's: to TensorFlow a larger network's are welcome."""
    (index,) = (name for name in manifest["files"] if name.endswith(".index"))
    variables = tf.train.list_variables(str(path / index[: -len(".index")]))
    written = sorted(tuple(shape) for name, shape in variables if name.startswith(f"{item}/"))
    expected = sorted(tuple(weight.shape) for weight in model.weights)
    if written != expected:
        there, wanted = (
            f"{len(shapes)} weights of {sum(math.prod(shape) for shape in shapes)} numbers"
            for shapes in (written, expected)
        )
        raise CheckpointError(
            f"checkpoint {path} does not fit the network that its config describes: {wanted} expected, {there} found."
        )


def _kind(facts: dict[str, Any]) -> str:
    return "a class-conditional generator" if "class_names" in facts else f"a model for {facts.get('task')!r}"


def _checked(images: Any, masks: Any) -> tuple[np.ndarray, np.ndarray]:
    images, masks = np.asarray(images), np.asarray(masks)
    if images.ndim != 4 or images.shape[-1] != 3 or not np.issubdtype(images.dtype, np.floating) or not images.size:
        raise ValueError(
            f"images must be floats in [-1, 1] of shape (batch, height, width, 3), got {images.dtype} {images.shape}."
        )
    if masks.shape not in ((len(images), *images.shape[1:3], 1), (1, *images.shape[1:3], 1)):
        raise ValueError(
            f"masks must have shape {(len(images), *images.shape[1:3], 1)} like the images, got {masks.shape}."
        )
    if not ((masks == 0) | (masks == 1)).all():
        raise ValueError("masks must be 1 (missing) or 0 (known) everywhere; threshold them first.")
    masks = np.broadcast_to(masks, (len(images), *masks.shape[1:]))
    return images.astype(np.float32), masks.astype(np.float32)
