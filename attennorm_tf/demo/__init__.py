"""The page in the browser: models to try, and what is done with a photograph. `attennorm-demo` opens it."""

from attennorm_tf.demo.models import open_models

__all__ = ["open_models"]


def __dir__() -> list:
    return sorted(__all__)
