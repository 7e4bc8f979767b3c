"""What a checkpoint holds: its networks, and the state of their attentive normalization on some images."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable, NamedTuple

import numpy as np
import tensorflow as tf

from attennorm_tf.config import GanConfig, InpaintingConfig
from attennorm_tf.data.image_decoding import centre_square
from attennorm_tf.data.masks import make_masks
from attennorm_tf.inference.inpainter import load_inpainter
from attennorm_tf.inference.inpainting_cases import open_images
from attennorm_tf.inference.sample import draw_latents
from attennorm_tf.models import build_gan, build_inpainting_discriminators
from attennorm_tf.training.attention_monitor import (
    IN_USE,
    AttentionSummary,
    attention_layers,
    summarize,
    watch_attention,
)
from attennorm_tf.training.checkpointing import CheckpointError, find_checkpoint, read_manifest, restore
from attennorm_tf.training.gan_watch import spectral_layers
from attennorm_tf.visualization import layout_sheet

_SIGMAS = 3  # largest ones shown of each network
_SHEET_ROWS = 8


class Inspection(NamedTuple):
    """What was found.

    Attributes:
        facts: JSON values; numbers that do not exist (the deviation in a region that an entity never wins) are None.
        layouts: uint8 picture of images and layouts (Figure 5), or None without attentive normalization.
    """

    facts: dict[str, Any]
    layouts: np.ndarray | None


class _Subject(NamedTuple):
    """A checkpoint's networks, and how to run them.

    `run(first, count)` calls all networks with attentive normalization on `count` of the images from `first` on and
    returns the images to show and the generator's layouts, or None.
    """

    task: str
    config: GanConfig | InpaintingConfig
    networks: Mapping[str, Any]
    average: bool
    images: dict[str, Any]
    run: Callable[[int, int], tuple[np.ndarray, np.ndarray | None]]


def inspect_checkpoint(
    checkpoint: str | os.PathLike[str],
    *,
    average: bool = True,
    num_images: int = 64,
    batch_size: int = 16,
    seed: int = 0,
    images: str = "photographs",
    progress: Callable[[int], object] = lambda count: None,
) -> Inspection:
    """Looks into a checkpoint of `train.gan` or `train.inpainting`.

    Args:
        checkpoint: a work directory, its `checkpoints` folder, or one checkpoint's folder.
        average: the moving average of the generator's weights, where there is one, or the weights as trained.
        num_images: that attentive normalization is watched on; a GAN generates them, class after class.
        batch_size: images at a time.
        seed: of the latents, or of an inpainting network's holes.
        images: what an inpainting network completes: a folder, searched with its folders, or "photographs", the
            embedded ones; with holes as in its training. Fewer than `num_images` are all taken.
        progress: told how many images were finished since it was last told.

    Returns:
        The facts and a picture.

    Raises:
        CheckpointError: nothing there, damaged, or the weights do not fit the config.
        ValueError: an argument out of range, or images that cannot be used.
    """
    for name, value in (("num_images", num_images), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")
    path = find_checkpoint(checkpoint)
    manifest = read_manifest(path)
    make = _inpainting if manifest["metadata"].get("task") == "inpainting" else _gan
    subject = make(path, manifest["metadata"], average, num_images, seed, images)
    layers = {name: layer for network in subject.networks.values() for name, layer in attention_layers(network).items()}
    facts: dict[str, Any] = {
        "kind": "checkpoint_inspection",
        "checkpoint": str(path),
        "config": subject.config.name,
        "task": subject.task,
        "step": manifest["step"],
        "weights": "moving average" if subject.average else "as trained",
        "networks": {name: _network_facts(network) for name, network in subject.networks.items()},
        "images": subject.images,
        "attention": [],
    }
    if not layers:
        return Inspection(facts, None)
    sheet: np.ndarray | None = None
    batches: dict[str, list[Any]] = {name: [] for name in layers}
    total = subject.images["count"]
    for start in range(0, total, batch_size):
        count = min(batch_size, total - start)
        (shown, layouts), sums = watch_attention(layers, functools.partial(subject.run, start, count))
        for name, part in sums.items():
            batches[name].append(part)
        if sheet is None and layouts is not None:
            sheet = layout_sheet(shown[:_SHEET_ROWS], layouts[:_SHEET_ROWS])
        progress(count)
    for name, layer in layers.items():
        if batches[name]:
            facts["attention"].append(_layer_facts(name, layer, summarize(batches[name])))
    return Inspection(facts, sheet)


def _gan(path: Path, metadata: dict[str, Any], average: bool, num_images: int, seed: int, images: str) -> _Subject:
    if "class_names" not in metadata:
        raise CheckpointError(f"checkpoint {path} is of an unknown task, {metadata.get('task')!r}.")
    try:
        config = GanConfig.from_json(metadata["config"])
        config.validate()
        classes = len(metadata["class_names"])
        generator, discriminator = build_gan(config.model, classes, metadata["channels"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"checkpoint {path}: the config in its manifest is not valid: {error}") from error
    average = average and config.training.ema_decay > 0
    restore(path, {"average" if average else "generator": generator, "discriminator": discriminator}, partial=True)
    latents = draw_latents(num_images, config.model.latent_dim, seed)
    labels = np.arange(num_images, dtype=np.int32) % classes
    has_layout = generator.attentive_normalization is not None

    def run(first: int, count: int) -> tuple[np.ndarray, np.ndarray | None]:
        rows = slice(first, first + count)
        here = tf.constant(labels[rows])
        made = generator([tf.constant(latents[rows]), here], training=False, return_layout=has_layout)
        pictures, layouts = made if has_layout else (made, None)
        discriminator([pictures, here], training=False)
        return pictures.numpy(), None if layouts is None else layouts.numpy()

    facts = {"count": num_images, "source": "generated", "seed": seed}
    networks = {"generator": generator, "discriminator": discriminator}
    return _Subject("class-conditional GAN", config, networks, average, facts, run)


def _inpainting(
    path: Path, metadata: dict[str, Any], average: bool, num_images: int, seed: int, images: str
) -> _Subject:
    loaded = load_inpainter(path, average=average)
    config = loaded.config
    assert config is not None  # a checkpoint has one
    average = average and config.training.ema_decay > 0
    crop = (config.masks.height, config.masks.width)
    discriminators = build_inpainting_discriminators(config.model, config.masks.kind, crop)
    networks = {"generator": loaded.model, **{f"{name}_discriminator": net for name, net in discriminators.items()}}
    facts: dict[str, Any] = {"count": 0, "source": images, "seed": seed}
    if loaded.model.attentive_normalization is None:
        return _Subject("inpainting", config, networks, average, facts, lambda first, count: (np.zeros(0), None))
    opened = open_images(images, limit=num_images)
    side = config.model.resolution
    masks = make_masks(**dataclasses.asdict(config.masks))
    facts["count"] = len(opened.names)

    def run(first: int, count: int) -> tuple[np.ndarray, np.ndarray | None]:
        pictures = np.stack([centre_square(opened.read(index), side) for index in range(first, first + count)])
        truth = pictures.astype(np.float32) / np.float32(127.5) - 1
        holes = masks(tf.range(first, first + count, dtype=tf.int64), seed, (side, side)).numpy()
        _, fine, layouts = loaded.model([truth, holes], training=False, return_layout=True)
        return truth * (1 - holes) + fine.numpy() * holes, layouts.numpy()

    return _Subject("inpainting", config, networks, average, facts, run)


def _network_facts(network: Any) -> dict[str, Any]:
    sigmas = {name: float(layer.sigma()) for name, layer in spectral_layers(network).items()}
    largest = sorted(sigmas, key=lambda name: -sigmas[name])[:_SIGMAS]
    trainable = sum(math.prod(weight.shape) for weight in network.trainable_weights)
    return {
        "class": type(network).__name__,
        "parameters": network.count_params(),
        "trainable": trainable,
        "largest_sigmas": {name: sigmas[name] for name in largest},
    }


def _layer_facts(name: str, layer: Any, summary: AttentionSummary) -> dict[str, Any]:
    def known(value: Any) -> float | None:
        return float(value) if value is not None and np.isfinite(value) else None

    ts = tf.reshape(tf.convert_to_tensor(layer.t), [-1]).numpy().tolist() if layer.self_sampling else None
    columns = zip(summary.shares, summary.region_std, summary.map_std, summary.std_ratios, summary.in_use)
    return {
        "layer": name,
        "channels": layer.channels,
        "num_entities": layer.num_entities,
        "temperature": layer.temperature,
        "rho": float(tf.convert_to_tensor(layer.rho)),
        "t": ts,
        "layout_entropy": summary.entropy,
        "largest_layout_entropy": math.log(layer.num_entities),
        "entities_in_use": int(summary.in_use.sum()),
        "in_use_from_share": IN_USE,
        "region_std_ratio": known(summary.mean_std_ratio),
        "entities": [
            {"share": float(share), "std_in_region": known(region), "std_of_map": known(whole), "ratio": known(ratio),
             "in_use": bool(used)}
            for share, region, whole, ratio, used in columns
        ],
    }  # fmt: skip


def inspection_text(facts: Mapping[str, Any]) -> str:
    """For a terminal of 80 columns (but for the path)."""
    lines = [f"{facts['config']}: {facts['task']}, step {facts['step']}, weights: {facts['weights']}"]
    lines += [facts["checkpoint"], "", f"{'network':<24}{'parameters':>14}{'trainable':>14}  largest sigmas"]
    for name, network in facts["networks"].items():
        sigmas = [f"{value:.3f} {where.partition('/')[2]}" for where, value in network["largest_sigmas"].items()]
        lines.append(f"{name:<24}{network['parameters']:>14,}{network['trainable']:>14,}  {(sigmas or ['-'])[0]}")
        lines += [" " * 54 + sigma for sigma in sigmas[1:]]
    if not facts["attention"]:
        return "\n".join([*lines, "", "no attentive normalization"]) + "\n"
    images = facts["images"]
    source = "generated images" if images["source"] == "generated" else f"images of {images['source']}"
    lines += ["", f"attentive normalization on {images['count']} {source}, seed {images['seed']}"]
    for layer in facts["attention"]:
        lines += ["", *_layer_lines(layer)]
    return "\n".join(lines) + "\n"


def _layer_lines(layer: Mapping[str, Any]) -> list[str]:
    n, t, ratio = layer["num_entities"], layer["t"], layer["region_std_ratio"]
    rows = [
        ("rho", f"{layer['rho']:.4f}"),
        ("t", "no self-sampling" if t is None else f"{np.mean(t):.4f} (from {min(t):.4f} to {max(t):.4f})"),
        ("layout entropy", f"{layer['layout_entropy']:.4f} of at most {layer['largest_layout_entropy']:.4f} (ln {n})"),
        (
            "entities in use",
            f"{layer['entities_in_use']} of {n} (each wins at least {layer['in_use_from_share']:.0%} of the places)",
        ),
        ("std in region / map", "-" if ratio is None else f"{ratio:.3f} (mean over the entities in use)"),
    ]
    lines = [f"{layer['layer']}  ({layer['channels']} channels, tau {layer['temperature']:g})"]
    lines += [f"  {name:<20}  {value}" for name, value in rows]
    lines.append(f"  {'entity':>6}{'share':>9}{'std in region':>16}{'std of map':>13}{'ratio':>8}")
    for entity, row in enumerate(layer["entities"]):
        region, whole, own = (
            "-" if row[key] is None else f"{row[key]:.{digits}g}"
            for key, digits in (("std_in_region", 4), ("std_of_map", 4), ("ratio", 3))
        )
        unused = "" if row["in_use"] else "  not in use"
        lines.append(f"  {entity:>6}{row['share']:>9.1%}{region:>16}{whole:>13}{own:>8}{unused}")
    return lines


def inspection_json(facts: Mapping[str, Any]) -> str:
    """The facts as a file."""
    return json.dumps(facts, indent=2, allow_nan=False) + "\n"
