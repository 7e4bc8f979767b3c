"""Keras layers: the attentive normalization, the parts it is made of, and the layers it is compared with."""

from attennorm_tf.layers.attentive_normalization import AttentiveNormalization
from attennorm_tf.layers.conditional_batch_normalization import ConditionalBatchNormalization
from attennorm_tf.layers.contextual_attention import ContextualAttention
from attennorm_tf.layers.regional_normalization import (
    regional_normalization,
    regional_normalization_reference,
)
from attennorm_tf.layers.self_attention import SelfAttention
from attennorm_tf.layers.spectral_normalization import SpectralNormalization

__all__ = [
    "AttentiveNormalization",
    "ConditionalBatchNormalization",
    "ContextualAttention",
    "SelfAttention",
    "SpectralNormalization",
    "regional_normalization",
    "regional_normalization_reference",
]


def __dir__() -> list:
    return sorted(__all__)
