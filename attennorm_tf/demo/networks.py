"""What the page asks of a model, wherever that runs; and networks from checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable, NamedTuple, Union

import numpy as np
import tensorflow as tf

from attennorm_tf.config import InpaintingConfig
from attennorm_tf.inference.inpainter import MULTIPLE, LoadedInpainter
from attennorm_tf.inference.sample import LoadedGenerator, Samples, draw_latents

_LAYOUT_STRIDE = 4
# Images and masks, or latents and class weights, as arrays -> arrays.
Complete = Callable[[np.ndarray, np.ndarray], np.ndarray]
Layouts = Callable[[np.ndarray, np.ndarray], np.ndarray]
Draw = Callable[[np.ndarray, np.ndarray], "tuple[np.ndarray, np.ndarray | None]"]


class DemoInpainter(LoadedInpainter):
    """Fills holes, and tells the layout.

    Args:
        title: what the page calls it.
        complete_batch: images (b, h, w, 3) in [-1, 1] and masks (b, h, w, 1) -> images, with the holes filled.
        layouts: the same -> (b, h', w', n); None for a network without attentive normalization.
        config: of the run it comes from, where that is known.

    Attributes:
        title: as given.
        layouts: as given.
    """

    def __init__(
        self, title: str, complete_batch: Complete, layouts: Layouts | None, config: InpaintingConfig | None = None
    ):
        super().__init__(None, config, name=title)
        self.title = title
        self.layouts = layouts
        self._complete_batch = complete_batch

    def complete(self, images: Any, masks: Any, batch_size: int = 8) -> np.ndarray:
        """See `LoadedInpainter.complete`."""
        parts = []
        for start in range(0, len(images), batch_size):
            rows = slice(start, start + batch_size)
            parts.append(self._complete_batch(images[rows], masks[rows]))
        filled: np.ndarray = np.where(masks > 0, np.concatenate(parts), images)
        return filled


class DemoGenerator(NamedTuple):
    """Draws images of classes.

    Attributes:
        title: what the page calls it.
        class_names: one for each class.
        latent_dim: length of z.
        draw: latents (n, latent_dim) and class weights (n, K), float32, rows of sum 1 -> images (n, R, R, 1 or 3) in
            [-1, 1] and layouts (n, h, w, entities) or None.
    """

    title: str
    class_names: Sequence[str]
    latent_dim: int
    draw: Draw

    def sample(self, class_ids: Sequence[int], count: int, seed: int, truncation: float | None) -> Samples:
        """`count` images, the classes in turn, of the noise that `attennorm-sample` takes."""
        weights = np.eye(len(self.class_names), dtype=np.float32)[np.resize(np.asarray(class_ids, int), count)]
        return Samples(*self.draw(draw_latents(count, self.latent_dim, seed, truncation), weights))

    def blend(self, first: int, second: int, shares: Sequence[float], seed: int, truncation: float | None) -> Samples:
        """The same noise between two classes; `shares` of the second one, in [0, 1]."""
        corners = np.eye(len(self.class_names), dtype=np.float32)[[first, second]]
        part = np.asarray(shares, np.float32)[:, np.newaxis]
        latents = np.repeat(draw_latents(1, self.latent_dim, seed, truncation), len(part), axis=0)
        return Samples(*self.draw(latents, (1 - part) * corners[0] + part * corners[1]))


DemoModel = Union[DemoInpainter, DemoGenerator]


def trained_inpainter(loaded: LoadedInpainter) -> DemoInpainter:
    """From a checkpoint."""
    network = loaded.model

    def layouts(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
        height, width = images.shape[1:3]
        edges = ((0, 0), (0, -height % MULTIPLE), (0, -width % MULTIPLE), (0, 0))
        padded = [tf.constant(np.pad(values, edges, mode="symmetric")) for values in (images, masks)]
        layout = network.infer(*padded, return_layout=True)[2].numpy()
        return layout[:, : -(-height // _LAYOUT_STRIDE), : -(-width // _LAYOUT_STRIDE)]

    has_layout = getattr(network, "attentive_normalization", None) is not None
    title = f"{loaded.name}, step {loaded.step}"
    return DemoInpainter(title, loaded.complete, layouts if has_layout else None, loaded.config)


def trained_generator(loaded: LoadedGenerator) -> DemoGenerator:
    """From a checkpoint."""
    generator = loaded.generator
    has_layout = generator.attentive_normalization is not None

    def draw(latents: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        outputs = generator.infer(tf.constant(latents), tf.constant(weights), return_layout=has_layout)
        return (outputs[0].numpy(), outputs[1].numpy()) if has_layout else (outputs.numpy(), None)

    title = f"{loaded.config.name}, step {loaded.step}"
    return DemoGenerator(title, loaded.class_names, generator.latent_dim, draw)
