"""Keras' InceptionV3 with a file of weights."""

from __future__ import annotations

from pathlib import Path

import h5py
import tensorflow as tf
from tensorflow import keras

from attennorm_tf.metrics.feature_extractor import FeatureExtractor, Features, hash_file

_SIDE = 299


def load(argument: str) -> FeatureExtractor:
    """From "<weights.h5>"."""
    if not argument:
        raise ValueError(
            "keras_inception_v3 needs a file of weights after a colon, as in 'keras_inception_v3:<weights.h5>' "
            "(Keras publishes it as inception_v3_weights_tf_dim_ordering_tf_kernels.h5)."
        )
    return KerasInceptionV3Extractor(argument)


class KerasInceptionV3Extractor(FeatureExtractor):
    """`keras.applications.InceptionV3`: d = 2048, the global average pool, and K = 1000 logits.

    Its weights are not those of TF-GAN's Inception: scores by the two do not compare.

    Args:
        weights: HDF5 file of all weights, or of those without the top: then there are no logits.

    Raises:
        ValueError: no such file, or not the weights of this network.
    """

    def __init__(self, weights: str) -> None:
        path = Path(weights)
        if not path.is_file():
            raise ValueError(f"weights {weights!r} is not a file; expected an HDF5 file of InceptionV3's weights.")
        with_logits = _has_top(path)
        network = keras.applications.InceptionV3(
            weights=None, include_top=with_logits, classifier_activation=None, input_shape=(_SIDE, _SIDE, 3),
            pooling="avg",
        )  # fmt: skip
        try:
            network.load_weights(str(path))
        except Exception as error:  # files of other networks fail in many ways
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(f"weights {weights!r} are not those of Keras' InceptionV3: {reason}") from error
        outputs = [network.get_layer("avg_pool").output, network.output] if with_logits else [network.output]
        self._network = keras.Model(network.inputs, outputs)
        self._with_logits = with_logits
        super().__init__(
            "keras_inception_v3",
            content_hash=hash_file(path),
            resolution=_SIDE,
            channels=3,
            feature_size=outputs[0].shape[-1],
            num_classes=outputs[1].shape[-1] if with_logits else None,
        )

    def _forward(self, images: tf.Tensor) -> Features:
        outputs = self._network(images, training=False)
        return Features(*outputs) if self._with_logits else Features(outputs, None)


def _has_top(path: Path) -> bool:
    """Whether a file of weights holds those of the last layer, in Keras 2's layout or in Keras 3's."""
    groups: list[str] = []
    try:
        with h5py.File(path) as file:
            file.visit(groups.append)
    except OSError as error:
        raise ValueError(f"weights {str(path)!r} is not an HDF5 file: {error}") from error
    return any("predictions" in name or "dense" in name for name in groups)
