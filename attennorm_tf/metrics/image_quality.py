"""How close a finished image is to the truth: PSNR, SSIM in two forms, mean absolute error; whole image or hole."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

MAX_PSNR = 100.0  # dB, what identical images count as in a mean
GAUSSIAN_TAPS = 11
_GAUSSIAN_SIGMA = 1.5
_C1, _C2 = 0.01**2, 0.03**2  # of SSIM, for values in [0, 1]
_GREY = (0.299, 0.587, 0.114)  # ITU-R 601


class ImageQuality(NamedTuple):
    """Measures of one image over one region, `mae` in [0, 1]; see the functions of the same names."""

    psnr: float
    ssim: float
    ssim_grey: float
    mae: float


def measure(truth: np.ndarray, result: np.ndarray, mask: np.ndarray) -> tuple[ImageQuality, ImageQuality]:
    """All measures over the whole image and over the hole alone.

    Args:
        truth: uint8 (H, W, 1 or 3), both sides at least 11.
        result: uint8 (H, W, 1 or 3), the composite.
        mask: (H, W) or (H, W, 1) of 0 and 1 or bool, 1 = hole.

    Returns:
        (whole, hole); PSNR as it is, infinite where nothing differs: `capped_psnr` makes it fit for a mean.

    Raises:
        ValueError: not uint8, shapes differ, an image smaller than the window, or a mask without a hole.
    """
    truth, result, hole = _checked(truth, result, mask)
    gaussian, uniform = _gaussian_map(truth, result), _grey_map(truth, result, 7)
    return (
        ImageQuality(
            psnr(truth, result), _interior(gaussian, GAUSSIAN_TAPS), _interior(uniform, 7), mae(truth, result)
        ),
        ImageQuality(
            psnr(truth, result, hole),
            float(gaussian[hole].mean()),
            float(uniform[hole].mean()),
            mae(truth, result, hole),
        ),
    )


def psnr(truth: np.ndarray, result: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio in dB: -10 log10(mean squared difference of values in [0, 1]); inf if it is 0.

    Args:
        truth: uint8 (H, W, 1 or 3).
        result: uint8, of the same shape.
        mask: (H, W) or (H, W, 1), 1 = the pixels that count; None: all.

    Example:
        >>> round(psnr(np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 51, np.uint8)), 6)
        13.9794
    """
    error = float(np.square(_differences(truth, result, mask)).mean())
    return -10 * math.log10(error) if error > 0 else math.inf


def capped_psnr(value: float) -> float:
    """PSNR as it enters means and files: at most 100 dB, so that one identical image does not make a mean infinite."""
    return min(value, MAX_PSNR)


def mae(truth: np.ndarray, result: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Mean absolute difference of values in [0, 1]; arguments as for `psnr`.

    Example:
        >>> mae(np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8))
        1.0
    """
    return float(np.abs(_differences(truth, result, mask)).mean())


def ssim(truth: np.ndarray, result: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Structural similarity (Wang et al., 2004): Gaussian window of 11 taps, sigma 1.5, per channel, then averaged.

    Without a mask it is the mean over the pixels whose window lies inside the image, as scikit-image
    (`gaussian_weights=True, use_sample_covariance=False`) and tf.image compute it. With a mask it is the mean of
    the map over the hole's pixels, all of them: at the border the window sees the image mirrored, as in
    scikit-image's `full=True`. Windows of the hole's edge pixels also see known pixels.

    Args:
        truth: uint8 (H, W, 1 or 3), both sides at least 11.
        result: uint8, of the same shape.
        mask: (H, W) or (H, W, 1), 1 = the pixels that count; None: the interior.
    """
    truth, result, hole = _checked(truth, result, mask)
    similarity = _gaussian_map(truth, result)
    return _interior(similarity, GAUSSIAN_TAPS) if hole is None else float(similarity[hole].mean())


def ssim_grey(truth: np.ndarray, result: np.ndarray, mask: np.ndarray | None = None, window: int = 7) -> float:
    """Structural similarity in the form many inpainting papers publish: grey, uniform window, sample covariance.

    scikit-image's default on ITU-R 601 grey (not rounded). Higher than `ssim` on the same images: compare like
    with like. Borders as in `ssim`.

    Args:
        truth: uint8 (H, W, 1 or 3), both sides at least `window`.
        result: uint8, of the same shape.
        mask: (H, W) or (H, W, 1), 1 = the pixels that count; None: the interior.
        window: side of the window, odd, at least 3; some papers publish 51.
    """
    if window < 3 or window % 2 == 0:
        raise ValueError(f"window must be odd and at least 3, got {window}.")
    truth, result, hole = _checked(truth, result, mask)
    similarity = _grey_map(truth, result, window)
    return _interior(similarity, window) if hole is None else float(similarity[hole].mean())


def _checked(
    truth: np.ndarray, result: np.ndarray, mask: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The arguments with the mask as bool (H, W)."""
    truth, result = np.asarray(truth), np.asarray(result)
    for name, image in (("truth", truth), ("result", result)):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] not in (1, 3) or not image.size:
            raise ValueError(f"{name} must be uint8 (height, width, 1 or 3), got {image.dtype} {image.shape}.")
    if truth.shape != result.shape:
        raise ValueError(f"truth and result must have one shape, got {truth.shape} and {result.shape}.")
    if mask is None:
        return truth, result, None
    mask = np.asarray(mask)
    if mask.shape not in (truth.shape[:2], (*truth.shape[:2], 1)):
        raise ValueError(f"mask must be {truth.shape[:2]} as the images, got {mask.shape}.")
    hole = mask.reshape(truth.shape[:2]).astype(bool)
    if not np.array_equal(hole, mask.reshape(hole.shape)):
        raise ValueError("mask must hold 0 and 1 only.")
    if not hole.any():
        raise ValueError("mask must hold a hole, got 0 everywhere.")
    return truth, result, hole


def _differences(truth: np.ndarray, result: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """float64 of the values that count, in [-1, 1]."""
    truth, result, hole = _checked(truth, result, mask)
    if hole is not None:
        truth, result = truth[hole], result[hole]
    return (truth.astype(np.float64) - result) / 255


def _gaussian_map(truth: np.ndarray, result: np.ndarray) -> np.ndarray:
    """(H, W), the mean of the channels' maps."""
    offsets = np.arange(GAUSSIAN_TAPS) - GAUSSIAN_TAPS // 2
    weights = np.exp(-0.5 * np.square(offsets / _GAUSSIAN_SIGMA))
    weights /= weights.sum()
    similarity = np.zeros(truth.shape[:2])
    for channel in range(truth.shape[-1]):
        similarity += _map(truth[..., channel] / 255, result[..., channel] / 255, weights, 1.0)
    return similarity / truth.shape[-1]


def _grey_map(truth: np.ndarray, result: np.ndarray, window: int) -> np.ndarray:
    x, y = ((image @ _GREY if image.shape[-1] == 3 else image[..., 0]) / 255 for image in (truth, result))
    return _map(x, y, np.full(window, 1 / window), window**2 / (window**2 - 1))


def _map(x: np.ndarray, y: np.ndarray, weights: np.ndarray, covariance_scale: float) -> np.ndarray:
    """SSIM at every pixel of two float64 (H, W)."""
    if min(x.shape) < len(weights):
        raise ValueError(
            f"images must be at least {len(weights)} x {len(weights)}, the window of SSIM, "
            f"got {x.shape[0]} x {x.shape[1]}."
        )
    mean_x, mean_y = _filtered(x, weights), _filtered(y, weights)
    variances = covariance_scale * (_filtered(x * x + y * y, weights) - mean_x**2 - mean_y**2)
    covariance = covariance_scale * (_filtered(x * y, weights) - mean_x * mean_y)
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    return luminance * (2 * covariance + _C2) / (variances + _C2)


def _filtered(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Separable window over (H, W), mirrored at the border with the edge pixel repeated."""
    reach = len(weights) // 2
    for _ in range(2):
        padded = np.pad(values, ((reach, reach), (0, 0)), mode="symmetric")
        filtered = np.zeros_like(values)
        for tap, weight in enumerate(weights):
            filtered += weight * padded[tap : tap + len(values)]
        values = filtered.T
    return values


def _interior(similarity: np.ndarray, window: int) -> float:
    reach = window // 2
    return float(similarity[reach : similarity.shape[0] - reach, reach : similarity.shape[1] - reach].mean())
