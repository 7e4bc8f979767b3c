"""Pictures of images, of layouts and of a training run."""

from __future__ import annotations

from attennorm_tf.visualization.binarized_sheet import binarized_sheet
from attennorm_tf.visualization.color_vision import simulate
from attennorm_tf.visualization.comparison_sheet import comparison_sheet
from attennorm_tf.visualization.entity_colors import layout_colors
from attennorm_tf.visualization.flow_picture import flow_picture
from attennorm_tf.visualization.image_grid import image_grid, to_uint8
from attennorm_tf.visualization.interpolation import class_blends, interpolation_strip
from attennorm_tf.visualization.layout_sheet import (
    attention_maps,
    binarized_layout,
    layout_sheet,
)
from attennorm_tf.visualization.png import save_png
from attennorm_tf.visualization.region_statistics import RegionStatistics, region_statistics
from attennorm_tf.visualization.statistics_sheet import statistics_sheet
from attennorm_tf.visualization.training_curves import curves_figure, figure_pixels, training_curves

__all__ = [
    "RegionStatistics",
    "attention_maps",
    "binarized_layout",
    "binarized_sheet",
    "class_blends",
    "comparison_sheet",
    "curves_figure",
    "figure_pixels",
    "flow_picture",
    "image_grid",
    "interpolation_strip",
    "layout_colors",
    "layout_sheet",
    "region_statistics",
    "save_png",
    "simulate",
    "statistics_sheet",
    "to_uint8",
    "training_curves",
]
