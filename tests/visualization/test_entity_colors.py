"""Colours of entities: the same everywhere, and told apart by every kind of colour vision."""

from __future__ import annotations

import re

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from attennorm_tf.visualization import layout_colors, simulate
from attennorm_tf.visualization.color_vision import DEFICIENCIES, to_lab
from attennorm_tf.visualization.entity_colors import heat_colors, ink_on

# Vienot, Brettel and Mollon, "Digital Video Colourmaps for Checking the Legibility of Displays by Dichromats" (1999),
# for linear sRGB: another model than the one of `simulate`. It has none for tritanopia.
VIENOT = {
    "protanopia": [[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]],
    "deuteranopia": [[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]],
}


def _by_vienot(colors, deficiency):
    light = np.where(colors <= 10.31, colors / 255 / 12.92, ((colors / 255 + 0.055) / 1.055) ** 2.4)
    light = np.clip(light @ np.array(VIENOT[deficiency]).T, 0, 1)
    return np.round(255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055))


def _differences(colors):
    """CIEDE2000 of all pairs, the smallest over six kinds of vision; 2.3 is just noticeable."""
    seen = [colors, *(simulate(colors, name) for name in DEFICIENCIES), *(_by_vienot(colors, name) for name in VIENOT)]
    labs = [rgb2lab(np.asarray(one, float) / 255) for one in seen]
    return np.min([deltaE_ciede2000(lab[:, None], lab[None]) for lab in labs], axis=0)


def test_a_color_is_the_same_whatever_their_number():
    colors = layout_colors(50)
    for n in (1, 5, 16, 32, 33, 49):
        np.testing.assert_array_equal(layout_colors(n), colors[:n])
    assert colors.dtype == np.uint8
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        layout_colors(0)


@pytest.mark.parametrize(("n", "smallest"), [(8, 10.8), (16, 10.8), (32, 8.3), (40, 3.0)])
def test_every_eye_tells_any_two_apart(n, smallest):
    colors = np.concatenate([layout_colors(n), np.full((1, 3), 255, np.uint8)])  # and each from the sheet
    differences = _differences(colors) + 100 * np.eye(n + 1)
    assert differences.min() >= smallest, np.unravel_index(differences.argmin(), differences.shape)


def test_simulation_against_the_other_model():
    """Greys stay, colours that dichromats confuse come out alike in both models, those they tell apart do not."""
    greys = np.arange(0, 256, 15, dtype=np.uint8)[:, None].repeat(3, axis=1)
    for deficiency in DEFICIENCIES:
        assert np.abs(simulate(greys, deficiency).astype(int) - greys).max() <= 1
    colors = np.random.RandomState(0).randint(0, 256, (200, 3)).astype(np.uint8)
    for deficiency in VIENOT:
        ours, theirs = simulate(colors, deficiency), _by_vienot(colors.astype(float), deficiency)
        difference = deltaE_ciede2000(rgb2lab(ours / 255), rgb2lab(theirs / 255))
        changed = deltaE_ciede2000(rgb2lab(colors / 255), rgb2lab(theirs / 255))
        assert np.median(difference) < 0.4 * np.median(changed)
    np.testing.assert_allclose(to_lab(colors), rgb2lab(colors / 255), atol=0.02)


def test_bad_simulation():
    with pytest.raises(ValueError, match=r"must be one of protanopia, deuteranopia, tritanopia; got 'blindness'"):
        simulate(np.zeros((1, 3), np.uint8), "blindness")
    with pytest.raises(ValueError, match=re.escape("pixels must be uint8 (..., 3), got float64 (1, 3)")):
        simulate(np.zeros((1, 3)), "protanopia")


def test_a_heat_map_grows_lighter_to_every_eye():
    colors = heat_colors(np.linspace(0, 2, 101)[None])[0]
    for seen in (colors, *(simulate(colors, deficiency) for deficiency in DEFICIENCIES)):
        lightness = rgb2lab(seen / 255)[:, 0]
        assert (np.diff(lightness) > 0).all()
        assert lightness[-1] - lightness[0] > 75
    np.testing.assert_array_equal(heat_colors(np.array([[0.0, 1.0]]), highest=2.0)[0, 1], colors[50])
    assert len(np.unique(heat_colors(np.zeros((1, 3, 3))).reshape(-1, 3), axis=0)) == 1


def test_numbers_can_be_read_on_every_color():
    def luminance(color):
        light = np.where(color <= 10.31, color / 255 / 12.92, ((color / 255 + 0.055) / 1.055) ** 2.4)
        return light @ (0.2126, 0.7152, 0.0722)

    for color in layout_colors(32):
        lighter, darker = sorted((luminance(color), luminance(np.array(ink_on(color)))), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, color  # what WCAG asks for
