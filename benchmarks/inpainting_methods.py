"""Time of filling one hole, by method: `python -m benchmarks.inpainting_methods`.

One image of 512 x 512 and one of 1024 x 1024 with a square hole of a quarter of its height: the attentive network,
contextual attention, and OpenCV's Telea (fast marching) as the floor. The networks at full width, inference in a
tf.function, float32; Telea as this project's tables have it. All take turns. How time and memory grow with the image is
in `benchmarks.inpainting`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.harness import Case, Prepared, Subject, ratio
from benchmarks.harness_report import Benchmark, Results, Target, run, target_of_ratio

SIZES = (512, 1024)
FAST = {512: 1.0, 1024: 2.0}  # the attentive network at least so many times as fast as contextual attention
NAMES = {"attentive": "attentive network", "contextual": "contextual attention", "telea": "OpenCV Telea"}
HOLE = 0.25


def picture(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise over waves, uint8 (size, size, 3), and a hole (size, size), bool."""
    random = np.random.default_rng(0)
    waves = np.sin(np.linspace(0, 40, size))[:, None, None] * np.cos(np.linspace(0, 25, size))[None, :, None]
    image = np.clip(127 + 80 * waves + 30 * random.standard_normal((size, size, 3)), 0, 255).astype(np.uint8)
    hole = np.zeros((size, size), bool)
    place = slice(3 * size // 8, 3 * size // 8 + int(HOLE * size))
    hole[place, place] = True
    return image, hole


def network(kind: str, size: int, width: float) -> Prepared:
    """An inpainting network with random weights, the gate of attentive normalization open."""
    import tensorflow as tf

    from attennorm_tf.config import InpaintingModelConfig
    from attennorm_tf.models import build_inpainter

    generator = build_inpainter(InpaintingModelConfig(network=kind, width=width), seed=0)
    if generator.attentive_normalization is not None:
        generator.attentive_normalization.rho.assign(1.0)
    image, hole = picture(size)
    images = tf.constant(image[None] / np.float32(127.5) - 1, tf.float32)
    masks = tf.constant(hole[None, ..., None], tf.float32)
    rows, columns = slice(size // 2 - 32, size // 2 + 32), slice(size // 4, size // 4 + 64)
    small = images[:, rows, columns], masks[:, rows, columns]

    def error(outputs: Any) -> float:
        """What the hole's own pixels change, which they must not; and that it is an image at all."""
        fine = np.asarray(outputs[0])
        if not (np.isfinite(fine).all() and np.abs(fine).max() <= 1 and fine.std() > 1e-3):
            return float("inf")
        other = generator.infer(tf.where(masks > 0, 0.5, images), masks)[1].numpy()
        return float(np.abs(fine - other).max())

    def call() -> list[np.ndarray]:
        return [generator.infer(images, masks)[1].numpy()]

    return Prepared(
        call, [(1, size, size, 3)], error, 1e-4, warm_up=lambda: [one.numpy() for one in generator.infer(*small)]
    )


def telea(size: int) -> Prepared:
    """Telea's method by OpenCV."""
    from attennorm_tf.inference.hole_filling import fill_telea

    image, hole = picture(size)

    def error(outputs: Any) -> float:
        filled = outputs[0].astype(np.float32)
        if not np.any(filled[hole] != image[hole]):
            return float("inf")
        return float(np.abs(filled - image)[~hole].max() / 255)

    rows, columns = slice(size // 2 - 32, size // 2 + 32), slice(size // 4, size // 4 + 64)
    small = image[rows, columns].copy(), hole[rows, columns].copy()
    return Prepared(
        lambda: [fill_telea(image, hole)], [(size, size, 3)], error, 0.0, warm_up=lambda: [fill_telea(*small)]
    )


def cases(quick: bool) -> list[Case]:
    """A case for each size."""
    width, sizes = (0.125, (64, 96)) if quick else (1.0, SIZES)
    found = []
    for size in sizes:
        subjects = [
            Subject(NAMES[kind], network, {"kind": kind, "size": size, "width": width})
            for kind in ("attentive", "contextual")
        ]
        subjects.append(Subject(NAMES["telea"], telea, {"size": size}))
        found.append(
            Case(f"{size} x {size}", subjects, NAMES["attentive"], rounds=3 if quick else 15, seconds=100.0,
                 input_bytes=size * size * 4 * 4)
        )  # fmt: skip
    return found


def targets(results: Results) -> list[Target]:
    """The attentive network against contextual attention; Telea is there for comparison only."""
    found = []
    for name, result in results.items():
        size = int(name.split()[0])
        if size in FAST:
            faster = ratio(result, NAMES["contextual"], NAMES["attentive"])
            found.append(target_of_ratio(f"contextual attention / attentive network, {name}", ">=", FAST[size], faster))
    return found


if __name__ == "__main__":
    run(
        Benchmark(
            "inpainting_methods",
            "One image with a hole of a quarter of its height, filled by two networks at full width (inference, "
            "float32) and by OpenCV's Telea.",
            cases, targets, "python -m benchmarks.inpainting_methods",
        )
    )  # fmt: skip
