"""How much of what is generated looks real, and how much of the real is generated: two measures of each."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from attennorm_tf.metrics.bank_metric import BankMetric
from attennorm_tf.metrics.feature_bank import PAGE_ROWS, FeatureBank


class PrecisionRecallResult(NamedTuple):
    """Fidelity (precision, density) and diversity (recall, coverage), see `PrecisionRecall`."""

    precision: float
    recall: float
    density: float
    coverage: float


class PrecisionRecall(BankMetric):
    """Improved precision and recall (Kynkaanniemi et al., 2019), density and coverage (Naeem et al., 2020).

    With B_k(x) the ball around x that just reaches its k-th nearest neighbour among the examples of its own side:

    - precision: share of the generated in B_3 of any reference example, in [0, 1];
    - recall: share of the reference in B_3 of any generated example, in [0, 1];
    - density: number of B_5 of reference examples that a generated one is in, mean over the generated, over 5: 1 is
      expected where the distributions are the same, and it can be more;
    - coverage: share of the reference examples whose B_5 holds a generated one, in [0, 1].

    A ball holds its boundary, as Kynkaanniemi et al. define it (the code of Naeem et al. leaves it out: no difference
    unless distances tie). Distances are float64, from |x|^2 + |y|^2 - 2 x.y after the reference's mean was subtracted;
    a squared distance below its rounding error of d 2.2e-16 (|x|^2 + |y|^2) counts as 0, so that equal examples have
    distance 0.

    Time: (n + m)^2 d operations, 30 s of one core at n = m = 10,000 and d = 2048; what concerns the reference alone is
    kept for later results. Memory: the bank, and two pages in float64 with the distances between them.

    Args:
        reference: (m, d), m above both numbers of neighbours, float32 or float64, which is not copied; or a bank.
        neighbours: k of precision and recall, at least 1.
        density_neighbours: k of density and coverage, at least 1.
        bank: a bank shared with other metrics, see `FeatureBank`; None: its own.

    Raises:
        ValueError: a bad reference, or fewer than 1 neighbour.

    Example:
        >>> metric = PrecisionRecall(np.arange(8.0)[:, None], neighbours=1, density_neighbours=1)
        >>> metric.update_state(np.array([[0.5], [1.5], [90.0], [90.5]]))
        >>> metric.result()
        PrecisionRecallResult(precision=0.5, recall=0.375, density=1.0, coverage=0.375)
    """

    def __init__(
        self,
        reference: np.ndarray | FeatureBank,
        neighbours: int = 3,
        density_neighbours: int = 5,
        *,
        bank: FeatureBank | None = None,
    ) -> None:
        for name, value in (("neighbours", neighbours), ("density_neighbours", density_neighbours)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        self._neighbours = neighbours
        self._density_neighbours = density_neighbours
        self._most = max(neighbours, density_neighbours)
        super().__init__(reference, bank, fewest=self._most + 1)
        self._center = self._reference.mean()
        self._reference_squares: np.ndarray | None = None

    def result(self) -> PrecisionRecallResult:
        """All four.

        Raises:
            ValueError: no more examples than neighbours.
        """
        self._check_examples(self._most + 1)
        if self._reference_squares is None:
            self._reference_squares = self._neighbour_squares(self._reference)
        reference_squares, squares = self._reference_squares, self._neighbour_squares(self._bank)
        reasons = self._doubts()
        for name, found in (("generated", squares), ("reference", reference_squares)):
            repeated = int((found[:, self._neighbours - 1] == 0).sum())
            if repeated:
                reasons.append(f"{repeated} {name} examples have {self._neighbours} others with the same features.")
        self._warn(reasons)
        return self._compare(reference_squares, squares)

    def protocol(self) -> dict[str, Any]:
        return {
            "neighbours": self._neighbours,
            "density_neighbours": self._density_neighbours,
            "precision": "float64",
            "reference_count": len(self._reference),
        }

    def _compare(self, reference_squares: np.ndarray, squares: np.ndarray) -> PrecisionRecallResult:
        """Every reference example with every generated one, a page with a page."""
        precise, covering = np.zeros(self.count, bool), 0
        recalled, covered = np.zeros(len(self._reference), bool), np.zeros(len(self._reference), bool)
        for row in range(self._reference.num_pages()):
            rows = slice(row * PAGE_ROWS, (row + 1) * PAGE_ROWS)
            page = self._reference.page(row) - self._center
            radii = reference_squares[rows, self._neighbours - 1, None]
            density_radii = reference_squares[rows, self._density_neighbours - 1, None]
            for column in range(self._bank.num_pages()):
                columns = slice(column * PAGE_ROWS, (column + 1) * PAGE_ROWS)
                distances = _squared_distances(page, self._bank.page(column) - self._center)
                inside = distances <= density_radii
                covering += int(inside.sum())
                covered[rows] |= inside.any(axis=1)
                precise[columns] |= (distances <= radii).any(axis=0)
                recalled[rows] |= (distances <= squares[columns, self._neighbours - 1]).any(axis=1)
        return PrecisionRecallResult(
            precision=float(precise.mean()),
            recall=float(recalled.mean()),
            density=covering / (self._density_neighbours * self.count),
            coverage=float(covered.mean()),
        )

    def _neighbour_squares(self, bank: FeatureBank) -> np.ndarray:
        """(n, most): squared distances of each row to its nearest other rows, ascending."""
        nearest = np.full((len(bank), self._most), np.inf)
        for row in range(bank.num_pages()):
            page = bank.page(row) - self._center
            rows = slice(row * PAGE_ROWS, (row + 1) * PAGE_ROWS)
            for column in range(row, bank.num_pages()):  # each pair of pages serves both
                columns = slice(column * PAGE_ROWS, (column + 1) * PAGE_ROWS)
                other = page if column == row else bank.page(column) - self._center
                distances = _squared_distances(page, other)
                if column == row:
                    np.fill_diagonal(distances, np.inf)
                else:
                    nearest[columns] = _nearest(nearest[columns], distances.T)
                nearest[rows] = _nearest(nearest[rows], distances)
        return nearest


def _nearest(known: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """The smallest of (n, k) known and (n, b) more, ascending (n, k)."""
    most = known.shape[1]
    if distances.shape[1] > most:
        distances = np.partition(distances, most - 1, axis=1)[:, :most]
    return np.sort(np.concatenate([known, distances], axis=1), axis=1)[:, :most]


def _squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(n, m) of rows (n, d) and (m, d); 0 where it is not above its rounding error."""
    scale = np.einsum("nd,nd->n", x, x)[:, None] + np.einsum("md,md->m", y, y)
    distances = x @ y.T
    distances *= -2
    distances += scale
    scale *= x.shape[1] * np.finfo(np.float64).eps
    distances[distances <= scale] = 0.0
    return distances
