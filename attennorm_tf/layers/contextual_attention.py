"""The contextual attention layer of DeepFill v1, a baseline for attentive normalization."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import keras

from attennorm_tf.layers.shapes import sizes_of

_SMALLEST_NORM = 1e-4
RATE = 2


def resize_nearest_aligned(images: tf.Tensor, height: Any, width: Any) -> tf.Tensor:
    """Nearest-neighbour resizing with aligned corners: the first and the last pixel keep their place.

    Place i of `out` reads place round(i (in - 1) / (out - 1)), halves rounded up, in whole numbers, so that it is the
    same on every device: TensorFlow 1's `resize_nearest_neighbor(align_corners=True)`, which rounds in float32, differs
    in one place where sizes of 54 or 182 are halved and nowhere for other even sizes up to 256. Two gathers, so that
    every derivative exists.

    Args:
        images: (B, H, W, C).
        height: of the result, an int or an int32 scalar.
        width: of the result.

    Returns:
        (B, height, width, C).
    """
    sizes = sizes_of(images)
    rows = tf.gather(images, _aligned_places(sizes[1], height), axis=1)
    return tf.gather(rows, _aligned_places(sizes[2], width), axis=2)


def _aligned_places(size: Any, wanted: Any) -> tf.Tensor:
    steps = max(wanted - 1, 1) if isinstance(wanted, int) else tf.maximum(wanted - 1, 1)
    return (2 * tf.range(wanted) * (size - 1) + steps) // (2 * steps)


def contextual_attention(
    foreground: tf.Tensor,
    background: tf.Tensor,
    masks: tf.Tensor,
    softmax_scale: float = 10.0,
    fuse: bool = True,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Rebuilds each place of the foreground from the patches of the background that look like it.

    With h = ceil(H / 2), w = ceil(W / 2), everything per image:

    1. 4x4 patches of the background, stride 2, are what is pasted;
    2. foreground, background and mask are halved, nearest with aligned corners;
    3. 3x3 patches of the halved background, divided by max(L2 norm, 1e-4), are compared;
    4. a patch is valid where its mask is 0 all over;
    5. score[i, j] = <3x3 patch of the foreground at i, compared patch j>, (hw, hw);
    6. fuse: neighbours in the same relative place support each other: a 3x3 identity convolution over the (hw, hw)
       score map, once with places in row order, once in column order;
    7. attention = softmax(scale * score * valid) * valid over j;
    8. the attention-weighted patches are pasted at stride 2 and added, divided by 4;
    9. the offset of each place is where its largest attention lies, relative to itself.

    Borders are padded by zeros. Matrix products and shifted sums only: any sizes, a mask of its own for each image.

    Args:
        foreground: (B, H, W, C) float32 or float64.
        background: (B, H', W', C).
        masks: (B, H', W', 1), of the background, 1 = missing.
        softmax_scale: of the scores.
        fuse: whether step 6 happens.

    Returns:
        ((B, H, W, C), offsets (B, h, w, 2) int32, (dy, dx) in places of the halved maps).
    """
    batch, height, width, channels = sizes_of(foreground)
    h, w = (_half(size) for size in (height, width))
    hb, wb = (_half(size) for size in sizes_of(background)[1:3])
    pasted = _patches4(background, hb, wb)  # (b, hb wb, 16 c)
    compared = _patches3(resize_nearest_aligned(background, hb, wb))  # (b, hb wb, 9 c)
    compared *= tf.math.rsqrt(tf.maximum(tf.reduce_sum(compared**2, axis=-1, keepdims=True), _SMALLEST_NORM**2))
    places = _patches3(resize_nearest_aligned(foreground, h, w))  # (b, h w, 9 c)
    holes = tf.reduce_max(_patches3(resize_nearest_aligned(masks, hb, wb)), axis=-1)  # (b, hb wb)
    valid = tf.cast(tf.equal(holes, 0.0), foreground.dtype)[:, tf.newaxis, :]  # (b, 1, hb wb)
    if fuse:
        # A place of zeros at the end, and `_fuse` need not copy the score map to get at its borders.
        places, compared = (tf.pad(patches, [[0, 0], [0, 1], [0, 0]]) for patches in (places, compared))
    scores = tf.matmul(places, compared, transpose_b=True)  # (b, h w, hb wb), with one more of both to fuse
    if fuse:
        swapped = tf.pad(_fuse(scores, batch, (h, w), (hb, wb)), [[0, 0], [0, 1], [0, 1]])
        scores = _fuse(swapped, batch, (w, h), (wb, hb))
    attention = tf.nn.softmax(scores * (softmax_scale * valid)) * valid
    best = tf.reshape(tf.argmax(attention, axis=-1, output_type=tf.int32), [batch, h, w])
    offsets = tf.stack(
        [best // wb - tf.range(h)[:, tf.newaxis], best % wb - tf.range(w)[tf.newaxis, :]], axis=-1
    )  # (b, h, w, 2)
    pieces = tf.reshape(tf.matmul(attention, pasted), [batch, h, w, 2, 2, 2, 2, channels])
    outputs = _overlap_add(pieces, batch, h, w, channels)[:, :height, :width] / 4.0
    return tf.ensure_shape(outputs, foreground.shape), offsets


def _half(size: Any) -> Any:
    return (size + 1) // RATE


def _patches3(images: tf.Tensor) -> tf.Tensor:
    """(b, h, w, c) -> 3x3 patches at every place, (b, h w, 9 c)."""
    batch, height, width, channels = sizes_of(images)
    padded = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]])
    shifted = [padded[:, dy : dy + height, dx : dx + width] for dy in range(3) for dx in range(3)]
    return tf.reshape(tf.concat(shifted, axis=-1), [batch, height * width, 9 * channels])


def _patches4(images: tf.Tensor, h: Any, w: Any) -> tf.Tensor:
    """(b, H, W, c) -> 4x4 patches at stride 2, "same" padding, (b, h w, 16 c), in the order of `_overlap_add`."""
    batch, height, width, channels = sizes_of(images)
    padded = tf.pad(images, [[0, 0], [1, 2 * h + 1 - height], [1, 2 * w + 1 - width], [0, 0]])
    blocks = tf.reshape(padded, [batch, h + 1, 2, w + 1, 2, channels])
    quarters = [blocks[:, p : p + h, :, q : q + w] for p in range(2) for q in range(2)]  # (b, h, 2, w, 2, c)
    patches = tf.reshape(tf.stack(quarters, axis=1), [batch, 2, 2, h, 2, w, 2, channels])
    return tf.reshape(tf.transpose(patches, [0, 3, 5, 1, 4, 2, 6, 7]), [batch, h * w, 16 * channels])


def _overlap_add(pieces: tf.Tensor, batch: Any, h: Any, w: Any, channels: int) -> tf.Tensor:
    """4x4 pieces, (b, h, w, 2, 2, 2, 2, c): rows 2 p + y, columns 2 q + x as (p, y, q, x), pasted at stride 2."""
    total = tf.zeros([], pieces.dtype)
    for p in range(2):
        for q in range(2):
            total += tf.pad(
                pieces[:, :, :, p, :, q], [[0, 0], [p, 1 - p], [q, 1 - q], [0, 0], [0, 0], [0, 0]]
            )  # (b, h + 1, w + 1, 2, 2, c)
    pasted = tf.reshape(tf.transpose(total, [0, 1, 3, 2, 4, 5]), [batch, 2 * h + 2, 2 * w + 2, channels])
    return pasted[:, 1:-1, 1:-1]


def _fuse(scores: tf.Tensor, batch: Any, places: Any, places_b: Any) -> tf.Tensor:
    """A 3x3 identity convolution over the score map, whose two axes then change from (h, w) to (w, h) order.

    (b, h w + 1, hb wb + 1), zeros in the last row and column, which a shift by one in either direction brings to the
    border -> (b, w h, wb hb).
    """
    fused = scores + tf.roll(scores, [1, 1], [1, 2]) + tf.roll(scores, [-1, -1], [1, 2])
    fused = tf.reshape(fused[:, :-1, :-1], [batch, *places, *places_b])
    swapped = tf.transpose(fused, [0, 2, 1, 4, 3])
    return tf.reshape(swapped, [batch, places[0] * places[1], places_b[0] * places_b[1]])


@keras.utils.register_keras_serializable(package="attennorm_tf")
class ContextualAttention(keras.layers.Layer):
    """Contextual attention: what is missing is rebuilt from patches of what is known.

    Yu et al. 2018, "Generative Image Inpainting with Contextual Attention" (https://arxiv.org/abs/1801.07892), with
    the options of its inpainting network: 3x3 patches compared at half the resolution. See `contextual_attention` for
    the nine steps. It has no weights.

    Deviations from the authors' code: each image has its own mask (theirs takes the first one's for the whole batch);
    maps of odd size are halved to ceil(H / 2) (theirs refuses them). For even sizes the two are the same.

    Memory: the score map holds B * (HW / 4)^2 values: 4 MiB per image for the 64x64 map of a 256x256 image, 1 GiB for
    a 1024x1024 image, and three of it are held at a time. `AttentiveNormalization` is linear in HW.

    Under a float16 or bfloat16 policy everything between input and output is float32: scores are sums over 9 C
    products, times ten in a softmax.

    Args:
        softmax_scale: factor of the scores in the softmax, > 0.
        fuse: whether neighbouring scores are fused (step 6).
        **kwargs: of any Keras layer.

    Call arguments:
        inputs: (foreground (B, H, W, C), background (B, H', W', C), masks (B, H', W', 1) of the background, 1 =
            missing), C known.
        training: not used, the layer computes the same in both.
        return_offsets: whether to return, too, where each place looks.

    Returns:
        (B, H, W, C); with `return_offsets=True` a pair of it and the offsets (B, ceil(H / 2), ceil(W / 2), 2) int32,
        (dy, dx) in places of the halved maps.

    Raises:
        ValueError: an argument is out of range, or the inputs do not fit together.

    Example:
        >>> features = tf.ones((1, 6, 8, 4))
        >>> ContextualAttention()((features, features, tf.zeros((1, 6, 8, 1)))).shape
        TensorShape([1, 6, 8, 4])
    """

    def __init__(self, softmax_scale: float = 10.0, fuse: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 < softmax_scale < float("inf"):
            raise ValueError(f"softmax_scale must be a finite number > 0, got {softmax_scale!r}.")
        self.softmax_scale = softmax_scale
        self.fuse = fuse

    def build(self, input_shape: Any) -> None:
        foreground, background, masks = (tuple(shape) for shape in input_shape)
        for name, shape in (("foreground", foreground), ("background", background), ("masks", masks)):
            if len(shape) != 4 or shape[-1] is None:
                raise ValueError(f"{name} must have shape (batch, height, width, known channels), got {shape}.")
        if foreground[-1] != background[-1]:
            raise ValueError(f"background must have the foreground's {foreground[-1]} channels, got {background[-1]}.")
        if masks[-1] != 1:
            raise ValueError(f"masks must have 1 channel, got {masks[-1]}.")
        super().build(input_shape)

    def call(self, inputs: Any, training: Any = None, return_offsets: bool = False) -> Any:
        wide = "float64" if self.compute_dtype == "float64" else "float32"
        foreground, background, masks = (tf.cast(value, wide) for value in inputs)
        if not background.shape[1:3].is_compatible_with(masks.shape[1:3]):
            raise ValueError(
                f"masks must have the background's height and width, {tuple(background.shape[1:3])}; "
                f"got {tuple(masks.shape[1:3])}."
            )
        outputs, offsets = contextual_attention(foreground, background, masks, self.softmax_scale, self.fuse)
        outputs = tf.cast(outputs, self.compute_dtype)
        return (outputs, offsets) if return_offsets else outputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tuple(input_shape[0])

    def compute_output_spec(self, inputs: Any, training: Any = None, return_offsets: bool = False) -> Any:
        """Symbolic outputs (Keras 3 only), which depend on `return_offsets`."""
        shape = tuple(inputs[0].shape)
        halves = tuple(None if size is None else (size + 1) // RATE for size in shape[1:3])
        outputs = keras.KerasTensor(shape, dtype=self.compute_dtype)
        offsets = keras.KerasTensor((shape[0], *halves, 2), dtype="int32")
        return (outputs, offsets) if return_offsets else outputs

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "softmax_scale": self.softmax_scale, "fuse": self.fuse}
