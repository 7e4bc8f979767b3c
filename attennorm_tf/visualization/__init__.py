"""Pictures of images, of layouts and of a training run."""

from __future__ import annotations

from attennorm_tf.visualization.comparison_sheet import comparison_sheet
from attennorm_tf.visualization.flow_picture import flow_picture
from attennorm_tf.visualization.image_grid import image_grid, to_uint8
from attennorm_tf.visualization.layout_sheet import (
    binarized_layout,
    interpolation_strip,
    layout_colors,
    layout_sheet,
)
from attennorm_tf.visualization.png import save_png
from attennorm_tf.visualization.training_curves import training_curves

__all__ = [
    "binarized_layout",
    "comparison_sheet",
    "flow_picture",
    "image_grid",
    "interpolation_strip",
    "layout_colors",
    "layout_sheet",
    "save_png",
    "to_uint8",
    "training_curves",
]
