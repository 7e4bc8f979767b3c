"""How colours look to a colour-blind reader, and how far colours are apart."""

from __future__ import annotations

import numpy as np

# Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency" (2009),
# severity 1, for linear RGB.
_MATRICES = {
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
DEFICIENCIES = tuple(_MATRICES)
# IEC 61966-2-1, white point D65.
_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))


def simulate(pixels: np.ndarray, deficiency: str) -> np.ndarray:
    """A picture as a reader sees it who lacks one kind of cones.

    Args:
        pixels: uint8 (..., 3), sRGB.
        deficiency: "protanopia", "deuteranopia" or "tritanopia".

    Returns:
        uint8 (..., 3).

    Raises:
        ValueError: another deficiency, or pixels that are not uint8 RGB.

    Example:
        >>> red_and_green = np.array([[200, 60, 0], [120, 120, 0]], np.uint8)
        >>> simulate(red_and_green, "deuteranopia").tolist()
        [[137, 121, 0], [132, 117, 18]]
    """
    if deficiency not in _MATRICES:
        raise ValueError(f"deficiency must be one of {', '.join(DEFICIENCIES)}; got {deficiency!r}.")
    pixels = np.asarray(pixels)
    if pixels.dtype != np.uint8 or pixels.shape[-1:] != (3,):
        raise ValueError(f"pixels must be uint8 (..., 3), got {pixels.dtype} {pixels.shape}.")
    light = np.clip(_linear(pixels) @ np.transpose(_MATRICES[deficiency]), 0.0, 1.0)
    values = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(255 * values).astype(np.uint8)


def to_lab(pixels: np.ndarray) -> np.ndarray:
    """uint8 (..., 3), sRGB, to CIELAB: float64 (..., 3), lightness in [0, 100] first."""
    xyz = _linear(pixels) @ np.transpose(_XYZ) / np.sum(_XYZ, axis=1)
    roots = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(roots, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _linear(pixels: np.ndarray) -> np.ndarray:
    values = np.asarray(pixels, np.float64) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
