"""Figure 4's numbers against loops, and the sheet that shows them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from attennorm_tf.training.attention_monitor import attention_sums, summarize
from attennorm_tf.visualization import layout_colors, region_statistics, statistics_sheet
from attennorm_tf.visualization.statistics_sheet import _pair_format


def _features_and_layouts(seed=0, b=3, h=5, w=7, c=4, n=6):
    random = np.random.RandomState(seed)
    layouts = random.dirichlet(np.ones(n), size=(b, h, w))
    layouts[..., 4] = 0  # wins nothing
    return 100 + random.normal(size=(b, h, w, c)) * np.array([1, 2, 3, 4]), layouts


def test_against_loops():
    features, layouts = _features_and_layouts()
    found = region_statistics(features, layouts)
    for image in range(3):
        pixels = features[image].reshape(-1, 4)
        np.testing.assert_allclose(found.map_means[image], pixels.mean(axis=0))
        np.testing.assert_allclose(found.map_stds[image], pixels.std(axis=0))
        for entity in range(6):
            chosen = [
                features[image, y, x]
                for y in range(5)
                for x in range(7)
                if max(range(6), key=lambda k: layouts[image, y, x, k]) == entity
            ]
            assert found.shares[image, entity] == pytest.approx(len(chosen) / 35)
            if not chosen:
                assert np.isnan(found.means[image, entity]).all()
                assert np.isnan(found.ratios[image, entity])
                continue
            np.testing.assert_allclose(found.means[image, entity], np.mean(chosen, axis=0))
            np.testing.assert_allclose(found.stds[image, entity], np.std(chosen, axis=0), atol=1e-9)
            assert found.mean[image, entity] == pytest.approx(np.mean(chosen))
            rms = np.sqrt(np.mean(np.std(chosen, axis=0) ** 2))
            assert found.std[image, entity] == pytest.approx(rms, abs=1e-9)
            whole = np.sqrt(np.mean(np.std(pixels, axis=0) ** 2))
            assert found.ratios[image, entity] == pytest.approx(rms / whole, abs=1e-9)
    assert (found.shares[:, 4] == 0).all()


def test_agrees_with_what_training_logs():
    """One image: the log's root mean square over images is this image's own."""
    features, layouts = _features_and_layouts(seed=3, b=1)
    found = region_statistics(features, layouts)
    logged = summarize([attention_sums(features.astype(np.float32), layouts.astype(np.float32))])
    np.testing.assert_allclose(found.std[0], logged.region_std, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.ratios[0], logged.std_ratios, rtol=1e-3, atol=1e-3)


def test_parts_make_the_whole():
    """Law of total variance: within regions and between them."""
    features, layouts = _features_and_layouts(seed=1)
    found = region_statistics(features, layouts)
    shares = found.shares[..., None]
    means, stds = np.nan_to_num(found.means), np.nan_to_num(found.stds)
    mean = (shares * means).sum(axis=1)
    np.testing.assert_allclose(mean, found.map_means)
    variance = (shares * (stds**2 + (means - mean[:, None]) ** 2)).sum(axis=1)
    np.testing.assert_allclose(np.sqrt(variance), found.map_stds)


def test_a_constant_map_has_no_ratio():
    found = region_statistics(np.full((1, 2, 2, 3), 7.0), np.eye(2)[np.array([[[0, 1], [0, 1]]])])
    assert found.map_std.tolist() == [0.0]
    assert np.isnan(found.ratios).all()
    assert statistics_sheet(np.zeros((1, 16, 16, 1)), np.eye(2)[np.array([[[0, 1], [0, 1]]])], found).ndim == 3


def test_bad_features():
    features, layouts = _features_and_layouts()
    for arguments, message in (
        ((features[:, :4], layouts), "must belong together, got (3, 4, 7, 4) and (3, 5, 7, 6)"),
        ((features * np.nan, layouts), "features hold values that are not finite"),
        ((features, layouts * np.nan), "layouts hold values that are not finite"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            region_statistics(*arguments)


def test_sheet_shows_the_largest_regions():
    layouts = np.eye(4)[np.zeros((2, 16, 16), int)]
    layouts[0, :, 12:] = np.eye(4)[3]
    layouts[1, :4] = np.eye(4)[2]
    layouts[1, 15] = np.eye(4)[1]
    features = np.random.RandomState(0).normal(size=(2, 16, 16, 3))
    images = np.random.RandomState(1).uniform(-1, 1, (2, 16, 16, 3))
    sheet = statistics_sheet(images, layouts, region_statistics(features, layouts), max_regions=2)
    step, block = 112 + 6, 53 + 112 + 12
    assert sheet.shape == (22 + 2 * block, 6 + 3 * step, 3)
    for row, entities in enumerate(((0, 3), (0, 2))):
        for column, entity in enumerate(entities, 1):
            top, left = 22 + row * block, 6 + column * step
            np.testing.assert_array_equal(sheet[top + 5, left + 5], layout_colors(4)[entity])
            tile = sheet[top + 53 :, left:][:112, :112][3::7, 3::7].max(axis=-1)
            inside = layouts[row].argmax(axis=-1) == entity
            assert tile[inside].min() > tile[~inside].max()  # whatever the image shows there
    with pytest.raises(ValueError, match="max_regions must be at least 1, got 0"):
        statistics_sheet(images, layouts, region_statistics(features, layouts), max_regions=0)
    with pytest.raises(ValueError, match="statistics must be of these 1 images and 4 entities, got those of 2 and 4"):
        statistics_sheet(images[:1], layouts[:1], region_statistics(features, layouts))


@pytest.mark.parametrize(
    ("scale", "expected"),
    [(1.0, "-0.12, 0.50"), (0.004, "-0.1235, 0.5000"), (250.0, "0, 0"), (0.0, "-0.12, 0.50"), (30.0, "-0.1, 0.5")],
)
def test_decimals_follow_the_deviation(scale, expected):
    assert _pair_format(scale)(-0.123456, 0.5) == expected
