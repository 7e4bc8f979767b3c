"""A small classifier of handwritten digits, trained in seconds, whose features judge generated digits."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import tensorflow as tf
from tensorflow import keras

from attennorm_tf.data import load_dataset
from attennorm_tf.metrics.feature_moments import FeatureMoments

_STEPS = 700
_BATCH_SIZE = 64
_LEARNING_RATE = 3e-3
_FEATURES = 64
_LARGEST_INPUT = 16  # the digits are drawn on 8x8 pixels; more resolution only costs time
_CHUNK = 256


class DigitsClassifier:
    """Judges images of digits; made by `train_digits_classifier`.

    Scores by it compare only with scores by the same one: state `name` and `content_hash` beside each.

    Attributes:
        name: what to call it in results.
        resolution: side of the images it takes.
        test_accuracy: on the held-out real digits, in [0, 1].
        content_hash: SHA-256 of its weights.
    """

    def __init__(self, resolution: int, seed: int = 0) -> None:
        if resolution < 8:
            raise ValueError(f"resolution must be at least 8, the digits' own, got {resolution}.")
        self.name = f"digits_classifier_{resolution}x{resolution}_seed{seed}"
        self.resolution = resolution
        self.test_accuracy = math.nan
        self.network = _network(min(resolution, _LARGEST_INPUT), seed)
        self._forward = tf.function(
            self.forward,
            input_signature=[tf.TensorSpec((None, resolution, resolution, 1), tf.float32)],
            autograph=False,
        )

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Images (n, resolution, resolution, 1) in [-1, 1] to float32 (n, 10)."""
        return self._in_chunks(images)[1]

    def features(self, images: np.ndarray) -> np.ndarray:
        """Images (n, resolution, resolution, 1) in [-1, 1] to float32 (n, 64), the layer below the logits."""
        return self._in_chunks(images)[0]

    def moments(self, images: np.ndarray) -> FeatureMoments:
        """Moments of the features of images, as a reference for `score_class_conditional`."""
        moments = FeatureMoments()
        moments.update(self.features(images))
        return moments

    @property
    def content_hash(self) -> str:
        digest = hashlib.sha256()
        for weight in self.network.get_weights():
            digest.update(str(weight.shape).encode())
            digest.update(np.ascontiguousarray(weight, "<f4").tobytes())
        return digest.hexdigest()

    def forward(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(features, logits) of a batch of images, differentiable."""
        if self.resolution > _LARGEST_INPUT:
            images = tf.image.resize(images, (_LARGEST_INPUT, _LARGEST_INPUT), "bilinear", antialias=True)
        features, logits = self.network(images)
        return features, logits

    def _in_chunks(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        images = np.asarray(images)
        expected = (self.resolution, self.resolution, 1)
        if images.ndim != 4 or images.shape[1:] != expected:
            raise ValueError(f"images must be (n, {', '.join(map(str, expected))}), got {images.shape}.")
        features = np.zeros((len(images), _FEATURES), np.float32)
        logits = np.zeros((len(images), 10), np.float32)
        for start in range(0, len(images), _CHUNK):
            part = slice(start, start + _CHUNK)
            features[part], logits[part] = self._forward(tf.constant(images[part], tf.float32))
        return features, logits


def train_digits_classifier(resolution: int = 16, seed: int = 0) -> DigitsClassifier:
    """Trains on the real digits' "train" split; its accuracy on the "test" split comes with it.

    The same seed gives the same weights on one machine and stack.

    Args:
        resolution: side of the images to judge, at least 8.
        seed: of the weights and the order of the data.

    Returns:
        The classifier. At 16x16, seeds 0 to 3 reach 99.2 to 99.7% on held-out digits, each in 6 s on two
        cores.
    """
    classifier = DigitsClassifier(resolution, seed)
    network = classifier.network
    schedule = keras.optimizers.schedules.CosineDecay(_LEARNING_RATE, _STEPS)
    optimizer = keras.optimizers.Adam(schedule)
    optimizer.build(network.trainable_variables)
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function(autograph=False)
    def step(number: tf.Tensor, images: tf.Tensor, labels: tf.Tensor) -> None:
        images = _shifted(images, tf.stack([tf.constant(seed % 2**31, tf.int64), number]))
        with tf.GradientTape() as tape:
            loss = loss_of(labels, classifier.forward(images)[1])
        gradients = tape.gradient(loss, network.trainable_variables)
        optimizer.apply_gradients(zip(gradients, network.trainable_variables))

    digits = load_dataset("digits", split="train")
    batches = digits.batches(resolution=resolution, batch_size=_BATCH_SIZE, seed=seed)
    for number, (images, labels) in batches.take(_STEPS).enumerate():
        step(number, images, labels)
    images, labels = load_dataset("digits", split="test").arrays(resolution)
    classifier.test_accuracy = float((classifier.logits(images).argmax(axis=1) == labels).mean())
    return classifier


def _shifted(images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """The batch moved by up to a sixteenth of its side each way, over background."""
    side = images.shape[1]
    reach = max(1, side // 16)
    framed = tf.pad(images, [[0, 0], [reach, reach], [reach, reach], [0, 0]], constant_values=-1.0)
    top, left = tf.unstack(
        tf.random.stateless_uniform([2], key, maxval=2 * reach + 1, dtype=tf.int32, alg="philox"), num=2
    )
    return framed[:, top : top + side, left : left + side]


def _network(size: int, seed: int) -> keras.Model:
    """Image to (features, logits): stride-2 convolutions down to about 4x4, then two dense layers."""

    def initializer(number: int) -> keras.initializers.Initializer:
        return keras.initializers.HeNormal(seed=1000 * seed + number)

    inputs = keras.Input((size, size, 1))
    features = inputs
    stages = max(1, round(math.log2(size / 4)))
    for stage in range(stages):
        filters = 32 if stage < stages - 1 else 64
        for position, strides in enumerate((1, 2)):
            features = keras.layers.Conv2D(
                filters,
                3,
                strides=strides,
                padding="same",
                activation="relu",
                kernel_initializer=initializer(2 * stage + position),
            )(features)
    features = keras.layers.Flatten()(features)
    features = keras.layers.Dense(_FEATURES, activation="relu", kernel_initializer=initializer(100))(features)
    logits = keras.layers.Dense(10, kernel_initializer=initializer(101))(features)
    return keras.Model(inputs, [features, logits])
