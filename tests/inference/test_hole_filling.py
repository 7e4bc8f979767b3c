"""The floors: what they fill, what they leave alone, and what they never see."""

from __future__ import annotations

import re
import sys

import cv2
import numpy as np
import pytest

from attennorm_tf.inference.hole_filling import HOLE_FILLERS, OPENCV_METHODS, fill_telea, fill_with_mean


@pytest.fixture
def image():
    rows, columns = np.mgrid[:32, :40]
    ramp = np.stack([4 * columns, 6 * rows, 255 - 2 * columns - 3 * rows], axis=-1).astype(np.uint8)
    return ramp + np.random.RandomState(0).randint(0, 4, ramp.shape).astype(np.uint8)


@pytest.fixture
def mask():
    mask = np.zeros((32, 40), np.float32)
    mask[10:20, 12:30] = 1
    mask[:3, :4] = 1
    return mask


@pytest.mark.parametrize("name", HOLE_FILLERS)
def test_known_pixels_stay_and_missing_ones_are_not_seen(name, image, mask):
    fill = HOLE_FILLERS[name]
    before = image.copy()
    filled = fill(image, mask)
    assert filled.dtype == np.uint8
    np.testing.assert_array_equal(filled[mask == 0], image[mask == 0])
    assert (filled[mask == 1] != image[mask == 1]).any()
    np.testing.assert_array_equal(image, before)
    other = np.where(mask[..., None] == 1, 255 - image, image)
    np.testing.assert_array_equal(fill(other, mask[..., None].astype(bool)), filled)
    np.testing.assert_array_equal(fill(image, np.zeros_like(mask)), image)


def test_mean_in_float64(image, mask):
    filled = fill_with_mean(image, mask)
    total, count = np.zeros(3), 0
    for row, column in np.ndindex(32, 40):
        if not mask[row, column]:
            total += image[row, column]
            count += 1
    np.testing.assert_array_equal(np.unique(filled[mask == 1], axis=0), [np.round(total / count)])


@pytest.mark.parametrize(("name", "flag"), [("Telea", cv2.INPAINT_TELEA), ("Navier-Stokes", cv2.INPAINT_NS)])
def test_it_is_opencv_with_radius_3(name, flag, image, mask):
    mask[:3, :4] = 0  # at the border OpenCV reads the hole
    expected = cv2.inpaint(image[..., ::-1].copy(), np.uint8(mask) * 255, 3, flag)[..., ::-1]
    np.testing.assert_array_equal(HOLE_FILLERS[name](image, mask), expected)
    # A smooth ramp is continued: far better than one colour.
    errors = {key: np.abs(fill(image, mask) - image.astype(float)).mean() for key, fill in HOLE_FILLERS.items()}
    assert errors[name] < errors["mean of known"] / 2
    assert name in OPENCV_METHODS


def test_without_opencv(monkeypatch, image, mask):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'attennorm_tf[evaluation]'")):
        fill_telea(image, mask)
    fill_with_mean(image, mask)


@pytest.mark.parametrize("name", HOLE_FILLERS)
def test_bad_arguments(name, image, mask):
    fill = HOLE_FILLERS[name]
    for arguments, message in (
        ((image / 255, mask), "image must be uint8 (height, width, 3), got float64 (32, 40, 3)"),
        ((image[..., 0], mask), "image must be uint8 (height, width, 3), got uint8 (32, 40)"),
        ((image, mask[:-1]), "mask must be (32, 40) as the image, got (31, 40)"),
        ((image, np.ones_like(mask)), "mask must leave at least one known pixel"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            fill(*arguments)
