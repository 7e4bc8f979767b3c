"""The tab that fills holes in photographs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import gradio as gr

from attennorm_tf.data.photo_files import READABLE
from attennorm_tf.demo.entity_maps import entity_maps
from attennorm_tf.demo.in_words import in_words, model_line, notice
from attennorm_tf.demo.networks import DemoInpainter
from attennorm_tf.demo.painter import canvas, make_painter, painted_in, read_paint
from attennorm_tf.demo.photo import Photo, fill, hole_at_full_size, open_mask, open_photo, shown_in

_DROP = "Drop a photo in the field above, or click there: PNG, JPEG, WebP, BMP, TIFF or GIF."
_HINT = "Paint over what is to be replaced, or upload a mask: white is the hole."

_ABOUT_LAYOUT = (
    "<p>The part of the photo that the network saw, with its largest hole filled; each place in the colour of the "
    "entity that it belongs to most; and one map for each entity: the brighter, the more of a place belongs to it.</p>"
)


class InpaintingTab:
    """Components and what they do; made inside a `gr.Blocks`.

    Args:
        inpainter: fills the holes.
        folder: for results; they are removed with it.
        max_pixels: largest width * height of files that are read.
        prefix: of the elements' ids.
    """

    def __init__(self, inpainter: DemoInpainter, folder: Path, max_pixels: int, prefix: str):
        self._inpainter = inpainter
        self._folder = folder
        self._max_pixels = max_pixels
        self._prefix = prefix
        self._build()

    def _build(self) -> None:
        def named(name: str) -> str:
            return f"{self._prefix}-{name}"

        photo, base = gr.State(None, time_to_live=7200), gr.State(None, time_to_live=7200)
        gr.HTML(model_line(self._inpainter.title))
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=420):
                drop = gr.File(
                    label="Photo", file_types=list(READABLE), file_count="single", height=260, elem_id=named("photo")
                )
                with gr.Column(visible=False, elem_id=named("painting"), elem_classes="tight") as painting:
                    painter = make_painter(elem_id=named("painter"))
                    with gr.Row():
                        upload = gr.UploadButton("Upload a mask", file_types=list(READABLE), size="sm", min_width=80,
                                                 elem_id=named("mask"))  # fmt: skip
                        other = gr.Button("Take another photo", size="sm", min_width=80, elem_id=named("other"))
                with gr.Row():
                    grow = gr.Slider(0, 32, 0, step=1, label="Grow the hole", info="pixels", min_width=120)
                    feather = gr.Slider(0, 32, 0, step=1, label="Blend its rim", info="pixels", min_width=120)
                go = gr.Button("Fill the hole", variant="primary", elem_id=named("go"))
                said = gr.HTML(notice(_DROP), elem_id=named("said"))
            with gr.Column(scale=1, min_width=420):
                slider = gr.ImageSlider(
                    label="Before | after", type="filepath", format="png", interactive=False, height=520,
                    buttons=["fullscreen"], elem_id=named("result"),
                )  # fmt: skip
                download = gr.DownloadButton("Download at the photo's size", interactive=False,
                                             elem_id=named("download"))  # fmt: skip
        with gr.Accordion("Layout: which entity each place belongs to", open=True, visible=False) as shown:
            gr.HTML(_ABOUT_LAYOUT)
            maps = gr.Image(
                show_label=False, interactive=False, format="png", buttons=["fullscreen", "download"], container=False,
                elem_id=named("maps"), elem_classes="buttons-below",
            )  # fmt: skip
        options = {"api_visibility": "private", "show_progress": "minimal"}
        results = [slider, download, shown, maps]
        drop.upload(self._open, [drop], [photo, base, drop, painting, painter, said, *results], **options)
        other.click(_start, None, [photo, base, drop, painting, painter, said, *results], **options)
        upload.upload(self._mask, [upload, photo], [base, painter, said], **options)
        go.click(
            self._fill, [photo, base, painter, grow, feather], [*results, said], concurrency_id="model",
            concurrency_limit=1, api_visibility="private", js=painted_in(named("painter"), 2),
        )  # fmt: skip

    def _open(self, path: str) -> list[Any]:
        try:
            photo = open_photo(path, self._max_pixels)
        except Exception as error:
            kept = [gr.skip()] * 2
            return [*kept, gr.File(value=None), *kept, notice(in_words(error), "error"), *_no_results()]
        size = f"{photo.image.width} x {photo.image.height} pixels"
        if photo.view.size != photo.image.size:
            size += f", painted on at {photo.view.width} x {photo.view.height}"
        said = notice(f"{photo.name}: {size}. {_HINT}")
        return [photo, None, gr.File(visible=False), gr.Column(visible=True), canvas(photo), said, *_no_results()]

    def _mask(self, path: str, photo: Photo) -> list[Any]:
        try:
            hole = open_mask(path, photo, self._max_pixels)
        except Exception as error:
            return [gr.skip(), gr.skip(), notice(in_words(error), "error")]
        text = f"Mask {Path(path).name}: {int(hole.sum()):,} of {hole.size:,} pixels are missing."
        return [hole, canvas(photo, shown_in(photo, hole)), notice(text)]

    def _fill(self, photo: Photo | None, base: Any, state: Any, grow: float, feather: float) -> list[Any]:
        try:
            if photo is None:
                raise ValueError("There is no photo yet. Drop one on the page first.")
            folder = Path(tempfile.mkdtemp(dir=self._folder))
            seen, inverted = read_paint(state, photo)
            hole = hole_at_full_size(photo, seen, base)
            result = fill(photo, ~hole if inverted else hole, self._inpainter, grow, feather, folder)
            maps = None if result.layouts is None else entity_maps(*result.layouts)
        except Exception as error:
            return [*_no_results(), notice(in_words(error), "error")]
        download = gr.DownloadButton(f"Download {result.file.name}", value=str(result.file), interactive=True)
        said = notice(f"Done: {result.pixels:,} pixels filled, the others are the photo's own.", "done")
        return [(result.before, result.after), download, gr.Accordion(visible=maps is not None), maps, said]


def _start() -> list[Any]:
    """As at the beginning."""
    drop = gr.File(value=None, visible=True)
    return [None, None, drop, gr.Column(visible=False), None, notice(_DROP), *_no_results()]


def _no_results() -> list[Any]:
    """For slider, download, accordion and the picture in it."""
    download = gr.DownloadButton("Download at the photo's size", value=None, interactive=False)
    return [None, download, gr.Accordion(visible=False), None]
