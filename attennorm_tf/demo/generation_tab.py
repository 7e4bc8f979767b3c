"""The tab that draws images of classes."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np

from attennorm_tf.demo.entity_maps import entity_maps
from attennorm_tf.demo.in_words import in_words, model_line, notice
from attennorm_tf.demo.networks import DemoGenerator
from attennorm_tf.inference.sample import Samples
from attennorm_tf.visualization import interpolation_strip, to_uint8
from attennorm_tf.visualization.image_grid import enlarge, scale_to
from attennorm_tf.visualization.interpolation import followed_entity

_MOST_IMAGES = 64
_MOST_MAPS = 5
_MOST_BOXES = 20  # beyond, classes are chosen from a list
_NO_TRUNCATION = 3.0
_SMALLEST_SIDE = 160
_STRIP = 7


class GenerationTab:
    """Components and what they do; made inside a `gr.Blocks`.

    Args:
        generator: draws.
        prefix: of the elements' ids.
    """

    def __init__(self, generator: DemoGenerator, prefix: str):
        self._generator = generator
        self._prefix = prefix
        self._build()

    def _build(self) -> None:
        names = list(self._generator.class_names)
        picture: dict[str, Any] = {
            "interactive": False, "format": "png", "show_label": False, "buttons": ["fullscreen", "download"],
        }  # fmt: skip
        choices = [(name, index) for index, name in enumerate(names)]

        def named(name: str) -> str:
            return f"{self._prefix}-{name}"

        gr.HTML(model_line(self._generator.title))
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=320):
                kind: Any = gr.CheckboxGroup if len(names) <= _MOST_BOXES else gr.Dropdown
                more = {} if kind is gr.CheckboxGroup else {"multiselect": True}
                start = [index for _, index in choices[:10]]
                classes = kind(choices, value=start, label="Classes", elem_id=named("classes"), **more)
                count = gr.Slider(
                    1, _MOST_IMAGES, min(16, max(8, len(start))), step=1, label="Images", elem_id=named("count")
                )
                seed = gr.Number(0, label="Seed", info="the same seed gives the same noise", precision=0, minimum=0,
                                 elem_id=named("seed"))  # fmt: skip
                truncation = gr.Slider(
                    0.1, _NO_TRUNCATION, _NO_TRUNCATION, step=0.1, label="Truncation", elem_id=named("truncation"),
                    info=f"smaller: less variety, cleaner images; {_NO_TRUNCATION:g}: none",
                )  # fmt: skip
                go = gr.Button("Draw", variant="primary", elem_id=named("go"))
                said = gr.HTML("", elem_id=named("said"))
            with gr.Column(scale=2, min_width=480):
                gallery = gr.Gallery(
                    label="Images", columns=5, object_fit="contain", format="png", elem_id=named("images"),
                    interactive=False, buttons=["download", "fullscreen"], height="auto", show_label=False,
                    elem_classes="gallery-compact",
                )  # fmt: skip
                with gr.Column(visible=False, elem_classes="tight") as mapped:
                    gr.Markdown("**Entity maps** of the first images")
                    maps = gr.Image(elem_id=named("maps"), **picture)
        options = {"concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private"}
        go.click(self._draw, [classes, count, seed, truncation], [gallery, mapped, maps, said], **options)
        if len(names) < 2:
            return
        gr.Markdown("### Blend two classes\nThe noise stays; the slider moves from the first class to the second.")
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=320):
                with gr.Row():
                    first = gr.Dropdown(choices, value=0, label="From", elem_id=named("first"), min_width=100)
                    second = gr.Dropdown(choices, value=1, label="To", elem_id=named("second"), min_width=100)
                share = gr.Slider(0, 100, 50, step=5, label="Share of the second class (%)", elem_id=named("share"))
                blended = gr.Image(height=240, elem_id=named("blend"), **picture)
                blend_said = gr.HTML("", elem_id=named("blend-said"))
            with gr.Column(scale=2, min_width=480, visible=False, elem_classes="tight") as blend_mapped:
                gr.Markdown("**From the first to the second**, and the map of the entity that varies most")
                strip = gr.Image(elem_id=named("strip"), **picture)
                gr.Markdown("**Entity maps** of the blend")
                blend_maps = gr.Image(elem_id=named("blend-maps"), **picture)
        inputs = [first, second, share, seed, truncation]
        gr.on(
            [share.change, first.change, second.change, seed.change, truncation.release, go.click], self._blend, inputs,
            [blended, blend_mapped, strip, blend_maps, blend_said], trigger_mode="always_last", show_progress="hidden",
            **options,
        )  # fmt: skip

    def _draw(self, classes: list[int], count: int, seed: int | None, truncation: float) -> list[Any]:
        try:
            if not classes:
                raise ValueError("No class is chosen. Choose one or more.")
            samples = self._generator.sample(classes, int(count), _checked(seed), _limit(truncation))
        except Exception as error:
            return [None, gr.Column(visible=False), None, notice(in_words(error), "error")]
        names = self._generator.class_names
        labels = [names[index] for index in np.resize(np.asarray(classes, int), int(count))]
        pictures = list(zip(_large(samples.images), labels))
        maps = _maps(samples)
        return [gr.Gallery(value=pictures), gr.Column(visible=maps is not None), maps, ""]

    def _blend(self, first: int, second: int, share: float, seed: int | None, truncation: float) -> list[Any]:
        try:
            names = self._generator.class_names
            shares = [step / (_STRIP - 1) for step in range(_STRIP)]
            noise = (_checked(seed), _limit(truncation))
            one = self._generator.blend(first, second, [share / 100], *noise)
            row = self._generator.blend(first, second, shares, *noise)
        except Exception as error:
            return [None, gr.Column(visible=False), None, None, notice(in_words(error), "error")]
        strip = None
        if row.layouts is not None:
            heads = [names[first], *(f"{part:.0%} {names[second]}" for part in shares[1:-1]), names[second]]
            strip = interpolation_strip(row.images, row.layouts, followed_entity(row.layouts), heads)
        return [_large(one.images)[0], gr.Column(visible=strip is not None), strip, _maps(one), ""]


def _maps(samples: Samples) -> np.ndarray | None:
    return None if samples.layouts is None else entity_maps(samples.images[:_MOST_MAPS], samples.layouts[:_MOST_MAPS])


def _large(images: np.ndarray) -> np.ndarray:
    """uint8, small ones with every pixel a square: a browser would blur them."""
    pixels = to_uint8(images)
    return enlarge(pixels, scale_to(pixels.shape[1], _SMALLEST_SIDE))


def _checked(seed: int | None) -> int:
    if seed is None or not 0 <= seed < 2**63:
        raise ValueError(f"The seed must be a whole number from 0 on, got {seed}.")
    return int(seed)


def _limit(truncation: float) -> float | None:
    return None if truncation >= _NO_TRUNCATION else truncation
