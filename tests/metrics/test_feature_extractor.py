"""Every registered extractor keeps the promises of `FeatureExtractor`, and says clearly what it cannot use."""

from __future__ import annotations

import hashlib
import json
import os
import pkgutil
import re
import shutil
import sys
import types
import warnings

import h5py
import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

import attennorm_tf.metrics.extractors
from attennorm_tf.metrics import ImageClassifier, digits_classifier, extract_features, extractor_names, load_extractor
from attennorm_tf.metrics.extractors import tfgan_inception
from tests.metrics.extractors import CLASSES, FEATURES, LinearExtractor, kernels, save_model


def _tiny_inception(weights, include_top, classifier_activation, input_shape, pooling):
    """In the place of `keras.applications.InceptionV3`, with the names that matter."""
    inputs = keras.Input(input_shape)
    features = keras.layers.Conv2D(5, 3, strides=60, name="conv2d")(inputs)
    features = keras.layers.GlobalAveragePooling2D(name="avg_pool")(features)
    return keras.Model(inputs, keras.layers.Dense(7, name="predictions")(features) if include_top else features)


def _save_as_published(network, path):
    """HDF5 in the layout of Keras 1 and 2, in which the weights of `keras.applications` are published."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in network.layers]
        file.attrs["keras_version"], file.attrs["backend"] = b"2.0.0", b"tensorflow"
        for layer in network.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/weight_{index}:0" for index in range(len(layer.weights))]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, values in zip(names, layer.get_weights()):
                group.create_dataset(name, data=values)


def _tfgan_inception(folder, monkeypatch):
    return f"tfgan_inception:{save_model(folder / 'inception')}"


def _keras_inception_v3(folder, monkeypatch):
    monkeypatch.setattr(keras.applications, "InceptionV3", _tiny_inception)
    _tiny_inception(None, True, None, (299, 299, 3), "avg").save_weights(str(folder / "w.weights.h5"))
    return f"keras_inception_v3:{folder / 'w.weights.h5'}"


def _saved_model(folder, monkeypatch):
    return f"saved_model:{save_model(folder / 'any', shape=(None, 9, 9, 1))}:pool_3,logits"


def _digits(folder, monkeypatch):
    monkeypatch.setattr(digits_classifier, "_STEPS", 2)
    return "digits:8"


def _classifier(folder, monkeypatch):
    made = ImageClassifier(8, 3, ["a", "b", "c"], width=0.1)
    made.test_accuracy = 0.5
    made.save(folder / "classifier")
    return f"classifier:{folder / 'classifier'}"


# Registered name -> how to make a specification of one; a new extractor adds its line.
_CASES = {
    "tfgan_inception": _tfgan_inception,
    "keras_inception_v3": _keras_inception_v3,
    "saved_model": _saved_model,
    "digits": _digits,
    "classifier": _classifier,
}


def test_every_extractor_is_registered_and_has_a_case():
    modules = {module.name for module in pkgutil.iter_modules(attennorm_tf.metrics.extractors.__path__)}
    names = {"classifier" if module == "image_classifier" else module for module in modules}
    assert names == set(extractor_names()) == set(_CASES)


@pytest.mark.parametrize("make", _CASES.values(), ids=_CASES)
def test_promises(make, tmp_path, monkeypatch, two_cpus):
    spec = make(tmp_path, monkeypatch)
    extractor = load_extractor(spec)
    random = np.random.RandomState(0)
    images = random.randint(0, 256, (5, 11, 13, extractor.channels)).astype(np.uint8)
    eager = extractor(tf.constant(images / 127.5 - 1, tf.float32))
    assert eager.features.shape == (5, extractor.feature_size)
    assert eager.logits.shape == (5, extractor.num_classes)
    assert (eager.features.dtype, eager.logits.dtype) == (tf.float32, tf.float32)
    assert eager.features.numpy().std(axis=0).max() > 0
    protocol = extractor.protocol()
    assert json.loads(json.dumps(protocol)) == protocol
    assert protocol["name"] == extractor.name
    assert str(tmp_path) not in json.dumps(protocol)
    assert re.fullmatch("[0-9a-f]{64}", extractor.content_hash)
    side = f"to {extractor.resolution}x{extractor.resolution}"
    assert protocol["resize"].endswith(side)
    # In graphs, on one device and on two, the weights on each of them.
    again = load_extractor(spec, two_cpus)
    assert again.protocol() == protocol
    for one, strategy in ((extractor, None), (extractor, two_cpus), (again, two_cpus)):
        batch = next(iter(extract_features(one, [(images, None)], 5, strategy=strategy)))
        np.testing.assert_allclose(batch.features, eager.features, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(batch.logits, eager.logits, rtol=1e-4, atol=1e-5)


def test_unknown_names():
    with pytest.raises(ValueError, match="unknown feature extractor 'inception'; known are 'tfgan_inception', "):
        load_extractor("inception")


def test_grey_images_are_repeated_and_colour_is_refused():
    colour, grey = LinearExtractor(), LinearExtractor(channels=1)
    images = np.random.RandomState(0).uniform(-1, 1, (2, 3, 3, 1)).astype(np.float32)
    repeated = np.repeat(images, 3, axis=-1)
    np.testing.assert_array_equal(colour(images).features, colour(repeated).features)
    with pytest.raises(ValueError, match="'linear_3' takes images of 1 channels, got 3"):
        grey(repeated)
    with pytest.raises(ValueError, match=r"must be \(batch, height, width, channels\), got \(3, 3, 1\)"):
        grey(images[0])


def _resized(rows: np.ndarray, antialias: bool) -> np.ndarray:
    """8 numbers to 4 in float64: the mean of two, or a triangle of twice that width."""
    if not antialias:
        return rows.reshape(4, 2).mean(axis=1)
    centres, places = 2 * np.arange(4) + 0.5, np.arange(8)
    weights = np.maximum(0, 1 - np.abs(places - centres[:, None]) / 2)
    return (weights / weights.sum(axis=1, keepdims=True)) @ rows


@pytest.mark.parametrize("antialias", [True, False])
def test_resizing(antialias):
    extractor = LinearExtractor(resolution=4, channels=1)
    extractor.antialias = antialias
    image = np.random.RandomState(1).uniform(-1, 1, (8, 8))
    small = np.apply_along_axis(_resized, 0, image, antialias)
    small = np.apply_along_axis(_resized, 1, small, antialias)
    features = extractor(tf.constant(image[None, :, :, None], tf.float32)).features
    np.testing.assert_allclose(features[0], small.reshape(-1) @ extractor.weights, rtol=1e-5, atol=1e-5)
    assert ("antialiased" in extractor.protocol()["resize"]) == antialias


def test_enlarging_and_unknown_sizes():
    extractor = LinearExtractor(resolution=7)
    for side in (3, 6, 7, 11):
        images = tf.random.stateless_uniform((2, side, side, 3), [1, 2], -1, 1)
        large = tf.image.resize(images, (7, 7), "bilinear", antialias=True).numpy().reshape(2, -1)
        np.testing.assert_allclose(extractor(images).features, large @ extractor.weights, rtol=1e-5, atol=1e-5)
        graph = tf.function(extractor, input_signature=[tf.TensorSpec((None, None, None, 3))])
        np.testing.assert_allclose(graph(images).features, large @ extractor.weights, rtol=1e-5, atol=1e-5)


def test_tfgan_inception_as_tfgan_resizes(tmp_path):
    extractor = load_extractor(f"tfgan_inception:{save_model(tmp_path / 'm')}")
    images = tf.random.stateless_uniform((2, 400, 400, 3), [1, 2], -1, 1)
    small = tf.image.resize(images, (299, 299), method=tf.image.ResizeMethod.BILINEAR).numpy().astype(np.float64)
    outputs = extractor(images)
    for output, kernel in zip(outputs, kernels()):
        np.testing.assert_allclose(output, small.mean(axis=(1, 2)) @ kernel, rtol=1e-3, atol=1e-5)
    assert extractor.name == "tfgan_inception"
    assert extractor.protocol()["resize"] == "bilinear, to 299x299"
    assert extractor.protocol()["features_output"] == "pool_3"


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """A cache of tensorflow-hub that holds the default handle."""
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    place = tmp_path / "cache" / hashlib.sha1(tfgan_inception.HANDLE.encode()).hexdigest()
    save_model(place)
    (place.parent / f"{place.name}.descriptor.txt").write_text(f"Module: {tfgan_inception.HANDLE}")
    return place


def test_tfgan_inception_by_its_handle(hub_cache, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_hub", None)
    extractor = load_extractor("tfgan_inception")
    copied = shutil.copytree(hub_cache, tmp_path / "copy")
    (copied / "README").write_text("about")
    assert load_extractor(f"tfgan_inception:{copied}").content_hash == extractor.content_hash
    assert load_extractor(f"tfgan_inception:{tfgan_inception.HANDLE}").protocol() == extractor.protocol()


@pytest.mark.legacy
def test_the_cache_is_that_of_tensorflow_hub(hub_cache):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_hub

    assert tensorflow_hub.resolve(tfgan_inception.HANDLE) == tfgan_inception.resolve_handle(tfgan_inception.HANDLE)


def test_a_handle_that_cannot_be_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    monkeypatch.setitem(sys.modules, "tensorflow_hub", None)
    with pytest.raises(ImportError, match=r"inception/1' is not in the cache .* pip install 'attennorm_tf\[hub\]', or"):
        load_extractor("tfgan_inception")

    def resolve(handle):
        raise OSError("<urlopen error [Errno -2] Name or service not known>")

    hub = types.ModuleType("tensorflow_hub")
    hub.resolve = resolve
    monkeypatch.setitem(sys.modules, "tensorflow_hub", hub)
    message = "'https://x.org/m/1' cannot be fetched (<urlopen error [Errno -2] Name or service not known>): check the"
    with pytest.raises(ValueError, match=re.escape(message)):
        load_extractor("tfgan_inception:https://x.org/m/1")
    hub.resolve = lambda handle: save_model(tmp_path / "fetched")
    assert load_extractor("tfgan_inception:https://x.org/m/1").feature_size == FEATURES


def test_saved_models_by_their_outputs(tmp_path):
    named = save_model(tmp_path / "named", shape=(None, 7, 7, 3), names=("features", "logits"))
    listed = save_model(tmp_path / "listed", shape=(None, None, None, 3), names=None)
    called = save_model(tmp_path / "called", shape=(None, 7, 7, 3), signature=False, tail=(1, 1))
    served = save_model(tmp_path / "served@7:x", shape=(None, 7, 7, 3), call=False)
    images = tf.random.stateless_uniform((2, 7, 7, 3), [1, 2], -1, 1)
    expected = [images.numpy().mean(axis=(1, 2)) @ kernel for kernel in kernels()]
    for spec in (
        f"saved_model:{named}",
        f"saved_model:{named}:features",
        f"saved_model:{listed}:output_0,output_1@7",
        f"saved_model:{called}:pool_3",
        f"saved_model:{served}:pool_3,logits@7",
    ):
        extractor = load_extractor(spec)
        assert (extractor.resolution, extractor.channels, extractor.feature_size) == (7, 3, FEATURES)
        outputs = extractor(images)
        np.testing.assert_allclose(outputs.features, expected[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(outputs.logits, expected[1], rtol=1e-5, atol=1e-6)
        assert extractor.num_classes == CLASSES
    alone = load_extractor(f"saved_model:{listed}:output_0@7")
    assert (alone.num_classes, alone(images).logits) == (None, None)
    assert alone.name == "saved_model_listed"
    # The same weights under another name of the features are another extractor.
    assert alone.protocol() != load_extractor(f"saved_model:{listed}:output_1@7").protocol()


def test_the_hash_follows_the_weights(tmp_path):
    folder, other = tmp_path / "m", tmp_path / "other"
    before = load_extractor(f"saved_model:{save_model(folder)}:pool_3").content_hash
    save_model(other, scale=2.0)
    shutil.rmtree(folder / "variables")
    shutil.copytree(other / "variables", folder / "variables")
    assert load_extractor(f"saved_model:{folder}:pool_3").content_hash != before


@pytest.mark.parametrize(
    ("options", "spec", "message"),
    [
        ({}, ":pool", "lacks the output 'pool'; outputs there are: signature 'serving_default': "),
        ({}, ":pool_3,log", "lacks the output 'pool_3', 'log'"),
        ({}, "", "has several outputs, name the features: "),
        (
            {"tail": (2, 1)},
            ":pool_3",
            "output 'pool_3' has rank 4, float32 (None, 2, 1, 3); expected rank 2, float (batch, size). Outputs",
        ),
        ({"tail": (2,)}, ":pool_3", "output 'pool_3' has rank 3, float32 (None, 2, 3)"),
        ({"shape": (None, None, None, 3)}, ":pool_3", "does not tell the side of its images; add it, as in"),
        ({}, ":pool_3@64", "takes images of side 299, got side 64"),
        ({"shape": (None, 9, 8, 3)}, ":pool_3", "takes 9 x 8 images, expected squares"),
        ({"shape": (4, 9, 9, 3)}, ":pool_3", "takes batches of 4 only, expected any size"),
        ({"shape": (None, 9, 9, 4)}, ":pool_3", "takes 4 channels, expected 1 or 3"),
        ({"dtype": tf.uint8}, ":pool_3", "takes uint8 (None, 299, 299, 3), expected float32 (batch, height"),
        ({"signature": False, "call": False}, ":pool_3", "has no signature 'serving_default' and cannot be called"),
    ],
)
def test_saved_models_that_cannot_serve(tmp_path, options, spec, message):
    folder = save_model(tmp_path / "m", **options)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load_extractor(f"saved_model:{folder}{spec}")
    assert repr(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folders_that_are_no_saved_model(tmp_path):
    with pytest.raises(ValueError, match="gone' does not exist; expected the folder of a SavedModel"):
        load_extractor(f"saved_model:{tmp_path / 'gone'}:pool_3")
    with pytest.raises(ValueError, match=r"holds no saved_model\.pb; expected the folder of a SavedModel"):
        load_extractor(f"tfgan_inception:{tmp_path}")
    with pytest.raises(ValueError, match="saved_model needs a folder after a colon"):
        load_extractor("saved_model")
    folder = save_model(tmp_path / "m")
    (tmp_path / "m" / "saved_model.pb").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="m' cannot be loaded: "):
        load_extractor(f"saved_model:{folder}:pool_3")


@pytest.mark.slow
def test_keras_inception_v3(tmp_path):
    network = keras.applications.InceptionV3(weights=None, classifier_activation=None)
    path = tmp_path / "inception_v3.h5"
    _save_as_published(network, path)
    extractor = load_extractor(f"keras_inception_v3:{path}")
    assert (extractor.resolution, extractor.feature_size, extractor.num_classes) == (299, 2048, 1000)
    assert extractor.content_hash == hashlib.sha256(path.read_bytes()).hexdigest()
    images = tf.random.stateless_uniform((1, 299, 299, 3), [1, 2], 0, 255)
    outputs = extractor(images / 127.5 - 1)
    expected = network(keras.applications.inception_v3.preprocess_input(images.numpy()), training=False)
    np.testing.assert_allclose(outputs.logits, expected, rtol=1e-3, atol=1e-5)
    head = network.get_layer("predictions").get_weights()
    np.testing.assert_allclose(outputs.features @ head[0] + head[1], outputs.logits, rtol=1e-3, atol=1e-5)


def test_keras_inception_v3_without_top(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.applications, "InceptionV3", _tiny_inception)
    network = _tiny_inception(None, False, None, (299, 299, 3), "avg")
    _save_as_published(network, tmp_path / "notop.h5")
    network.save_weights(str(tmp_path / "notop.weights.h5"))
    for name in ("notop.h5", "notop.weights.h5"):
        extractor = load_extractor(f"keras_inception_v3:{tmp_path / name}")
        assert (extractor.feature_size, extractor.num_classes) == (5, None)
        assert extractor(tf.zeros((1, 9, 9, 3))).logits is None


def test_weights_that_cannot_serve(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.applications, "InceptionV3", _tiny_inception)
    with pytest.raises(ValueError, match="keras_inception_v3 needs a file of weights after a colon"):
        load_extractor("keras_inception_v3")
    with pytest.raises(ValueError, match=r"gone\.h5' is not a file"):
        load_extractor(f"keras_inception_v3:{tmp_path / 'gone.h5'}")
    (tmp_path / "text.h5").write_text("weights")
    with pytest.raises(ValueError, match=r"text\.h5' is not an HDF5 file"):
        load_extractor(f"keras_inception_v3:{tmp_path / 'text.h5'}")
    inputs = keras.Input((4,))
    other = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Dense(2)(keras.layers.Dense(2)(inputs))))
    other.save_weights(str(tmp_path / "other.weights.h5"))
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    for name in ("other.weights.h5", "empty.h5"):
        with pytest.raises(ValueError, match=f"{name}' are not those of Keras' InceptionV3"):
            load_extractor(f"keras_inception_v3:{tmp_path / name}")


def test_digits_take_a_resolution(monkeypatch):
    monkeypatch.setattr(digits_classifier, "_STEPS", 1)
    extractor = load_extractor("digits")
    assert extractor.name == "digits_classifier_16x16_seed0"
    assert 0 <= extractor.protocol()["test_accuracy"] <= 1
    with pytest.raises(ValueError, match="digits takes a resolution after a colon, as in 'digits:16', got 'x'"):
        load_extractor("digits:x")


def test_names_do_not_say_where_a_folder_lies(tmp_path, monkeypatch):
    save_model(tmp_path / "m", shape=(None, 7, 7, 3))
    monkeypatch.chdir(tmp_path / "m")
    assert load_extractor(f"saved_model:.{os.sep}:pool_3").name == "saved_model_m"
