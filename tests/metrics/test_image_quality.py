"""The measures of finished images against scikit-image, tf.image and closed forms."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import skimage.metrics
import tensorflow as tf

from attennorm_tf.metrics import MAX_PSNR, capped_psnr, mae, measure, psnr, ssim, ssim_grey

GREY = (0.299, 0.587, 0.114)


def _pair(height=40, width=33, channels=3, noise=25, seed=0):
    """A smooth picture and a damaged copy, with constant patches in both."""
    random = np.random.RandomState(seed)
    rows, columns = np.mgrid[:height, :width]
    truth = 127 + 100 * np.sin(rows / 5 + seed)[..., None] * np.cos(columns / 7)[..., None] * np.ones(channels)
    truth += random.uniform(-20, 20, truth.shape)
    truth[:14, :14] = 200
    result = truth + random.normal(0, noise, truth.shape)
    result[:14, :14] = 200
    return tuple(np.clip(np.round(image), 0, 255).astype(np.uint8) for image in (truth, result))


def _hole(height=40, width=33):
    hole = np.zeros((height, width), bool)
    hole[10:30, 20:33] = True  # reaches the border
    hole[0, 0] = True
    return hole


def _skimage_ssim(truth, result, **options):
    return skimage.metrics.structural_similarity(
        truth / 255, result / 255, channel_axis=-1, data_range=1, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, **options,
    )  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("noise", [1, 25, 90])
def test_whole_image_against_scikit_image_and_tf_image(channels, noise):
    truth, result = _pair(channels=channels, noise=noise)
    batch = [tf.constant(image[None] / 255, tf.float32) for image in (truth, result)]
    expected = skimage.metrics.peak_signal_noise_ratio(truth, result, data_range=255)
    assert psnr(truth, result) == pytest.approx(expected, abs=1e-9)
    assert psnr(truth, result) == pytest.approx(float(tf.image.psnr(*batch, 1.0)[0]), abs=1e-5)
    assert ssim(truth, result) == pytest.approx(_skimage_ssim(truth, result), abs=1e-9)
    # float32, whose variances are differences of squares
    assert ssim(truth, result) == pytest.approx(float(tf.image.ssim(*batch, 1.0)[0]), abs=2e-5)
    grey = [image @ GREY if channels == 3 else image[..., 0].astype(float) for image in (truth, result)]
    for window, options in ((7, {}), (11, {"win_size": 11})):
        expected = skimage.metrics.structural_similarity(*grey, data_range=255, **options)
        assert ssim_grey(truth, result, window=window) == pytest.approx(expected, abs=1e-9)
    assert mae(truth, result) == pytest.approx(np.abs(truth / 255 - result / 255).mean(), abs=1e-12)


def test_hole_alone_against_scikit_image():
    truth, result = _pair()
    hole = _hole()
    expected = skimage.metrics.peak_signal_noise_ratio(truth[hole], result[hole], data_range=255)
    assert psnr(truth, result, hole) == pytest.approx(expected, abs=1e-9)
    assert mae(truth, result, hole[..., None]) == pytest.approx(
        np.abs(truth[hole] / 255 - result[hole] / 255).mean(), abs=1e-12
    )
    _, similarity = _skimage_ssim(truth, result, full=True)
    assert ssim(truth, result, hole) == pytest.approx(similarity[hole].mean(), abs=1e-9)
    _, similarity = skimage.metrics.structural_similarity(truth @ GREY, result @ GREY, data_range=255, full=True)
    assert ssim_grey(truth, result, hole) == pytest.approx(similarity[hole].mean(), abs=1e-9)


def test_all_at_once_is_each_alone():
    truth, result = _pair()
    hole = _hole()
    whole, inside = measure(truth, result, hole)
    functions = (psnr, ssim, ssim_grey, mae)
    assert whole == pytest.approx(tuple(function(truth, result) for function in functions), abs=1e-15)
    assert inside == pytest.approx(tuple(function(truth, result, hole) for function in functions), abs=1e-15)
    assert whole._fields == tuple(function.__name__ for function in functions)


def test_known_pixels_do_not_enter_the_hole():
    truth, result = _pair()
    hole = _hole()
    other = np.where(hole[..., None], result, 255 - truth)
    assert psnr(truth, other, hole) == psnr(truth, result, hole)
    assert mae(truth, other, hole) == mae(truth, result, hole)
    assert psnr(truth, other) < psnr(truth, result)


def test_identical_and_opposite_images():
    truth, _ = _pair()
    whole, inside = measure(truth, truth, _hole())
    assert whole == inside == (math.inf, 1.0, 1.0, 0.0)
    assert capped_psnr(whole.psnr) == MAX_PSNR == 100
    assert capped_psnr(31.5) == 31.5
    black = np.zeros((12, 12, 3), np.uint8)
    white = black + 255
    whole, _ = measure(black, white, np.ones((12, 12)))
    assert whole.psnr == 0
    assert whole.mae == 1
    assert whole.ssim == pytest.approx(1e-4 / (1 + 1e-4), abs=1e-12)  # C1 / (1 + C1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"truth": np.zeros((16, 16, 3))}, "truth must be uint8 (height, width, 1 or 3), got float64 (16, 16, 3)"),
        ({"result": np.zeros((16, 16), np.uint8)}, "result must be uint8 (height, width, 1 or 3), got uint8 (16, 16)"),
        ({"result": np.zeros((16, 15, 3), np.uint8)}, "one shape, got (16, 16, 3) and (16, 15, 3)"),
        ({"mask": np.ones((16, 15))}, "mask must be (16, 16) as the images, got (16, 15)"),
        ({"mask": np.zeros((16, 16))}, "mask must hold a hole, got 0 everywhere"),
        ({"mask": np.full((16, 16), 255)}, "mask must hold 0 and 1 only"),
    ],
)
def test_bad_arguments(change, message):
    image = np.zeros((16, 16, 3), np.uint8)
    arguments = {"truth": image, "result": image, "mask": np.ones((16, 16)), **change}
    for function in (measure, psnr, mae, ssim, ssim_grey):
        with pytest.raises(ValueError, match=re.escape(message)):
            function(**arguments)


def test_images_smaller_than_the_window():
    image = np.zeros((10, 20, 3), np.uint8)
    with pytest.raises(ValueError, match=r"images must be at least 11 x 11, the window of SSIM, got 10 x 20"):
        ssim(image, image)
    assert ssim_grey(image, image) == 1
    for window in (8, 1):
        with pytest.raises(ValueError, match=f"window must be odd and at least 3, got {window}"):
            ssim_grey(image, image, window=window)
