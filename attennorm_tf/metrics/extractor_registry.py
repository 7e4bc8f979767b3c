"""Feature extractors by name."""

from __future__ import annotations

import tensorflow as tf

from attennorm_tf.metrics.extractors import digits, image_classifier, keras_inception_v3, saved_model, tfgan_inception
from attennorm_tf.metrics.feature_extractor import FeatureExtractor

# A new extractor: one module with a `load(argument)` in extractors/, one line here, one case in tests/metrics.
_LOADERS = {
    "tfgan_inception": tfgan_inception.load,
    "keras_inception_v3": keras_inception_v3.load,
    "saved_model": saved_model.load,
    "digits": digits.load,
    "classifier": image_classifier.load,
}


def extractor_names() -> tuple[str, ...]:
    """Names that a specification for `load_extractor` may begin with."""
    return tuple(_LOADERS)


def load_extractor(spec: str, strategy: tf.distribute.Strategy | None = None) -> FeatureExtractor:
    """Opens a feature extractor.

    Args:
        spec: `"<name>"` or `"<name>:<argument>"`:

            - `"tfgan_inception"`: TF-GAN's Inception, the network of published FID and Inception Scores on TensorFlow;
              `"tfgan_inception:<handle or folder>"`: its TF Hub handle, or the folder of its SavedModel.
            - `"keras_inception_v3:<weights.h5>"`: Keras' InceptionV3 with a file of its ImageNet weights.
            - `"saved_model:<folder>[:<features>[,<logits>]][@<side>]"`: any SavedModel of images in [-1, 1], the names
              of its outputs, and the side of its images where the SavedModel does not tell.
            - `"digits[:<resolution>]"`: a classifier trained on the embedded digits, in seconds.
            - `"classifier:<folder>"`: an `ImageClassifier`, as `train_image_classifier` made it.
        strategy: whose every replica is to hold the weights; None: the default device.

    Returns:
        The extractor.

    Raises:
        ValueError: unknown name, or an argument that cannot serve (each message says which and why).
        ImportError: a TF Hub handle that is not cached, without the package tensorflow-hub.
    """
    name, _, argument = spec.partition(":")
    if name not in _LOADERS:
        raise ValueError(f"unknown feature extractor {spec!r}; known are {', '.join(map(repr, _LOADERS))}.")
    if strategy is None or name == "digits":  # it is trained, which a strategy's scope would distribute
        return _LOADERS[name](argument)
    with strategy.scope():
        return _LOADERS[name](argument)
