"""Checks inside the graph: a bad request ends as INVALID_ARGUMENT, with a message that says what was wrong where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

# Values may leave their range by this much, as rounding may make them.
ROUNDING = 1e-5
SMALLEST_TRUNCATION = 0.01
WEIGHTS_SUM_TOLERANCE = 1e-3


class Limits(NamedTuple):
    """What one request may hold.

    Attributes:
        max_batch: rows.
        max_pixels: width * height of one image.
        max_request_pixels: of all images of a request together.
        max_file_bytes: of one encoded image.
    """

    max_batch: int = 32
    max_pixels: int = 1 << 22
    max_request_pixels: int = 1 << 22
    max_file_bytes: int = 1 << 25


# The score map of contextual attention grows with the square of the number of pixels: 64 MiB for 512 x 512.
CONTEXTUAL_LIMITS = Limits(max_pixels=1 << 18, max_request_pixels=1 << 21)


def check_limits(limits: Limits) -> None:
    """Raises ValueError for a limit that is not an int >= 1."""
    for name, value in limits._asdict().items():
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 1 << 31:
            raise ValueError(f"{name} must be an int in [1, 2^31), got {value!r}.")


def text(*parts: Any) -> tf.Tensor:
    """A string of strings and numbers, scalar or of the shape of its tensors."""
    return tf.strings.join([_shown(tf.convert_to_tensor(part)) for part in parts])


def _shown(part: tf.Tensor) -> tf.Tensor:
    if part.dtype == tf.string:
        return part
    return tf.strings.as_string(part, shortest=part.dtype.is_floating)


def require(correct: Any, *message: Any) -> tf.Operation:
    """INVALID_ARGUMENT with the message unless `correct`, a scalar."""
    return tf.debugging.Assert(correct, [text(*message)])


def require_rows(correct: tf.Tensor, name: str, *message: Any) -> tf.Operation:
    """INVALID_ARGUMENT with "name[row]: message" of the first row of `correct`, (n,), that is not; n = 0 passes.

    Args:
        correct: (n,) bool.
        name: of the input.
        *message: strings, or tensors (n,), of which the row's value is shown.
    """
    row = tf.argmax(tf.cast(tf.concat([~correct, [True]], axis=0), tf.int32), output_type=tf.int32)
    parts = [part if isinstance(part, str) else _row_or_nothing(part, row) for part in message]
    return require(tf.reduce_all(correct), f"{name}[", row, "]: ", *parts)


def _row_or_nothing(values: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
    """The value of a row as a string; "" of an empty batch."""
    return tf.strings.reduce_join(_shown(values)[row : row + 1])


def batch_checks(size: tf.Tensor, names: Sequence[str], sizes: Sequence[tf.Tensor], limits: Limits) -> list[Any]:
    """One to `max_batch` rows, as many of each input."""
    checks = [
        require(size >= 1, f"{names[0]}: the batch is empty; expected at least 1 row."),
        require(size <= limits.max_batch, f"{names[0]}: ", size, f" rows; at most {limits.max_batch} are allowed."),
    ]
    for name, other in zip(names[1:], sizes):
        checks.append(
            require(tf.equal(other, size), f"{name}: ", other, " rows, ", names[0], ": ", size, "; expected as many.")
        )
    return checks


def pixel_checks(name: str, batch: tf.Tensor, height: tf.Tensor, width: tf.Tensor, limits: Limits) -> list[Any]:
    """Images of (batch, height, width) within the limits; scalars."""
    batch, height, width = (tf.cast(value, tf.int64) for value in (batch, height, width))
    most, whole = limits.max_pixels, limits.max_request_pixels
    return [
        require((height >= 1) & (width >= 1), f"{name}: ", width, " x ", height, " pixels; expected at least 1 x 1."),
        require(
            height * width <= most, f"{name}: ", width, " x ", height, f" pixels; at most {most} are allowed."
        ),
        require(
            batch * height * width <= whole,
            f"{name}: ", batch, " images of ", width, " x ", height,
            f" pixels; at most {whole} in a request are allowed, send fewer at a time.",
        ),
    ]  # fmt: skip


def range_checks(name: str, values: tf.Tensor, low: float, high: float) -> list[Any]:
    """All of (n, ...) are numbers in [low, high]."""
    axes = list(range(1, values.shape.rank))
    finite = tf.reduce_all(tf.math.is_finite(values), axis=axes)
    within = tf.reduce_all((values >= low - ROUNDING) & (values <= high + ROUNDING), axis=axes)
    lowest, highest = tf.reduce_min(values, axis=axes), tf.reduce_max(values, axis=axes)
    return [
        require_rows(finite, name, "holds NaN or infinite values."),
        # A row that is not finite is told so by the check above, whichever runs first.
        require_rows(
            within | ~finite, name, f"values must be in [{low:g}, {high:g}], got from ", lowest, " to ", highest, "."
        ),
    ]


def finite_checks(name: str, values: tf.Tensor) -> list[Any]:
    """All of (n, ...) are finite."""
    finite = tf.reduce_all(tf.math.is_finite(values), axis=list(range(1, values.shape.rank)))
    return [require_rows(finite, name, "holds NaN or infinite values.")]


def mask_checks(name: str, masks: tf.Tensor) -> list[Any]:
    """All of (n, ...) are 0 or 1."""
    whole = tf.reduce_all(tf.equal(masks, 0.0) | tf.equal(masks, 1.0), axis=list(range(1, masks.shape.rank)))
    return [require_rows(whole, name, "values must be 1 (missing) or 0 (known); threshold it first.")]


def class_checks(class_ids: tf.Tensor, num_classes: int) -> list[Any]:
    """Ids (n,) in [0, num_classes)."""
    right = (class_ids >= 0) & (class_ids < num_classes)
    return [require_rows(right, "class_ids", f"must be in [0, {num_classes}), got ", class_ids, ".")]


def weight_checks(weights: tf.Tensor) -> list[Any]:
    """Class weights (n, classes): finite, not negative, of sum 1."""
    sums, finite = tf.reduce_sum(weights, axis=1), tf.reduce_all(tf.math.is_finite(weights), axis=1)
    positive = tf.reduce_all(weights >= -ROUNDING, axis=1)
    whole = tf.abs(sums - 1.0) <= WEIGHTS_SUM_TOLERANCE
    return [
        *finite_checks("class_weights", weights),
        require_rows(positive | ~finite, "class_weights", "must not be negative, got ", tf.reduce_min(weights, 1), "."),
        require_rows(whole | ~finite, "class_weights", "must sum to 1, got ", sums, "."),
    ]


def truncation_checks(truncation: tf.Tensor) -> list[Any]:
    """(n,) from `SMALLEST_TRUNCATION` on; infinity is no limit."""
    right = truncation >= SMALLEST_TRUNCATION  # no for NaN
    return [require_rows(right, "truncation", f"must be a number >= {SMALLEST_TRUNCATION}, got ", truncation, ".")]


def after(checks: Sequence[Any], *values: Any) -> list[tf.Tensor]:
    """The values, known only when all checks have passed: without it TensorFlow computes on, and may fail elsewhere."""
    with tf.control_dependencies(list(checks)):
        return [tf.identity(value) for value in values]
