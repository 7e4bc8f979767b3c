"""Painting on a photo in the browser."""

from __future__ import annotations

import base64
import io
import itertools
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from attennorm_tf.demo.photo import OPACITY, PAINT, Photo

_HERE = Path(__file__).parent
_SERIALS = itertools.count(1)
_PREFIX = "data:image/png;base64,"


def make_painter(**options: Any) -> gr.HTML:
    """A photo to paint on: brush, eraser, size, undo, redo, invert, clear.

    Gradio's own ImageEditor draws by WebGL and sends three pictures after every movement: without a graphics card one
    stroke of 20 movements on a photo of 640 x 427 kept a processor busy for 12 seconds. (A class of our own would have
    Gradio write a .pyi file beside it.)

    The component's value goes to the browser only (`canvas`). What was painted comes by `painted_in` in a listener's
    `js`.

    Args:
        **options: of `gr.HTML`.
    """
    return gr.HTML(
        None,
        html_template=(_HERE / "painter.html").read_text(encoding="utf-8"),
        js_on_load=(_HERE / "painter.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        color="rgba({}, {}, {}, {})".format(*PAINT, OPACITY),
        **options,
    )


def painted_in(elem_id: str, index: int) -> str:
    """JavaScript for a listener: puts what is painted in the painter `elem_id` in the place of input `index`."""
    # Before there is a photo, there is no painter.
    state = f"document.querySelector('#{elem_id} .painter')?.parentElement.painter?.state() ?? null"
    return f"(...inputs) => {{ inputs[{index}] = {state}; return inputs; }}"


def canvas(photo: Photo, hole: np.ndarray | None = None) -> dict[str, Any]:
    """The painter's value: a photo's view, or the same view with other paint.

    Args:
        photo: to paint on.
        hole: bool, of the view's size, or None for no paint.
    """
    paint = ""
    if hole is not None:
        alpha = Image.fromarray(np.where(hole, np.uint8(255), np.uint8(0)))
        paint = _url(Image.merge("LA", (alpha, alpha)), "PNG")
    return {"view": _url(photo.view, "JPEG", quality=92), "paint": paint, "serial": next(_SERIALS)}


def read_paint(state: Any, photo: Photo) -> tuple[np.ndarray, bool]:
    """What the browser sent: where there is paint, bool of the view's size; whether it marks what is kept.

    Raises:
        ValueError: it is nothing that the painter sends.
    """
    mask = state.get("mask") if isinstance(state, dict) else None
    size = photo.view.size
    if not mask:
        return np.zeros((size[1], size[0]), bool), False
    try:
        if not isinstance(mask, str) or not mask.startswith(_PREFIX):
            raise ValueError("no PNG")
        with Image.open(io.BytesIO(base64.b64decode(mask[len(_PREFIX) :], validate=True)), formats=["PNG"]) as picture:
            if picture.size != size:
                raise ValueError(f"{picture.size[0]} x {picture.size[1]} pixels, expected {size[0]} x {size[1]}")
            alpha = np.asarray(picture.convert("RGBA").getchannel("A"))
    except (ValueError, OSError, SyntaxError) as error:
        raise ValueError(f"The paint that the browser sent cannot be read: {error}. Load the page again.") from error
    return alpha >= 128, bool(state.get("inverted"))


def _url(picture: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
