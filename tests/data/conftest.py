"""A data set of TensorFlow Datasets that the tests build themselves."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf


def _build(folder, *, count=23, corrupt=(), features=None):
    import tensorflow_datasets as tfds

    if features is None:
        features = {
            "image": tfds.features.Image(shape=(6, 6, 3)),
            "label": tfds.features.ClassLabel(names=["x", "y", "z"]),
        }

    # The name must not stay registered: each test reads it from its own folder.
    with tfds.core.registered.skip_registration():

        class TinyShapes(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                return tfds.core.DatasetInfo(
                    builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
                )

            def _split_generators(self, dl_manager):
                return {"train": self._generate_examples()}

            def _generate_examples(self):
                for index in range(count):
                    image = tf.io.encode_png(np.full((6, 6, 3), index, np.uint8)).numpy()
                    path = folder / f"{index}.png"
                    path.write_bytes(image[:40] if index in corrupt else image)
                    example = {"image": str(path), "label": index % 3}
                    yield index, {key: example.get(key, "text") for key in features}

        builder = TinyShapes(data_dir=folder)
        builder.download_and_prepare()
    return builder


@pytest.fixture
def build_tfds():
    """Prepares "tiny_shapes" in a folder: image i is filled with i, its label is i % 3."""
    return _build
