"""SavedModels with our signatures as models of the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from attennorm_tf.config import InpaintingConfig
from attennorm_tf.demo.networks import DemoGenerator, DemoInpainter, DemoModel
from attennorm_tf.export.saved_model import signature_shapes


def open_saved_model(folder: Path) -> DemoModel:
    """Loads one that `attennorm-export` or a training wrote; class names and config as export.json beside it has them.

    Raises:
        ValueError: it cannot be read, or has other signatures.
    """
    try:
        shapes = signature_shapes(folder)
        task = task_of(shapes)
        if task is None:
            raise ValueError(
                f"model '{folder}' has the signatures {', '.join(shapes) or '(none)'}; expected a SavedModel of "
                "attennorm-export, with `tensors` or with `latents` and `blend`."
            )
        loaded = tf.saved_model.load(str(folder))
    except (OSError, tf.errors.OpError, DecodeError, IndexError) as error:  # the last two: no SavedModel in the file
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"model '{folder}' cannot be loaded: {reason}") from error
    facts = _facts(folder)
    title = (
        f"{facts['name']}, step {facts['step']}"
        if {"name", "step"} <= facts.keys()
        else f"{folder.parent.name}/{folder.name}"
    )

    def call(signature: str, **inputs: np.ndarray) -> dict[str, Any]:
        found: dict[str, Any] = loaded.signatures[signature](**{name: tf.constant(v) for name, v in inputs.items()})
        return found

    if task == "generation":
        names, latent_dim = class_names(shapes, facts.get("class_names")), latent_size(shapes)

        def draw(latents: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
            outputs = call("blend", latents=latents, class_weights=weights)
            return outputs["images"].numpy(), outputs["layout"].numpy() if "layout" in outputs else None

        return DemoGenerator(title, names, latent_dim, in_batches(draw))

    def complete(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
        filled: np.ndarray = call("tensors", images=images, masks=masks)["inpainted"].numpy()
        return filled

    def layouts(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
        layout: np.ndarray = call("tensors", images=images, masks=masks)["layout"].numpy()
        return layout

    has_layout = "layout" in shapes["tensors"]["outputs"]
    return DemoInpainter(title, complete, layouts if has_layout else None, _config(facts))


def task_of(shapes: dict[str, Any]) -> str | None:
    """What a model with these signatures does: "inpainting", "generation", or None for another kind."""
    if {"images", "masks"} <= shapes.get("tensors", {}).get("inputs", {}).keys():
        return "inpainting"
    return "generation" if {"latents", "class_weights"} <= shapes.get("blend", {}).get("inputs", {}).keys() else None


def class_names(shapes: dict[str, Any], known: Any = None) -> list[str]:
    """The classes' names, by their numbers where there are none."""
    count = shapes["blend"]["inputs"]["class_weights"]["shape"][1]
    return list(known) if known and len(known) == count else [str(index) for index in range(count)]


def latent_size(shapes: dict[str, Any]) -> int:
    """Length of z."""
    size: int = shapes["blend"]["inputs"]["latents"]["shape"][1]
    return size


def in_batches(draw: Any, size: int = 8) -> Any:
    """The same function, given `size` rows at a time: exported models refuse requests of too many."""

    def drawn(latents: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        starts = range(0, len(latents), size)
        images, layouts = zip(*(draw(latents[start : start + size], weights[start : start + size]) for start in starts))
        return np.concatenate(images), None if layouts[0] is None else np.concatenate(layouts)

    return drawn


def _facts(folder: Path) -> dict[str, Any]:
    try:
        facts = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a training's own SavedModel has none
        return {}
    return facts if isinstance(facts, dict) else {}


def _config(facts: dict[str, Any]) -> InpaintingConfig | None:
    try:
        config = InpaintingConfig.from_json(json.dumps(facts["config"]))
        config.validate()
    except (ValueError, KeyError, TypeError, AttributeError):  # of another version
        return None
    return config
