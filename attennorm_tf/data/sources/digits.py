"""The handwritten digits that ship inside scikit-learn: 1,797 real 8x8 images, no download."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from attennorm_tf.data.labeled_images import DatasetRequest, IndexedImages, LabeledImages

_SPLIT_SEED = 0
_TEST_FRACTION = 0.2


def load(request: DatasetRequest) -> LabeledImages:
    """The "train" (1,438) or "test" (359) split, stratified by class and fixed for all time."""
    if request.root is not None:
        raise ValueError(f"data set 'digits' ships with scikit-learn and takes no root, got {request.root!r}.")
    if request.split not in ("train", "test"):
        raise ValueError(f"data set 'digits' has the splits 'train' and 'test', got {request.split!r}.")
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "data set 'digits' needs scikit-learn, which is not installed: pip install 'attennorm_tf[data]'."
        ) from error
    raw = load_digits()
    chosen = _split(raw.target, request.split)
    channels = request.channels or 1
    # 0..16 to [-1, 1]
    native = np.repeat((raw.images[chosen] / 8.0 - 1.0).astype(np.float32)[..., np.newaxis], channels, axis=-1)

    def decode(indices: np.ndarray, resolution: int) -> np.ndarray:
        images = native[indices]
        if resolution == native.shape[1]:
            return images
        with tf.device("/CPU:0"):
            return tf.image.resize(images, (resolution, resolution), "bilinear", antialias=True).numpy()

    return IndexedImages(
        request.name,
        labels=raw.target[chosen],
        decode=decode,
        read=lambda index: (str(chosen[index]), native[index].astype("<f4").tobytes()),
        split=request.split,
        bytes_per_value=4,
        class_names=[str(name) for name in raw.target_names],
        channels=channels,
        native=(8, 8),
    )


def _split(labels: np.ndarray, split: str) -> np.ndarray:
    """Ascending indices of a split: of each class a seeded fifth is for testing."""
    random = np.random.RandomState(_SPLIT_SEED)  # its stream is frozen across NumPy versions
    test = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        test[members[: round(_TEST_FRACTION * len(members))]] = True
    return np.flatnonzero(test if split == "test" else ~test)
