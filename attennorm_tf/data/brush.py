"""Free-form holes: the strokes of Yu et al. 2019 (DeepFill v2), drawn in whole numbers.

A stroke is a chain of straight segments with round ends; a pixel belongs to it where the distance from its centre to
a segment is at most half the stroke's width. Vertices are pixel centres and directions come from a table of integers,
so the same random words give the same mask on every stack, device and compiler, bit for bit.

Nothing is computed per pixel and segment: discs and bars are convex, so each covers one interval of every row. The ends
of the intervals are added up in a table of differences, whose running sum along the row says what is covered.
"""

from __future__ import annotations

import dataclasses
import math

import tensorflow as tf

_DIRECTIONS = 1024
_UNIT_BITS = 14
_COSINES = [round(2**_UNIT_BITS * math.cos(2 * math.pi * k / _DIRECTIONS)) for k in range(_DIRECTIONS)]
# Segments leave the course of their stroke alternately to the left and to the right, as in DeepFill v2: by 2 pi / 5,
# give or take 2 pi / 15. There a stroke runs along the rows, here in any direction.
_LEAST_TURN = round(_DIRECTIONS * (1 / 5 - 1 / 15))
_GREATEST_TURN = round(_DIRECTIONS * (1 / 5 + 1 / 15))


@dataclasses.dataclass(frozen=True)
class Brush:
    """Ranges (least, greatest) of whole numbers that strokes are drawn from, uniformly; lengths in pixels.

    Attributes:
        strokes: in a mask.
        segments: in a stroke.
        length: of each segment, before it is cut short at the border.
        width: of each stroke.
    """

    strokes: tuple[int, int]
    segments: tuple[int, int]
    length: tuple[int, int]
    width: tuple[int, int]

    @property
    def words_per_mask(self) -> int:
        """Random words that `draw_strokes` takes for one mask."""
        return 1 + self.strokes[1] * (5 + 2 * self.segments[1])


def draw_strokes(words: tf.Tensor, resolution: tuple[int, int], brush: Brush) -> tf.Tensor:
    """Strokes of a brush.

    Args:
        words: int64 (b, brush.words_per_mask), uniform in [0, 2^32).
        resolution: (height, width) of the masks.
        brush: what to draw.

    Returns:
        bool (b, height, width), True where a stroke is: one pixel or more.
    """
    height, width = resolution
    strokes, segments = brush.strokes[1], brush.segments[1]
    count = integers(words[:, :1], *brush.strokes)
    per_stroke = tf.reshape(words[:, 1:], [-1, strokes, 5 + 2 * segments])
    row = integers(per_stroke[..., 0], 0, height - 1)
    column = integers(per_stroke[..., 1], 0, width - 1)
    course = integers(per_stroke[..., 2], 0, _DIRECTIONS - 1)
    thickness = integers(per_stroke[..., 3], *brush.width)
    last_segment = integers(per_stroke[..., 4], *brush.segments)
    # A stroke that is not drawn keeps no vertex.
    last_segment = tf.where(tf.range(strokes) < count, last_segment, -1)

    turns = integers(per_stroke[..., 5::2], _LEAST_TURN, _GREATEST_TURN)
    turns = turns * tf.constant([1 - 2 * (i % 2) for i in range(segments)])
    directions = course[..., tf.newaxis] + turns
    lengths = integers(per_stroke[..., 6::2], *brush.length)
    # cos and sin, rounded to whole pixels
    across = _along(lengths, directions)
    down = _along(lengths, directions - _DIRECTIONS // 4)
    rows, columns = [row], [column]
    for i in range(segments):
        rows.append(tf.clip_by_value(rows[-1] + down[..., i], 0, height - 1))
        columns.append(tf.clip_by_value(columns[-1] + across[..., i], 0, width - 1))
    vertices = tf.range(segments + 1)
    drawn = vertices <= last_segment[..., tf.newaxis]

    def flat(values: tf.Tensor) -> tf.Tensor:
        return tf.reshape(values, [-1, strokes * values.shape[-1], 1])

    rows_of, columns_of = tf.stack(rows, axis=-1), tf.stack(columns, axis=-1)
    thick = tf.repeat(thickness[..., tf.newaxis], segments + 1, axis=-1)
    discs = _disc_intervals(flat(rows_of), flat(columns_of), flat(thick), height)
    bars = _bar_intervals(
        flat(rows_of[..., :-1]),
        flat(columns_of[..., :-1]),
        flat(rows_of[..., 1:] - rows_of[..., :-1]),
        flat(columns_of[..., 1:] - columns_of[..., :-1]),
        flat(thick[..., 1:]),
        height,
    )
    shown = tf.concat([flat(drawn), flat(drawn[..., 1:])], axis=1)
    first = tf.concat([discs[0], bars[0]], axis=1)
    last = tf.concat([discs[1], bars[1]], axis=1)
    return _union(tf.where(shown, first, width), tf.where(shown, last, -1), width)


def integers(words: tf.Tensor, least: int | tf.Tensor, greatest: int | tf.Tensor) -> tf.Tensor:
    """Uniform whole numbers in [least, greatest] from `words` (int64 in [0, 2^32)); int32 of the same shape."""
    count = tf.cast(greatest - least + 1, tf.int64)
    return least + tf.cast(tf.bitwise.right_shift(words * count, tf.constant(32, tf.int64)), tf.int32)


def _along(lengths: tf.Tensor, directions: tf.Tensor) -> tf.Tensor:
    """round(length * cos(direction))."""
    scaled = lengths * tf.gather(tf.constant(_COSINES), directions % _DIRECTIONS)
    return tf.bitwise.right_shift(scaled + 2 ** (_UNIT_BITS - 1), _UNIT_BITS)


def _disc_intervals(
    row: tf.Tensor, column: tf.Tensor, thickness: tf.Tensor, height: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """First and last column of each row (.., height) within thickness / 2 of a vertex (.., 1)."""
    rest = thickness * thickness - 4 * (tf.range(height) - row) ** 2
    reach = _root(rest) // 2
    return tf.where(rest >= 0, column - reach, 1), tf.where(rest >= 0, column + reach, 0)


def _bar_intervals(
    row: tf.Tensor, column: tf.Tensor, down: tf.Tensor, across: tf.Tensor, thickness: tf.Tensor, height: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """The same for the segments (row, column) to (row + down, column + across), without their round ends."""
    below = tf.range(height) - row
    squared = down * down + across * across
    wide = tf.cast(squared, tf.int64) * tf.cast(thickness, tf.int64) ** 2
    reach = tf.cast(_root(wide) // 2, tf.int32)
    # With p from the first vertex: |p x d| <= |d| thickness / 2, and 0 <= p d <= d d.
    first, last = _solve(-down, across * below, -reach, reach)
    first_along, last_along = _solve(across, down * below, tf.zeros_like(squared), squared)
    first, last = tf.maximum(first, first_along), tf.minimum(last, last_along)
    return tf.where(squared > 0, column + first, 1), tf.where(squared > 0, column + last, 0)


def _solve(slope: tf.Tensor, offset: tf.Tensor, low: tf.Tensor, high: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Least and greatest whole x with low <= slope x + offset <= high; the least is greater where there is none."""
    sign = tf.where(slope < 0, -1, 1)
    low, high = tf.where(slope < 0, -high, low), tf.where(slope < 0, -low, high)
    slope, offset = sign * slope, sign * offset
    divisor = tf.maximum(slope, 1)
    first, last = -((offset - low) // divisor), (high - offset) // divisor
    everywhere = (low <= offset) & (offset <= high)
    far = 2**20
    first = tf.where(slope > 0, first, tf.where(everywhere, -far, far))
    return first, tf.where(slope > 0, last, tf.where(everywhere, far, -far))


def _root(squares: tf.Tensor) -> tf.Tensor:
    """floor(sqrt(n)), exactly, for whole n < 2^52; 0 for negative ones."""
    squares = tf.maximum(squares, 0)
    root = tf.cast(tf.sqrt(tf.cast(squares, tf.float64)), squares.dtype)
    root -= tf.cast(root * root > squares, squares.dtype)
    return root + tf.cast((root + 1) * (root + 1) <= squares, squares.dtype)


def _union(first: tf.Tensor, last: tf.Tensor, width: int) -> tf.Tensor:
    """Whether any interval covers a pixel: (b, n, height) -> bool (b, height, width)."""
    batch, height = tf.shape(first)[0], first.shape[2]
    first, after = tf.maximum(first, 0), tf.minimum(last, width - 1) + 1
    weight = tf.cast(first < after, tf.int32)
    line = tf.reshape(tf.range(batch * height) * (width + 1), [batch, 1, height])
    places = tf.concat([line + tf.clip_by_value(first, 0, width), line + tf.clip_by_value(after, 0, width)], axis=1)
    changes = tf.concat([weight, -weight], axis=1)
    table = tf.math.unsorted_segment_sum(
        tf.reshape(changes, [-1]), tf.reshape(places, [-1]), batch * height * (width + 1)
    )
    return tf.cumsum(tf.reshape(table, [batch, height, width + 1]), axis=2)[..., :width] > 0
