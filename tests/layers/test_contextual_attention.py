"""Contextual attention against plain loops written from its description (specification 3), in float64."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf

from attennorm_tf.layers import ContextualAttention
from attennorm_tf.layers.contextual_attention import contextual_attention, resize_nearest_aligned


def aligned(size: int, wanted: int) -> list[int]:
    """Where nearest-neighbour resizing with aligned corners reads."""
    if wanted == 1:
        return [0]
    return [int(Fraction(place * (size - 1), wanted - 1) + Fraction(1, 2)) for place in range(wanted)]


def halved(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    return image[aligned(height, (height + 1) // 2)][:, aligned(width, (width + 1) // 2)]


def patch(image: np.ndarray, top: int, left: int, size: int) -> np.ndarray:
    """size x size pixels from (top, left) on, zeros outside the image."""
    found = np.zeros((size, size, image.shape[-1]))
    for y in range(size):
        for x in range(size):
            if 0 <= top + y < image.shape[0] and 0 <= left + x < image.shape[1]:
                found[y, x] = image[top + y, left + x]
    return found


def diagonal_sums(scores: np.ndarray, places: list, places_b: list) -> np.ndarray:
    """A 3x3 identity convolution over the score map, its axes in the orders given; scores (h, w, hb, wb)."""
    fused = np.zeros_like(scores)
    for i, place in enumerate(places):
        for j, place_b in enumerate(places_b):
            for step in (-1, 0, 1):
                if 0 <= i + step < len(places) and 0 <= j + step < len(places_b):
                    fused[place + place_b] += scores[places[i + step] + places_b[j + step]]
    return fused


def by_loops(f: np.ndarray, b: np.ndarray, mask: np.ndarray, scale: float, fuse: bool) -> tuple[np.ndarray, np.ndarray]:
    """One image, the nine steps."""
    small_f, small_b, small_mask = halved(f), halved(b), halved(mask)
    h, w = small_f.shape[:2]
    hb, wb = small_b.shape[:2]
    rows = [(y, x) for y in range(h) for x in range(w)]
    rows_b = [(y, x) for y in range(hb) for x in range(wb)]
    scores = np.zeros((h, w, hb, wb))
    valid = np.zeros((hb, wb))
    for yb, xb in rows_b:
        compared = patch(small_b, yb - 1, xb - 1, 3)
        compared = compared / max(np.sqrt((compared**2).sum()), 1e-4)
        valid[yb, xb] = np.all(patch(small_mask, yb - 1, xb - 1, 3) == 0)
        for y, x in rows:
            scores[y, x, yb, xb] = (patch(small_f, y - 1, x - 1, 3) * compared).sum()
    if fuse:
        columns = [(y, x) for x in range(w) for y in range(h)]
        columns_b = [(y, x) for x in range(wb) for y in range(hb)]
        scores = diagonal_sums(diagonal_sums(scores, rows, rows_b), columns, columns_b)
    offsets = np.zeros((h, w, 2), int)
    canvas = np.zeros((2 * h + 2, 2 * w + 2, b.shape[-1]))  # one pixel of border on each side
    for y, x in rows:
        logits = scale * scores[y, x] * valid
        weights = np.exp(logits - logits.max())
        weights = weights / weights.sum() * valid
        best = np.unravel_index(np.argmax(weights), weights.shape)
        offsets[y, x] = best[0] - y, best[1] - x
        for yb, xb in rows_b:
            canvas[2 * y : 2 * y + 4, 2 * x : 2 * x + 4] += weights[yb, xb] * patch(b, 2 * yb - 1, 2 * xb - 1, 4)
    return canvas[1 : 1 + f.shape[0], 1 : 1 + f.shape[1]] / 4, offsets


def drawn(sizes: tuple[int, int], sizes_b: tuple[int, int], holes: list, channels: int = 2) -> tuple:
    """Foregrounds, backgrounds, and masks that are missing in the slices given, one for each image."""
    generator = np.random.default_rng(3)
    masks = np.zeros((len(holes), *sizes_b, 1))
    for mask, hole in zip(masks, holes):
        mask[hole] = 1
    shapes = ((len(holes), *sizes, channels), (len(holes), *sizes_b, channels))
    return (*(generator.normal(size=shape) for shape in shapes), masks)


NOTHING, EVERYTHING = np.s_[:0], np.s_[:]
SQUARE, CORNER, COLUMN = np.s_[2:5, 3:6], np.s_[:3, :2], np.s_[:, 3:4]


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize(
    ("sizes", "sizes_b", "holes"),
    [
        ((8, 10), (8, 10), [SQUARE, CORNER, NOTHING, EVERYTHING]),
        ((7, 5), (7, 5), [COLUMN, NOTHING]),
        ((6, 8), (10, 4), [CORNER, COLUMN]),
        ((1, 1), (1, 1), [NOTHING, EVERYTHING]),
    ],
    ids=["even", "odd", "other_background", "one_pixel"],
)
def test_is_the_loops(sizes: tuple, sizes_b: tuple, holes: list, fuse: bool) -> None:
    arrays = drawn(sizes, sizes_b, holes)
    outputs, offsets = contextual_attention(*map(tf.constant, arrays), softmax_scale=3.0, fuse=fuse)
    assert outputs.dtype == tf.float64
    assert offsets.dtype == tf.int32
    for index, one in enumerate(zip(*arrays)):
        expected, expected_offsets = by_loops(*one, scale=3.0, fuse=fuse)
        np.testing.assert_allclose(outputs[index], expected, atol=1e-12)
        np.testing.assert_array_equal(offsets[index], expected_offsets)


def test_unknown_sizes_in_a_graph_are_the_loops() -> None:
    spec = [tf.TensorSpec([None, None, None, channels], tf.float64) for channels in (2, 2, 1)]
    compiled = tf.function(contextual_attention, input_signature=spec)
    for sizes in ((8, 6), (5, 7)):
        arrays = drawn(sizes, sizes, [CORNER, NOTHING])
        outputs, offsets = compiled(*map(tf.constant, arrays))
        for index, one in enumerate(zip(*arrays)):
            expected, expected_offsets = by_loops(*one, scale=10.0, fuse=True)
            np.testing.assert_allclose(outputs[index], expected, atol=1e-12)
            np.testing.assert_array_equal(offsets[index], expected_offsets)


def test_faint_patches_are_not_brought_to_norm_one() -> None:
    foreground, background, masks = drawn((6, 6), (6, 6), [CORNER])
    background *= 1e-5
    outputs, _ = contextual_attention(*map(tf.constant, (foreground, background, masks)))
    expected, _ = by_loops(foreground[0], background[0], masks[0], scale=10.0, fuse=True)
    np.testing.assert_allclose(outputs[0] * 1e5, expected * 1e5, atol=1e-12)


def test_nothing_valid_gives_zeros() -> None:
    foreground, background, masks = map(tf.constant, drawn((8, 8), (8, 8), [EVERYTHING]))
    outputs, _ = contextual_attention(foreground, background, masks)
    np.testing.assert_array_equal(outputs, tf.zeros_like(outputs))


def test_a_repeated_picture_is_rebuilt_from_its_known_half() -> None:
    """Left and right half are the same; the left one's middle is missing and looks as far right as the halves lie."""
    half = np.random.default_rng(0).normal(size=(1, 8, 8, 8)).repeat(2, axis=1).repeat(2, axis=2)
    whole = np.concatenate([half, half], axis=2)
    masks = np.zeros((1, 16, 32, 1))
    masks[:, 4:12, 4:12] = 1
    outputs, offsets = contextual_attention(*map(tf.constant, (whole, whole * (1 - masks), masks)))
    np.testing.assert_allclose(outputs[0, 5:11, 5:11], half[0, 5:11, 5:11], atol=1e-6)
    np.testing.assert_array_equal(offsets[0, 2:6, 2:6], np.broadcast_to([0, 8], (4, 4, 2)))


@pytest.mark.parametrize("fuse", [True, False])
def test_gradients_are_the_finite_differences(fuse: bool) -> None:
    foreground, background, masks = drawn((6, 8), (6, 8), [SQUARE, CORNER, EVERYTHING])
    generator = np.random.default_rng(4)
    upstream = generator.normal(size=foreground.shape)

    def loss(f: np.ndarray, b: np.ndarray) -> tf.Tensor:
        outputs, _ = contextual_attention(f, b, tf.constant(masks), softmax_scale=2.0, fuse=fuse)
        return tf.reduce_sum(outputs * upstream)

    sources = [tf.constant(foreground), tf.constant(background)]
    with tf.GradientTape() as tape:
        tape.watch(sources)
        value = loss(*sources)
    gradients = tape.gradient(value, sources)
    assert all(np.abs(gradient[:2]).max() > 1e-3 for gradient in gradients)
    for _ in range(3):
        steps = [generator.normal(size=foreground.shape) for _ in sources]
        size = 1e-6
        ahead, behind = (
            float(loss(*(source + sign * size * step for source, step in zip(sources, steps)))) for sign in (1, -1)
        )
        expected = sum(float(tf.reduce_sum(gradient * step)) for gradient, step in zip(gradients, steps))
        np.testing.assert_allclose((ahead - behind) / (2 * size), expected, rtol=1e-6)


def test_a_constant_background_has_finite_gradients() -> None:
    """Patches of zeros have a norm of 0, whose square root has no derivative."""
    sources = [tf.zeros([1, 4, 4, 2]), tf.zeros([1, 4, 4, 2])]
    with tf.GradientTape() as tape:
        tape.watch(sources)
        outputs, _ = contextual_attention(*sources, tf.zeros([1, 4, 4, 1]))
    for gradient in tape.gradient(outputs, sources):
        assert np.isfinite(gradient).all()


def test_images_of_a_batch_do_not_meet() -> None:
    arrays = drawn((6, 6), (6, 6), [CORNER, COLUMN])
    together, _ = contextual_attention(*map(tf.constant, arrays))
    alone, _ = contextual_attention(*(tf.constant(array[:1]) for array in arrays))
    np.testing.assert_allclose(together[:1], alone, atol=1e-12)
    arrays[0][1, 0, 0, 0] = np.nan
    spoilt, _ = contextual_attention(*map(tf.constant, arrays))
    np.testing.assert_array_equal(spoilt[:1], together[:1])


@pytest.mark.parametrize("size", [1, 2, 3, 8, 9, 64, 128])
def test_nearest_resizing_is_tensorflow_1s(size: int) -> None:
    images = tf.random.normal([2, size, 6, 3])
    for wanted in {(size + 1) // 2, max(size // 4, 1), size, 2 * size}:
        expected = tf.raw_ops.ResizeNearestNeighbor(images=images, size=[wanted, 3], align_corners=True)
        np.testing.assert_array_equal(resize_nearest_aligned(images, wanted, 3), expected)


def test_offsets_through_the_layer() -> None:
    arrays = [tf.constant(array, tf.float32) for array in drawn((8, 6), (8, 6), [CORNER, NOTHING])]
    outputs, offsets = ContextualAttention()(arrays, return_offsets=True)
    expected, expected_offsets = contextual_attention(*arrays)
    np.testing.assert_array_equal(outputs, expected)
    np.testing.assert_array_equal(offsets, expected_offsets)
    assert offsets.shape == (2, 4, 3, 2)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((1, 4, 4, 2), (1, 4, 4, 3), (1, 4, 4, 1)), "background must have the foreground's 2 channels, got 3"),
        (((1, 4, 4, 2), (1, 4, 4, 2), (1, 4, 4, 3)), "masks must have 1 channel, got 3"),
        (((1, 4, 4, 2), (1, 4, 4, 2), (1, 4, 4)), r"masks must have shape \(batch, .*got \(1, 4, 4\)"),
        (((1, 4, 4, 2), (1, 4, 6, 2), (1, 4, 4, 1)), r"masks must have the background's .* \(4, 6\); got \(4, 4\)"),
    ],
)
def test_bad_inputs(shapes: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ContextualAttention()([tf.zeros(shape) for shape in shapes])


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf"), float("nan")])
def test_bad_scale(scale: float) -> None:
    with pytest.raises(ValueError, match="softmax_scale must be a finite number > 0, got"):
        ContextualAttention(softmax_scale=scale)
