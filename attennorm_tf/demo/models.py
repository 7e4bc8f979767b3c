"""Models for the page: from a checkpoint, a SavedModel, or a TensorFlow Serving server."""

from __future__ import annotations

import re
from pathlib import Path

from attennorm_tf.demo.address import is_address
from attennorm_tf.demo.exported import open_saved_model
from attennorm_tf.demo.networks import DemoGenerator, DemoInpainter, DemoModel, trained_generator, trained_inpainter
from attennorm_tf.demo.served import open_served
from attennorm_tf.inference.inpainter import load_inpainter
from attennorm_tf.inference.sample import load_generator
from attennorm_tf.training.checkpointing import find_checkpoint, read_manifest

__all__ = ["DemoGenerator", "DemoInpainter", "DemoModel", "open_models"]


def open_models(place: str, average: bool = True) -> list[DemoModel]:
    """The models that there are at a place.

    Args:
        place: a work directory of `train.gan` or `train.inpainting`, one of its checkpoints, the folder of a SavedModel
            with our signatures or of its versions (the newest is taken), or a server's address, see `open_served`.
        average: of a checkpoint: the moving average of the weights, where there is one, or the weights as trained.

    Returns:
        One model; of a server whose address names none, those that it has.

    Raises:
        ValueError: nothing is there, or a SavedModel of another kind.
        CheckpointError: a checkpoint is damaged.
        ServingError: a server cannot be reached, or has no such model.
    """
    if is_address(place):
        return open_served(place)
    folder = _saved_model_folder(Path(place))
    if folder is not None:
        return [open_saved_model(folder)]
    path = find_checkpoint(place)
    if read_manifest(path)["metadata"].get("task") == "inpainting":
        return [trained_inpainter(load_inpainter(path, average=average))]
    return [trained_generator(load_generator(path, average=average))]


def _saved_model_folder(place: Path) -> Path | None:
    """Where saved_model.pb lies: here, or in the newest version here; None if this is no SavedModel."""
    if (place / "saved_model.pb").is_file():
        return place
    if not place.is_dir():
        return None
    versions = [entry for entry in place.iterdir() if re.fullmatch(r"\d+", entry.name)]
    versions = [entry for entry in versions if (entry / "saved_model.pb").is_file()]
    return max(versions, key=lambda entry: int(entry.name), default=None)
