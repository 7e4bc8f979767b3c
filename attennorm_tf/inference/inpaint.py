"""Pictures of any size and kind with their holes filled."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from PIL import Image

from attennorm_tf.config import InpaintingConfig
from attennorm_tf.data.image_decoding import DEFAULT_MAX_PIXELS
from attennorm_tf.data.photo_files import read_mask, read_photo
from attennorm_tf.inference.holes import grown, hole_of, rim_weights
from attennorm_tf.inference.inpainter import LoadedInpainter, load_inpainter
from attennorm_tf.inference.pixel_modes import picture_of
from attennorm_tf.inference.regions import Region, plan_regions
from attennorm_tf.inference.tile import check_tile, complete_in_tiles

SCALES = ("auto", "native")
DEFAULT_TILE = 512
_GREATEST_RADIUS = 1000  # of grow and feather; their time grows with it


def inpaint(
    image: Any,
    mask: Any,
    model: Any,
    *,
    grow: float = 0,
    invert: bool = False,
    feather: float = 0,
    scale: str = "auto",
    tile: int = DEFAULT_TILE,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Any:
    """Fills the hole of a picture.

    Pixels outside the (grown) mask come back bit for bit, and so does all transparency, whatever the kind of picture:
    see `attennorm_tf.inference.pixel_modes.Picture` for what the hole holds in pictures other than 8-bit colour.

    The network sees crops around the holes (see `plan_regions`), a quarter of its training resolution wider than the
    hole on every side and at least as large as its training images; far-apart holes are filled one by one, and do not
    depend on each other.

    Args:
        image: a path, a PIL image, or an array of uint8 (H, W), (H, W, 1), (H, W, 3), (H, W, 4) or uint16 (H, W). A
            file is turned upright by its EXIF orientation first; a PIL image or an array is taken as it lies.
        mask: a path, a PIL image or an array of the image's size (upright): white, from 128 on, is the hole; in arrays
            also bool, and floats in [0, 1] from 0.5 on.
        model: from `load_inpainter`, a Keras model called like one, or a path (then it is loaded at every call).
        grow: radius in pixels by which the hole is made larger.
        invert: whether black is the hole.
        feather: width in pixels of the rim of the (grown) hole in which the completion is blended with what was there;
            best with `grow` at least as large, so that what was painted over does not shine through.
        scale: "auto": holes thicker than those the network was trained on are filled at a reduced scale, since it
            cannot see across them; "native": never.
        tile: largest crop, tile x tile pixels, that the network sees at once; larger ones are filled in overlapping
            tiles. Memory grows with its square (with its fourth power for the contextual network), see below.
        max_pixels: largest width * height of files that are read.

    Peak memory of the whole process, `/usr/bin/time -v attennorm-inpaint --model=... --image=... --mask=... --tile=...`
    on a 12-megapixel colour photograph with a long scratch and a hole of 1.4 megapixels, networks of full width, on a
    CPU:

        tile        512        1024
        attentive   1.1 GiB    1.7 GiB
        contextual  1.5 GiB    6.9 GiB

    and 18 MiB more for each further megapixel of the photograph.

    Returns:
        A picture of the image's kind and size; for a path a PIL image, its metadata in `info`.

    Raises:
        ValueError: the arguments do not fit: sizes differ, no pixel is missing, none is known, a file cannot be read.
        CheckpointError: the model's path holds no inpainting network.
    """
    check_options(grow, feather, scale, tile)
    image_name, mask_name = _name(image, "image"), _name(mask, "mask")
    image = read_photo(image, max_pixels) if _is_path(image) else image
    mask = read_mask(mask, max_pixels) if _is_path(mask) else mask
    picture = picture_of(image, image_name)
    hole = hole_of(mask, mask_name)
    check_sizes(picture.rgb, hole, image_name, mask_name)
    hole = prepared_hole(hole, grow, invert, mask_name)
    filled = fill_holes(picture.rgb, hole, as_inpainter(model), feather, scale, tile)
    return picture.replaced(filled, hole)


def check_options(grow: float, feather: float, scale: str, tile: int) -> None:
    """Raises ValueError for the first argument of `inpaint` that is out of range."""
    for name, value in (("grow", grow), ("feather", feather)):
        if isinstance(value, bool) or not 0 <= value <= _GREATEST_RADIUS:
            raise ValueError(f"{name} must be a number of pixels in [0, {_GREATEST_RADIUS}], got {value!r}.")
    if scale not in SCALES:
        raise ValueError(f"scale must be one of {', '.join(map(repr, SCALES))}; got {scale!r}.")
    check_tile(tile)


def as_inpainter(model: Any) -> LoadedInpainter:
    """The inpainter that `model` is or names."""
    if isinstance(model, LoadedInpainter):
        return model
    if _is_path(model):
        return load_inpainter(model)
    if not callable(model):
        raise ValueError(f"model must be a path, a LoadedInpainter or a Keras model, got {type(model).__name__}.")
    return LoadedInpainter(model)


def prepared_hole(hole: np.ndarray, grow: float, invert: bool, name: str) -> np.ndarray:
    """The mask inverted and grown.

    Raises:
        ValueError: nothing is missing, or nothing known.
    """
    hole = ~hole if invert else hole
    inverted = " (inverted)" if invert else ""
    if not hole.any():
        colour = "black (below 128)" if invert else "white (128 or more)"
        raise ValueError(f"{name}{inverted}: no pixel is missing; the hole is where it is {colour}.")
    hole = grown(hole, grow)
    if hole.all():
        after = f" after growing by {grow:g}" if grow else ""
        raise ValueError(f"{name}{inverted}: every pixel is missing{after}; some must be known.")
    return hole


def fill_holes(
    rgb: np.ndarray,
    hole: np.ndarray,
    inpainter: LoadedInpainter,
    feather: float = 0,
    scale: str = "auto",
    tile: int = DEFAULT_TILE,
) -> np.ndarray:
    """The completion of 8-bit colours; see `inpaint`.

    Args:
        rgb: uint8 (H, W, 3).
        hole: bool (H, W), with missing and known pixels.
        inpainter: the network.
        feather: as for `inpaint`.
        scale: as for `inpaint`.
        tile: as for `inpaint`.

    Returns:
        uint8 (H, W, 3), known pixels those of `rgb`.
    """
    result = rgb.copy()
    resolution, hole_size = _training_sizes(inpainter.config)
    for region in plan_regions(hole, resolution, hole_size, scaled=scale == "auto"):
        here = region.crop.slices
        filled = _filled(rgb[here], hole[here], region, inpainter, tile)
        if feather > 0:
            weights = rim_weights(hole[here], feather)[..., np.newaxis]
            filled = np.rint(rgb[here] + weights * (filled.astype(np.float32) - rgb[here])).astype(np.uint8)
        np.copyto(result[here], filled, where=region.own[..., np.newaxis])
    return result


def _filled(rgb: np.ndarray, hole: np.ndarray, region: Region, inpainter: LoadedInpainter, tile: int) -> np.ndarray:
    if region.scale == 1:
        return complete_in_tiles(rgb, hole, inpainter.complete, tile)
    height, width = hole.shape
    size = (max(1, round(width / region.scale)), max(1, round(height / region.scale)))
    # With "known" as alpha, Pillow's resizing averages known pixels only.
    alpha = np.where(hole, 0, 255).astype(np.uint8)
    small = np.asarray(Image.fromarray(np.dstack([rgb, alpha])).resize(size, Image.Resampling.BILINEAR))
    known = small[..., 3] >= max(1, min(128, int(small[..., 3].max())))
    completed = complete_in_tiles(small[..., :3], ~known, inpainter.complete, tile)
    return np.asarray(Image.fromarray(completed).resize((width, height), Image.Resampling.BICUBIC))


def _training_sizes(config: InpaintingConfig | None) -> tuple[int, int]:
    """Side of the images, and thickness of the holes, that a network was trained on; the paper's where not known."""
    if config is None:
        return 256, 128
    if config.masks.kind in ("rectangle", "center"):
        return config.model.resolution, min(config.masks.height, config.masks.width)
    return config.model.resolution, config.model.resolution // 2


def check_sizes(rgb: np.ndarray, hole: np.ndarray, image_name: str, mask_name: str) -> None:
    """Raises ValueError unless picture and mask are of one size."""
    if rgb.shape[:2] != hole.shape:
        raise ValueError(
            f"{mask_name} is {hole.shape[1]} x {hole.shape[0]} pixels, {image_name} is {rgb.shape[1]} x "
            f"{rgb.shape[0]}; they must be of one size."
        )


def _is_path(value: Any) -> bool:
    return isinstance(value, (str, os.PathLike))


def _name(value: Any, argument: str) -> str:
    return f"{argument} {os.fspath(value)!r}" if _is_path(value) else argument
