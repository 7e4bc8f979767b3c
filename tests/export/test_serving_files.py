"""The files in serving/: valid by the server's own messages, and every example of the README run as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from PIL import Image
from tensorflow_serving.config import model_server_config_pb2

from attennorm_tf.cli import client as command
from attennorm_tf.export.client import InpaintingClient
from attennorm_tf.export.serving_errors import ServingError
from tests.export.served_models import LoadedVersion, ModelError, wait_until
from tests.export.serving_server import ServingServer
from tests.export.tiny_models import photo_and_mask, pixels_of, png, write_filler, write_generator

SERVING = Path(__file__).parents[2] / "serving"
README = (SERVING / "README.md").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((SERVING / "compose.yaml").read_text(encoding="utf-8"))["services"]["serving"]
DOCKERFILE = (SERVING / "Dockerfile").read_text(encoding="utf-8")


def config(models: Path, *changes: tuple[str, str]) -> str:
    """serving/models.config with the models of this test, and texts replaced that must be there."""
    text = (SERVING / "models.config").read_text(encoding="utf-8")
    for old, new in (('"/models', f'"{models}'), *changes):
        assert old in text, old
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("place") / "models"
    write_filler(root / "inpainting" / "1", 40)
    write_generator(root / "generation" / "1")
    return root


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[ServingServer]:
    with ServingServer(config(models)) as started:
        yield started


# The configuration.


def test_models_config() -> None:
    parsed = text_format.Parse(
        (SERVING / "models.config").read_text(encoding="utf-8"), model_server_config_pb2.ModelServerConfig()
    )
    models = {model.name: model for model in parsed.model_config_list.config}
    assert {name: model.base_path for name, model in models.items()} == {
        "inpainting": "/models/inpainting",
        "generation": "/models/generation",
    }
    versions = models["inpainting"].model_version_policy.specific.versions
    labels = dict(models["inpainting"].version_labels)
    assert set(labels) == {"stable", "canary"}
    assert set(labels.values()) <= set(versions)


def message(name: str, fields: dict[str, tuple[int, str]], nested: dict[str, dict] | None = None) -> type:
    """A message class of TensorFlow Serving that its Python package leaves out: field: (number, type).

    Numbers and types are those of session_bundle_config.proto and monitoring_config.proto.
    """
    file = descriptor_pb2.FileDescriptorProto(name=f"test/{name}.proto", package="test", syntax="proto3")
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    field = descriptor_pb2.FieldDescriptorProto
    for kind, members in {name: fields, **(nested or {})}.items():
        entry = file.message_type.add(name=kind)
        for member, (number, spelled) in members.items():
            repeated = spelled.startswith("repeated ")
            label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            spelled = spelled.removeprefix("repeated ")
            added = entry.field.add(name=member, number=number, label=label)
            if spelled in ("bool", "string", "int64"):
                added.type = getattr(field, f"TYPE_{spelled.upper()}")
            else:
                added.type, added.type_name = field.TYPE_MESSAGE, spelled
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"test.{name}"))


BATCHING = {
    "max_batch_size": (1, ".google.protobuf.Int64Value"),
    "batch_timeout_micros": (2, ".google.protobuf.Int64Value"),
    "max_enqueued_batches": (3, ".google.protobuf.Int64Value"),
    "num_batch_threads": (4, ".google.protobuf.Int64Value"),
    "thread_pool_name": (5, ".google.protobuf.StringValue"),
    "allowed_batch_sizes": (6, "repeated int64"),
    "pad_variable_length_inputs": (7, "bool"),
}


def test_batching_config() -> None:
    kind = message("BatchingParameters", BATCHING)
    parsed = text_format.Parse((SERVING / "batching.config").read_text(encoding="utf-8"), kind())
    sizes = list(parsed.allowed_batch_sizes)
    assert sizes == sorted(sizes)
    assert sizes[-1] == parsed.max_batch_size.value, "the server refuses it otherwise"
    assert 0 < parsed.batch_timeout_micros.value < 100_000
    assert not parsed.pad_variable_length_inputs


def test_monitoring_config() -> None:
    nested = {"PrometheusConfig": {"enable": (1, "bool"), "path": (2, "string")}}
    kind = message("MonitoringConfig", {"prometheus_config": (1, ".test.PrometheusConfig")}, nested)
    parsed = text_format.Parse((SERVING / "monitoring.config").read_text(encoding="utf-8"), kind())
    (job,) = yaml.safe_load((SERVING / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    assert parsed.prometheus_config.enable
    assert parsed.prometheus_config.path == job["metrics_path"]
    assert job["static_configs"][0]["targets"] == ["127.0.0.1:8501"]


def test_compose_and_dockerfile_agree() -> None:
    image = COMPOSE["image"]
    assert re.fullmatch(r"tensorflow/serving:\d+\.\d+\.\d+", image)
    assert f"FROM {image}\n" in DOCKERFILE
    assert COMPOSE["ports"] == ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]
    flags = dict(flag.removeprefix("--").split("=", 1) for flag in COMPOSE["command"])
    built_in = dict(flag.split("=", 1) for flag in re.findall(r'"--([^"]+)"', DOCKERFILE))
    polling = {"model_config_file_poll_wait_seconds", "file_system_poll_wait_seconds"}  # nothing changes in an image
    assert built_in == {name: value for name, value in flags.items() if name not in polling}
    for name in ("model_config_file", "monitoring_config_file"):
        file = Path(flags[name])
        assert file.parent == Path("/config")
        assert (SERVING / file.name).is_file()
    assert "/config/ \\\n" not in DOCKERFILE
    for copied in re.findall(r"serving/\S+", "\n".join(re.findall(r"^COPY .*", DOCKERFILE, re.M))):
        assert (SERVING.parent / copied).is_file(), copied
    for file in re.findall(r"^\| `([^|]*) \|", README, re.M):
        assert all((SERVING / name).is_file() for name in re.findall(r"[\w.]+\.\w+|Dockerfile", file)), file


# The examples.


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


def shell_commands() -> list[str]:
    """One logical line each, as a shell reads them."""
    return [line for block in blocks("sh") for line in block.replace("\\\n", " ").splitlines()]


def addressed(text: str, server: ServingServer) -> str:
    return text.replace("127.0.0.1:8500", server.grpc_address).replace("127.0.0.1:8501", server.rest_address)


def run_client(line: str) -> int:
    """`attennorm-client ...`, in this process: a process for each would spend its time on importing TensorFlow."""
    for name in command._FLAGS:
        command._FLAGS[name].unparse()
    return command.run(command._FLAGS(shlex.split(line))[1:])


def test_every_example(server: ServingServer, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one folder with photo.png, mask.png, photos/ and models/, the only thing changed being the ports."""
    photo, mask = photo_and_mask(48, 64)
    (tmp_path / "photos").mkdir()
    for name, pixels in (("photo", photo), ("mask", mask), ("photos/a", photo), ("photos/b", 255 - photo)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    os.symlink(models, tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    said = ""
    for line in shell_commands():
        if line.startswith("attennorm-client "):
            assert run_client(addressed(line, server)) == 0, line
        else:
            done = subprocess.run(["bash", "-ec", addressed(line, server)], capture_output=True, text=True, check=False)
            assert done.returncode == 0, (line, done.stderr)
            said += done.stdout
    assert '"state": "AVAILABLE"' in said
    results: dict[str, object] = {}
    for block in blocks("python"):
        exec(compile(addressed(block, server), "serving/README.md", "exec"), results)
    filled = np.where(mask[..., None] > 0, 40, photo)
    for name in ("filled", "filled-rest", "curl", "rows", "python", "api", "results/a"):
        assert np.array_equal(np.asarray(Image.open(tmp_path / f"{name}.png")), filled), name
    assert np.array_equal(np.asarray(Image.open("results/b.png")), np.where(mask[..., None] > 0, 40, 255 - photo))
    assert len(list((tmp_path / "samples").iterdir())) == 4
    for name in ("drawn", "generated"):
        assert np.asarray(Image.open(tmp_path / f"{name}.png"))[0, 0].tolist() == [0, 7, 150]
    inpainted = np.asarray(results["inpainted"])
    np.testing.assert_allclose(inpainted[0, 30, 30], 40 / 127.5 - 1, atol=1e-6)
    assert not inpainted[0, 50, 50].any()


# A new version while requests run.


class Clients:
    """Threads that fill a hole again and again until told to end; `levels` is what each was answered, in order."""

    def __init__(self, server: ServingServer, label: str | None = None, count: int = 3):
        self.levels: list[list[int]] = [[] for _ in range(count)]
        self.lost: list[ServingError] = []
        self._end = threading.Event()
        self._arguments = (server, label)
        self._threads = [threading.Thread(target=self._ask, args=(found,)) for found in self.levels]

    def _ask(self, found: list[int]) -> None:
        server, label = self._arguments
        photo, mask = photo_and_mask()
        # No retries: a single refusal is a lost request.
        with InpaintingClient(server.grpc_address, "inpainting", label=label, retries=0, deadline=20.0) as client:
            while not self._end.is_set():
                try:
                    (answer,) = client.complete([png(photo)], [png(mask)])
                    found.append(int(pixels_of(answer)[mask > 0].max()))
                except ServingError as error:
                    self.lost.append(error)

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, level: int) -> None:
        """Until every client was answered with it."""
        wait_until(lambda: all(level in found[-3:] for found in self.levels))


def test_the_newest_version_takes_over(tmp_path: Path) -> None:
    """Policy `latest`: the folder of version 2 appears, as attennorm-export makes it appear."""
    models = tmp_path / "models"
    write_filler(models / "inpainting" / "1", 40)
    policy = (SERVING / "models.config").read_text(encoding="utf-8").split('"generation"')[1]
    assert "latest { num_versions: 1 }" in policy
    text = policy.replace("/models/generation", f"{models}/inpainting")
    text = f'model_config_list {{ config {{ name: "inpainting" {text}'
    with ServingServer(text) as server, Clients(server) as clients:
        clients.wait_for(40)
        write_filler(tmp_path / "aside", 200)
        os.replace(tmp_path / "aside", models / "inpainting" / "2")
        clients.wait_for(200)
        wait_until(lambda: server.store.status("inpainting", None) == [(2, "AVAILABLE", "")])
    assert clients.lost == []
    for found in clients.levels:
        assert found == sorted(found), "an answer of version 1 after one of version 2"
        assert set(found) == {40, 200}


def test_labels_move_without_a_lost_request(tmp_path: Path) -> None:
    """The four steps of the README."""
    models = tmp_path / "models"
    write_filler(models / "inpainting" / "1", 40)
    write_filler(models / "inpainting" / "2", 200)
    both = ("specific { versions: 1 }", "specific { versions: 1 versions: 2 }")
    canary = ('"canary" value: 1', '"canary" value: 2')
    stable = ('"stable" value: 1', '"stable" value: 2')
    with ServingServer(config(models)) as server, Clients(server, "stable") as on_stable:
        on_stable.wait_for(40)
        with pytest.raises(ModelError, match=r"label to version 2 of model inpainting, which is not currently avail"):
            server.store.reload(config(models, canary))
        server.store.reload(config(models, both))
        with Clients(server, "canary", 1) as on_canary:
            on_canary.wait_for(40)
            server.store.reload(config(models, both, canary))
            on_canary.wait_for(200)
            assert {level for found in on_stable.levels for level in found} == {40}
            server.store.reload(config(models, both, canary, stable))
            on_stable.wait_for(200)
            server.store.reload(
                config(models, ("specific { versions: 1 }", "specific { versions: 2 }"), canary, stable)
            )
            assert server.store.status("inpainting", None) == [(2, "AVAILABLE", "")]
    assert on_stable.lost == on_canary.lost == []
    assert all(found == sorted(found) for found in on_stable.levels)


def test_joined_requests_suffer_from_each_other(models: Path) -> None:
    """Why batching is off: rows that are right by themselves fail beside others."""
    generator = LoadedVersion(models / "generation" / "1")
    right = {"class_ids": np.int32([1]), "seeds": np.int64([5]), "truncation": np.float32([1.0])}
    wrong = {**right, "class_ids": np.int32([7])}
    assert generator.predict("serving_default", right, [], None)
    joined = {name: np.concatenate([right[name], wrong[name]]) for name in right}
    with pytest.raises(ModelError, match="class out of range"):
        generator.predict("serving_default", joined, [], None)
    generator.close()
