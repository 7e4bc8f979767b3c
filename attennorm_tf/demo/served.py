"""Models on a TensorFlow Serving server as models of the page."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from attennorm_tf.demo.address import Address, parse_address
from attennorm_tf.demo.exported import class_names, in_batches, latent_size, task_of
from attennorm_tf.demo.networks import DemoGenerator, DemoInpainter, DemoModel
from attennorm_tf.export.client import InpaintingClient, ServingClient
from attennorm_tf.export.serving_errors import ServingError
from attennorm_tf.inference.tile import to_bytes, to_floats

USUAL_NAMES = ("inpainting", "generation")


def open_served(text: str) -> list[DemoModel]:
    """The models at a server's address.

    Args:
        text: see `parse_address`; without a model's name those of `USUAL_NAMES` that the server has.

    Returns:
        One or more.

    Raises:
        ValueError: no address, or a model of another kind.
        ServingError: the server cannot be reached, or has no such model.
    """
    address = parse_address(text)
    if address.model is not None:
        return [_served(address, address.model)]
    found = []
    for name in USUAL_NAMES:
        try:
            found.append(_served(address, name))
        except ServingError as error:
            if error.code != "NOT_FOUND":
                raise
    if not found:
        names = " nor ".join(USUAL_NAMES)
        raise ValueError(f"model {text!r}: the server has no model called {names}; add /v1/models/NAME.")
    return found


def _served(address: Address, model: str) -> DemoModel:
    with ServingClient(model=model, **address.options()) as asked:
        shapes = asked.signatures()
        title = str(asked.target)
    task = task_of(shapes)
    if task is None:
        raise ValueError(f"{title}: its signatures are {', '.join(shapes) or '(none)'}, not those of attennorm-export.")
    # Open as long as the program runs.
    client = InpaintingClient(model=model, **address.options())
    if task == "generation":
        has_layout = "layout" in shapes["blend"]["outputs"]
        wanted = ["images", "layout"] if has_layout else ["images"]

        def draw(latents: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
            found = client.predict("blend", {"latents": latents, "class_weights": weights}, wanted)
            return found["images"], found.get("layout")

        return DemoGenerator(title, class_names(shapes), latent_size(shapes), in_batches(draw))

    def complete(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
        # As files: floats would be ten times larger.
        files = [_png(rgb) for rgb in to_bytes(images)]
        holes = [_png(np.where(mask[..., 0] > 0, np.uint8(255), np.uint8(0))) for mask in masks]
        return np.stack([to_floats(_pixels(file, images.shape[1:], title)) for file in client.complete(files, holes)])

    def layouts(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
        found: np.ndarray = client.predict("tensors", {"images": images, "masks": masks}, ["layout"])["layout"]
        return found

    return DemoInpainter(title, complete, layouts if "layout" in shapes["tensors"]["outputs"] else None)


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _pixels(file: bytes, shape: tuple[int, ...], where: str) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(file), formats=["PNG"]) as picture:
            pixels = np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise ServingError(where, "INTERNAL", f"the answer is no whole PNG file: {error}", transient=False) from error
    if pixels.shape != shape:
        raise ServingError(where, "INTERNAL", f"the answer has the shape {pixels.shape}, expected {shape}", False)
    return pixels
