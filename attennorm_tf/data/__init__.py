"""Images as one reproducible stream of global batches: labelled ones, and photographs with holes."""

from __future__ import annotations

from attennorm_tf.data.image_decoding import UnreadableImageError
from attennorm_tf.data.image_source import ImageBatch, ImageSource, dataset_source, folder_source, to_8_bits
from attennorm_tf.data.labeled_images import LabeledImages
from attennorm_tf.data.masks import MASK_KINDS, MaskSource, make_masks
from attennorm_tf.data.photographs import Photographs, load_photographs, photographs_names
from attennorm_tf.data.registry import dataset_names, load_dataset

__all__ = [
    "MASK_KINDS",
    "ImageBatch",
    "ImageSource",
    "LabeledImages",
    "MaskSource",
    "Photographs",
    "UnreadableImageError",
    "dataset_names",
    "dataset_source",
    "folder_source",
    "load_dataset",
    "load_photographs",
    "make_masks",
    "photographs_names",
    "to_8_bits",
]
