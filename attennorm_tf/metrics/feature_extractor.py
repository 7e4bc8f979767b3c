"""What every network that judges images promises: features, perhaps logits, and facts that name it exactly."""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf


class Features(NamedTuple):
    """What a network makes of images.

    Attributes:
        features: float32 (b, d).
        logits: float32 (b, K), or None where the network has none: no Inception Score then.
    """

    features: tf.Tensor
    logits: tf.Tensor | None


class FeatureExtractor(abc.ABC):
    """A frozen network whose features judge images; a subclass defines `_forward`.

    Attributes:
        name: as in result files; scores by extractors of different names or hashes do not compare.
        content_hash: SHA-256 of its weights, or of the files that hold them.
        resolution: R; images are resized to R x R before the network.
        channels: 1 or 3, what the network takes; grey images are repeated to 3 channels.
        feature_size: d.
        num_classes: K of the logits; None without logits.
        antialias: whether images larger than R are low-passed when they are resized.
    """

    def __init__(
        self,
        name: str,
        *,
        content_hash: str,
        resolution: int,
        channels: int,
        feature_size: int,
        num_classes: int | None,
        antialias: bool = True,
    ) -> None:
        self.name = name
        self.content_hash = content_hash
        self.resolution = resolution
        self.channels = channels
        self.feature_size = feature_size
        self.num_classes = num_classes
        self.antialias = antialias

    def __call__(self, images: tf.Tensor) -> Features:
        """Features of images; pure TensorFlow, fit for `tf.function` and `strategy.run`.

        Args:
            images: float32 (b, H, W, 1 or 3) in [-1, 1], of any height and width.

        Raises:
            ValueError: another rank, or colour images for a network of grey ones.
        """
        images = tf.convert_to_tensor(images, tf.float32)
        if images.shape.rank != 4:
            raise ValueError(f"images must be (batch, height, width, channels), got {images.shape}.")
        if images.shape[-1] == 1 and self.channels == 3:
            images = tf.repeat(images, 3, axis=-1)
        if images.shape[-1] != self.channels:
            raise ValueError(
                f"feature extractor {self.name!r} takes images of {self.channels} channels, got {images.shape[-1]}."
            )
        size = (self.resolution, self.resolution)
        if tuple(images.shape[1:3]) != size:
            # Enlarging is the same with and without, but antialiasing runs on the CPU only.
            larger = any(side is None or side > self.resolution for side in images.shape[1:3])
            images = tf.image.resize(images, size, "bilinear", antialias=self.antialias and larger)
        return self._forward(images)

    def protocol(self) -> dict[str, Any]:
        """What results say about the extractor: JSON values; equal protocols give comparable scores."""
        antialiased = ", antialiased" if self.antialias else ""
        return {
            "name": self.name,
            "content_hash": self.content_hash,
            "resize": f"bilinear{antialiased}, to {self.resolution}x{self.resolution}",
            "channels": self.channels,
            "grey": "repeated to 3 channels" if self.channels == 3 else "as it is",
            "feature_size": self.feature_size,
            "num_classes": self.num_classes,
        }

    @abc.abstractmethod
    def _forward(self, images: tf.Tensor) -> Features:
        """Of float32 (b, R, R, channels) in [-1, 1]."""


def hash_file(path: Path) -> str:
    """SHA-256 of the bytes of a file."""
    digest = hashlib.sha256()
    _add(digest, path)
    return digest.hexdigest()


def hash_files(root: Path, files: Iterable[Path]) -> str:
    """SHA-256 over the paths, relative to `root`, and the bytes of files, in order of their paths."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.relative_to(root).as_posix()} {path.stat().st_size} ".encode())
        _add(digest, path)
    return digest.hexdigest()


def _add(digest: Any, path: Path) -> None:
    with open(path, "rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
