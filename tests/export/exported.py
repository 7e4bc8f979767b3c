"""Tiny networks whose every weight shows in the outputs, exported."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from attennorm_tf.models.inpainting_presets import build_inpainter
from tests.inference.inpainters import tiny_config


def shaken_inpainter(network: str = "attentive", seed: int = 0, **model: Any) -> Any:
    """With biases and rho away from 0, and moving statistics away from their start."""
    built = build_inpainter(tiny_config(network, **model).model, seed=1)
    random = np.random.RandomState(seed)
    values = []
    for weight, value in zip(built.weights, built.get_weights()):
        if "variance" in weight.name:
            value = random.uniform(0.5, 2.0, value.shape)
        elif value.dtype.kind == "f":
            scale = 0.5 if value.ndim == 0 else 0.1
            value = value + scale * random.standard_normal(value.shape)
        values.append(value)
    built.set_weights([new.astype(old.dtype) for new, old in zip(values, built.get_weights())])
    return built


def encoded(pixels: Any, kind: str = "PNG", **options: Any) -> bytes:
    """A file of a uint8 array or a Pillow image."""
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.squeeze(pixels))
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(data: bytes) -> np.ndarray:
    """uint8 of a PNG."""
    return np.asarray(Image.open(io.BytesIO(data)))


def size_of(folder: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
