"""Checkpoints that are whole or absent: written aside, verified by content, then renamed into place."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

import tensorflow as tf

_STEP = re.compile(r"step-(\d{8,})")
_PREFIX = "state"
_MANIFEST = "manifest.json"

logger = logging.getLogger(__name__)


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read; the message says which and why."""


class CheckpointStore:
    """The checkpoints of one run, a folder each: `<folder>/step-00001000/`.

    A checkpoint folder holds TensorFlow's own files and `manifest.json`: the step, the size and SHA-256 of every file,
    and what is needed to rebuild the networks. It appears under its name only when all of that is on the disk.

    Args:
        folder: where the checkpoints are kept; made when the first is written.
        keep: how many of the newest are kept, >= 1.
    """

    def __init__(self, folder: str | os.PathLike[str], keep: int = 3):
        self.folder = Path(folder)
        self.keep = keep

    def steps(self) -> list[int]:
        """Steps of the checkpoints in place, oldest first; not verified."""
        if not self.folder.is_dir():
            return []
        found = (_STEP.fullmatch(entry.name) for entry in self.folder.iterdir() if entry.is_dir())
        return sorted(int(match.group(1)) for match in found if match)

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def save(self, step: int, items: dict[str, Any], metadata: dict[str, Any]) -> Path:
        """Writes a checkpoint and removes the oldest beyond `keep`.

        Args:
            step: its number.
            items: name -> trackable object (models, optimizers, variables).
            metadata: JSON values kept in the manifest.

        Returns:
            The checkpoint's folder.

        Raises:
            CheckpointError: it could not be written (a full disk, say); those already there are untouched.
        """
        target = self.path(step)
        partial = self.folder / f".partial-{step:08d}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            tf.train.Checkpoint(**items).write(str(partial / _PREFIX))
            files = {entry.name: _fingerprint(entry, sync=True) for entry in sorted(partial.iterdir())}
            manifest = {"step": step, "files": files, "metadata": metadata}
            with open(partial / _MANIFEST, "w", encoding="utf-8") as file:
                json.dump(manifest, file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            if target.exists():
                shutil.rmtree(target)
            os.replace(partial, target)
            _sync_folder(self.folder)
        except (OSError, tf.errors.OpError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            kept = self.steps()
            last = f"the last good one is {self.path(kept[-1])}" if kept else "there is no earlier one"
            raise CheckpointError(
                f"checkpoint {target} could not be written ({_first_line(error)}); {last}."
            ) from error
        for old in self.steps()[: -self.keep]:
            shutil.rmtree(self.path(old), ignore_errors=True)
        return target

    def latest(self) -> Path | None:
        """The newest whole checkpoint; a damaged one is named in the log and passed over."""
        for step in reversed(self.steps()):
            damage = find_damage(self.path(step))
            if damage is None:
                return self.path(step)
            logger.warning("checkpoint %s is damaged (%s); trying the one before it", self.path(step), damage)
        return None


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
    raise CheckpointError(
        f"checkpoint: {path} holds no whole checkpoint; expected a work directory of train.gan, its checkpoints "
        "folder, or one step-* folder in it."
    )


def find_damage(path: Path) -> str | None:
    """What is wrong with a checkpoint folder, or None: every file is read and compared with the manifest."""
    try:
        files = read_manifest(path)["files"]
        for name, expected in files.items():
            if not (path / name).is_file():
                return f"{name} is missing"
            if _fingerprint(path / name) != expected:
                return f"{name} is not what was written"
    except CheckpointError as error:
        return str(error)
    except OSError as error:
        return _first_line(error)
    return None


def read_manifest(path: Path) -> dict[str, Any]:
    """Step, files and metadata of a checkpoint folder.

    Raises:
        CheckpointError: no manifest, or not one of ours.
    """
    try:
        manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{_MANIFEST} cannot be read: {_first_line(error)}") from error
    if not isinstance(manifest, dict) or not {"step", "files", "metadata"} <= set(manifest):
        raise CheckpointError(f"{_MANIFEST} lacks step, files or metadata")
    return manifest


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
        status = tf.train.Checkpoint(**items).read(str(path / _PREFIX))
        status.assert_existing_objects_matched()
        if partial:
            status.expect_partial()
        else:
            status.assert_consumed()
    except (AssertionError, ValueError, tf.errors.OpError) as error:
        raise CheckpointError(f"checkpoint {path} does not fit these networks: {_first_line(error)}") from error


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


def _first_line(error: BaseException) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"^\{\{.*?\}\}\s*", "", line)  # TensorFlow's name for the node that failed
