"""The reconstruction loss and its weights against loops in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from attennorm_tf.losses import reconstruction_loss, reconstruction_weights


def holes() -> np.ndarray:
    """A rectangle, one at the border, a lone pixel, a blob."""
    masks = np.zeros((4, 14, 13, 1), np.float32)
    masks[0, 3:12, 2:11] = 1
    masks[1, 5:, :7] = 1
    masks[2, 4, 4] = 1
    masks[3] = np.random.default_rng(0).random((14, 13, 1)) < 0.8
    return masks


def distance(mask: np.ndarray, place: tuple[int, int]) -> int:
    """Steps to the eight neighbours from `place` to the nearest known pixel."""
    known = np.argwhere(mask[..., 0] == 0)
    return int(np.abs(known - place).max(axis=1).min())


@pytest.mark.parametrize("discount", [0.0, 0.5, 0.9])
def test_weights_are_the_discounted_distance(discount: float) -> None:
    masks = holes()
    weights = reconstruction_weights(masks, hole_weight=3.0, discount=discount).numpy()
    for image, mask in enumerate(masks):
        for place in np.ndindex(mask.shape[:2]):
            expected = 1.0
            if mask[place][0]:
                expected = 3.0 * (discount ** distance(mask, place) if discount else 1.0)
            assert weights[image][place][0] == pytest.approx(expected, abs=1e-4)


def test_loss_is_the_weighted_mean_of_each_example() -> None:
    generator = np.random.default_rng(1)
    outputs, images = (generator.uniform(-1, 1, (3, 5, 4, 3)) for _ in range(2))
    weights = generator.uniform(0, 2, (3, 5, 4, 1))
    losses = reconstruction_loss(
        tf.cast(outputs, tf.bfloat16), tf.cast(images, tf.float32), tf.cast(weights, tf.float32)
    )
    assert losses.dtype == tf.float32
    np.testing.assert_allclose(losses, (np.abs(outputs - images) * weights).mean(axis=(1, 2, 3)), atol=4e-3)
