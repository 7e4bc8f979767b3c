"""Named pairs of class-conditional networks: the paper's, its baselines and its ablations (Tables 1 and 4)."""

from __future__ import annotations

from typing import Any

from attennorm_tf.config import gan_preset_config
from attennorm_tf.models.class_conditional import ClassConditionalGenerator
from attennorm_tf.models.discriminators import ClassConditionalDiscriminator


def build_gan(
    model: Any, num_classes: int, channels: int = 3
) -> tuple[ClassConditionalGenerator, ClassConditionalDiscriminator]:
    """Built networks for a `attennorm_tf.config.ModelConfig`.

    Args:
        model: the model's fields.
        num_classes: K.
        channels: of the images, 1 or 3.

    Returns:
        (generator, discriminator), their weights made.
    """
    shared = {
        "resolution": model.resolution,
        "num_classes": num_classes,
        "width": model.width,
        "channels": channels,
        "attention": model.attention,
        "attention_options": {
            "num_entities": model.num_entities,
            "temperature": model.temperature,
            "orthogonal_weight": model.orthogonal_weight,
            "self_sampling": model.self_sampling,
            "sampling_pool_size": model.sampling_pool_size,
            "value_projection": model.value_projection,
            "affine": model.affine or None,
            "statistics": model.statistics,
            "normalization": model.normalization,
        }
        if model.attention == "attentive_normalization"
        else None,
    }
    generator = ClassConditionalGenerator(
        **shared,
        latent_dim=model.latent_dim,
        attention_resolution=model.attention_resolution or None,
        spectral_normalization=model.generator_spectral_normalization,
        synchronized=model.synchronized,
        name="generator",
    )
    discriminator = ClassConditionalDiscriminator(
        **shared,
        attention_block=model.attention_block,
        conditioning=model.conditioning,
        hidden_width=model.hidden_width,
        embedding_dim=model.embedding_dim,
        spectral_normalization=model.discriminator_spectral_normalization,
        name="discriminator",
    )
    generator.build()
    discriminator.build()
    return generator, discriminator


def gan_preset(
    name: str,
    resolution: int = 128,
    num_classes: int = 1000,
    width: float = 1.0,
    channels: int = 3,
    **overrides: Any,
) -> tuple[ClassConditionalGenerator, ClassConditionalDiscriminator]:
    """The networks of a named preset.

    Args:
        name: "attennorm", "sngan", "sngan_star", "sagan", "acgan", or an ablation of Table 4: "attennorm_bn",
            "attennorm_no_orthogonal", "attennorm_no_ssr", "attennorm_n8", "attennorm_n16", "attennorm_n32".
        resolution: 16, 32, 64 or 128.
        num_classes: K >= 1.
        width: multiplier of all channel counts; 1 is the paper's base width of 64.
        channels: of the images, 1 or 3.
        **overrides: fields of `attennorm_tf.config.ModelConfig` that differ from the preset's.

    Returns:
        (generator, discriminator): `images = generator([z, labels])`, `logits = discriminator([images, labels])`.

    Raises:
        ValueError: an unknown preset, field or value; the message lists what is offered.

    Example:
        >>> generator, discriminator = gan_preset("attennorm", resolution=16, num_classes=10, width=0.125)
        >>> generator.attention, discriminator.conditioning
        ('attentive_normalization', 'concat')
    """
    model = gan_preset_config(name, resolution=resolution, width=width, **overrides).model
    model.validate()
    return build_gan(model, num_classes, channels)
