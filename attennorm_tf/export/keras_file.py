"""`.keras` files, for users of Keras and this package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tensorflow import keras

from attennorm_tf.export.parity import TOLERANCE, difference
from attennorm_tf.export.saved_model import ExportError
from attennorm_tf.models import ClassConditionalGenerator


def write_keras(model: Any, path: Path) -> None:
    """Saves the model itself; it loads with `keras.models.load_model` after `import attennorm_tf.models`.

    Such a file loads with the generation of Keras that wrote it (2 or 3) only.
    """
    model.save(str(path))


def check_keras(model: Any, path: Path, tolerance: float = TOLERANCE) -> dict[str, float]:
    """Loads the file and compares all outputs with the model's.

    Raises:
        ExportError: a difference is larger than `tolerance`.
    """
    loaded = keras.models.load_model(str(path))
    random = np.random.RandomState(0)
    if isinstance(model, ClassConditionalGenerator):
        inputs: list[Any] = [random.standard_normal((3, model.latent_dim)).astype(np.float32)]
        inputs.append((np.arange(3) % model.num_classes).astype(np.int32))
    else:
        inputs = [random.uniform(-1, 1, (2, 16, 24, 3)).astype(np.float32)]
        inputs.append((random.uniform(size=(2, 16, 24, 1)) > 0.5).astype(np.float32))
    expected, found = ([np.asarray(part) for part in _outputs(one, inputs)] for one in (model, loaded))
    worst = max(difference(str(path), *pair) for pair in zip(expected, found))
    if not worst <= tolerance:
        raise ExportError(f"{path}: outputs differ from the checkpoint's by {worst:.3g}, more than {tolerance:.3g}.")
    return {"outputs": worst}


def _outputs(model: Any, inputs: list[Any]) -> list[Any]:
    outputs = model(inputs, training=False)
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
