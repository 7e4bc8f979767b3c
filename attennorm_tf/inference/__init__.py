"""Inference: images, pictures and scores from trained generators."""

from attennorm_tf.inference.results import DigitsJudge, Scores, draw_interpolation, draw_pictures
from attennorm_tf.inference.sample import (
    LoadedGenerator,
    Samples,
    draw_latents,
    interpolate_classes,
    load_generator,
    sample,
)

__all__ = [
    "DigitsJudge",
    "LoadedGenerator",
    "Samples",
    "Scores",
    "draw_interpolation",
    "draw_latents",
    "draw_pictures",
    "interpolate_classes",
    "load_generator",
    "sample",
]


def __dir__() -> list:
    return sorted(__all__)
