"""Checkpoints that are whole or absent: written aside, verified by content, then renamed into place."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from attennorm_tf.training.weight_table import checkpoint_view

_STEP = re.compile(r"step-(\d{8,})")
_PREFIX = "state"
_MANIFEST = "manifest.json"
_SEAL = "sha256"  # the manifest's key of the hash over all its others
_PARTIAL = ".partial-"

logger = logging.getLogger(__name__)


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read; the message says which and why."""


class Ranking(NamedTuple):
    """Which checkpoints are kept beside the newest.

    Attributes:
        keep: how many; 0: none.
        metric: a name of the metrics that were given to `CheckpointStore.save`.
        mode: "max" or "min": which of its values is the best.
    """

    keep: int = 0
    metric: str = ""
    mode: str = "max"

    def best(self, metrics: Mapping[int, Mapping[str, float | None]]) -> list[int]:
        """Steps of the best checkpoints, the best first; of equal ones the newer.

        Args:
            metrics: step -> metrics of the checkpoint. One without the metric, or where it is no finite number, is
                never among the best.
        """
        sign = 1.0 if self.mode == "max" else -1.0
        values = {step: held.get(self.metric) for step, held in metrics.items()}
        found = [(sign * value, step) for step, value in values.items() if value is not None and math.isfinite(value)]
        return [step for _, step in sorted(found, reverse=True)[: self.keep]]


_NO_RANKING = Ranking()


class CheckpointStore:
    """The checkpoints of one run, a folder each: `<folder>/step-00001000/`.

    A checkpoint folder holds TensorFlow's own files and `manifest.json`: the step, the size and SHA-256 of every file,
    the metrics of that time, and what is needed to rebuild the networks. It appears under its name only when all of
    that is on the disk.

    Args:
        folder: where the checkpoints are kept; made when the first is written.
        keep: how many of the newest are kept, >= 1.
        ranking: which others are.
        writes: False for a worker that is not the chief: `save` takes part in reading the variables, which several
            workers may have to do together, and leaves nothing behind.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        keep: int = 3,
        ranking: Ranking = _NO_RANKING,
        writes: bool = True,
    ):
        self.folder = Path(folder)
        self.keep = keep
        self.ranking = ranking
        self.writes = writes

    def steps(self) -> list[int]:
        """Steps of the checkpoints in place, oldest first; not verified."""
        if not self.folder.is_dir():
            return []
        found = (_STEP.fullmatch(entry.name) for entry in self.folder.iterdir() if entry.is_dir())
        return sorted(int(match.group(1)) for match in found if match)

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def save(
        self,
        step: int,
        items: dict[str, Any],
        metadata: dict[str, Any],
        metrics: Mapping[str, float] | None = None,
    ) -> Path:
        """Writes a checkpoint and removes those that are neither among the newest nor among the best.

        Args:
            step: its number.
            items: name -> trackable object (models, optimizers, variables).
            metadata: JSON values kept in the manifest.
            metrics: the newest value of each, kept in the manifest; one that is no finite number as null.

        Returns:
            The checkpoint's folder.

        Raises:
            CheckpointError: it could not be written (a full disk, say); those already there are untouched.
        """
        target = self.path(step)
        if not self.writes:
            with tempfile.TemporaryDirectory() as folder:
                CheckpointStore(folder).save(step, items, metadata, metrics)
            return target
        partial = self.folder / f"{_PARTIAL}{step:08d}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            tf.train.Checkpoint(**checkpoint_view(items)).write(str(partial / _PREFIX))
            files = {entry.name: _fingerprint(entry, sync=True) for entry in sorted(partial.iterdir())}
            held = {name: value if math.isfinite(value) else None for name, value in (metrics or {}).items()}
            write_manifest(partial, {"step": step, "files": files, "metadata": metadata, "metrics": held})
            before = self._out_of_sight(target) if target.exists() else None
            os.replace(partial, target)
            _sync_folder(self.folder)
            if before is not None:
                shutil.rmtree(before, ignore_errors=True)
        except (OSError, tf.errors.OpError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            kept = self.steps()
            last = f"the last good one is {self.path(kept[-1])}" if kept else "there is no earlier one"
            raise CheckpointError(f"checkpoint {target} could not be written ({first_line(error)}); {last}.") from error
        self._prune()
        return target

    def latest(self) -> Path | None:
        """The newest whole checkpoint, or None where there are none.

        A damaged one is named in the log and passed over.

        Raises:
            CheckpointError: there are some, and all are damaged.
        """
        steps = self.steps()
        for step in reversed(steps):
            damage = find_damage(self.path(step))
            if damage is None:
                return self.path(step)
            before = "; trying the one before it" if step != steps[0] else ""
            logger.warning("checkpoint %s is damaged (%s)%s", self.path(step), damage, before)
        if not steps:
            return None
        what = f"all {len(steps)} checkpoints are damaged" if len(steps) > 1 else "the only checkpoint is damaged"
        raise CheckpointError(
            f"{self.folder}: {what} (the newest, {self.path(steps[-1]).name}: {find_damage(self.path(steps[-1]))}). "
            "Bring back a copy of one, or delete this folder to begin anew."
        )

    def tidy(self, newest: Path | None) -> None:
        """Makes the folder ready for a run that goes on from `newest`.

        What killed writes left behind is removed. Checkpoints newer than `newest` are damaged: they are set aside as
        `damaged-step-*`, so that they do not count among those kept.
        """
        if not self.folder.is_dir():
            return
        for leftover in self.folder.glob(f"{_PARTIAL}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        for step in self.steps():
            if newest is not None and self.path(step).name > newest.name:
                aside = self.folder / f"damaged-{self.path(step).name}"
                shutil.rmtree(aside, ignore_errors=True)
                os.replace(self.path(step), aside)
                logger.warning("%s is now %s", self.path(step), aside.name)

    def _prune(self) -> None:
        steps = self.steps()
        kept = set(steps[-self.keep :])
        if self.ranking.keep:
            kept.update(self.ranking.best({step: _metrics(self.path(step)) for step in steps}))
        for step in steps:
            if step not in kept:
                try:
                    shutil.rmtree(self._out_of_sight(self.path(step)))
                except OSError as error:
                    logger.warning("checkpoint %s could not be removed: %s", self.path(step), error)

    def _out_of_sight(self, path: Path) -> Path:
        """Renames a checkpoint that is to be removed, such that it is never seen with a part of its files."""
        hidden = self.folder / f"{_PARTIAL}removed-{path.name}"
        shutil.rmtree(hidden, ignore_errors=True)
        return path.rename(hidden)


def find_checkpoint(path: str | os.PathLike[str]) -> Path:
    """The checkpoint folder that a path given by a user means.

    Args:
        path: a work directory, its `checkpoints` folder, or one checkpoint's folder.

    Returns:
        A whole checkpoint's folder.

    Raises:
        CheckpointError: there is none, or the one named is damaged.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"checkpoint: {path} does not exist.")
    if (path / _MANIFEST).is_file() or _STEP.fullmatch(path.name):
        damage = find_damage(path)
        if damage is not None:
            raise CheckpointError(f"checkpoint: {path} is damaged ({damage}).")
        return path
    for folder in (path / "checkpoints", path):
        latest = CheckpointStore(folder).latest()
        if latest is not None:
            return latest
    if (path / "saved_model.pb").is_file() or next(path.glob("*/saved_model.pb"), None):
        raise CheckpointError(
            f"checkpoint: {path} is an exported model, from which nothing can be trained or read back; name the work "
            "directory that it was exported from, or ask a server that has it, by attennorm-client."
        )
    raise CheckpointError(
        f"checkpoint: {path} holds no whole checkpoint; expected a work directory of train.gan, its checkpoints "
        "folder, or one step-* folder in it."
    )


def find_damage(path: Path) -> str | None:
    """What is wrong with a checkpoint folder, or None: every file is read and compared with the manifest."""
    try:
        manifest = read_manifest(path)
        for name, expected in manifest["files"].items():
            if not (path / name).is_file():
                return f"{name} is missing"
            if _fingerprint(path / name) != expected:
                return f"{name} is not what was written"
    except CheckpointError as error:
        return str(error)
    except OSError as error:
        return first_line(error)
    named = _STEP.fullmatch(path.name)
    if named and int(named.group(1)) != manifest["step"]:
        return f"it is that of step {manifest['step']}"
    return None


def read_manifest(path: Path) -> dict[str, Any]:
    """Step, files, metadata and metrics of a checkpoint folder.

    Raises:
        CheckpointError: no manifest, or not one of ours, or not as it was written.
    """
    try:
        manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{_MANIFEST} cannot be read: {first_line(error)}") from error
    if not isinstance(manifest, dict) or not {"step", "files", "metadata"} <= set(manifest):
        raise CheckpointError(f"{_MANIFEST} lacks step, files or metadata")
    if set(manifest) == {"step", "files", "metadata"}:  # of version 0.1.0, which did not seal it
        return {**manifest, "metrics": {}}
    seal = manifest.pop(_SEAL, None)
    if seal != _seal(manifest):
        raise CheckpointError(f"{_MANIFEST} is not what was written")
    return manifest


def write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    """Writes a checkpoint folder's manifest, sealed: `read_manifest` gives it back, or notices any change."""
    with open(path / _MANIFEST, "w", encoding="utf-8") as file:
        json.dump({**manifest, _SEAL: _seal(manifest)}, file, indent=2)
        file.flush()
        os.fsync(file.fileno())


def restore(path: Path, items: dict[str, Any], partial: bool = False) -> None:
    """Reads a checkpoint into built objects.

    Args:
        path: a checkpoint folder.
        items: name -> trackable, as when it was written; already built, since Keras 3 silently misreads others.
        partial: whether `items` may be fewer than were written.

    Raises:
        CheckpointError: the objects do not fit what was written.
    """
    try:
        status = tf.train.Checkpoint(**checkpoint_view(items)).read(str(path / _PREFIX))
        status.assert_existing_objects_matched()
        if partial:
            status.expect_partial()
        else:
            status.assert_consumed()
    except (AssertionError, ValueError, tf.errors.OpError) as error:
        raise CheckpointError(f"checkpoint {path} does not fit these networks: {first_line(error)}") from error


def _seal(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _metrics(path: Path) -> dict[str, float | None]:
    try:
        metrics = read_manifest(path)["metrics"]
    except CheckpointError:
        return {}
    return dict(metrics)


def _fingerprint(path: Path, sync: bool = False) -> dict[str, Any]:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
        if sync:
            os.fsync(file.fileno())
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def first_line(error: BaseException) -> str:
    """What went wrong, without the rest of a long message."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"^\{\{.*?\}\}\s*", "", line)  # TensorFlow's name for the node that failed
