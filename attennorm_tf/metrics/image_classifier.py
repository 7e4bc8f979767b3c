"""A small classifier of natural images, trained in minutes on a CPU, whose features judge generated images."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

FORMAT = 1
LARGEST_INPUT = 64  # larger images are shrunk to it: the time of training grows with the square
_WIDTHS = (16, 16, 32, 128, 128)  # of the stages, the last ones for small images
_FACTS = "classifier.json"


class ImageClassifier:
    """Judges images of some classes; made by `train_image_classifier`, or read from the folder it was saved in.

    A 2x2 convolution whose kernels whiten the training images' patches, then stages that halve the image (3x3
    convolution, max pooling, batch normalization, ReLU, and the same without pooling), mean over the image, one dense
    layer; as in Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU" (2024), narrower.

    Scores by it compare only with scores by the same one: state `name` and `content_hash` beside each.

    Args:
        resolution: side of the images it takes, at least 8.
        channels: 1 or 3.
        class_names: one per class, the index of the logit.
        width: of the layers; 1.0 is what a CPU trains in minutes.
        seed: of the first weights.

    Attributes:
        name: what to call it in results.
        feature_size: d.
        test_accuracy: of `forward` on held-out images, in [0, 1].
        facts: how it was trained and on what: JSON values.
    """

    def __init__(
        self, resolution: int, channels: int, class_names: Sequence[str], width: float = 1.0, seed: int = 0
    ) -> None:
        if resolution < 8:
            raise ValueError(f"resolution must be at least 8, got {resolution}.")
        if channels not in (1, 3):
            raise ValueError(f"channels must be 1 or 3, got {channels!r}.")
        if len(class_names) < 2:
            raise ValueError(f"class_names must be two or more, got {list(class_names)}.")
        if not width > 0:
            raise ValueError(f"width must be above 0, got {width}.")
        self.name = f"image_classifier_{resolution}x{resolution}"
        self.resolution = resolution
        self.channels = channels
        self.class_names = tuple(class_names)
        self.width = width
        self.test_accuracy = math.nan
        self.facts: dict[str, Any] = {}
        self.network = _network(min(resolution, LARGEST_INPUT), channels, len(class_names), width, seed)
        self.feature_size = int(self.network.outputs[0].shape[-1])

    @property
    def content_hash(self) -> str:
        """SHA-256 of the weights."""
        digest = hashlib.sha256()
        for name, values in self._weights():
            digest.update(f"{name} {values.shape} ".encode())
            digest.update(np.ascontiguousarray(values, "<f4").tobytes())
        return digest.hexdigest()

    def forward(self, images: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        """(features (b, d), logits (b, K)) of images (b, resolution, resolution, channels) in [-1, 1]."""
        features, logits = self.network(self.shrunk(images), training=training)
        return features, logits

    def shrunk(self, images: tf.Tensor) -> tf.Tensor:
        """Images as they enter the network: as they are, or at 64x64 where they are larger."""
        if self.resolution <= LARGEST_INPUT:
            return images
        return tf.image.resize(images, (LARGEST_INPUT, LARGEST_INPUT), "bilinear", antialias=True)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the weights and `classifier.json`; a classifier that is there is replaced whole or not at all."""
        root = Path(folder)
        if root.exists() and not root.is_dir():
            raise ValueError(f"classifier folder {os.fspath(folder)!r} is a file.")
        root.mkdir(parents=True, exist_ok=True)
        weights = f"weights-{self.content_hash[:16]}.npz"
        facts = {
            "format": FORMAT,
            "resolution": self.resolution,
            "channels": self.channels,
            "class_names": self.class_names,
            "width": self.width,
            "test_accuracy": self.test_accuracy,
            "content_hash": self.content_hash,
            "weights": weights,
            "facts": self.facts,
        }
        arrays: dict[str, Any] = dict(self._weights())
        _replace(root / weights, lambda file: np.savez(file, **arrays))
        # From here on the new one is there.
        _replace(root / _FACTS, lambda file: file.write((json.dumps(facts, indent=2) + "\n").encode()))
        for path in root.glob("weights-*.npz"):
            if path.name != weights:
                path.unlink()

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> ImageClassifier:
        """Reads a folder of `save`; nothing in it is run.

        Raises:
            ValueError: no such folder, another one, or files that are damaged or were changed.
        """
        root, where = Path(folder), f"classifier folder {os.fspath(folder)!r}"
        if not (root / _FACTS).is_file():
            problem = "does not exist" if not root.exists() else f"holds no {_FACTS}"
            raise ValueError(f"{where} {problem}; `train_image_classifier` makes one.")
        try:
            facts = json.loads((root / _FACTS).read_text(encoding="utf-8"))
            if facts["format"] != FORMAT:
                raise ValueError(f"format {facts['format']}, expected {FORMAT}")
            made = cls(facts["resolution"], facts["channels"], facts["class_names"], facts["width"])
            made.test_accuracy, made.facts = float(facts["test_accuracy"]), dict(facts["facts"])
            weights = root / Path(facts["weights"]).name
            with open(weights, "rb") as opened, np.load(opened, allow_pickle=False) as file:
                for layer in made.network.layers:
                    layer.set_weights([file[f"{layer.name}.{index}"] for index in range(len(layer.weights))])
        # json, zipfile, zlib, NumPy and Keras meet damaged files with many kinds of exception.
        except Exception as error:
            raise ValueError(f"{where} is damaged: {type(error).__name__}: {error}") from error
        if made.content_hash != facts["content_hash"]:
            raise ValueError(f"{where} is damaged: its weights are not those it was written with (SHA-256 differs).")
        return made

    def measure(self, batches: Iterable[tuple[tf.Tensor, tf.Tensor]]) -> tuple[float, float]:
        """Accuracy on (images in [-1, 1], labels): of `forward`, and of its mean over an image and its mirror image."""

        @tf.function
        def right(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            plain, mirrored = (self.forward(view)[1] for view in (images, tf.reverse(images, [2])))
            found = [tf.argmax(logits, axis=1, output_type=tf.int32) == labels for logits in (plain, plain + mirrored)]
            return tf.reduce_sum(tf.cast(tf.stack(found), tf.int32), axis=1)

        count, total = 0, np.zeros(2)
        for images, labels in batches:
            total += right(images, labels).numpy()
            count += len(images)
        return float(total[0] / count), float(total[1] / count)

    def _weights(self) -> Iterator[tuple[str, np.ndarray]]:
        """By names that are the same on both stacks."""
        for layer in self.network.layers:
            for index, values in enumerate(layer.get_weights()):
                yield f"{layer.name}.{index}", np.asarray(values, np.float32)


def whitening_kernels(images: np.ndarray) -> np.ndarray:
    """Kernels that turn 2x2 patches of images into uncorrelated numbers of variance 1, and their negatives.

    Args:
        images: float32 (n, H, W, C).

    Returns:
        float32 (2, 2, C, 8 C): eigenvectors of the patches' covariance over the root of their eigenvalues.
    """
    channels = images.shape[-1]
    patches = np.concatenate(
        [images[:, top : top - 1 or None, left : left - 1 or None] for top in (0, 1) for left in (0, 1)], axis=-1
    ).reshape(-1, 4 * channels)
    values, vectors = np.linalg.eigh(patches.T.astype(np.float64) @ patches / len(patches))
    kernels = (vectors / np.sqrt(values + 5e-4)).reshape(2, 2, channels, 4 * channels)
    return np.concatenate([kernels, -kernels], axis=-1).astype(np.float32)


def _network(size: int, channels: int, num_classes: int, width: float, seed: int) -> keras.Model:
    """Images to (features, logits)."""
    stages = max(1, min(len(_WIDTHS), round(math.log2(size / 4))))
    widths = [max(8, round(width * filters)) for filters in _WIDTHS[-stages:]]

    def convolution(filters: int, name: str, kernel_initializer: Any) -> keras.layers.Layer:
        return keras.layers.Conv2D(
            filters, 3, padding="same", use_bias=False, kernel_initializer=kernel_initializer, name=name
        )

    inputs = keras.Input((size, size, channels))
    whitening = keras.layers.Conv2D(8 * channels, 2, use_bias=False, trainable=False, name="whitening")
    images = keras.layers.Activation("relu")(whitening(inputs))
    for stage, filters in enumerate(widths):
        for half in ("a", "b"):
            initializer = keras.initializers.HeUniform(seed=1000 * seed + 2 * stage + (half == "b"))
            images = convolution(filters, f"convolution_{stage}{half}", initializer)(images)
            if half == "a":
                images = keras.layers.MaxPooling2D(2)(images)
            images = keras.layers.BatchNormalization(
                momentum=0.8, epsilon=1e-5, scale=False, name=f"normalization_{stage}{half}"
            )(images)
            images = keras.layers.Activation("relu")(images)
    features = keras.layers.GlobalAveragePooling2D()(images)
    initializer = keras.initializers.HeUniform(seed=1000 * seed + 999)
    logits = keras.layers.Dense(num_classes, kernel_initializer=initializer, name="logits")(features)
    return keras.Model(inputs, [features, logits])


def _replace(path: Path, write: Any) -> None:
    """Writes a file whole or not at all."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes a private file
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
