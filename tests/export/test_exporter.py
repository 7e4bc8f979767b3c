"""The exporter: versions, formats, model card, what it refuses, and that nothing bad is left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from attennorm_tf.export import ExportError, Limits, Subject, exporter, write_saved_model
from attennorm_tf.export.exporter import export
from attennorm_tf.export.saved_model import check_operations
from attennorm_tf.export.tflite import check_tflite, operations
from attennorm_tf.training.checkpointing import CheckpointError, find_checkpoint
from tests.export.exported import shaken_inpainter
from tests.inference.gan_runs import tiny_generator
from tests.processes import run_module


@pytest.fixture(scope="module")
def subject() -> Subject:
    config = {"name": "tiny", "data": {"name": "digits", "root": "a/secret/place"}, "model": {"resolution": 16}}
    return Subject(tiny_generator(1), "class-conditional generation", "tiny", 7, "moving average", config,
                   ("zero", "one", "two"), {"report.json": {"frechet_distance": 12.5}})  # fmt: skip


def test_all_formats_of_a_version(tmp_path: Path, subject: Subject) -> None:
    output = tmp_path / "models" / "digits"
    (output / "3").mkdir(parents=True)
    (output / "notes").mkdir()
    done = export(subject, output, formats=["saved_model", "keras", "tflite", "tflite_int8"])
    assert done.folder == output / "4"
    files = {path.name for path in done.folder.iterdir()}
    assert files >= {"saved_model.pb", "variables", "model.keras", "model.tflite", "model_int8.tflite", "README.md",
                     "export.json"}  # fmt: skip
    assert not [path for path in output.iterdir() if path.name.startswith(".")]
    assert max(done.parity["saved_model"].values()) < 1e-5
    assert max(done.parity["tflite"].values()) < 1e-5
    assert done.parity["keras"] == {"outputs": 0.0}
    assert done.parity["tflite_int8"]["PSNR of latents (dB)"] > 40
    sizes = [(done.folder / name).stat().st_size for name in ("model.tflite", "model_int8.tflite")]
    assert sizes[1] < 0.6 * sizes[0]
    assert not [name for name in operations((done.folder / "model.tflite").read_bytes()) if "Flex" in name]
    facts = json.loads((done.folder / "export.json").read_text())
    assert sorted(facts["signatures"]) == ["blend", "latents", "serving_default"]
    assert facts["signatures"]["blend"]["inputs"]["class_weights"] == {"shape": [None, 3], "dtype": "float32"}
    card = (done.folder / "README.md").read_text()
    for text in ("# tiny", "Step 7, weights: moving average.", "0 zero, 1 one, 2 two", "| frechet_distance | 12.5 |",
                 "| model.resolution | 16 |", "`truncation`", "| max_batch | 32 |"):  # fmt: skip
        assert text in card
    assert "secret" not in card + json.dumps(facts)
    # Damaged afterwards, a file is found out.
    other = tiny_generator(2)
    with pytest.raises(ExportError, match=r"images of 'latents' .* differ from the checkpoint's by"):
        check_tflite(other, done.folder / "model.tflite")
    with pytest.raises(ExportError, match=r"PSNR of 'latents' .* is .* dB, less than 30 dB"):
        check_tflite(other, done.folder / "model_int8.tflite", int8=True)


def test_what_is_refused_before_any_work(tmp_path: Path, subject: Subject) -> None:
    (tmp_path / "m" / "2").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    contextual = Subject(shaken_inpainter("contextual"), "inpainting", "tiny", 7)
    for change, match in (
        ({"version": 2}, r"version: .*2 is there; versions are never replaced"),
        ({"version": 0}, r"version must be an int >= 1, got 0"),
        ({"formats": ["onnx"]}, r"formats must be of saved_model, keras, tflite, tflite_int8; got 'onnx'"),
        ({"formats": []}, r"formats must be of .*; got none"),
        ({"limits": Limits(max_batch=0)}, r"max_batch must be an int in \[1, 2\^31\), got 0"),
        ({"output": tmp_path / "file"}, r"output: .*file is a file, expected a folder of versions"),
        ({"subject": contextual, "formats": ["tflite"]}, r"the contextual network cannot be converted"),
    ):
        options = {"subject": subject, "output": tmp_path / "m", **change}
        with pytest.raises(ValueError, match=match):
            export(**options)
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["2"]


def test_a_bad_file_is_not_left_behind(tmp_path: Path, subject: Subject, monkeypatch: Any) -> None:
    """Written of another network: the exporter finds out, and the version is not there."""
    other = tiny_generator(2)
    monkeypatch.setattr(exporter, "write_saved_model", lambda model, *rest: write_saved_model(other, *rest))
    with pytest.raises(ExportError, match=r"differ from the checkpoint's by .*, more than"):
        export(subject, tmp_path / "m")
    assert list((tmp_path / "m").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match=r"could not be written"):
        export(subject, tmp_path / "file" / "m")


def test_an_exported_model_is_no_checkpoint(tmp_path: Path, subject: Subject) -> None:
    done = export(subject, tmp_path / "m", formats=["saved_model"])
    for path in (done.folder, done.folder.parent):
        with pytest.raises(CheckpointError, match=rf"checkpoint: {path} is an exported model, .* the work directory"):
            find_checkpoint(path)


def test_random_operations_are_found() -> None:
    function = tf.function(lambda x: tf.cond(x > 0, lambda: tf.random.uniform([]), lambda: x), autograph=False)
    graph = function.get_concrete_function(tf.TensorSpec([])).graph.as_graph_def()
    with pytest.raises(ExportError, match=r"signature 'a': its graph holds RandomUniform"):
        check_operations("a", graph)


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    from tests.inference.gan_runs import write_run

    write_run(tmp_path / "run")
    (tmp_path / "run/report.json").write_text(json.dumps({"steps": 7, "class_accuracy": 0.875}))
    arguments = [f"--checkpoint={tmp_path / 'run'}", f"--output={tmp_path / 'm'}", "--format=keras"]
    done = run_module("attennorm_tf.cli.export", *arguments, "--noaverage", timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == str(tmp_path / "m" / "1")
    assert max(map(len, done.stdout.splitlines()[:-1])) <= 80
    assert "tiny, step 7, weights: as trained" in done.stdout
    assert "| class_accuracy | 0.875 |" in (tmp_path / "m/1/README.md").read_text()
    loaded = keras.models.load_model(str(tmp_path / "m/1/model.keras"))
    latents, ids = tf.constant(np.random.RandomState(0).standard_normal((2, 8)), tf.float32), tf.constant([0, 2])
    np.testing.assert_allclose(loaded([latents, ids]), tiny_generator(1)([latents, ids]), atol=1e-6)
    again = run_module("attennorm_tf.cli.export", *arguments, "--model_version=1", timeout=240)
    assert again.returncode == 1
    assert "versions are never replaced" in again.stderr
