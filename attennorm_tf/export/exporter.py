"""A checkpoint's network as a version folder: written aside, every file checked, then in its place or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from attennorm_tf.export.parity import TOLERANCE, check_saved_model
from attennorm_tf.export.request_checks import Limits, check_limits
from attennorm_tf.export.saved_model import default_limits, write_saved_model, written_aside

FORMATS = ("saved_model",)


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
    tolerance: float = TOLERANCE,
) -> Exported:
    """Writes `<output>/<version>/`, as TensorFlow Serving looks for it.

    Args:
        subject: the network and what is known of it.
        output: folder of the versions.
        version: an int >= 1; default one more than the largest there.
        formats: of `FORMATS`.
        limits: of a request; default `default_limits`.
        tolerance: see `check_saved_model`.

    Raises:
        ValueError: an unknown format, a limit out of range, a version that is there.
        ExportError: a file could not be written, or computes something else than the checkpoint's network; nothing is
            left of it.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise ValueError(f"formats must be of {', '.join(FORMATS)}; got {', '.join(map(repr, unknown)) or 'none'}.")
    limits = default_limits(subject.model) if limits is None else limits
    check_limits(limits)
    folder = _version_folder(Path(output), version)
    parity = {}
    with written_aside(folder) as aside:
        write_saved_model(subject.model, aside, limits)
        parity["saved_model"] = check_saved_model(subject.model, aside, tolerance)
        (aside / "export.json").write_text(
            json.dumps({"limits": limits._asdict(), "parity": parity}, indent=2) + "\n", encoding="utf-8"
        )
    return Exported(folder, parity)


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
