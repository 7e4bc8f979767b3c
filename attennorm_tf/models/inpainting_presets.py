"""Inpainting networks as the configuration describes them."""

from __future__ import annotations

from typing import Any

from attennorm_tf.models.contextual_inpainting import ContextualAttentionInpainter
from attennorm_tf.models.inpainting import InpaintingGenerator
from attennorm_tf.models.inpainting_discriminators import (
    GlobalDiscriminator,
    LocalDiscriminator,
    MaskedPatchDiscriminator,
)

NETWORKS = ("attentive", "contextual")
CROPPED_MASKS = ("rectangle", "center")  # kinds of holes around which a crop of known size exists


def build_inpainter(model: Any, seed: int | None = None) -> InpaintingGenerator | ContextualAttentionInpainter:
    """The built generator for a `attennorm_tf.config.InpaintingModelConfig`.

    Args:
        model: the model's fields.
        seed: of the self-sampling draws of the attentive network; None draws one. Initial weights come from Keras'
            global seed, as everywhere.

    Returns:
        The generator, its weights made.

    Raises:
        ValueError: an unknown network, or a value that the network refuses.
    """
    if model.network not in NETWORKS:
        raise ValueError(f"network must be one of {', '.join(map(repr, NETWORKS))}; got {model.network!r}.")
    generator: InpaintingGenerator | ContextualAttentionInpainter
    if model.network == "contextual":
        generator = ContextualAttentionInpainter(width=model.width, name="generator")
    else:
        options = {
            "num_entities": model.num_entities,
            "temperature": model.temperature,
            "orthogonal_weight": model.orthogonal_weight,
            "self_sampling": model.self_sampling,
            "sampling_pool_size": model.sampling_pool_size,
            "value_projection": model.value_projection,
            "affine": model.affine or None,
            "statistics": model.statistics,
            "normalization": model.normalization,
            "seed": seed,
        }
        generator = InpaintingGenerator(
            preset=model.preset,
            width=model.width,
            stage2_input=model.stage2_input,
            attention_options=options,
            name="generator",
        )
    generator.build()
    return generator


def build_inpainting_discriminators(
    model: Any, mask_kind: str, crop: tuple[int, int]
) -> dict[str, GlobalDiscriminator | LocalDiscriminator | MaskedPatchDiscriminator]:
    """The built discriminators for a `attennorm_tf.config.InpaintingModelConfig`.

    Args:
        model: the model's fields.
        mask_kind: of the training masks; "rectangle" and "center" have a crop around the hole.
        crop: (height, width) of that crop, not used for the other kinds.

    Returns:
        {"global", "local"} for "rectangle" and "center", {"global", "patch"} for all others.
    """
    width = model.discriminator_width
    built: dict[str, Any] = {"global": GlobalDiscriminator(model.resolution, width, name="global_discriminator")}
    if mask_kind in CROPPED_MASKS:
        built["local"] = LocalDiscriminator(crop, width, name="local_discriminator")
    else:
        built["patch"] = MaskedPatchDiscriminator(width, name="patch_discriminator")
    for discriminator in built.values():
        discriminator.build()
    return built
