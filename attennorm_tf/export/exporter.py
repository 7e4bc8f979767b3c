"""A checkpoint's network as a version folder: written aside, every file checked, then in its place or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from attennorm_tf.export.keras_file import check_keras, write_keras
from attennorm_tf.export.model_card import FILES, card_facts, model_card
from attennorm_tf.export.parity import TOLERANCE, check_saved_model
from attennorm_tf.export.request_checks import Limits, check_limits
from attennorm_tf.export.saved_model import default_limits, signature_shapes, write_saved_model, written_aside
from attennorm_tf.export.tflite import check_convertible, check_tflite, write_tflite
from attennorm_tf.export.warmup import write_warmup

FORMATS = tuple(FILES)


class Subject(NamedTuple):
    """What is exported.

    Attributes:
        model: the built Keras model, with the weights to export.
        task: "inpainting" or "class-conditional generation".
        name: the experiment's.
        step: of the checkpoint.
        weights: "moving average" or "as trained".
        config: the run's, JSON values.
        class_names: one per class; empty for inpainting.
        metrics: what was measured of the run, {file: JSON values}.
    """

    model: Any
    task: str
    name: str
    step: int
    weights: str = "as trained"
    config: dict[str, Any] = {}
    class_names: Sequence[str] = ()
    metrics: dict[str, Any] = {}


class Exported(NamedTuple):
    """Where it is, and the largest differences from the checkpoint's network, by file and signature."""

    folder: Path
    parity: dict[str, dict[str, float]]


def export(
    subject: Subject,
    output: str | os.PathLike[str],
    *,
    version: int | None = None,
    formats: Sequence[str] = ("saved_model",),
    limits: Limits | None = None,
    warmup_sizes: Sequence[tuple[int, int]] = (),
    model_name: str | None = None,
    tolerance: float = TOLERANCE,
) -> Exported:
    """Writes `<output>/<version>/`, as TensorFlow Serving looks for it.

    Args:
        subject: the network and what is known of it.
        output: folder of the versions.
        version: an int >= 1; default one more than the largest there.
        formats: of `FORMATS`.
        limits: of a request; default `default_limits`.
        warmup_sizes: (height, width) of images in warm-up records, which need tensorflow-serving-api; none: no records.
        model_name: as the server knows the model, for these records; default the name of `output`.
        tolerance: see `check_saved_model`.

    Raises:
        ValueError: an unknown format, a limit out of range, a version that is there.
        ExportError: a file could not be written, or computes something else than the checkpoint's network; nothing is
            left of it.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise ValueError(f"formats must be of {', '.join(FORMATS)}; got {', '.join(map(repr, unknown)) or 'none'}.")
    if any(name.startswith("tflite") for name in formats):
        check_convertible(subject.model)
    limits = default_limits(subject.model) if limits is None else limits
    check_limits(limits)
    folder = _version_folder(Path(output), version)
    parity: dict[str, dict[str, float]] = {}
    with written_aside(folder) as aside:
        for name in formats:
            parity[name] = _written(subject.model, name, aside, limits, tolerance)
        signatures = signature_shapes(aside) if "saved_model" in formats else {}
        facts = card_facts(subject, limits, parity, signatures)
        (aside / "export.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        (aside / "README.md").write_text(model_card(subject, facts), encoding="utf-8")
        if warmup_sizes and "saved_model" in formats:
            write_warmup(aside, model_name or folder.parent.name, sizes=warmup_sizes)
    return Exported(folder, parity)


def _written(model: Any, name: str, folder: Path, limits: Limits, tolerance: float) -> dict[str, float]:
    """Writes one format and returns its parity."""
    file = folder / FILES[name][0]
    if name == "saved_model":
        write_saved_model(model, folder, limits)
        return check_saved_model(model, folder, tolerance)
    if name == "keras":
        write_keras(model, file)
        return check_keras(model, file, tolerance)
    int8 = name == "tflite_int8"
    write_tflite(model, file, int8)
    return check_tflite(model, file, int8, tolerance)


def _version_folder(output: Path, version: int | None) -> Path:
    if output.exists() and not output.is_dir():
        raise ValueError(f"output: {output} is a file, expected a folder of versions.")
    if version is None:
        there = [int(entry.name) for entry in output.iterdir() if entry.name.isdecimal()] if output.exists() else []
        version = max(there, default=0) + 1
    elif isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise ValueError(f"version must be an int >= 1, got {version!r}.")
    folder = output / str(version)
    if folder.exists():
        raise ValueError(f"version: {folder} is there; versions are never replaced, choose another or leave it out.")
    return folder
