"""Forms of a 3x3 convolution before pooling and after upsampling: `python -m benchmarks.resampled_convolutions`.

Average pooling by two, nearest-neighbour upsampling by two; forward and gradients of input and kernel. What came of it
is told in `benchmarks/NOTES.md`. See `benchmarks.harness_report` for the options.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from benchmarks.harness import Case, Prepared, Subject
from benchmarks.harness_report import Benchmark, run

TWO, STRIDED, BLOCKS = "two operations", "stride two", "blocks as channels"
TAKEN = {"pooled": BLOCKS, "upsampled": STRIDED}  # by the package
# Batch, height and width of the larger map, channels in and out.
SIZES = ((64, 16, 64, 64), (64, 8, 64, 64), (16, 64, 64, 64), (16, 32, 256, 256), (16, 16, 256, 256), (16, 64, 3, 64))


def pooled(form: str) -> Callable[[Any, Any], Any]:
    """(images, kernel) -> the pooled map."""
    import tensorflow as tf

    from attennorm_tf.layers.resampled_convolution import halved_convolution, taps_of_two_places

    def two(images: Any, kernel: Any) -> Any:
        return tf.nn.avg_pool2d(tf.nn.conv2d(images, kernel, 1, "SAME"), 2, 2, "VALID")

    def strided(images: Any, kernel: Any) -> Any:
        return tf.nn.conv2d(images, 0.25 * taps_of_two_places(kernel), 2, [[0, 0], [1, 1], [1, 1], [0, 0]])

    return {TWO: two, STRIDED: strided, BLOCKS: halved_convolution}[form]


def upsampled(form: str) -> Callable[[Any, Any], Any]:
    """(images, kernel) -> the convolution of the doubled images."""
    import tensorflow as tf

    from attennorm_tf.layers.resampled_convolution import convolution_of_doubled, taps_of_two_places

    def two(images: Any, kernel: Any) -> Any:
        batch, height, width, channels = images.shape
        doubled = tf.broadcast_to(images[:, :, None, :, None], [batch, height, 2, width, 2, channels])
        return tf.nn.conv2d(tf.reshape(doubled, [batch, 2 * height, 2 * width, channels]), kernel, 1, "SAME")

    def blocks(images: Any, kernel: Any) -> Any:
        channels, filters = kernel.shape[2:]
        taps = tf.reshape(taps_of_two_places(tf.reverse(kernel, [0, 1])), [2, 2, 2, 2, channels, filters])
        taps = tf.reverse(tf.transpose(taps, [0, 2, 4, 1, 3, 5]), [0, 1])
        images = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]])
        found = tf.nn.conv2d(images, tf.reshape(taps, [2, 2, channels, 4 * filters]), 1, "VALID")
        batch, height, width, _ = found.shape
        parts = tf.transpose(tf.reshape(found, [batch, height, width, 2, 2, filters]), [0, 1, 3, 2, 4, 5])
        return tf.reshape(parts, [batch, 2 * height, 2 * width, filters])[:, 1:-1, 1:-1]

    return {TWO: two, STRIDED: convolution_of_doubled, BLOCKS: blocks}[form]


def prepare(kind: str, form: str, size: list[int]) -> Prepared:
    """Result and gradients in one of the forms, against the two operations."""
    import tensorflow as tf

    from benchmarks.harness_worker import relative_error

    batch, side, channels, filters = size
    side, after = (side, side // 2) if kind == "pooled" else (side // 2, side)
    make = pooled if kind == "pooled" else upsampled
    images = tf.random.stateless_normal([batch, side, side, channels], [0, 1])
    kernel = tf.random.stateless_normal([3, 3, channels, filters], [0, 2]) / math.sqrt(9 * channels)
    direction = tf.random.stateless_normal([batch, after, after, filters], [0, 3])

    def step(convolve: Callable[[Any, Any], Any]) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([images, kernel])
            found = convolve(images, kernel)
            loss = tf.reduce_sum(found * direction)
        return [found, *tape.gradient(loss, [images, kernel])]

    expected = [part.numpy().astype("float64") for part in step(make(TWO))]
    call = tf.function(lambda: step(make(form)), autograph=False)
    return Prepared(call, error=lambda out: relative_error(out, expected), tolerance=1e-4)


def cases(quick: bool) -> list[Case]:
    """Both kinds at every size."""
    found = []
    for kind in TAKEN:
        for size in ((4, 8, 8, 8),) if quick else SIZES:
            subjects = [Subject(form, prepare, {"kind": kind, "form": form, "size": list(size)})
                        for form in (TWO, STRIDED, BLOCKS)]  # fmt: skip
            batch, side, channels, filters = size
            name = f"{kind}, {batch} images, {side}x{side} the larger map, {channels} -> {filters} channels"
            found.append(Case(name, subjects, TWO, rounds=3 if quick else 30, seconds=8.0))
    return found


BENCHMARK = Benchmark(
    "resampled_convolutions",
    "A 3x3 convolution before average pooling by two, or after nearest-neighbour upsampling by two: forward and the "
    f"gradients of input and kernel. The package takes {TAKEN['pooled']!r} for the first, {TAKEN['upsampled']!r} (a "
    "transposed convolution) for the second.",
    cases, lambda results: [], "python -m benchmarks.resampled_convolutions",
)  # fmt: skip

if __name__ == "__main__":
    run(BENCHMARK)
