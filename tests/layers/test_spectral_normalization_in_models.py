"""Spectral normalization inside models: updates of all wrappers, training, files, masks, subclasses, mistakes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from attennorm_tf.layers.spectral_normalization import SpectralNormalization, update_spectral_norms
from tests.layers.spectral_cases import (
    as_matrix,
    layers,
    plain_layer,
    power_iteration,
    wrapped,
)


class Subclassed(keras.Model):
    """Wrappers in an attribute, a list and a dict; one of them shared."""

    def __init__(self) -> None:
        super().__init__()
        self.table = SpectralNormalization(layers.Embedding(5, 4))
        self.stages = [SpectralNormalization(layers.Dense(4)), layers.Dense(4)]
        self.named = {"shared": self.stages[0], "head": SpectralNormalization(layers.Dense(1))}
        self.nested = keras.Sequential([keras.Input((4,)), SpectralNormalization(layers.Dense(4))])

    def call(self, inputs: tf.Tensor, training: Any = None) -> tf.Tensor:
        hidden = self.table(inputs, training=training)
        for stage in [*self.stages, self.nested, self.named["shared"], self.named["head"]]:
            hidden = stage(hidden, training=training) if stage is not self.stages[1] else stage(hidden)
        return hidden

    def wrappers(self) -> list[SpectralNormalization]:
        return [self.table, self.stages[0], self.named["head"], self.nested.layers[-1]]


def test_update_spectral_norms_updates_every_wrapper_once() -> None:
    model = Subclassed()
    model(tf.constant([0, 3]))
    expected = [
        power_iteration(as_matrix(wrapper.layer), wrapper.u.numpy().astype(np.float64)) for wrapper in model.wrappers()
    ]
    tf.function(lambda: update_spectral_norms(model))()
    for wrapper, value in zip(model.wrappers(), expected):
        np.testing.assert_allclose(wrapper.u.numpy(), value, atol=2e-6)
    update_spectral_norms(layers.Dense(3))  # nothing to update is no mistake
    with pytest.raises(ValueError, match="has no weights yet"):
        update_spectral_norms(Subclassed())


def test_fit_trains_the_stored_kernel_and_updates_u() -> None:
    generator = np.random.default_rng(5)
    ids = generator.integers(0, 5, (64,))
    targets = (ids % 2).astype(np.float32)[:, None]
    for model in (
        Subclassed(),
        keras.Sequential(
            [keras.Input((), dtype="int32"), SpectralNormalization(layers.Embedding(5, 4)), layers.Dense(1)]
        ),
    ):
        model(ids[:2])
        before = [weight.numpy() for weight in model.weights]
        model.compile(keras.optimizers.Adam(0.05), "mse")
        history = model.fit(ids, targets, epochs=12, batch_size=16, verbose=0).history["loss"]
        assert history[-1] < 0.7 * history[0]
        for weight, value in zip(model.weights, before):
            if value.shape != (1,):  # the u of a single output channel is 1 or -1
                assert np.abs(weight.numpy() - value).max() > 0, weight.name


@pytest.mark.parametrize("case", ["dense", "conv2d_strided", "transpose_strided", "embedding"])
def test_saved_and_loaded_wrappers_compute_the_same(case: str, tmp_path: Any) -> None:
    layer, inputs = wrapped(case)
    layer(inputs, training=True)
    clone = SpectralNormalization.from_config(layer.get_config())
    assert clone.get_config() == layer.get_config()
    clone(inputs)
    clone.set_weights(layer.get_weights())
    np.testing.assert_array_equal(clone(inputs), layer(inputs))

    symbolic = keras.Input(inputs.shape[1:], dtype=inputs.dtype)
    model = keras.Model(symbolic, layer(symbolic))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(inputs), layer(inputs))

    restored = SpectralNormalization(plain_layer(case))
    restored(inputs)
    path = tf.train.Checkpoint(layer=layer).write(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(layer=restored).read(path).assert_consumed()
    np.testing.assert_array_equal(restored.u.numpy(), layer.u.numpy())
    np.testing.assert_array_equal(restored(inputs), layer(inputs))


def test_regularizers_of_the_wrapped_layer_apply() -> None:
    options = {
        "kernel_regularizer": keras.regularizers.L2(0.5),
        "activity_regularizer": keras.regularizers.L1(0.1),
    }
    layer, inputs = wrapped("dense", **options)
    outputs = layer(inputs)
    kernel = layer.layer.kernel.numpy()
    expected = sorted([0.5 * np.sum(kernel**2), 0.1 * np.sum(np.abs(outputs)) / 3])
    np.testing.assert_allclose(sorted(float(loss) for loss in layer.losses), expected, rtol=1e-5)
    assert SpectralNormalization.from_config(layer.get_config()).layer.activity_regularizer is not None


def test_the_mask_of_an_embedding_goes_on() -> None:
    table = layers.Embedding(5, 3, mask_zero=True)
    inputs = keras.Input((4,), dtype="int32")
    model = keras.Model(inputs, layers.GlobalAveragePooling1D()(SpectralNormalization(table)(inputs)))
    wrapper = model.layers[1]
    ids = tf.constant([[1, 2, 0, 0]])
    expected = table.embeddings.numpy()[1:3].mean(axis=0) / float(wrapper.sigma())
    np.testing.assert_allclose(model(ids)[0], expected, rtol=1e-5)


class Renamed(layers.Conv2D):
    """Computes as Conv2D does."""


class OtherCall(layers.Dense):
    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return 2.0 * super().call(inputs)


class OtherConvolution(layers.Conv2D):
    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return super().convolution_op(inputs, 2.0 * kernel)


def test_a_subclass_that_computes_the_same_is_welcome() -> None:
    layer = SpectralNormalization(Renamed(3, 2))
    plain = SpectralNormalization(layers.Conv2D(3, 2))
    images = tf.random.normal((1, 4, 4, 2))
    layer(images), plain(images)
    plain.set_weights(layer.get_weights())
    np.testing.assert_array_equal(layer(images), plain(images))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SpectralNormalization(layers.DepthwiseConv2D(3)), "DepthwiseConv2D .*Dense, Conv2D, "),
        (lambda: SpectralNormalization(layers.LayerNormalization()), "LayerNormalization .* and Embedding"),
        (lambda: SpectralNormalization("dense"), "type str"),
        (lambda: SpectralNormalization(OtherCall(3)), "OtherCall overrides Dense.call"),
        (lambda: SpectralNormalization(OtherConvolution(3, 3)), "overrides Conv2D.convolution_op"),
        (lambda: SpectralNormalization(layers.Dense(3), power_iterations=0), "power_iterations .* got 0"),
        (lambda: SpectralNormalization(layers.Dense(3), power_iterations=True), "power_iterations .* True"),
        (lambda: SpectralNormalization(layers.Dense(3), epsilon=0.0), "epsilon .* got 0.0"),
        (lambda: SpectralNormalization(layers.Dense(3), dtype="float16"), "give dtype to the wrapped layer"),
        (lambda: SpectralNormalization(layers.Dense(3)).sigma(), "has no weights yet"),
    ],
)  # fmt: skip
def test_user_mistakes(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_changed_channels_are_refused() -> None:
    layer, _ = wrapped("conv2d")
    with pytest.raises(ValueError, match="4"):
        layer(tf.ones((1, 6, 6, 3)))
