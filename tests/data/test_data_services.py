"""Real data services in processes of their own: they give the very elements that are made without them."""

from __future__ import annotations

import itertools
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from attennorm_tf.config import gan_preset_config
from attennorm_tf.data import data_services, load_dataset, load_photographs, make_masks
from attennorm_tf.data.data_server import DataServer
from attennorm_tf.data.data_services import DataServiceError, DataServices, broken_streams_explained
from attennorm_tf.data.labeled_images import IndexedImages
from attennorm_tf.data.photograph_sources import tfds_images as photograph_records
from attennorm_tf.data.sources import tfds_images as records
from attennorm_tf.data.unlabeled_images import Crops
from attennorm_tf.training.runs import GanRun
from tests.cluster_jobs import free_addresses, wait_for
from tests.processes import Process, start_module


def start_service(address: str = "") -> tuple[Process, str]:
    """A service and its address; the port after the one chosen is hoped to be free too."""
    address = address or free_addresses(1)[0]
    process = start_module("train.data_service", "--port", address.rpartition(":")[2], "--host=127.0.0.1")
    return process, f"grpc://{address}"


@pytest.fixture(scope="module")
def services() -> Iterator[DataServices]:
    started = [start_service() for _ in range(2)]
    processes = [process for process, _ in started]
    wait_for(lambda: all("decoding at" in process.stdout for process in processes), processes)
    yield DataServices([address for _, address in started])
    processes[0].terminate()
    assert processes[0].wait(20) == 0
    processes[1].kill_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of seven images."""
    root = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for name, index in itertools.product("ab", range(7)):
        (root / name).mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 255, (12, 15, 3), np.uint8)).save(root / name / f"{index}.png")
    return root


def assert_same(made: Any, expected: Any, count: int = 7) -> None:
    rows = list(zip(made.take(count), expected.take(count)))
    assert len(rows) == count
    for got, wanted in rows:
        for one, other in zip(got, wanted):
            np.testing.assert_array_equal(one, other)
    assert len({row[0][0].numpy().tobytes() for row in rows}) > 1


def first(services: DataServices) -> DataServices:
    return DataServices(services.addresses[:1])


@pytest.mark.slow
def test_labelled_images_by_two_services_are_the_same_stream(services: DataServices, folder: Path) -> None:
    """From its beginning and from a later step, for the second worker of two with two replicas, flipped."""
    for name, root in (("image_folder", str(folder)), ("digits", None)):
        dataset = load_dataset(name, root=root)
        services.check(dataset.decoding_request(16))
        for step in (0, 7) if root else (3,):
            share = {
                "resolution": 16, "batch_size": 8, "seed": 5, "start_step": step, "num_input_pipelines": 2,
                "input_pipeline_id": 1, "replicas_per_pipeline": 2, "horizontal_flip": True,
            }  # fmt: skip
            assert_same(dataset.batches(**share, services=services), dataset.batches(**share))
    # One epoch, with what is left over.
    once = {"resolution": 8, "batch_size": 4, "seed": 5, "repeat": False, "drop_remainder": False}
    dataset = load_dataset("image_folder", root=str(folder))
    made = list(dataset.batches(**once, services=services))
    assert [len(labels) for _, labels in made] == [4, 4, 4, 2]


@pytest.mark.slow
def test_records_of_tfds_are_decoded_by_a_service(
    services: DataServices, tmp_path: Path, build_tfds: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held in memory, which each end does by itself, and read in order, when their bytes go there."""
    build_tfds(tmp_path)
    masks = make_masks("rectangle", height=4, width=4, shrink=1)
    for cache in (None, 0):
        if cache is not None:
            monkeypatch.setattr(records, "DEFAULT_CACHE_BYTES", cache)
            monkeypatch.setattr(photograph_records, "DEFAULT_CACHE_BYTES", cache)
        dataset = load_dataset("tfds:tiny_shapes", root=str(tmp_path))
        assert isinstance(dataset, IndexedImages) == (cache is None)
        share = {"resolution": 8, "batch_size": 4, "seed": 1, "start_step": 4}
        assert_same(dataset.batches(**share, services=first(services)), dataset.batches(**share))
        photographs = load_photographs("tfds:tiny_shapes", root=str(tmp_path))
        crops = {"resolution": 8, "batch_size": 4, "seed": 1, "masks": masks, "start_step": 4}
        made = photographs.batches(**crops, services=first(services))
        assert_same(made, photographs.batches(**crops))


def test_photographs_are_cut_by_services(services: DataServices, folder: Path) -> None:
    photographs = load_photographs("image_folder", root=str(folder))
    services.check(photographs.decoding_request(Crops(16, 0.5, True, 0)))
    masks = make_masks("rectangle", height=8, width=8, shrink=2)
    share = {"resolution": 16, "batch_size": 3, "seed": 1, "masks": masks, "min_crop_scale": 0.5, "start_step": 2}
    assert_same(photographs.batches(**share, services=services), photographs.batches(**share))


def test_a_service_that_was_started_again_sends_nothing_wrong(folder: Path) -> None:
    dataset = load_dataset("image_folder", root=str(folder))
    share = {"resolution": 8, "batch_size": 4, "seed": 1}
    expected = iter(dataset.batches(**share))
    process, address = start_service()
    wait_for(lambda: "decoding at" in process.stdout, [process])
    made = iter(dataset.batches(**share, services=DataServices([address])))
    np.testing.assert_array_equal(next(made)[0], next(expected)[0])
    process.kill_group()
    process.wait(20)
    again, _ = start_service(address.partition("://")[2])

    def read_on() -> None:
        with broken_streams_explained():
            for (images, _), (wanted, _) in zip(made, expected):  # what it had sent before
                np.testing.assert_array_equal(images, wanted)

    with again, pytest.raises(DataServiceError, match="a service was started again while it was in use"):
        read_on()


def test_a_training_asks_its_services_before_it_begins(tmp_path: Path) -> None:
    [address] = free_addresses(1)
    config = gan_preset_config("sngan", resolution=16)
    config.training.batch_size = 4
    config.data.service = f"grpc://{address}"
    with pytest.raises(DataServiceError, match=rf"data.service grpc://{address} cannot be reached"):
        GanRun(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_other_images_at_the_same_path_are_noticed(services: DataServices, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    dataset = load_dataset("image_folder", root=str(tmp_path))
    (tmp_path / "a" / "6.png").rename(tmp_path / "a" / "7.png")
    message = (
        rf"data.service grpc://127.0.0.1:\d+: image_folder in '{tmp_path}' are other images there .*\(14 against 14\)"
    )
    with pytest.raises(DataServiceError, match=message):
        services.check(dataset.decoding_request(8))
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(DataServiceError, match=r"data.service .*: image folder .* holds one class only, 'b'"):
        services.check(dataset.decoding_request(8))


def test_an_unreadable_image_is_named(services: DataServices, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "a" / "0.png").write_bytes((folder / "a" / "0.png").read_bytes()[:60])
    dataset = load_dataset("image_folder", root=str(tmp_path))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"UnreadableImageError: cannot read image '.*/a/0.png': "):
        next(iter(dataset.batches(resolution=8, batch_size=14, seed=0, services=first(services))))


def test_other_versions_are_noticed(services: DataServices, monkeypatch: pytest.MonkeyPatch) -> None:
    own = data_services.versions()
    monkeypatch.setattr(data_services, "versions", lambda: {**own, "pillow": "1.0"})
    with pytest.raises(DataServiceError, match=rf"pillow {own['pillow']} here, 1.0 in training"):
        first(services).check({})


def test_what_is_no_service_of_ours_is_told() -> None:
    [address] = free_addresses(1)
    with pytest.raises(DataServiceError, match=rf"grpc://{address} cannot be reached \(Connection refused\). Start it"):
        DataServices([f"grpc://{address}"]).check({})


def test_a_dispatcher_without_a_worker_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_services, "_ANSWERED_WITHIN", 0.5)
    service = tf.data.experimental.service
    dispatcher = service.DispatchServer(service.DispatcherConfig(port=0))
    with pytest.raises(DataServiceError, match=r"does not answer within 0 s: it has no worker"):
        DataServices([dispatcher.target.replace("localhost", "127.0.0.1")]).check({})
    # So that the question ends, too: this worker's process has other functions, or none.
    address = dispatcher.target.partition("://")[2]
    worker = service.WorkerServer(service.WorkerConfig(dispatcher_address=address, heartbeat_interval_ms=100))
    time.sleep(1.0)
    del worker


def test_images_that_only_this_process_has_are_refused(services: DataServices) -> None:
    dataset = load_dataset("digits")
    dataset.request = None
    with pytest.raises(ValueError, match=r"data.service: digits is not from load_dataset: only this process can read"):
        dataset.batches(resolution=8, batch_size=4, seed=0, services=services)


@pytest.mark.parametrize(
    "text", ["localhost:5050", "grpc://host", "grpc://host:0", "grpc://a:1,,", "grpc://a:1,grpc://a:1"]
)
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"data.service must be 'grpc://host:port', several .*; got '" + text):
        DataServices.of(text)


def test_addresses() -> None:
    assert DataServices.of("") is None
    found = DataServices.of("grpc://a.b:5050, grpc://[::1]:1")
    assert found is not None
    assert found.addresses == ("grpc://a.b:5050", "grpc://[::1]:1")


def test_ports_that_cannot_be_used() -> None:
    with pytest.raises(ValueError, match=r"port must be in \[1, 65534\].*got 65535"):
        DataServer(65535, "localhost")
    [address] = free_addresses(1)
    host, port = address.split(":")
    message = rf"port {int(port) + 1} cannot be used \(Address already in use\)"
    with socket.create_server(("", int(port) + 1)), pytest.raises(ValueError, match=message):
        DataServer(int(port), host)
