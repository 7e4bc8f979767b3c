"""Pictures of what a checkpoint's attentive normalization makes of images: Figures 4, 5 and 8, and training curves."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from attennorm_tf.data.masks import make_masks
from attennorm_tf.inference.inpainter import LoadedInpainter, load_inpainter
from attennorm_tf.inference.inpainting_cases import InpaintingCases, MatchedFiles, SeededMasks, open_images
from attennorm_tf.inference.results import draw_interpolation
from attennorm_tf.inference.sample import LoadedGenerator, check_class_ids, draw_latents, load_generator
from attennorm_tf.training.attention_monitor import attention_layers, watch_features
from attennorm_tf.training.checkpointing import find_checkpoint, read_manifest
from attennorm_tf.visualization import (
    RegionStatistics,
    binarized_sheet,
    curves_figure,
    figure_pixels,
    layout_sheet,
    region_statistics,
    statistics_sheet,
)
from attennorm_tf.visualization.interpolation import three_classes

KINDS = ("layouts", "entities", "statistics", "interpolation", "curves")
_OF_LAYOUTS = KINDS[:3]


class Watched(NamedTuple):
    """Images that a network made, and its attentive normalization on the way.

    Attributes:
        images: (b, H, W, C) in [-1, 1]: samples, or completed photographs.
        names: of the images: their classes, or their files.
        features: (b, h, w, c), what the layer was given.
        layouts: (b, h, w, n), what it made of it.
    """

    images: np.ndarray
    names: list[str]
    features: np.ndarray
    layouts: np.ndarray


class Pictures(NamedTuple):
    """What `visualize_checkpoint` made.

    Attributes:
        name: of the run.
        step: of the checkpoint.
        pictures: kind -> uint8 (H, W, 3).
        statistics: the numbers of the picture "statistics" as JSON values, see `statistics_facts`; None without it.
    """

    name: str
    step: int
    pictures: dict[str, np.ndarray]
    statistics: list[dict[str, Any]] | None


class SharedMask(MatchedFiles):
    """One mask file for all images."""

    def __init__(self, path: str):
        super().__init__("mask", os.path.dirname(path) or ".")
        self._path = path

    def check_none_missing(self, names: Sequence[str]) -> None:
        """All have it."""

    def path(self, name: str) -> str:
        return self._path


def visualize_checkpoint(
    checkpoint: str | os.PathLike[str],
    kinds: Sequence[str] = (),
    *,
    average: bool = True,
    num_images: int = 8,
    batch_size: int = 16,
    seed: int = 0,
    classes: Callable[[Sequence[str]], list[int]] | None = None,
    interpolate: Callable[[Sequence[str]], list[int]] | None = None,
    steps: int = 6,
    strips: int = 1,
    entity: int | None = None,
    images: str = "photographs",
    masks: str | None = None,
) -> Pictures:
    """Draws what a checkpoint of `train.gan` or `train.inpainting` does with images.

    Args:
        checkpoint: a work directory, its `checkpoints` folder, or one checkpoint's folder.
        kinds: of `KINDS`; none: all that this checkpoint has.
        average: the moving average of the weights, where there is one, or the weights as trained.
        num_images: shown; of an inpainting network's photographs the first.
        batch_size: images computed at a time.
        seed: of the latents, or of an inpainting network's holes.
        classes: of a GAN's images, in turn: class names -> ids; None: all classes.
        interpolate: the classes to blend, in order: class names -> ids; None: three of them.
        steps: images from one blended class to the next.
        strips: interpolations, each of other noise.
        entity: the one to follow through an interpolation; None: the one whose map varies most.
        images: what an inpainting network completes: a folder, searched with its folders, or "photographs", the
            embedded ones.
        masks: folder of masks named like the images, or one mask for all (white = hole); None: holes as in training.

    Returns:
        The pictures.

    Raises:
        CheckpointError: nothing there, damaged, or the weights do not fit the config.
        ValueError: an argument out of range, a kind that this checkpoint does not have, or images that cannot be used.
    """
    for name, value in (("num_images", num_images), ("batch_size", batch_size), ("steps", steps), ("strips", strips)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}.")
    path = find_checkpoint(checkpoint)
    loaded: LoadedGenerator | LoadedInpainter
    if read_manifest(path)["metadata"].get("task") == "inpainting":
        loaded = load_inpainter(path, average)
        assert loaded.config is not None  # a checkpoint has one
        network, run_name = loaded.model, loaded.config.name
        watch = functools.partial(_completed, loaded, images, masks, num_images, seed)
    else:
        if masks is not None:
            raise ValueError("masks are for inpainting networks; this checkpoint holds a class-conditional generator.")
        loaded = load_generator(path, average)
        network, run_name = loaded.generator, loaded.config.name
        watch = functools.partial(_samples, loaded, num_images, seed, classes)
    metrics = path.parent.parent / "metrics.jsonl"
    has = {
        **dict.fromkeys(
            _OF_LAYOUTS, "" if network.attentive_normalization is not None else "no attentive normalization"
        ),
        "interpolation": _no_interpolation(loaded),
        "curves": "" if metrics.is_file() else f"no {str(metrics)!r}",
    }
    for kind in kinds:
        if has[kind]:
            raise ValueError(f"kind {kind!r} cannot be drawn: the run {run_name!r} has {has[kind]}.")
    wanted = list(dict.fromkeys(kinds)) or [kind for kind in KINDS if not has[kind]]
    if not wanted:
        raise ValueError(f"nothing can be drawn: the run {run_name!r} has " + " and ".join(dict.fromkeys(has.values())))
    pictures: dict[str, np.ndarray] = {}
    facts = None
    if set(wanted) & set(_OF_LAYOUTS):
        watched = watch(batch_size)
        pictures, facts = _layout_pictures(watched, wanted)
    if "interpolation" in wanted:
        assert isinstance(loaded, LoadedGenerator)
        ids = interpolate(loaded.class_names) if interpolate else three_classes(len(loaded.class_names))
        latents = draw_latents(strips, loaded.generator.latent_dim, seed)
        pictures["interpolation"] = draw_interpolation(
            loaded.generator, latents, ids, steps, loaded.class_names, entity
        )
    if "curves" in wanted:
        pictures["curves"] = figure_pixels(curves_figure(metrics))
    return Pictures(run_name, loaded.step, {kind: pictures[kind] for kind in wanted}, facts)


def statistics_facts(names: Sequence[str], statistics: RegionStatistics) -> list[dict[str, Any]]:
    """JSON values: for each image the whole map's mean and standard deviation, and those of its regions."""
    ratios, means, stds = statistics.ratios, statistics.mean, statistics.std
    facts = []
    for row, name in enumerate(names):
        regions = [
            {
                "entity": entity,
                "share": float(share),
                "mean": float(means[row, entity]),
                "std": float(stds[row, entity]),
                "std_ratio": float(ratios[row, entity]) if np.isfinite(ratios[row, entity]) else None,
            }
            for entity, share in enumerate(statistics.shares[row])
            if share > 0
        ]
        whole = {"map_mean": float(statistics.map_mean[row]), "map_std": float(statistics.map_std[row])}
        facts.append({"image": name, **whole, "regions": regions})
    return facts


def statistics_json(facts: Sequence[dict[str, Any]]) -> str:
    """The facts as a file."""
    return json.dumps({"kind": "region_statistics", "images": list(facts)}, indent=2, allow_nan=False) + "\n"


def _layout_pictures(
    watched: Watched, wanted: Sequence[str]
) -> tuple[dict[str, np.ndarray], list[dict[str, Any]] | None]:
    images, layouts = watched.images, watched.layouts
    pictures, facts = {}, None
    if "layouts" in wanted:
        pictures["layouts"] = binarized_sheet(images, layouts, watched.names)
    if "entities" in wanted:
        pictures["entities"] = layout_sheet(images, layouts, over_images=True)
    if "statistics" in wanted:
        statistics = region_statistics(watched.features, layouts)
        pictures["statistics"] = statistics_sheet(images, layouts, statistics)
        facts = statistics_facts(watched.names, statistics)
    return pictures, facts


def _samples(
    loaded: LoadedGenerator,
    num_images: int,
    seed: int,
    classes: Callable[[Sequence[str]], list[int]] | None,
    batch_size: int,
) -> Watched:
    generator, names = loaded.generator, loaded.class_names
    ids = classes(names) if classes else list(range(len(names)))
    check_class_ids(ids, len(names))
    labels = np.resize(np.asarray(ids, np.int32), num_images)
    latents = draw_latents(num_images, generator.latent_dim, seed)

    def run(rows: slice) -> np.ndarray:
        made: np.ndarray = generator([tf.constant(latents[rows]), tf.constant(labels[rows])], training=False).numpy()
        return made

    return _watched(generator, run, [names[label] for label in labels], batch_size)


def _completed(
    loaded: LoadedInpainter, images: str, masks: str | None, num_images: int, seed: int, batch_size: int
) -> Watched:
    config = loaded.config
    assert config is not None
    holes: SeededMasks | MatchedFiles
    if masks is None:
        source = make_masks(**dataclasses.asdict(config.masks))
        holes = SeededMasks(lambda height, width: source, seed, {})
    else:
        holes = MatchedFiles("mask", masks) if os.path.isdir(masks) or not os.path.exists(masks) else SharedMask(masks)
    cases = InpaintingCases(open_images(images, limit=num_images), holes, config.model.resolution)

    def run(rows: slice) -> np.ndarray:
        chosen = [cases[index] for index in range(*rows.indices(len(cases)))]
        truth = np.stack([case.truth for case in chosen]).astype(np.float32) / np.float32(127.5) - 1
        missing = np.stack([case.hole for case in chosen])[..., np.newaxis].astype(np.float32)
        _, fine = loaded.model([tf.constant(truth), tf.constant(missing)], training=False)
        return truth * (1 - missing) + fine.numpy() * missing

    return _watched(loaded.model, run, [Path(name).stem for name in cases.images.names], batch_size)


def _watched(network: Any, run: Callable[[slice], np.ndarray], names: list[str], batch_size: int) -> Watched:
    layers = attention_layers(network)
    parts = []
    for start in range(0, len(names), batch_size):
        rows = slice(start, min(start + batch_size, len(names)))
        images, seen = watch_features(layers, functools.partial(run, rows))
        ((features, layouts),) = seen.values()  # a generator has one
        parts.append([images, *(np.asarray(tf.cast(part, tf.float32)) for part in (features, layouts))])
    images, features, layouts = (np.concatenate(part) for part in zip(*parts))
    return Watched(images, names, features, layouts)


def _no_interpolation(loaded: LoadedGenerator | LoadedInpainter) -> str:
    if isinstance(loaded, LoadedInpainter):
        return "no classes to interpolate (it inpaints)"
    return "" if len(loaded.class_names) > 1 else "one class only"
