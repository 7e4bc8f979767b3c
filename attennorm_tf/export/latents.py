"""Latents from seeds without any random operation: whole numbers mixed, then the inverse of the normal distribution.

Value i of seed s is

    h = mix(mix(s + G) + (i + 1) G)          64-bit arithmetic that wraps, G = 0x9E3779B97F4A7C15
    u = ((h >> 11) + 0.5) / 2^53             in (0, 1), float64
    z = Phi^-1(Phi(-t) + u (1 - 2 Phi(-t)))  t the truncation: the normal distribution between -t and t

with the finaliser of splitmix64 (Steele et al. 2014, "Fast splittable pseudorandom number generators") as `mix`:
x ^= x >> 30; x *= 0xBF58476D1CE4E5B9; x ^= x >> 27; x *= 0x94D049BB133111EB; x ^= x >> 31. Drawing values beyond the
truncation again, as `attennorm-sample --truncation` does, has the same distribution (but other values: its seeds are
not these). The same seed gives the same latents alone or in a batch, on every machine.
"""

from __future__ import annotations

import tensorflow as tf

_GOLDEN = 0x9E3779B97F4A7C15
_FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def latents_of_seeds(seeds: tf.Tensor, truncation: tf.Tensor, latent_dim: int) -> tf.Tensor:
    """Z ~ N(0, I), truncated; plain operations only.

    Args:
        seeds: (n,) int64.
        truncation: (n,) float32 > 0, infinity for none.
        latent_dim: length of each.

    Returns:
        (n, latent_dim) float32.
    """
    steps = tf.range(1, latent_dim + 1, dtype=tf.int64) * _int64(_GOLDEN)
    mixed = _mix(_mix(seeds + _int64(_GOLDEN))[:, tf.newaxis] + steps[tf.newaxis, :])
    uniform = (tf.cast(_shifted(mixed, 11), tf.float64) + 0.5) * 2.0**-53
    below = 0.5 * tf.math.erfc(tf.cast(truncation, tf.float64) * 0.5**0.5)[:, tf.newaxis]
    # Symmetric, so that the float64 nearest to 1 is never reached.
    upper = uniform > 0.5
    share = below + tf.where(upper, 1.0 - uniform, uniform) * (1.0 - 2.0 * below)
    normal = tf.math.ndtri(share)
    return tf.cast(tf.where(upper, -normal, normal), tf.float32)


def _mix(values: tf.Tensor) -> tf.Tensor:
    for shift, factor in zip((30, 27), _FACTORS):
        values = tf.bitwise.bitwise_xor(values, _shifted(values, shift)) * _int64(factor)
    return tf.bitwise.bitwise_xor(values, _shifted(values, 31))


def _shifted(values: tf.Tensor, shift: int) -> tf.Tensor:
    """Right by `shift` bits with zeros from the left: int64, since devices lack operations on uint64."""
    moved = tf.bitwise.right_shift(values, tf.constant(shift, tf.int64))
    return tf.bitwise.bitwise_and(moved, tf.constant((1 << (64 - shift)) - 1, tf.int64))


def _int64(value: int) -> tf.Tensor:
    """The int64 of the same 64 bits."""
    return tf.constant(value - (1 << 64) if value >= 1 << 63 else value, tf.int64)
