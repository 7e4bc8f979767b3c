"""The folded networks compute what the Keras models compute; far channels, every option of attentive normalization."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from attennorm_tf.export.folded_layers import batch_norm_affine
from attennorm_tf.export.folded_networks import folded_network
from attennorm_tf.layers.conditional_batch_normalization import ConditionalBatchNormalization
from tests.export.exported import shaken_inpainter
from tests.inference.gan_runs import tiny_generator

OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "supplement": {"stage2_input": "concat", "preset": "release"},
    "batch": {"normalization": "batch"},
    "weighted": {"statistics": "weighted", "affine": "per_entity"},
    "plain": {"value_projection": False, "affine": ""},
    "plain batch": {"value_projection": False, "normalization": "batch", "affine": "per_entity"},
    "contextual": {"network": "contextual"},
}
RANDOM = np.random.RandomState(0)
IMAGES = RANDOM.uniform(-1, 1, (2, 16, 24, 3)).astype(np.float32)
MASKS = (RANDOM.uniform(size=(2, 16, 24, 1)) > 0.7).astype(np.float32)


@pytest.mark.parametrize("name", OPTIONS)
def test_inpainting_networks(name: str) -> None:
    model = shaken_inpainter(**OPTIONS[name])
    found = folded_network(model)(tf.constant(IMAGES), tf.constant(MASKS))
    if name == "contextual":
        np.testing.assert_allclose(found["outputs"], model([IMAGES, MASKS])[1], atol=1e-5)
        assert set(found) == {"outputs"}
        return
    _, fine, layout = model([IMAGES, MASKS], return_layout=True)
    np.testing.assert_allclose(found["outputs"], fine, atol=1e-5)
    np.testing.assert_allclose(found["layout"], layout, atol=1e-6)
    assert np.ptp(layout.numpy(), axis=(1, 2)).max() > 1e-3  # a layout that is all alike would prove nothing


@pytest.mark.parametrize("preset", ["attennorm", "attennorm_bn", "sagan", "sngan_star"])
def test_generators(preset: str) -> None:
    model = tiny_generator(1, preset=preset)
    latents, ids = tf.constant(RANDOM.standard_normal((3, 8)), tf.float32), tf.constant([0, 2, 1])
    weights = tf.constant(RANDOM.dirichlet(np.ones(3), 3), tf.float32)
    network = folded_network(model)
    for labels in (ids, weights):
        found = network(latents, labels)
        np.testing.assert_allclose(found["images"], model([latents, labels], training=False), atol=1e-5)
    assert ("layout" in found) == preset.startswith("attennorm")
    assert not [variable for variable in network.variables if "/u" in variable.name or "rho" in variable.name]


def test_a_channel_far_from_zero_is_centred() -> None:
    """mean = 1e4 std: x * scale - mean * scale would be off by 1e-3 and more."""
    layer = ConditionalBatchNormalization(2)
    layer.build(((None, 4, 4, 3), (None,)))
    layer.moving_mean.assign([1e4, 0.5, -3e4])
    affine = batch_norm_affine(layer)
    np.testing.assert_array_equal(affine.mean, [1e4, 0, -3e4])
    x = np.float32(layer.moving_mean + 1.25)
    here = (x - np.float32(affine.mean)) * np.float32(affine.scale[0]) + np.float32(affine.offset[0])
    np.testing.assert_allclose(here, (x.astype(float) - [1e4, 0.5, -3e4]) / np.sqrt(1 + 1e-5), rtol=1e-6)


def test_another_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model must be an InpaintingGenerator, .*, got Sequential"):
        folded_network(tf.keras.Sequential())
