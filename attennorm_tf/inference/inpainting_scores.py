"""Measures of many completed images, and what they say together: means, intervals, differences, bins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from attennorm_tf.inference.hole_filling import OPENCV_METHODS
from attennorm_tf.metrics import ImageQuality, MeanInterval, capped_psnr, mean_interval

REGIONS = ("whole", "hole")
MEASURES = ImageQuality._fields
# Upper ends of the bins, in shares of the image that are missing.
_BIN_EDGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 1.0)


class InpaintingScores:
    """Measures of every method on every image.

    Args:
        methods: their names, in the order of the tables.

    Attributes:
        methods: as given.
        names: of the images.
        hole_shares: missing share of each image, in (0, 1).
    """

    def __init__(self, methods: Sequence[str]):
        self.methods = list(methods)
        self.names: list[str] = []
        self.hole_shares: list[float] = []
        self._values: list[np.ndarray] = []

    def add(self, name: str, hole_share: float, measured: Sequence[tuple[ImageQuality, ImageQuality]]) -> None:
        """One image: (whole, hole) of every method; PSNR beyond the cap of `capped_psnr` is cut."""
        self.names.append(name)
        self.hole_shares.append(hole_share)
        regions = [[one._replace(psnr=capped_psnr(one.psnr)) for one in both] for both in measured]
        self._values.append(np.array(regions, np.float64))

    def values(self, method: str, region: str, measure: str) -> np.ndarray:
        """float64 (n,), one for each image."""
        indices = self.methods.index(method), REGIONS.index(region), MEASURES.index(measure)
        return np.array([values[indices] for values in self._values])

    def best_opencv(self) -> str | None:
        """The method of OpenCV's with the higher mean PSNR in the hole, over all images; None without them."""
        present = [method for method in OPENCV_METHODS if method in self.methods]
        return max(present, key=lambda method: self.values(method, "hole", "psnr").mean(), default=None)

    def over_opencv(self, method: str) -> MeanInterval | None:
        """Mean over the images of the method's PSNR in the hole less that of `best_opencv`: paired, in dB."""
        best = self.best_opencv()
        if best is None or method == best:
            return None
        return mean_interval(self.values(method, "hole", "psnr") - self.values(best, "hole", "psnr"))

    def bins(self) -> dict[str, np.ndarray]:
        """Bin ("10-20%": more than 10 and at most 20) -> indices of its images; bins without any are left out."""
        shares = np.array(self.hole_shares)
        bins = {}
        for low, high in zip((0.0, *_BIN_EDGES), _BIN_EDGES):
            rows = np.flatnonzero((shares > low) & (shares <= high))
            if rows.size:
                bins[f"{100 * low:.0f}-{100 * high:.0f}%"] = rows
        return bins

    def summary(self, method: str, rows: np.ndarray | None = None) -> dict[str, dict[str, MeanInterval]]:
        """Region -> measure -> mean with interval, over all images or those of `rows`."""
        rows = np.arange(len(self.names)) if rows is None else rows
        return {
            region: {measure: mean_interval(self.values(method, region, measure)[rows]) for measure in MEASURES}
            for region in REGIONS
        }

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON values: means, bins, and each image."""
        methods, bins = {}, {}
        for method in self.methods:
            difference = self.over_opencv(method)
            methods[method] = {
                **_plain(self.summary(method)),
                "hole_psnr_over_best_opencv": difference and difference._asdict(),
            }
        for name, rows in self.bins().items():
            bins[name] = {
                "images": len(rows),
                "methods": {method: _plain(self.summary(method, rows)) for method in self.methods},
            }
        images = [
            {
                "name": name,
                "hole_share": share,
                "methods": {
                    method: {region: dict(zip(MEASURES, map(float, row))) for region, row in zip(REGIONS, table)}
                    for method, table in zip(self.methods, values)
                },
            }
            for name, share, values in zip(self.names, self.hole_shares, self._values)
        ]
        return {"best_opencv": self.best_opencv(), "methods": methods, "bins": bins, "images": images}


def _plain(summary: dict[str, dict[str, MeanInterval]]) -> dict[str, Any]:
    return {region: {name: value._asdict() for name, value in row.items()} for region, row in summary.items()}
