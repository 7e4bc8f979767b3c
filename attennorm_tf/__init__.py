"""Attentive Normalization for Conditional Image Generation (CVPR 2020) in TensorFlow 2 and Keras."""

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attennorm_tf.layers.attentive_normalization import AttentiveNormalization

__version__ = "0.1.0"
__all__ = ["AttentiveNormalization", "__version__", "inpaint"]


def __getattr__(name: str) -> Any:
    # Found when it is asked for: who wants the layer should not wait for the networks, nor need their packages.
    if name == "AttentiveNormalization":
        from attennorm_tf.layers.attentive_normalization import AttentiveNormalization

        return AttentiveNormalization
    if name == "inpaint":
        from attennorm_tf.inference.inpaint import inpaint

        return inpaint
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list:
    return sorted(__all__)


def _starts_a_command() -> bool:
    script = os.path.basename((getattr(sys, "argv", None) or [""])[0])
    named = [argument.startswith("attennorm_tf.cli.") for argument in getattr(sys, "orig_argv", [])[1:]]
    return script.startswith("attennorm-") or any(named)


if not _starts_a_command():
    # Keras finds the layer in a saved model as soon as this package is imported. A command finds it by itself, after
    # it has seen to it that TensorFlow is imported quietly (attennorm_tf.cli).
    __getattr__("AttentiveNormalization")
