"""Writes the SavedModels of this stack that the other stack's tests load, with what their networks compute.

    python -m tests.export.write_goldens            # once in each environment, when signatures change

`goldens/<stack>_<task>.npz`: the files of one SavedModel, of a tiny network, and inputs and outputs of its signatures.
"""

from __future__ import annotations

import io
import logging
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from attennorm_tf._compat import stack_name
from attennorm_tf.export import write_saved_model
from attennorm_tf.export.parity import examples
from tests.export.exported import shaken_inpainter
from tests.inference.gan_runs import tiny_generator

GOLDENS = Path(__file__).parent / "goldens"
LARGEST = 1100  # numbers in a tensor of the examples that are kept
TASKS = ("inpainting", "contextual", "generation")


def network(task: str):
    """The tiny network of a task, its weights rounded to three binary digits: noise could not be compressed."""
    if task == "generation":
        built = tiny_generator(1)
    else:
        built = shaken_inpainter("contextual" if task == "contextual" else "attentive")
    built.set_weights([rounded(weight) for weight in built.get_weights()])
    return built


def rounded(values: np.ndarray) -> np.ndarray:
    """Floats with three significant binary digits, by magnitude from 2^-7 on."""
    if values.dtype.kind != "f":
        return values
    fractions, exponents = np.frexp(values)
    return np.where(np.abs(values) < 2**-7, 0, np.ldexp(np.round(fractions * 8) / 8, exponents)).astype(values.dtype)


def packed(folder: Path) -> np.ndarray:
    """A folder as uint8 of a compressed archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder).as_posix())
    return np.frombuffer(buffer.getvalue(), np.uint8)


def unpack(data: np.ndarray, folder: Path) -> Path:
    """The inverse of `packed`."""
    with zipfile.ZipFile(io.BytesIO(data.tobytes())) as archive:
        archive.extractall(folder)
    return folder


def values_of(model) -> dict[str, np.ndarray]:
    """Values by "<signature>/<example>/in/<name>" and "/out/<name>"."""
    values = {}
    for index, example in enumerate(examples(model)):
        for way, tensors in (("in", example.inputs), ("out", example.expected)):
            for name, value in tensors.items():
                values[f"{example.signature}/{index}/{way}/{name}"] = value
    return values


def main() -> None:
    GOLDENS.mkdir(exist_ok=True)
    for task in TASKS:
        model = network(task)
        with tempfile.TemporaryDirectory() as folder:
            write_saved_model(model, folder)
            archive = packed(Path(folder))
        values = values_of(model)
        large = {name.rsplit("/", 2)[0] for name, value in values.items() if value.size > LARGEST}
        values = {name: value for name, value in values.items() if name.rsplit("/", 2)[0] not in large}
        path = GOLDENS / f"{stack_name()}_{task}.npz"
        np.savez_compressed(path, archive=archive, **values)
        logging.getLogger(__name__).warning("%s: %d bytes", path.name, path.stat().st_size)


if __name__ == "__main__":
    main()
