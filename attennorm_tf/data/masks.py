"""Masks for inpainting: what is missing from each image of the stream (1 = hole)."""

from __future__ import annotations

import abc

import numpy as np
import tensorflow as tf
from PIL import Image

from attennorm_tf.data.brush import Brush, draw_strokes, integers
from attennorm_tf.data.global_stream import stream_words
from attennorm_tf.data.image_decoding import UnreadableImageError, map_in_threads, read_image
from attennorm_tf.data.image_files import list_image_files

MASK_KINDS = ("rectangle", "center", "free_form", "thin", "medium", "thick", "folder")
_THRESHOLD = 128
_GREATEST_LENGTH = 4096  # of brushes; their whole numbers hold 32 bits

# Strokes, segments; length and width in shares of the image's shorter side.
_PRESETS: dict[str, tuple[tuple[int, int], tuple[int, int], tuple[float, float], tuple[float, float]]] = {
    "thin": ((3, 5), (3, 6), (0.10, 0.25), (0.025, 0.05)),
    "medium": ((4, 6), (3, 6), (0.12, 0.25), (0.06, 0.11)),
    "thick": ((5, 6), (3, 5), (0.15, 0.28), (0.12, 0.18)),
}


class MaskSource(abc.ABC):
    """Masks by their position in the stream.

    Attributes:
        kind: one of `MASK_KINDS`.
    """

    kind: str

    @tf.autograph.experimental.do_not_convert
    def __call__(self, positions: tf.Tensor, seed: int, resolution: tuple[int, int]) -> tf.Tensor:
        """The masks at `positions`: a pure function of (seed, position), the same bits however it is run.

        Args:
            positions: int64 (b,), 0 or more.
            seed: any Python integer.
            resolution: (height, width).

        Returns:
            float32 (b, height, width, 1), 1 where the image is missing, else 0; neither is ever missing altogether.

        Raises:
            ValueError: such masks do not fit into this resolution.
        """
        self.check(resolution)
        height, width = resolution
        holes = self._holes(tf.cast(positions, tf.int64), seed, height, width)
        return tf.cast(tf.ensure_shape(holes, [None, height, width]), tf.float32)[..., tf.newaxis]

    def check(self, resolution: tuple[int, int]) -> None:
        """Raises ValueError where there are no such masks at this (height, width); see the kinds for why."""
        if min(resolution) < 1 or resolution[0] * resolution[1] < 2:
            raise ValueError(f"resolution must be (height, width) with 2 pixels or more, got {resolution}.")

    @abc.abstractmethod
    def _holes(self, positions: tf.Tensor, seed: int, height: int, width: int) -> tf.Tensor:
        """Boolean or 8-bit masks (b, height, width)."""


class RectangleMasks(MaskSource):
    """Rectangles at random places inside the image.

    A frame of height x width lies anywhere; each side of the hole is shorter by a random 0 to `shrink`, and the hole
    lies anywhere within the frame.

    Args:
        height: of the frame, in pixels.
        width: likewise.
        shrink: greatest number of pixels that a side loses; 0 for holes of one size.
        center: the frame lies in the middle of the image, and the hole fills it.
    """

    def __init__(self, height: int, width: int, shrink: int, center: bool = False) -> None:
        for name, value in (("height", height), ("width", width)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        if not 0 <= shrink < min(height, width):
            raise ValueError(f"shrink must be in [0, {min(height, width)}), the shorter side, got {shrink}.")
        self.kind = "center" if center else "rectangle"
        self.height, self.width, self.shrink = height, width, shrink

    def check(self, resolution: tuple[int, int]) -> None:
        super().check(resolution)
        height, width = resolution
        if self.height > height or self.width > width or (self.height, self.width) == (height, width):
            raise ValueError(
                f"masks of kind {self.kind!r} with height={self.height} and width={self.width} must lie inside the "
                f"image and leave some of it, got resolution {height} x {width}."
            )

    def _holes(self, positions: tf.Tensor, seed: int, height: int, width: int) -> tf.Tensor:
        if self.kind == "center":
            zeros = tf.zeros_like(positions, tf.int32)
            rows = (zeros + (height - self.height) // 2, zeros + self.height)
            columns = (zeros + (width - self.width) // 2, zeros + self.width)
        else:
            words = stream_words(positions, seed, "rectangle mask", 6)
            rows = self._side(words[:, :3], self.height, height)
            columns = self._side(words[:, 3:], self.width, width)
        inside_rows, inside_columns = _between(*rows, height), _between(*columns, width)
        return inside_rows[:, :, tf.newaxis] & inside_columns[:, tf.newaxis, :]

    def _side(self, words: tf.Tensor, frame: int, image: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Start and length of the hole in one direction."""
        lost = integers(words[:, 1], 0, self.shrink)
        return integers(words[:, 0], 0, image - frame) + integers(words[:, 2], 0, lost), frame - lost


class BrushMasks(MaskSource):
    """Strokes of a brush; see `attennorm_tf.data.brush`. One that covers everything leaves a random pixel.

    Args:
        kind: "free_form", or a preset whose lengths follow the resolution: "thin", "medium" or "thick".
        brush: of "free_form".
    """

    def __init__(self, kind: str, brush: Brush | None = None) -> None:
        self.kind = kind
        self._brush = brush

    def brush(self, height: int, width: int) -> Brush:
        """The ranges, in pixels of images of this size."""
        if self._brush is not None:
            return self._brush
        strokes, segments, length, thickness = _PRESETS[self.kind]
        side = min(height, width)

        def pixels(shares: tuple[float, float]) -> tuple[int, int]:
            return max(1, round(shares[0] * side)), max(1, round(shares[1] * side))

        return Brush(strokes, segments, pixels(length), pixels(thickness))

    def _holes(self, positions: tf.Tensor, seed: int, height: int, width: int) -> tf.Tensor:
        brush = self.brush(height, width)
        words = stream_words(positions, seed, "brush mask", brush.words_per_mask + 1)
        holes = draw_strokes(words[:, 1:], (height, width), brush)
        spared = integers(words[:, :1], 0, height * width - 1)
        spared = tf.reshape(tf.range(height * width) == spared, [-1, height, width])
        return holes & ~(tf.reduce_all(holes, axis=(1, 2), keepdims=True) & spared)


class FolderMasks(MaskSource):
    """Mask files of any size and mode: resized to the nearest pixel, white (128 or more) is the hole.

    Each position gets a file chosen at random. The masks of a resolution are read together, when they are first
    needed, and kept as bits: 8 KiB a mask at 256x256.

    Args:
        root: searched with its folders, as image folders are.
    """

    kind = "folder"

    def __init__(self, root: str) -> None:
        if not root:
            raise ValueError("masks of kind 'folder' need root, the folder that holds them.")
        self.root = root
        self.file_names = list_image_files(root)
        self._kept: dict[tuple[int, int], tf.Tensor] = {}

    def check(self, resolution: tuple[int, int]) -> None:
        super().check(resolution)
        if resolution not in self._kept:
            # Not in the graph that is being built: the next one needs them too. And on the host: on a GPU all of them
            # would lie in its memory.
            with tf.init_scope(), tf.device("/CPU:0"):
                self._kept[resolution] = tf.constant(self._read(*resolution))

    def _holes(self, positions: tf.Tensor, seed: int, height: int, width: int) -> tf.Tensor:
        words = stream_words(positions, seed, "folder mask", 1)
        packed = tf.gather(self._kept[height, width], integers(words[:, 0], 0, len(self.file_names) - 1))
        places = tf.constant([7, 6, 5, 4, 3, 2, 1, 0], tf.uint8)
        bits = tf.bitwise.right_shift(packed[..., tf.newaxis], places) & tf.constant(1, tf.uint8)
        return tf.reshape(tf.reshape(bits, [-1, packed.shape[1] * 8])[:, : height * width], [-1, height, width])

    def _read(self, height: int, width: int) -> np.ndarray:
        def one(name: str) -> np.ndarray:
            return np.packbits(read_mask(f"{self.root}/{name}", (height, width)))

        return np.stack(map_in_threads(one, self.file_names))


def read_mask(path: str, resolution: tuple[int, int]) -> np.ndarray:
    """One mask file at a resolution: bool (height, width), True where it is white.

    Raises:
        UnreadableImageError: not an image, or one without a hole or without anything known; the message names it.
    """
    height, width = resolution
    image = read_image(path, channels=1).resize((width, height), Image.Resampling.NEAREST)
    hole = np.asarray(image) >= _THRESHOLD
    if hole.all() or not hole.any():
        found = "white, so that nothing is known" if hole.all() else "black, so that nothing is missing"
        raise UnreadableImageError(f"mask {path!r}: every pixel is {found} (at {height} x {width} pixels).")
    return hole


def make_masks(
    kind: str,
    *,
    height: int = 128,
    width: int = 128,
    shrink: int = 32,
    root: str = "",
    max_strokes: int = 4,
    max_vertices: int = 12,
    max_length: int = 64,
    max_width: int = 24,
) -> MaskSource:
    """Masks of a kind; lengths are in pixels of the images.

    Args:
        kind: "rectangle", "center", "free_form", "folder"; or a preset of the brush for any resolution: "thin" (hole
            9 % of the image on average, 5 to 12 % in four of five), "medium" (23 %, 16 to 30 %), "thick" (40 %, 31 to
            48 %).
        height: of "rectangle" and "center".
        width: likewise.
        shrink: of "rectangle": each side is shorter by a random 0 to this.
        root: of "folder": white is the hole.
        max_strokes: of "free_form": 1 to this many,
        max_vertices: each of 1 to this many segments,
        max_length: each of 1 to this many pixels,
        max_width: thick by a quarter of this to this.

    Returns:
        The masks, by position.

    Raises:
        ValueError: unknown kind, an argument out of range, or a folder without images.

    Example:
        >>> masks = make_masks("rectangle", height=16, width=16, shrink=4)
        >>> holes = masks(tf.range(8, dtype=tf.int64), seed=0, resolution=(64, 64))
        >>> holes.shape, bool(tf.reduce_all(tf.reduce_sum(holes, axis=[1, 2, 3]) >= 12 * 12))
        (TensorShape([8, 64, 64, 1]), True)
    """
    if kind in ("rectangle", "center"):
        return RectangleMasks(height, width, shrink if kind == "rectangle" else 0, center=kind == "center")
    if kind == "free_form":
        limits = {
            "max_strokes": max_strokes,
            "max_vertices": max_vertices,
            "max_length": max_length,
            "max_width": max_width,
        }
        for name, value in limits.items():
            if not 1 <= value <= _GREATEST_LENGTH:
                raise ValueError(f"{name} must be in [1, {_GREATEST_LENGTH}], got {value}.")
        least_width = max(1, max_width // 4)
        return BrushMasks(kind, Brush((1, max_strokes), (1, max_vertices), (1, max_length), (least_width, max_width)))
    if kind in _PRESETS:
        return BrushMasks(kind)
    if kind == "folder":
        return FolderMasks(root)
    raise ValueError(f"kind must be one of {', '.join(map(repr, MASK_KINDS))}, got {kind!r}.")


def _between(start: tf.Tensor, length: tf.Tensor, size: int) -> tf.Tensor:
    """Which places of (b, size) are in [start, start + length)."""
    places = tf.range(size) - start[:, tf.newaxis]
    return (places >= 0) & (places < length[:, tf.newaxis])
