"""Warm-up records: what the server will read, replayed through the model by the session that it uses."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from attennorm_tf.export.warmup import WARMUP_FILE, read_warmup, write_warmup
from tests.export.served_models import LoadedVersion
from tests.export.tiny_models import pixels_of, write_filler, write_generator


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    write_filler(root / "inpainting" / "1", 40)
    write_generator(root / "generation" / "1")
    return root


def replay(folder: Path) -> list[tuple[str, dict[str, np.ndarray]]]:
    """(signature, outputs) of each record."""
    model = LoadedVersion(folder)
    answers = []
    for request in read_warmup(folder):
        inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
        answers.append(
            (request.model_spec.signature_name, model.predict(request.model_spec.signature_name, inputs, [], None))
        )
    model.close()
    return answers


def test_every_signature_size_and_batch_is_replayed(models: Path) -> None:
    folder = models / "inpainting" / "1"
    written = write_warmup(folder, "inpainting", sizes=((8, 12), (6, 4)), batch_sizes=(1, 3))
    assert written == folder / "assets.extra" / "tf_serving_warmup_requests" == folder / WARMUP_FILE
    assert [path.name for path in written.parent.iterdir()] == [written.name]
    assert {request.model_spec.name for request in read_warmup(folder)} == {"inpainting"}
    shapes = []
    for signature, outputs in replay(folder):
        if signature == "tensors":
            shapes.append((signature, outputs["inpainted"].shape[:3]))
        else:
            pictures = [pixels_of(file) for file in outputs["inpainted_bytes"]]
            assert all((picture == 40).all(axis=-1).mean() >= 0.2 for picture in pictures), "no hole"
            shapes.append((signature, (len(pictures), *pictures[0].shape[:2])))
    sizes = [(batch, *size) for size in ((8, 12), (6, 4)) for batch in (1, 3)]
    assert shapes == [(signature, size) for signature in ("serving_default", "tensors") for size in sizes]


def test_a_generators_records(models: Path) -> None:
    folder = models / "generation" / "1"
    write_warmup(folder, "generation", sizes=((8, 8), (16, 16)), batch_sizes=(2,))
    ((signature, outputs),) = replay(folder)  # it takes no images: their sizes make no difference
    assert signature == "serving_default"
    assert [pixels_of(file)[0, 0].tolist() for file in outputs["image_bytes"]] == [[0, 0, 100], [0, 1, 100]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": ()}, r"sizes must be pairs"),
        ({"sizes": ((0, 4),)}, r"sizes must be pairs \(height, width\) of at least 1, got \[\(0, 4\)\]"),
        ({"batch_sizes": (0,)}, r"batch_sizes must be 1 or more, got \[0\]"),
        ({"batch_sizes": range(1, 502)}, r"1002 warm-up records .* the server reads 1 to 1000"),
        ({"version_folder": "."}, r"'\.' is no SavedModel: there is no saved_model\.pb"),
    ],
)
def test_mistakes(models: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_warmup(
            **{"version_folder": models / "inpainting" / "1", "model_name": "m", "sizes": ((1, 1),), **options}
        )


def test_an_unknown_input_is_named(tmp_path: Path) -> None:
    module = tf.Module()
    serve = tf.function(lambda sound: {"out": sound}, input_signature=[tf.TensorSpec([None], tf.float32, name="sound")])
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": serve})
    with pytest.raises(ValueError, match="no warm-up value is known for the input 'sound'"):
        write_warmup(tmp_path, "m")
    assert not (tmp_path / "assets.extra").exists()


def test_missing_packages_are_named(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(ImportError, match=r"attennorm_tf\[serving\]"):
        write_warmup(models / "inpainting" / "1", "m")
