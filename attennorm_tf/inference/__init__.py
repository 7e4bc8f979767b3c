"""Inference: images, pictures and scores from trained generators, and holes filled by trained inpainters."""

from attennorm_tf.inference.evaluate_gan import EvaluationOptions, GanEvaluation, evaluate_gan
from attennorm_tf.inference.generated_images import GeneratedImages
from attennorm_tf.inference.inpaint import inpaint
from attennorm_tf.inference.inpainter import LoadedInpainter, load_inpainter
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
    "EvaluationOptions",
    "GanEvaluation",
    "GeneratedImages",
    "LoadedGenerator",
    "LoadedInpainter",
    "Samples",
    "Scores",
    "draw_interpolation",
    "draw_latents",
    "draw_pictures",
    "evaluate_gan",
    "inpaint",
    "interpolate_classes",
    "load_generator",
    "load_inpainter",
    "sample",
]


def __dir__() -> list:
    return sorted(__all__)
