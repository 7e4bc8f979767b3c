"""What goes on inside attentive normalization, as numbers: the paper's claims of Figures 4 and 5 put to the test."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Callable, NamedTuple, TypeVar

import numpy as np
import tensorflow as tf

from attennorm_tf.layers import AttentiveNormalization

IN_USE = 0.01  # an entity is in use if it wins at least this share of the places

_Result = TypeVar("_Result")


class AttentionSums(NamedTuple):
    """What is added up over images; n entities, which win the places where their part of the layout is the largest.

    Attributes:
        places: () how many.
        entropy: () of the layouts at all places, in nats.
        wins: (n,) places that each entity won.
        region_squares: (n,) squared distances of the features at these places from their mean in the region, which is
            taken for each image, entity and channel; mean over channels.
        map_squares: (n,) an image's mean squared distance from its mean over the whole map, mean over channels, counted
            once for each place that the entity won in that image.
    """

    places: Any
    entropy: Any
    wins: Any
    region_squares: Any
    map_squares: Any


class AttentionSummary(NamedTuple):
    """The state of one attentive normalization.

    The share-weighted mean of the squared ratios is at most 1 whatever the regions are, since a variance is the sum of
    what lies within regions and between them; regions drawn at random come close to 1. Figure 4 of the paper shows 0.07
    to 0.23 for single entities of single images; of which values it takes the standard deviation, it does not say.

    Attributes:
        entropy: mean over places of the layout's entropy, nats: 0 where one entity has all of a place, ln n where all
            have the same.
        shares: (n,) share of the places that each entity wins, sums to 1.
        region_std: (n,) standard deviation of the layer's input features inside the region that an entity wins, over
            places: root mean square over images, weighted by their places in the region, and over channels. NaN where
            it wins none.
        map_std: (n,) the same over the whole map of the same images.
    """

    entropy: float
    shares: np.ndarray
    region_std: np.ndarray
    map_std: np.ndarray

    @property
    def in_use(self) -> np.ndarray:
        """(n,) bool: the entity's share is at least `IN_USE`."""
        return self.shares >= IN_USE

    @property
    def std_ratios(self) -> np.ndarray:
        """(n,) region_std / map_std; NaN where an entity wins nothing, or the maps are constant."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.map_std > 0, self.region_std / self.map_std, np.nan)

    @property
    def mean_std_ratio(self) -> float | None:
        """Mean of the ratios over the entities in use, or None where there are none."""
        ratios = self.std_ratios[self.in_use]
        ratios = ratios[np.isfinite(ratios)]
        return float(ratios.mean()) if len(ratios) else None


def attention_sums(features: Any, layouts: Any) -> AttentionSums:
    """Sums over a batch, in TensorFlow; those of several batches add up.

    Args:
        features: (b, h, w, c), the layer's input X.
        layouts: (b, h, w, n), its layout S.
    """
    layouts = tf.cast(layouts, tf.float32)
    batch, entities = tf.shape(layouts)[0], layouts.shape[-1]
    layouts = tf.reshape(layouts, [batch, -1, entities])
    values = tf.reshape(tf.cast(features, tf.float32), [batch, -1, features.shape[-1]])
    winners = tf.one_hot(tf.argmax(layouts, axis=-1), entities)  # (b, hw, n)
    wins = tf.reduce_sum(winners, axis=1)  # (b, n)
    values -= tf.reduce_mean(values, axis=1, keepdims=True)  # so that squares of large means do not swamp the rest
    squares = tf.reduce_mean(tf.square(values), axis=-1)  # (b, hw)
    means = tf.math.divide_no_nan(tf.linalg.matmul(winners, values, transpose_a=True), wins[..., tf.newaxis])
    inside = tf.linalg.matvec(winners, squares, transpose_a=True) - wins * tf.reduce_mean(tf.square(means), axis=-1)
    return AttentionSums(
        tf.cast(tf.size(squares), tf.float32),
        -tf.reduce_sum(tf.math.xlogy(layouts, layouts)),
        tf.reduce_sum(wins, axis=0),
        tf.reduce_sum(tf.maximum(inside, 0.0), axis=0),
        tf.reduce_sum(wins * tf.reduce_mean(squares, axis=1, keepdims=True), axis=0),
    )


def summarize(batches: list[AttentionSums]) -> AttentionSummary:
    """The state over all images of some batches."""
    total = AttentionSums(*(sum(np.asarray(part, np.float64) for part in parts) for parts in zip(*batches)))
    with np.errstate(invalid="ignore", divide="ignore"):
        region, whole = (np.sqrt(squares / total.wins) for squares in (total.region_squares, total.map_squares))
    return AttentionSummary(float(total.entropy / total.places), total.wins / total.places, region, whole)


def attention_layers(model: Any) -> dict[str, AttentiveNormalization]:
    """The attentive normalizations inside a built model by their paths, "generator/block3/attention"."""
    parts = tf.train.TrackableView(model).descendants()
    layers = [part for part in parts if isinstance(part, AttentiveNormalization)]
    return {layer_path(layer.rho): layer for layer in layers}


def layer_path(weight: Any) -> str:
    """Where in its network the layer of a weight is, "generator/block3/attention"."""
    return str(getattr(weight, "path", weight.name)).split(":")[0].rpartition("/")[0]


def watch_attention(
    layers: dict[str, AttentiveNormalization], run: Callable[[], _Result]
) -> tuple[_Result, dict[str, AttentionSums]]:
    """Runs networks and measures what their attentive normalizations see and make of it.

    Args:
        layers: of `attention_layers`, of one network or several.
        run: calls the networks, at inference; may be called while a tf.function is traced, but not call one itself.

    Returns:
        What `run` returns, and the sums of each layer that was called.
    """
    sums: dict[str, AttentionSums] = {}

    def add(name: str, features: Any, layouts: Any) -> None:
        sums[name] = attention_sums(features, layouts)

    return _watched(layers, run, add), sums


def watch_features(
    layers: dict[str, AttentiveNormalization], run: Callable[[], _Result]
) -> tuple[_Result, dict[str, tuple[Any, Any]]]:
    """As `watch_attention`, but with what each layer was given and its layout, (b, h, w, c) and (b, h, w, n)."""
    seen: dict[str, tuple[Any, Any]] = {}

    def add(name: str, features: Any, layouts: Any) -> None:
        seen[name] = features, layouts

    return _watched(layers, run, add), seen


def attention_scalars(layer: AttentiveNormalization, summary: AttentionSummary, prefix: str = "") -> dict[str, float]:
    """Values for the log: `rho`, `t` (mean), `layout_entropy`, `entities_in_use`, `region_std_ratio`.

    The ratio is the mean over the entities in use, `region_std_ratio/00` and so on are theirs one by one.
    """
    values = {"rho": float(tf.convert_to_tensor(layer.rho))}
    if layer.self_sampling:
        values["t"] = float(tf.reduce_mean(layer.t))
    values["layout_entropy"] = summary.entropy
    values["entities_in_use"] = float(summary.in_use.sum())
    if summary.mean_std_ratio is not None:
        values["region_std_ratio"] = summary.mean_std_ratio
    for entity, (ratio, used) in enumerate(zip(summary.std_ratios, summary.in_use)):
        if used and np.isfinite(ratio):
            values[f"region_std_ratio/{entity:02d}"] = float(ratio)
    return {prefix + name: value for name, value in values.items()}


def _watched(
    layers: dict[str, AttentiveNormalization], run: Callable[[], _Result], note: Callable[[str, Any, Any], None]
) -> _Result:
    with contextlib.ExitStack() as stack:
        for name, layer in layers.items():
            stack.enter_context(_noted(layer, name, note))
        return run()


@contextlib.contextmanager
def _noted(layer: AttentiveNormalization, name: str, note: Callable[[str, Any, Any], None]) -> Iterator[None]:
    """While it lasts, the layer's calls also tell `note` their features and layouts.

    An attribute of the instance hides the method of its class: so no network on the way has to hand layouts and
    features through. (Written to `__dict__`, past Keras' own bookkeeping of attributes.)
    """
    call = layer.call

    def noted(inputs: Any, training: bool | None = None, return_layout: bool = False) -> Any:
        outputs, layout = call(inputs, training=training, return_layout=True)
        note(name, inputs, layout)
        return (outputs, layout) if return_layout else outputs

    own: dict[str, Any] = layer.__dict__
    own["call"] = noted
    try:
        yield
    finally:
        del own["call"]
