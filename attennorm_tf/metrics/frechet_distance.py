"""Frechet distance between two Gaussians."""

from __future__ import annotations

import numpy as np


def frechet_distance(mean1: np.ndarray, covariance1: np.ndarray, mean2: np.ndarray, covariance2: np.ndarray) -> float:
    """|mean1 - mean2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), in float64.

    tr (C1 C2)^(1/2) is the sum of the square roots of the eigenvalues of C1^(1/2) C2 C1^(1/2), a symmetric
    matrix: two symmetric eigendecompositions and no complex matrix square root, also where covariances are
        singular.

    Args:
        mean1: (d,).
        covariance1: (d, d), symmetric, positive semidefinite.
        mean2: (d,).
        covariance2: (d, d), likewise.

    Returns:
        The (squared) distance, 0 or more.

    Raises:
        ValueError: shapes do not fit, a value is not finite, or a covariance is not symmetric.

    Example:
        >>> frechet_distance(np.zeros(2), np.eye(2), np.array([3.0, 4.0]), 4 * np.eye(2))
        27.0
    """
    mean1, mean2 = np.asarray(mean1, np.float64), np.asarray(mean2, np.float64)
    covariance1, covariance2 = np.asarray(covariance1, np.float64), np.asarray(covariance2, np.float64)
    for number, mean, covariance in ((1, mean1, covariance1), (2, mean2, covariance2)):
        if mean.ndim != 1 or covariance.shape != (mean.size, mean.size):
            raise ValueError(
                f"mean{number} must be (d,) and covariance{number} (d, d), got {mean.shape} and {covariance.shape}."
            )
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            raise ValueError(f"mean{number} or covariance{number} holds a value that is not finite.")
        if not np.allclose(covariance, covariance.T, rtol=1e-6, atol=1e-9 * (1 + np.abs(covariance).max())):
            raise ValueError(f"covariance{number} is not symmetric.")
    if mean1.shape != mean2.shape:
        raise ValueError(f"mean1 and mean2 must have one length, got {mean1.size} and {mean2.size}.")
    values, vectors = np.linalg.eigh(covariance1)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    product = root @ covariance2 @ root
    # Rounding leaves tiny negative eigenvalues where the exact ones are 0.
    trace_of_root = np.sqrt(np.maximum(np.linalg.eigvalsh((product + product.T) / 2), 0.0)).sum()
    distance = np.square(mean1 - mean2).sum() + np.trace(covariance1) + np.trace(covariance2) - 2 * trace_of_root
    return max(0.0, float(distance))
