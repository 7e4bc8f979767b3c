"""Mean and standard deviation of features inside each entity's region against the whole map's: figure 4."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from attennorm_tf.visualization.layout_sheet import checked_layouts


class RegionStatistics(NamedTuple):
    """Statistics over places, for each image and channel; b images, n entities, c channels.

    An entity's region is where it has more of the layout than any other. Numbers for all channels together are the mean
    of the means and the root mean square of the standard deviations, as `attennorm-inspect` has them (the paper does
    not say how its Figure 4 joins channels).

    Attributes:
        shares: (b, n) share of an image's places that are in an entity's region.
        means: (b, n, c) inside the regions; NaN where the region is empty.
        stds: (b, n, c) the same, of the standard deviation (divided by the number of places).
        map_means: (b, c) over the whole map.
        map_stds: (b, c) the same.
    """

    shares: np.ndarray
    means: np.ndarray
    stds: np.ndarray
    map_means: np.ndarray
    map_stds: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """(b, n), over channels."""
        mean: np.ndarray = self.means.mean(axis=-1)
        return mean

    @property
    def std(self) -> np.ndarray:
        """(b, n), root mean square over channels."""
        return np.sqrt(np.square(self.stds).mean(axis=-1))

    @property
    def map_mean(self) -> np.ndarray:
        """(b,), over channels."""
        mean: np.ndarray = self.map_means.mean(axis=-1)
        return mean

    @property
    def map_std(self) -> np.ndarray:
        """(b,), root mean square over channels."""
        return np.sqrt(np.square(self.map_stds).mean(axis=-1))

    @property
    def ratios(self) -> np.ndarray:
        """(b, n), std / map_std; NaN where a region is empty or the map constant."""
        whole = self.map_std[:, np.newaxis]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(whole > 0, self.std / whole, np.nan)


def region_statistics(features: np.ndarray, layouts: np.ndarray) -> RegionStatistics:
    """Figure 4's numbers.

    Args:
        features: float (b, h, w, c), what the layer was given.
        layouts: float (b, h, w, n), its layout.

    Returns:
        The statistics, in float64.

    Raises:
        ValueError: other shapes, or values that are not finite.

    Example:
        >>> layouts = np.eye(2)[np.array([[[0, 0], [0, 1]]])]
        >>> features = np.array([[[1.0, 2.0], [3.0, 6.0]]])[..., np.newaxis]
        >>> found = region_statistics(features, layouts)
        >>> found.mean.tolist(), found.map_mean.tolist()
        ([[2.0, 6.0]], [3.0])
    """
    layouts = checked_layouts(layouts)
    features = np.asarray(features, np.float64)
    if features.ndim != 4 or features.shape[:-1] != layouts.shape[:-1]:
        raise ValueError(
            "features (b, height, width, channels) and layouts (b, height, width, entities) must belong together, got "
            f"{features.shape} and {layouts.shape}."
        )
    if not np.isfinite(features).all():
        raise ValueError("features hold values that are not finite.")
    count, n = len(features), layouts.shape[-1]
    values = features.reshape(count, -1, features.shape[-1])
    winners = layouts.reshape(count, -1, n).argmax(axis=-1)
    places = np.eye(n)[winners]  # (b, hw, n)
    sizes = places.sum(axis=1)[..., np.newaxis]  # (b, n, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.swapaxes(places, 1, 2) @ values / sizes
        # In two passes: squares of large means would swamp a small deviation.
        offsets = values - np.take_along_axis(means, winners[..., np.newaxis], axis=1)
        stds = np.sqrt(np.swapaxes(places, 1, 2) @ np.square(offsets) / sizes)
    return RegionStatistics(sizes[..., 0] / values.shape[1], means, stds, values.mean(axis=1), values.std(axis=1))
