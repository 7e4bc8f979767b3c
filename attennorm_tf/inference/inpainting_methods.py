"""What an evaluation compares: floors, networks, and images that someone else finished."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Callable, Protocol

import numpy as np

from attennorm_tf.data.image_decoding import DEFAULT_MAX_PIXELS
from attennorm_tf.inference.hole_filling import HOLE_FILLERS, OPENCV_METHODS, OPENCV_RADIUS, import_opencv
from attennorm_tf.inference.inpaint import fill_holes
from attennorm_tf.inference.inpainter import LoadedInpainter
from attennorm_tf.inference.inpainting_cases import Case, MatchedFiles
from attennorm_tf.training.checkpointing import read_manifest
from attennorm_tf.visualization import to_uint8

_SUSPICIOUS = 0.05  # mean difference of known pixels, of values in [0, 1], beyond which images hardly belong together

_logger = logging.getLogger(__name__)


class Method(Protocol):
    """What completes images.

    Attributes:
        name: in tables.
    """

    name: str

    def complete(self, cases: Sequence[Case]) -> list[np.ndarray]:
        """uint8 (H, W, 3) for each case; what it holds outside the hole is not looked at."""

    def facts(self) -> dict[str, Any]:
        """What a reader needs to know of it, as JSON values; after the last case."""


class HoleFiller:
    """A method without learning; see `hole_filling`."""

    def __init__(self, name: str):
        self.name = name
        self._fill: Callable[[np.ndarray, np.ndarray], np.ndarray] = HOLE_FILLERS[name]
        if name in OPENCV_METHODS:
            import_opencv()  # missing: better said now than after the networks

    def complete(self, cases: Sequence[Case]) -> list[np.ndarray]:
        return [self._fill(case.truth, case.hole) for case in cases]

    def facts(self) -> dict[str, Any]:
        if self.name not in OPENCV_METHODS:
            return {"kind": "floor"}
        return {"kind": "floor", "opencv": import_opencv().__version__, "radius": OPENCV_RADIUS}


class Network:
    """A trained network.

    Args:
        inpainter: loaded.
        name: in tables; None: its own.
        as_a_tool: images are completed as `inpaint` does it, in crops around the holes and in memory that does not grow
            with their size; otherwise the network sees them whole.
    """

    def __init__(self, inpainter: LoadedInpainter, name: str | None = None, as_a_tool: bool = False):
        self.name = name or inpainter.name
        self.inpainter = inpainter
        self.as_a_tool = as_a_tool

    def complete(self, cases: Sequence[Case]) -> list[np.ndarray]:
        if self.as_a_tool:
            return [fill_holes(case.truth, case.hole, self.inpainter) for case in cases]
        images = np.stack([case.truth for case in cases]).astype(np.float32) / np.float32(127.5) - 1
        masks = np.stack([case.hole for case in cases]).astype(np.float32)[..., np.newaxis]
        return list(to_uint8(self.inpainter.complete(images, masks)))

    def facts(self) -> dict[str, Any]:
        loaded = self.inpainter
        facts: dict[str, Any] = {"kind": "network", "step": loaded.step, "parameters": loaded.model.count_params()}
        facts["sees"] = "crops around the holes, as attennorm-inpaint" if self.as_a_tool else "whole images"
        if loaded.path is not None:
            files = read_manifest(loaded.path)["files"]
            facts["checkpoint"] = str(loaded.path)
            facts["sha256"] = {name: fingerprint["sha256"] for name, fingerprint in sorted(files.items())}
        if loaded.config is not None:
            facts.update(experiment=loaded.config.name, network=loaded.config.model.network)
            facts.update(trained_at=loaded.config.model.resolution, trained_on_masks=loaded.config.masks.kind)
        return facts


class FinishedImages:
    """Images finished by someone else, matched by their file names; pixels outside the hole are not scored.

    Args:
        name: in tables.
        root: their folder.
        max_pixels: largest width * height that is decoded.
    """

    def __init__(self, name: str, root: str, max_pixels: int = DEFAULT_MAX_PIXELS):
        self.name = name
        self.files = MatchedFiles("finished image", root, max_pixels)
        self._known_differences: list[float] = []

    def complete(self, cases: Sequence[Case]) -> list[np.ndarray]:
        return [self._one(case) for case in cases]

    def facts(self) -> dict[str, Any]:
        """With the mean difference of known pixels: near 0 where the images belong together."""
        difference = float(np.mean(self._known_differences)) if self._known_differences else 0.0
        if difference > _SUSPICIOUS:
            _logger.warning(
                "%s: outside the holes, the images of %s differ from the originals by %.0f%% of the range on average; "
                "are they the same images, of the same size?",
                self.name,
                self.files.root,
                100 * difference,
            )
        return {"kind": "finished", "folder": self.files.root, "known_mae": difference}

    def _one(self, case: Case) -> np.ndarray:
        size = (case.truth.shape[0], case.truth.shape[1])
        image = self.files.fitted(case.name, case.own_size, size, channels=3)
        known = ~case.hole
        difference = np.abs(image[known].astype(np.float64) - case.truth[known]).mean() / 255
        self._known_differences.append(float(difference))
        return image
