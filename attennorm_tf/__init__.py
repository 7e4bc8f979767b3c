"""Attentive Normalization for Conditional Image Generation (CVPR 2020) in TensorFlow 2 and Keras."""

from attennorm_tf.layers.attentive_normalization import AttentiveNormalization

__version__ = "0.1.0"
__all__ = ["AttentiveNormalization", "__version__"]


def __dir__() -> list:
    return sorted(__all__)
