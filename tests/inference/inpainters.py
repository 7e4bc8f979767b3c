"""Tiny inpainting networks, as objects and as checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attennorm_tf.config import InpaintingConfig
from attennorm_tf.inference.inpainter import LoadedInpainter
from attennorm_tf.models.inpainting_presets import build_inpainter
from attennorm_tf.training import CheckpointStore


def tiny_config(network: str = "attentive", **model: Any) -> InpaintingConfig:
    config = InpaintingConfig(name=f"tiny_{network}")
    config.model.network = network
    config.model.resolution = 32
    config.model.width = 0.0625
    config.model.num_entities = 4
    config.masks.height = config.masks.width = 16
    config.masks.shrink = 4
    for name, value in model.items():
        setattr(config.model, name, value)
    return config


def tiny_inpainter(network: str = "attentive") -> LoadedInpainter:
    config = tiny_config(network)
    return LoadedInpainter(build_inpainter(config.model, seed=3), config, name=config.name)


def write_checkpoint(workdir: Path, config: InpaintingConfig, described: InpaintingConfig | None = None) -> Path:
    """A checkpoint as training writes it; `described` is the config in its manifest, if that lies."""
    items = {"generator": build_inpainter(config.model)}
    if config.training.ema_decay:
        items["average"] = build_inpainter(config.model)
    facts = {"task": "inpainting", "config": (described or config).to_json()}
    return CheckpointStore(workdir / "checkpoints").save(7, items, facts)
