"""A photograph on the page: a view of it to paint on, the hole at its own size, the result."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from attennorm_tf.data.photo_files import check_output, read_mask, read_photo, write_photo
from attennorm_tf.demo.networks import DemoInpainter
from attennorm_tf.inference.holes import grown, hole_of
from attennorm_tf.inference.inpaint import check_options, check_sizes, fill_holes
from attennorm_tf.inference.inpainter import LoadedInpainter
from attennorm_tf.inference.pixel_modes import Picture, picture_of

PAINT = (255, 0, 140)
OPACITY = 0.65  # of the paint: what lies under it can be seen
_LARGEST_VIEW = 1024  # pixels, of the longer side
_CHECKS = 8


class Photo(NamedTuple):
    """name: the file's, without its folder; image: upright, as read; picture: its colours; view: what is painted on."""

    name: str
    image: Image.Image
    picture: Picture
    view: Image.Image

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.image.height, self.image.width


class Result(NamedTuple):
    """What came of filling a hole.

    Attributes:
        before: the view.
        after: the same of the result.
        file: the result.
        layouts: images (1, h, w, 3) and layouts (1, h', w', n) of the part that the network saw with the largest hole;
            None without attentive normalization.
        pixels: how many were filled.
    """

    before: Image.Image
    after: Image.Image
    file: Path
    layouts: tuple[np.ndarray, np.ndarray] | None
    pixels: int


def open_photo(path: str, max_pixels: int) -> Photo:
    """Reads a photograph as `attennorm-inpaint` does; errors name the file without its folder.

    Raises:
        ValueError: it cannot be used, and why.
    """
    image = _in_its_name(path, lambda: read_photo(path, max_pixels))
    picture = picture_of(image, f"image {Path(path).name!r}")
    return Photo(Path(path).name, image, picture, _view(image, picture.rgb))


def open_mask(path: str, photo: Photo, max_pixels: int) -> np.ndarray:
    """The hole of a mask file, bool (H, W).

    Raises:
        ValueError: it cannot be used, or is of another size than the photograph.
    """
    name = f"mask {Path(path).name!r}"
    hole = hole_of(_in_its_name(path, lambda: read_mask(path, max_pixels)), name)
    check_sizes(photo.picture.rgb, hole, f"the photo {photo.name!r}", name)
    return hole


def hole_at_full_size(photo: Photo, seen: np.ndarray, base: np.ndarray | None = None) -> np.ndarray:
    """The hole at the photograph's size, of one at the view's.

    Args:
        photo: that was painted on.
        seen: bool (h, w), of the view's size.
        base: bool (H, W), the hole of a mask that the paint began with (`shown_in` tells how it looks there), or None;
            wherever the view still shows it, it is kept exactly.

    Returns:
        bool (H, W).
    """
    if base is None:
        return _enlarged(seen, photo.size)
    changed = seen != shown_in(photo, base)
    if not changed.any():
        return base
    return np.where(_enlarged(changed, photo.size, nearest=True), _enlarged(seen, photo.size, nearest=True), base)


def shown_in(photo: Photo, hole: np.ndarray) -> np.ndarray:
    """A hole as the view shows it, bool (h, w): wherever any of it lies."""
    if hole.shape == photo.view.size[::-1]:
        return hole
    grey = Image.fromarray(np.where(hole, np.uint8(255), np.uint8(0)))
    return np.asarray(grey.resize(photo.view.size, Image.Resampling.BOX)) > 0


def fill(photo: Photo, hole: np.ndarray, inpainter: DemoInpainter, grow: float, feather: float, folder: Path) -> Result:
    """Fills a hole; what is outside it (grown) stays bit for bit.

    Args:
        photo: the photograph.
        hole: bool (H, W).
        inpainter: the network.
        grow: pixels by which the hole is made larger.
        feather: pixels of the hole's rim that are blended.
        folder: where the result is written.

    Raises:
        ValueError: there is no hole, or nothing else.
    """
    check_options(grow, feather, "auto", 512)
    if not hole.any():
        raise ValueError("No hole is painted. Paint over what is to be replaced, or upload a mask.")
    hole = grown(hole, grow)
    if hole.all():
        raise ValueError("The whole photo is painted over. Leave some of it: the hole is filled from what is around.")
    watching = _Watching(inpainter)
    filled = fill_holes(photo.picture.rgb, hole, watching, feather)
    made = photo.picture.replaced(filled, hole)
    target = _target(folder, photo)
    write_photo(target, made)
    after = _view(made, filled)
    return Result(photo.view, after, target, watching.layouts(), int(hole.sum()))


class _Watching(LoadedInpainter):
    """An inpainter that remembers the part with the largest hole."""

    def __init__(self, inner: DemoInpainter):
        super().__init__(None, inner.config, name=inner.name)
        self._inner = inner
        self._seen: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        self._largest = 0

    def complete(self, images: Any, masks: Any, batch_size: int = 8) -> np.ndarray:
        completed = self._inner.complete(images, masks, batch_size)
        missing = int(np.sum(masks))
        if missing > self._largest:
            self._largest, self._seen = missing, (images[:1], masks[:1], completed[:1])
        return completed

    def layouts(self) -> tuple[np.ndarray, np.ndarray] | None:
        if self._seen is None or self._inner.layouts is None:
            return None
        images, masks, completed = self._seen
        return completed, self._inner.layouts(images, masks)


def _in_its_name(path: str, read: Any) -> Any:
    """Errors about a file in a folder of ours name it as the reader knows it."""
    try:
        return read()
    except ValueError as error:
        raise type(error)(str(error).replace(repr(path), repr(Path(path).name))) from error


def _view(image: Image.Image, rgb: np.ndarray) -> Image.Image:
    """RGB of at most `_LARGEST_VIEW`; transparent places show a chequered ground."""
    height, width = rgb.shape[:2]
    factor = min(1.0, _LARGEST_VIEW / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    view = Image.fromarray(rgb)
    if image.mode in ("LA", "RGBA") or "transparency" in image.info:
        view.putalpha(image.convert("RGBA").getchannel("A"))
        view = view.resize(size, Image.Resampling.LANCZOS)
        rows, columns = np.indices((size[1], size[0])) // _CHECKS
        ground = Image.fromarray(np.where((rows + columns) % 2, 255, 215).astype(np.uint8)).convert("RGBA")
        return Image.alpha_composite(ground, view).convert("RGB")
    return view if factor == 1 else view.resize(size, Image.Resampling.LANCZOS)


def _enlarged(seen: np.ndarray, size: tuple[int, int], nearest: bool = False) -> np.ndarray:
    """To (height, width); with smooth edges unless `nearest`."""
    if seen.shape == size:
        return seen
    method = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
    grey = Image.fromarray(np.where(seen, np.uint8(255), np.uint8(0))).resize((size[1], size[0]), method)
    return np.asarray(grey) >= 128


def _target(folder: Path, photo: Photo) -> Path:
    """PNG holds every picture but CMYK."""
    stem = re.sub(r"[^\w.-]+", "_", Path(photo.name).stem)[:80] or "photo"
    target = folder / f"{stem}-inpainted.png"
    try:
        check_output(target, photo.image)
    except ValueError:
        target = target.with_suffix(".tif")
    return target
