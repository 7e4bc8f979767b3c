"""Export of trained models to files that run without this package."""

from attennorm_tf.export.exporter import Exported, Subject, export
from attennorm_tf.export.request_checks import Limits
from attennorm_tf.export.saved_model import ExportError, default_limits, export_generator, write_saved_model

__all__ = [
    "ExportError",
    "Exported",
    "Limits",
    "Subject",
    "default_limits",
    "export",
    "export_generator",
    "write_saved_model",
]


def __dir__() -> list:
    return sorted(__all__)
