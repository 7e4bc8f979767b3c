"""Exported models where there is no Python: TensorFlow's C API, OpenVINO, saved_model_cli."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import openvino
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from attennorm_tf.export.client import GenerationClient, InpaintingClient
from attennorm_tf.export.default_signature import with_default_signature
from attennorm_tf.export.saved_model import write_saved_model
from attennorm_tf.export.serving_errors import ServingError
from attennorm_tf.export.warmup import read_warmup, write_warmup
from tests.export.served_models import LoadedVersion
from tests.export.serving_server import ServingServer, config_of, entry
from tests.export.tiny_models import photo_and_mask, pixels_of, png
from tests.inference.gan_runs import tiny_generator
from tests.inference.inpainters import tiny_inpainter
from tests.processes import run_module

SOURCE = Path(__file__).parent / "run_saved_model.c"


class Models(NamedTuple):
    """SavedModels of a tiny inpainting network and a tiny generator, and the networks they come from."""

    inpainting: Path
    generation: Path
    inpainter: object
    generator: object


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    root = tmp_path_factory.mktemp("models")
    found = Models(root / "inpainting" / "1", root / "generation" / "1", tiny_inpainter(), tiny_generator())
    write_saved_model(found.inpainter.model, found.inpainting)
    write_saved_model(found.generator, found.generation)
    return found


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C program, against the headers and libraries in TensorFlow's package."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.fail("no C compiler (cc, gcc, clang): the exported model was not run without Python; install one.")
    libraries = Path(tf.sysconfig.get_lib())
    built = tmp_path_factory.mktemp("program") / "run_saved_model"
    command = [compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", str(SOURCE), "-o", str(built)]
    command += [f"-I{tf.sysconfig.get_include()}", f"-L{libraries}", f"-Wl,-rpath,{libraries}"]
    command += [f"-l:{library.name}" for library in sorted(libraries.glob("libtensorflow_*.so.2"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return built


def run_in_c(program: Path, folder: Path, signature: str, inputs: dict[str, object], outputs: dict[str, type],
             place: Path) -> tuple[dict[str, np.ndarray], subprocess.CompletedProcess]:  # fmt: skip
    """Runs a signature by the program; strings are bytes."""
    graph = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs[0]
    definition = graph.signature_def[signature]
    command = [str(program), str(folder)]
    for name, values in inputs.items():
        file = place / f"{name}.in"
        if isinstance(values, bytes):
            file.write_bytes(values)
            kind, dimensions = "string", "1"
        else:
            values.tofile(file)
            kind = "float" if values.dtype == np.float32 else values.dtype.name
            dimensions = "x".join(map(str, values.shape))
        command += ["-i", definition.inputs[name].name, kind, dimensions, str(file)]
    for name in outputs:
        command += ["-o", definition.outputs[name].name, str(place / f"{name}.out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    found = {}
    for (name, kind), shape in zip(outputs.items(), done.stdout.split()):
        content = (place / f"{name}.out").read_bytes()
        dimensions = [int(size) for size in shape.split("x")]
        found[name] = content if kind is bytes else np.frombuffer(content, np.float32).reshape(dimensions)
    return found, done


def tensors(seed: int, shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "images": random.uniform(-1, 1, (*shape, 3)).astype(np.float32),
        "masks": (random.uniform(size=(*shape, 1)) > 0.6).astype(np.float32),
    }


def latents(seed: int, count: int = 3) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "latents": random.standard_normal((count, 8)).astype(np.float32),
        "class_ids": (np.arange(count) % 3).astype(np.int32),
    }


def test_c_fills_holes(program: Path, models: Models, tmp_path: Path) -> None:
    inputs = tensors(0, (2, 13, 20))
    names = {"inpainted": np.ndarray, "outputs": np.ndarray, "layout": np.ndarray}
    found, done = run_in_c(program, models.inpainting, "tensors", inputs, names, tmp_path)
    assert done.returncode == 0, done.stderr
    assert found["layout"].shape == (2, 4, 5, 4)
    np.testing.assert_allclose(found["layout"].sum(axis=-1), 1.0, atol=1e-5)
    expected = models.inpainter.complete(inputs["images"], inputs["masks"])
    np.testing.assert_allclose(found["inpainted"], expected, atol=1e-5)
    known = np.broadcast_to(inputs["masks"] == 0, expected.shape)
    assert np.array_equal(found["inpainted"][known], inputs["images"][known])


def test_c_takes_files_and_gives_files(program: Path, models: Models, tmp_path: Path) -> None:
    photo, mask = photo_and_mask(21, 34)
    inputs = {"image_bytes": png(photo), "mask_bytes": png(mask)}
    found, done = run_in_c(program, models.inpainting, "serving_default", inputs, {"inpainted_bytes": bytes}, tmp_path)
    assert done.returncode == 0, done.stderr
    images = photo[None].astype(np.float32) / 127.5 - 1
    fine = models.inpainter.complete(images, (mask[None, ..., None] > 0).astype(np.float32))[0]
    assert np.abs(pixels_of(found["inpainted_bytes"]) - np.round((fine + 1) * 127.5)).max() <= 1
    assert np.array_equal(pixels_of(found["inpainted_bytes"])[mask == 0], photo[mask == 0])


def test_c_is_told_what_is_wrong(program: Path, models: Models, tmp_path: Path) -> None:
    inputs = {"image_bytes": b"no image", "mask_bytes": png(photo_and_mask()[1])}
    _, done = run_in_c(program, models.inpainting, "serving_default", inputs, {"inpainted_bytes": bytes}, tmp_path)
    assert done.returncode == 1
    assert re.search(r"^error 3: .*image_bytes\[0\].*not a PNG or JPEG", done.stderr, re.M), done.stderr


def test_c_draws_images(program: Path, models: Models, tmp_path: Path) -> None:
    inputs = latents(1)
    names = {"images": np.ndarray, "layout": np.ndarray}
    found, done = run_in_c(program, models.generation, "latents", inputs, names, tmp_path)
    assert done.returncode == 0, done.stderr
    given = [tf.constant(inputs["latents"]), tf.constant(inputs["class_ids"])]
    images, layout = models.generator(given, training=False, return_layout=True)
    np.testing.assert_allclose(found["images"], images.numpy(), atol=1e-5)
    np.testing.assert_allclose(found["layout"], layout.numpy(), atol=1e-5)


def test_openvino_fills_holes(models: Models, tmp_path: Path) -> None:
    folder = with_default_signature(models.inpainting, "tensors", tmp_path / "tensors")
    compiled = openvino.Core().compile_model(str(folder), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for seed, shape in enumerate([(1, 32, 32), (2, 13, 20), (1, 5, 3)]):
        inputs = tensors(seed, shape)
        expected = models.inpainter.complete(inputs["images"], inputs["masks"]) if min(shape[1:]) >= 8 else None
        found = compiled(inputs)
        loaded = tf.saved_model.load(str(models.inpainting)).signatures["tensors"] if expected is None else None
        if loaded is not None:  # narrower than its own padding: only the exported graph takes that
            expected = loaded(**{name: tf.constant(value) for name, value in inputs.items()})["inpainted"].numpy()
        np.testing.assert_allclose(found["inpainted"], expected, atol=1e-5)


def test_openvino_draws_images(models: Models, tmp_path: Path) -> None:
    folder = with_default_signature(models.generation, "latents", tmp_path / "latents")
    compiled = openvino.Core().compile_model(str(folder), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    inputs = latents(2, 5)
    given = [tf.constant(inputs["latents"]), tf.constant(inputs["class_ids"])]
    np.testing.assert_allclose(compiled(inputs)["images"], models.generator(given, training=False).numpy(), atol=1e-5)


@pytest.mark.once
def test_saved_model_cli(models: Models, tmp_path: Path) -> None:
    cli = "tensorflow.python.tools.saved_model_cli"
    shown = run_module(cli, "show", "--dir", models.inpainting, "--tag_set", "serve", "--signature_def", "tensors")
    assert shown.returncode == 0, shown.stderr
    for name, shape in (("images", "(-1, -1, -1, 3)"), ("masks", "(-1, -1, -1, 1)"), ("inpainted", "(-1, -1, -1, 3)")):
        assert re.search(rf"\['{name}'\] tensor_info:\s+dtype: DT_FLOAT\s+shape: {re.escape(shape)}", shown.stdout)
    inputs = tensors(5, (1, 16, 24))
    given = []
    for name, values in inputs.items():
        np.save(tmp_path / f"{name}.npy", values)
        given.append(f"{name}={tmp_path / name}.npy")
    done = run_module(
        cli, "run", "--dir", models.inpainting, "--tag_set", "serve", "--signature_def", "tensors",
        "--inputs", ";".join(given), "--outdir", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = models.inpainter.complete(inputs["images"], inputs["masks"])
    np.testing.assert_allclose(np.load(tmp_path / "out" / "inpainted.npy"), expected, atol=1e-5)


def test_warm_up_and_clients(models: Models) -> None:
    """What users do: warm-up records of every signature replayed, then both clients by both protocols."""
    root = models.inpainting.parents[1]
    for name, folder, records in (("inpainting", models.inpainting, 2), ("generation", models.generation, 3)):
        write_warmup(folder, name, sizes=((24, 40),))
        version = LoadedVersion(folder)
        requests = list(read_warmup(folder))
        assert len(requests) == records == len(version.signatures)
        for request in requests:
            inputs = {key: tf.make_ndarray(proto) for key, proto in request.inputs.items()}
            assert version.predict(request.model_spec.signature_name, inputs, [], None)
        version.close()
    photo, mask = photo_and_mask(21, 34)
    fine = models.inpainter.complete(
        photo[None].astype(np.float32) / 127.5 - 1, (mask[None, ..., None] > 0).astype(np.float32)
    )
    drawn = []
    with ServingServer(config_of(*(entry(name, root / name) for name in ("inpainting", "generation")))) as server:
        for protocol in ("grpc", "rest"):
            with InpaintingClient(server.address(protocol), "inpainting", protocol) as client:
                answers = client.complete([png(photo)] * 2, [png(mask)] * 2)
                with pytest.raises(ServingError, match=r"INVALID_ARGUMENT: .*image_bytes\[1\]: not a PNG or JPEG"):
                    client.complete([png(photo), b"no image"], [png(mask)] * 2)
            for answer in answers:
                assert np.abs(pixels_of(answer) - np.round((fine[0] + 1) * 127.5)).max() <= 1
                assert np.array_equal(pixels_of(answer)[mask == 0], photo[mask == 0])
            with GenerationClient(server.address(protocol), "generation", protocol) as client:
                drawn.append(client.generate([0, 2, 0], [5, 6, 5]))
                with pytest.raises(ServingError, match=r"INVALID_ARGUMENT: .*class_ids\[1\]"):
                    client.generate([0, 3], [0, 0])
    assert drawn[0] == drawn[1]
    assert drawn[0][0] == drawn[0][2] != drawn[0][1]


def test_another_default_signature(models: Models, tmp_path: Path) -> None:
    folder = with_default_signature(models.generation, "latents", tmp_path / "new" / "latents")
    assert [path.name for path in folder.parent.iterdir()] == ["latents"]
    copy, original = LoadedVersion(folder), LoadedVersion(models.generation)
    assert list(copy.signatures) == ["serving_default"]
    inputs = latents(3)
    expected = original.predict("latents", inputs, [], None)
    found = copy.predict("serving_default", inputs, [], None)
    assert all(np.array_equal(found[name], expected[name]) for name in ("images", "layout"))
    copy.close()
    original.close()
    for arguments, message in (
        ((models.generation, "tensors", tmp_path / "x"), r"has no signature 'tensors', only blend, latents, serving_d"),
        ((models.generation.parent, "latents", tmp_path / "x"), r"is no SavedModel: there is no saved_model\.pb"),
        ((models.generation, "latents", folder), r"destination .*latents' exists"),
    ):
        with pytest.raises(ValueError, match=message):
            with_default_signature(*arguments)
    assert not (tmp_path / "x").exists()
