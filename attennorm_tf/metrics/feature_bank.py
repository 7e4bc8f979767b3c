"""Features kept for metrics that need every pair of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from attennorm_tf.metrics.feature_batch import checked_features

PAGE_ROWS = 1024


class FeatureBank:
    """Rows of features in the order they came, in pages of 1024: it grows without copying what it holds.

    Memory: 4 n d bytes for float32 (391 MiB for 50,000 rows of 2048), rounded up to whole pages. `KernelDistance` and
    `PrecisionRecall` can share one:

        >>> bank = FeatureBank()
        >>> bank.update_state(np.zeros((3, 2), np.float32))
        >>> bank.update_state(np.ones((2, 2), np.float32))
        >>> len(bank), bank.rows(2, 4).tolist()
        (5, [[0.0, 0.0], [1.0, 1.0]])

    Args:
        name: what errors call the features.
    """

    def __init__(self, name: str = "features") -> None:
        self.name = name
        self._pages: list[np.ndarray] = []  # (PAGE_ROWS, d), of the first batch's type
        self._count = 0

    @classmethod
    def view(cls, features: Any, name: str = "features") -> FeatureBank:
        """A bank over an array (n, d) that is there already: float32 or float64 is not copied.

        Raises:
            ValueError: not (n, d), or a value is not finite.
        """
        bank = cls(name)
        array = np.asarray(features)
        if array.ndim != 2:
            raise ValueError(f"{name} must be (n, d), got {array.shape}.")
        for start in range(0, len(array), PAGE_ROWS):
            bank._pages.append(checked_features(array[start : start + PAGE_ROWS], array.shape[1], start, name))
        bank._count = len(array)
        return bank

    def __len__(self) -> int:
        return self._count

    @property
    def size(self) -> int | None:
        """d, or None before the first row."""
        return self._pages[0].shape[1] if self._pages else None

    def update_state(self, features: Any) -> None:
        """Appends features (b, d); b may be 0. Later batches take the first one's type, float32 or float64.

        Raises:
            ValueError: not (b, d), another d than before, or a value is not finite.
        """
        self._append(checked_features(features, self.size, self._count, self.name))

    def merge_state(self, other: FeatureBank) -> None:
        """Appends the rows of another bank.

        Raises:
            ValueError: another d, or the same bank.
        """
        if other is self:
            raise ValueError("cannot merge a FeatureBank into itself: its rows would count twice.")
        if None not in (self.size, other.size) and self.size != other.size:
            raise ValueError(f"cannot merge {self.name} of {other.size} into {self.size} dimensions.")
        for number, page in enumerate(other._pages):
            self._append(page[: other._count - number * PAGE_ROWS])

    def reset_state(self) -> None:
        """Drops all rows."""
        self._pages.clear()
        self._count = 0

    def num_pages(self) -> int:
        return len(self._pages)

    def page(self, number: int) -> np.ndarray:
        """float64 rows number * 1024 up to the next page's, a new array (1024 or, at the end, fewer, d)."""
        return self._pages[number][: self._count - number * PAGE_ROWS].astype(np.float64)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """float64 (stop - start, d), a new array."""
        return self.take(np.arange(start, min(stop, self._count)))

    def take(self, indices: np.ndarray) -> np.ndarray:
        """float64 (n, d) of rows by number (n,), a new array."""
        if self.size is None:
            raise ValueError(f"no {self.name} yet.")
        taken = np.empty((len(indices), self.size))
        pages = indices // PAGE_ROWS
        for number in np.unique(pages):
            chosen = pages == number
            taken[chosen] = self._pages[number][indices[chosen] % PAGE_ROWS]
        return taken

    def mean(self) -> np.ndarray:
        """float64 (d,) over all rows, of which there must be one."""
        return sum(self.page(number).sum(axis=0) for number in range(self.num_pages())) / self._count

    def all_equal(self) -> bool:
        """Whether every row equals the first."""
        return all(
            not (page[: self._count - number * PAGE_ROWS] != self._pages[0][0]).any()
            for number, page in enumerate(self._pages)
        )

    def _append(self, features: np.ndarray) -> None:
        start = 0
        while start < len(features):
            filled = self._count % PAGE_ROWS
            if filled == 0:
                dtype = self._pages[0].dtype if self._pages else features.dtype
                self._pages.append(np.empty((PAGE_ROWS, features.shape[1]), dtype))
            elif len(self._pages[-1]) < PAGE_ROWS:  # the end of an array that is not the bank's own
                page = np.empty((PAGE_ROWS, features.shape[1]), self._pages[-1].dtype)
                page[:filled] = self._pages[-1]
                self._pages[-1] = page
            part = features[start : start + PAGE_ROWS - filled]
            self._pages[-1][filled : filled + len(part)] = part
            self._count += len(part)
            start += len(part)
