"""What is measured inside attentive normalization, against plain loops in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from attennorm_tf.layers import AttentiveNormalization
from attennorm_tf.models import gan_preset
from attennorm_tf.training.attention_monitor import (
    IN_USE,
    AttentionSums,
    attention_layers,
    attention_scalars,
    attention_sums,
    summarize,
    watch_attention,
)


def by_loops(features: np.ndarray, layouts: np.ndarray) -> dict[str, Any]:
    """Figure 4's statistics place by place."""
    features, layouts = features.astype(np.float64), layouts.astype(np.float64)
    n = layouts.shape[-1]
    entropies, wins, region, whole = [], np.zeros(n), np.zeros(n), np.zeros(n)
    for image, layout in zip(features, layouts):
        places: list[list[np.ndarray]] = [[] for _ in range(n)]
        for row in range(layout.shape[0]):
            for column in range(layout.shape[1]):
                parts = layout[row, column]
                entropies.append(-sum(part * np.log(part) for part in parts if part > 0))
                places[int(np.argmax(parts))].append(image[row, column])
        of_map = image.reshape(-1, image.shape[-1]).var(axis=0).mean()
        for entity, values in enumerate(places):
            if values:
                wins[entity] += len(values)
                region[entity] += len(values) * np.var(values, axis=0).mean()
                whole[entity] += len(values) * of_map
    with np.errstate(invalid="ignore"):
        ratios = np.sqrt(region / wins) / np.sqrt(whole / wins)
    return {"entropy": np.mean(entropies), "shares": wins / wins.sum(), "ratios": ratios}


def random_maps(seed: int = 0, batch: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    logits = random.normal(size=(batch, 5, 6, 4)) * 2
    logits[..., 2] = -100.0  # an entity that wins nothing
    logits[1:, ..., 3] = -100.0  # and one that wins only in the first image
    layouts = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    features = 50.0 + random.normal(size=(batch, 5, 6, 7)) + layouts[..., :1] * 3
    return features.astype(np.float32), layouts.astype(np.float32)


def test_statistics_equal_plain_loops() -> None:
    features, layouts = random_maps()
    summary = summarize([attention_sums(tf.constant(features), tf.constant(layouts))])
    expected = by_loops(features, layouts)
    assert summary.entropy == pytest.approx(expected["entropy"], rel=1e-5)
    np.testing.assert_allclose(summary.shares, expected["shares"], rtol=1e-6)
    np.testing.assert_allclose(summary.std_ratios, expected["ratios"], rtol=1e-4)
    assert np.isnan(summary.std_ratios[2])
    assert summary.shares[2] == 0
    assert summary.mean_std_ratio == pytest.approx(np.mean(expected["ratios"][expected["shares"] >= IN_USE]), rel=1e-4)


def test_batches_add_up() -> None:
    features, layouts = random_maps(1, batch=5)
    parts = [
        attention_sums(tf.constant(features[rows]), tf.constant(layouts[rows])) for rows in (slice(2), slice(2, 5))
    ]
    whole = summarize([attention_sums(tf.constant(features), tf.constant(layouts))])
    split = summarize(parts)
    np.testing.assert_allclose(split.std_ratios, whole.std_ratios, rtol=1e-5)
    assert split.entropy == pytest.approx(whole.entropy, rel=1e-5)


def test_regions_that_hold_one_value_each_and_regions_at_random() -> None:
    """Where a region is one value its deviation is 0; a region chosen at random is as wide as the map."""
    layouts = np.zeros((1, 40, 40, 2), np.float32)
    layouts[:, :20, :, 0] = layouts[:, 20:, :, 1] = 1.0
    features = np.where(layouts[..., :1] > 0, 3.0, -1.0).astype(np.float32)
    assert summarize([attention_sums(features, layouts)]).std_ratios == pytest.approx([0.0, 0.0], abs=1e-3)
    noise = np.random.default_rng(0).normal(size=(1, 40, 40, 3)).astype(np.float32)
    assert summarize([attention_sums(noise, layouts)]).std_ratios == pytest.approx([1.0, 1.0], abs=0.05)


def test_constant_maps_have_no_ratio() -> None:
    summary = summarize([attention_sums(np.ones((2, 3, 3, 4), np.float32), np.full((2, 3, 3, 2), 0.5, np.float32))])
    assert summary.mean_std_ratio is None
    assert summary.entropy == pytest.approx(np.log(2))
    layer = AttentiveNormalization(num_entities=2, self_sampling=False)
    layer.build((None, None, None, 4))
    assert attention_scalars(layer, summary, "x_") == {
        "x_rho": 0.0,
        "x_layout_entropy": pytest.approx(np.log(2)),
        "x_entities_in_use": 1.0,
    }


@pytest.mark.parametrize("graph", [False, True])
def test_watching_measures_every_layer_and_changes_nothing(graph: bool) -> None:
    generator, discriminator = gan_preset(
        "attennorm", resolution=16, num_classes=3, width=0.125, channels=1, latent_dim=8, num_entities=4
    )
    inputs = [tf.random.normal([6, 8]), tf.constant([0, 1, 2, 0, 1, 2])]
    generator.attentive_normalization.rho.assign(0.5)
    images, layouts = generator(inputs, return_layout=True)
    layers = {**attention_layers(generator), **attention_layers(discriminator)}
    assert list(layers) == ["generator/block2/attention", "discriminator/block2/attention"]

    def run() -> tf.Tensor:
        made = generator(inputs, training=False)
        discriminator([made, inputs[1]], training=False)
        return made

    def watched() -> tuple[tf.Tensor, dict[str, AttentionSums]]:
        return watch_attention(layers, run)

    again, sums = tf.function(watched)() if graph else watched()
    np.testing.assert_allclose(again, images, atol=1e-5)
    summary = summarize([sums["generator/block2/attention"]])
    expected = by_loops(np.zeros((6, 16, 16, 1)), layouts.numpy())
    np.testing.assert_allclose(summary.shares, expected["shares"], atol=1e-3)
    assert summary.entropy == pytest.approx(expected["entropy"], rel=1e-4)
    assert summarize([sums["discriminator/block2/attention"]]).shares.sum() == pytest.approx(1)
    assert all("call" not in vars(layer) for layer in layers.values())
    np.testing.assert_array_equal(generator(inputs), images)
    with pytest.raises(ZeroDivisionError):
        watch_attention(layers, lambda: 1 / 0)
    assert all("call" not in vars(layer) for layer in layers.values())


def test_the_features_are_the_layers_input() -> None:
    """One layer alone: its input is known, so the ratios must be those of that input."""
    layer = AttentiveNormalization(num_entities=3, seed=0)
    features = np.random.default_rng(3).normal(size=(2, 6, 6, 5)).astype(np.float32) * 4
    layer.build(features.shape)
    layouts = layer.compute_layout(features).numpy()
    _, sums = watch_attention({"one": layer}, lambda: layer(features))
    np.testing.assert_allclose(summarize([sums["one"]]).std_ratios, by_loops(features, layouts)["ratios"], rtol=1e-4)
