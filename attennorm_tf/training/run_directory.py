"""The work directory of a run: its config, what it ran on, metrics, pictures, checkpoints."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import tensorflow as tf

from attennorm_tf.config import ExperimentConfig, config_difference
from attennorm_tf.training.checkpointing import first_line
from attennorm_tf.visualization import save_png

# Fields that may change between the parts of one run: they say how long it runs and what it prints, not what it learns.
_MAY_CHANGE = (
    "training.steps:",
    "training.steps_per_call:",
    "training.strategy:",
    "training.non_finite:",
    "training.max_rollbacks:",
    "training.phase_two_step:",
    "data.service:",
    "logging.",
    "evaluation.",
)
logger = logging.getLogger(__name__)

_PACKAGES = ("attennorm_tf", "tensorflow", "keras", "numpy", "ml_collections", "scikit-learn", "tensorflow-datasets")


class RunDirectory:
    """Files of one run.

    `config.json` (resolved config), `environment.json` (versions, git commit), `metrics.jsonl`, `checkpoints/`,
    `images/`, `tensorboard/`.

    Args:
        path: the work directory; made if it is not there.
        tensorboard: whether `scalars` and `image` also write TensorBoard files.
        writes: False for a worker that is not the chief: it changes nothing in the folder.

    Raises:
        ValueError: the path is a file.
    """

    def __init__(self, path: str | os.PathLike[str], tensorboard: bool = True, writes: bool = True):
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"workdir: {self.path} is a file, expected a folder.")
        self.path.mkdir(parents=True, exist_ok=True)
        self.checkpoints = self.path / "checkpoints"
        self.writes = writes
        self._tensorboard = tensorboard
        self._writer: Any = None

    def claim(self, config: ExperimentConfig) -> None:
        """Writes the config, or checks it against the one of the run that is already here.

        Raises:
            ValueError: another experiment lives here; the message lists every difference.
        """
        if not self.writes:
            return
        file = self.path / "config.json"
        if file.exists():
            try:
                before = type(config).from_json(file.read_text(encoding="utf-8"))
            except (ValueError, KeyError, AttributeError) as error:
                raise ValueError(
                    f"workdir: {file} is not the config of a run of this kind ({error}); use another --workdir."
                ) from error
            changed = [line for line in config_difference(before, config) if not line.startswith(_MAY_CHANGE)]
            if changed:
                raise ValueError(
                    f"workdir: {self.path} holds another experiment; use another --workdir, or mend the config. "
                    "Changed since its start:\n  " + "\n  ".join(changed)
                )
        write_text(file, config.to_json())
        write_text(self.path / "environment.json", json.dumps(describe_environment(), indent=2) + "\n")

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Appends one line to `metrics.jsonl` and writes TensorBoard scalars."""
        if not self.writes:
            return
        with _writing(self.path / "metrics.jsonl") as path, open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        if self._tensorboard:
            with _writing(self.path / "tensorboard"):
                with self._summary_writer().as_default(step=step):
                    for name, value in values.items():
                        tf.summary.scalar(name, value)
                self._summary_writer().flush()

    def forget_after(self, step: int) -> None:
        """Drops lines of `metrics.jsonl` beyond `step`, which a resumed run will write again."""
        file = self.path / "metrics.jsonl"
        if not self.writes or not file.exists():
            return
        kept = []
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except (ValueError, KeyError, TypeError):
                continue  # a line torn by a kill
        write_text(file, "".join(kept))

    def image(self, step: int, name: str, pixels: Any) -> None:
        """Writes (H, W, 3) uint8 as `images/<name>-<step>.png` and for TensorBoard."""
        if not self.writes:
            return
        with _writing(self.path / "images" / f"{name}-{step:08d}.png") as path:
            path.parent.mkdir(exist_ok=True)
            save_png(path, pixels)
        if self._tensorboard:
            with _writing(self.path / "tensorboard"), self._summary_writer().as_default(step=step):
                tf.summary.image(name, pixels[None])

    def close(self) -> None:
        if self._writer is not None:
            try:
                self._writer.close()
            except tf.errors.OpError as error:  # it would hide what ended the run
                logger.warning("%s could not be closed: %s", self.path / "tensorboard", first_line(error))

    def _summary_writer(self) -> Any:
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self.path / "tensorboard"))
        return self._writer


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """Errors of writing say which file of the run it was, and what to do."""
    try:
        yield path
    except (OSError, tf.errors.OpError) as error:
        raise OSError(
            f"{path} could not be written ({first_line(error)}). The checkpoints written before are whole: when there "
            "is room again, the same command goes on from the newest."
        ) from error


def write_text(path: Path, text: str) -> None:
    """Writes a file so that a reader sees the old text or the new one, never a part.

    Raises:
        OSError: it could not be written; what was there stays.
    """
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    except OSError as error:
        raise OSError(f"{path} could not be written ({first_line(error)}).") from error
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise OSError(f"{path} could not be written ({first_line(error)}).") from error
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def describe_environment() -> dict[str, Any]:
    """Versions, devices and the git commit of the checkout, if it is one."""
    versions: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "python": platform.python_version(),
        "packages": versions,
        "devices": [device.device_type for device in tf.config.list_physical_devices()],
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
