"""Attentive Normalization for Conditional Image Generation (CVPR 2020) in TensorFlow 2 and Keras."""

from typing import Any

from attennorm_tf.layers.attentive_normalization import AttentiveNormalization

__version__ = "0.1.0"
__all__ = ["AttentiveNormalization", "__version__", "inpaint"]


def __getattr__(name: str) -> Any:
    # Found when it is asked for: who wants the layer should not wait for the networks, nor need their packages.
    if name == "inpaint":
        from attennorm_tf.inference.inpaint import inpaint

        return inpaint
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list:
    return sorted(__all__)
