"""Labelled images: data sets by name, as one reproducible stream of global batches."""

from __future__ import annotations

from attennorm_tf.data.image_decoding import UnreadableImageError
from attennorm_tf.data.labeled_images import LabeledImages
from attennorm_tf.data.registry import dataset_names, load_dataset

__all__ = ["LabeledImages", "UnreadableImageError", "dataset_names", "load_dataset"]
