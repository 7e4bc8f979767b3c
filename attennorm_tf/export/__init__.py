"""Export of trained models."""

from attennorm_tf.export.saved_model import ExportError, export_generator

__all__ = ["ExportError", "export_generator"]


def __dir__() -> list:
    return sorted(__all__)
