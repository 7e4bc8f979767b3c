"""The client against TensorFlow Serving's protocols: what is sent, what comes back, and everything that can fail."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from attennorm_tf.export.client import GenerationClient, InpaintingClient, ServingClient
from attennorm_tf.export.serving_errors import RetryPolicy, ServingError, call_with_retries
from tests.export.serving_server import Fault, ServingServer, config_of, entry
from tests.export.tiny_models import photo_and_mask, pixels_of, png, write_filler, write_generator

QUICK = RetryPolicy(retries=4, first_wait=0.01, longest_wait=0.05)
both = pytest.mark.parametrize("protocol", ["grpc", "rest"])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    write_filler(root / "inpainting" / "1", 40)
    write_filler(root / "inpainting" / "2", 200)
    write_generator(root / "generation" / "7")
    return root


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[ServingServer]:
    labels = "version_labels { key: 'stable' value: 1 } version_labels { key: 'canary' value: 2 }"
    policy = "model_version_policy { specific { versions: 1 versions: 2 } }"
    config = config_of(
        entry("inpainting", models / "inpainting", policy + labels), entry("generation", models / "generation")
    )
    with ServingServer(config) as started:
        yield started


@pytest.fixture(autouse=True)
def _no_faults_left(server: ServingServer) -> Iterator[None]:
    yield
    server.faults.clear()


def inpainting(server: ServingServer, protocol: str, **options: object) -> InpaintingClient:
    options = {"retries": QUICK, "deadline": 10.0, **options}
    return InpaintingClient(server.address(protocol), "inpainting", protocol, **options)


def level_of(client: InpaintingClient) -> int:
    """The grey level that a version fills with."""
    photo, mask = photo_and_mask()
    (answer,) = client.complete([png(photo)], [png(mask)])
    found = pixels_of(answer)
    assert np.array_equal(found[mask == 0], photo[mask == 0])
    (level,) = np.unique(found[mask > 0])
    return int(level)


@both
def test_a_batch_is_completed(server: ServingServer, protocol: str) -> None:
    pairs = [photo_and_mask(seed=seed) for seed in range(3)]
    with inpainting(server, protocol) as client:
        answers = client.complete([png(photo) for photo, _ in pairs], [png(mask) for _, mask in pairs])
    for answer, (photo, mask) in zip(answers, pairs):
        assert np.array_equal(pixels_of(answer), np.where(mask[..., None] > 0, 200, photo))


@both
def test_version_and_label(server: ServingServer, protocol: str) -> None:
    found = {}
    for chosen in ({}, {"version": 1}, {"version": 2}, {"label": "stable"}, {"label": "canary"}):
        with inpainting(server, protocol, **chosen) as client:
            found[str(chosen)] = level_of(client)
    assert list(found.values()) == [200, 40, 200, 40, 200]


@both
def test_images_are_generated(server: ServingServer, protocol: str) -> None:
    with GenerationClient(server.address(protocol), "generation", protocol, retries=QUICK) as client:
        answers = client.generate([0, 2, 1], [5, 250, 0], [0.5, 1.0, 2.0])
        colours = [pixels_of(answer)[0, 0].tolist() for answer in answers]
        assert colours == [[0, 5, 50], [20, 250, 100], [10, 0, 200]]
        assert pixels_of(client.generate([1], [2], 1)[0])[3, 3].tolist() == [10, 2, 100]
        with pytest.raises(ServingError, match="class out of range") as caught:
            client.generate([3], [0])
        assert caught.value.code == "INVALID_ARGUMENT"
        with pytest.raises(ValueError, match="expected a seed and a truncation for each class id"):
            client.generate([1, 2], [0])


@both
def test_any_signature(server: ServingServer, protocol: str) -> None:
    images = np.random.default_rng(1).uniform(-1, 1, (2, 4, 6, 3)).astype(np.float32)
    masks = (np.random.default_rng(2).uniform(size=(2, 4, 6, 1)) > 0.5).astype(np.float32)
    with inpainting(server, protocol) as client:
        answer = client.predict("tensors", {"images": images, "masks": masks}, ["inpainted", "outputs"])
        only = client.predict("tensors", {"images": images, "masks": masks}, ["outputs"])
    level = np.float32(200 / 127.5 - 1)
    assert set(answer) == {"inpainted", "outputs"}
    assert set(only) == {"outputs"}
    assert answer["inpainted"].dtype == np.float32
    np.testing.assert_allclose(answer["inpainted"], np.where(masks > 0, level, images), atol=1e-7)


@both
def test_status(server: ServingServer, protocol: str) -> None:
    with inpainting(server, protocol) as client:
        assert [tuple(version) for version in client.status()] == [(2, "AVAILABLE", ""), (1, "AVAILABLE", "")]
    refused = pytest.raises(ServingError, match="Could not find any versions of model nothing")
    with ServingClient(server.address(protocol), "nothing", protocol) as client, refused as caught:
        client.status()
    assert caught.value.code == "NOT_FOUND"


# What is tried again, and what is not.


@both
def test_transient_failures_are_tried_again(server: ServingServer, protocol: str) -> None:
    server.faults += [Fault("error", code) for code in ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "UNAVAILABLE")]
    before = server.calls
    with inpainting(server, protocol) as client:
        assert level_of(client) == 200
    assert server.calls == before + 4


@both
def test_it_gives_up_after_the_last_retry(server: ServingServer, protocol: str) -> None:
    server.faults += [Fault("error", "UNAVAILABLE")] * 5
    before = server.calls
    refused = pytest.raises(ServingError, match=r"UNAVAILABLE: ordered: UNAVAILABLE.*\(Tried 3 times\.\)$")
    with inpainting(server, protocol, retries=RetryPolicy(2, 0.01, 0.02)) as client, refused:
        level_of(client)
    assert server.calls == before + 3


@both
@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "INTERNAL"])
def test_what_would_fail_again_is_not_tried_again(server: ServingServer, protocol: str, code: str) -> None:
    server.faults.append(Fault("error", code))
    before = server.calls
    refused = pytest.raises(ServingError, match=rf"model 'inpainting': {code}: ordered: {code}")
    with inpainting(server, protocol) as client, refused as caught:
        level_of(client)
    assert (caught.value.code, caught.value.transient, server.calls) == (code, False, before + 1)


@pytest.mark.parametrize("http", [429, 502, 503, 504])
def test_transient_http_answers(server: ServingServer, http: int) -> None:
    server.faults.append(Fault("error", http=http))
    with inpainting(server, "rest") as client:
        assert level_of(client) == 200


def test_retry_after_is_obeyed(server: ServingServer) -> None:
    server.faults.append(Fault("error", http=503, headers=(("Retry-After", "1"),)))
    start = time.monotonic()
    with inpainting(server, "rest") as client:
        assert level_of(client) == 200
    assert time.monotonic() - start >= 1.0


def test_a_dropped_connection_is_opened_again(server: ServingServer) -> None:
    with inpainting(server, "rest") as client:
        assert level_of(client) == 200
        server.faults += [Fault("drop")] * 2
        assert level_of(client) == 200


def test_a_server_that_starts_late(models: Path) -> None:
    """Nothing listens at first; the client's retries outlast that."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    done: list[int] = []

    def ask() -> None:
        policy = RetryPolicy(40, 0.1, 0.2)
        with InpaintingClient(f"127.0.0.1:{port}", "inpainting", deadline=20.0, retries=policy) as client:
            done.append(level_of(client))

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.3)
    with ServingServer(config_of(entry("inpainting", models / "inpainting")), grpc_port=port):
        thread.join(20)
    assert done == [200]


def test_waits_grow_to_a_limit_and_end_with_the_deadline() -> None:
    """Time as numbers: the waits are 1, 2, 4, 4, ... less up to a half, and none reaches beyond the deadline."""
    now, waits = [0.0], []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    def fail(left: float) -> None:
        assert left == pytest.approx(20.0 - now[0])
        raise ServingError("server", "UNAVAILABLE", "busy")

    shares = iter([0.0, 1.0, 0.5, 0.0, 1.0, 1.0, 1.0, 1.0])
    with pytest.raises(ServingError, match=r"Tried 8 times") as caught:
        call_with_retries(fail, RetryPolicy(50, 1.0, 4.0), 20.0, sleep, lambda: now[0], lambda: next(shares))
    assert waits == [0.5, 2.0, 3.0, 2.0, 4.0, 4.0, 4.0]
    assert now[0] < 20.0
    assert caught.value.transient


def test_the_deadline_tells_what_was_tried() -> None:
    errors = iter([ServingError("s", "UNAVAILABLE", "busy"), ServingError("s", "DEADLINE_EXCEEDED", "no answer")])

    def fail(left: float) -> None:
        raise next(errors)

    with pytest.raises(ServingError, match=r"DEADLINE_EXCEEDED: no answer; before that UNAVAILABLE: busy"):
        call_with_retries(fail, QUICK, 5.0, lambda seconds: None)


# Time.


@both
def test_the_deadline_holds(server: ServingServer, protocol: str) -> None:
    server.faults.append(Fault("delay", seconds=1.5))
    start = time.monotonic()
    refused = pytest.raises(ServingError, match=r"DEADLINE_EXCEEDED: .* Hint: allow a longer deadline")
    with inpainting(server, protocol, deadline=0.3) as client, refused:
        level_of(client)
    assert time.monotonic() - start < 1.0


def test_an_answer_that_trickles_does_not_outlast_the_deadline(server: ServingServer) -> None:
    server.faults.append(Fault("trickle", seconds=0.05))
    start = time.monotonic()
    with inpainting(server, "rest", deadline=0.4) as client, pytest.raises(ServingError, match="DEADLINE_EXCEEDED"):
        level_of(client)
    assert time.monotonic() - start < 0.8


@both
def test_the_deadline_covers_all_attempts(protocol: str) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # nobody listens
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
        start = time.monotonic()
        refused = pytest.raises(ServingError, match=r"UNAVAILABLE: .* is the server running")
        with (
            InpaintingClient(address, "m", protocol, deadline=0.5, retries=RetryPolicy(1000, 0.02, 0.1)) as client,
            refused as caught,
        ):
            level_of(client)
    assert time.monotonic() - start < 1.5
    assert caught.value.attempts > 2
    assert caught.value.concerns_all


# Sizes.


@both
def test_a_request_over_the_limit_is_not_sent(server: ServingServer, protocol: str) -> None:
    photo, mask = photo_and_mask(600, 600)
    before = server.calls
    refused = pytest.raises(ServingError, match=r"the request has 1\.\d+ MiB, more than max_message_mb=0\.5.*raise max")
    with inpainting(server, protocol, max_message_mb=0.5) as client, refused:
        client.complete([png(photo)], [png(mask)])
    assert server.calls == before


@both
def test_an_answer_over_the_limit(server: ServingServer, protocol: str) -> None:
    images = np.zeros((1, 100, 100, 3), np.float32)
    inputs = {"images": images, "masks": images[..., :1]}
    with inpainting(server, protocol, max_message_mb=1.0) as client:
        client.predict("tensors", inputs, ["outputs"])  # 0.1 MiB as numbers, 0.6 MiB as text
    with inpainting(server, protocol, max_message_mb=0.2) as client:
        inputs = {name: np.concatenate([values] * 3) for name, values in inputs.items()}
        start = server.calls
        with pytest.raises(ServingError, match=r"TOO_LARGE: the (answer|request) .*more than|larger than max_message"):
            client.predict("tensors", inputs, ["outputs", "inpainted"])
        assert server.calls - start <= 1


def test_an_endless_answer_is_cut_off(server: ServingServer) -> None:
    server.faults.append(Fault("bytes", body=b"[" * 400_000))
    with inpainting(server, "rest", max_message_mb=0.2, retries=0) as client:
        with pytest.raises(ServingError, match=r"the answer is larger than max_message_mb=0.2"):
            level_of(client)
        assert level_of(client) == 200  # by a new connection: the rest of that answer is not taken for this one


def test_the_servers_own_limit(models: Path) -> None:
    photo, mask = photo_and_mask(200, 200)
    with ServingServer(config_of(entry("inpainting", models / "inpainting")), max_message=50_000) as small:
        refused = pytest.raises(ServingError, match=r"TOO_LARGE: .*the server's own limit: start it with")
        with inpainting(small, "grpc") as client, refused as caught:
            client.complete([png(photo)], [png(mask)])
    assert caught.value.attempts == 1


# Answers of another kind, and the wrong port.


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>hello</html>", r"an answer of another kind: no JSON: <html>hello"),
        (b"{}", r"no outputs in \{\}"),
        (b'{"outputs": {"other": [1]}}', r"no inpainted_bytes in"),
        (b'{"outputs": [{"b64": "AAAA"}]}', r"inpainted_bytes must be 1 PNG files"),
        (b'{"outputs": []}', r"inpainted_bytes must be 1 PNG files, got 0 values"),
    ],
)
def test_answers_of_another_kind(server: ServingServer, body: bytes, message: str) -> None:
    server.faults.append(Fault("bytes", body=body))
    with inpainting(server, "rest") as client, pytest.raises(ServingError, match=message):
        level_of(client)


def test_the_other_protocols_port(server: ServingServer) -> None:
    refused = pytest.raises(ServingError, match=r"UNAVAILABLE|DEADLINE_EXCEEDED")
    with (
        InpaintingClient(server.rest_address, "inpainting", "grpc", deadline=2.0, retries=0) as client,
        refused as caught,
    ):
        level_of(client)
    assert "REST" in str(caught.value)
    refused = pytest.raises(ServingError, match="gRPC")
    with InpaintingClient(server.grpc_address, "inpainting", "rest", deadline=2.0, retries=0) as client, refused:
        level_of(client)


@both
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"version": 1, "label": "stable"}, "a version or a label, not both"),
        ({"version": -1}, "version must be 0 or more, got -1"),
        ({"deadline": 0}, "deadline must be a positive number of seconds, got 0"),
        ({"deadline": float("inf")}, "deadline must be a positive number"),
        ({"retries": -1}, "retries must be >= 0, got -1"),
        ({"retries": RetryPolicy(1, 2.0, 1.0)}, "0 < first <= longest, got 2.0 and 1.0"),
        ({"max_message_mb": 0}, "max_message_mb must be more than 0"),
        ({"max_message_mb": 4096}, "less than 2048, got 4096"),
        ({"certificate": "ca.pem"}, "of use only with tls"),
        ({"model": "a/b"}, "model must be the name that the server gives it, without /"),
        ({"server": "localhost"}, "server must be host:port"),
        ({"server": "localhost:99999"}, "server must be host:port"),
        ({"server": "ftp://localhost:1"}, "server must be"),
    ],
)
def test_mistakes(protocol: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InpaintingClient(**{"server": "127.0.0.1:1", "model": "m", "protocol": protocol, **options})


def test_unknown_protocol() -> None:
    with pytest.raises(ValueError, match="protocol must be one of grpc, rest; got 'soap'"):
        ServingClient("127.0.0.1:1", "m", "soap")


def test_masks_must_match_images(server: ServingServer) -> None:
    refused = pytest.raises(ValueError, match="as many masks as images and at least one, got 0 and 1")
    with inpainting(server, "grpc") as client, refused:
        client.complete([b"x"], [])


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorflow_serving.apis", None)
    with pytest.raises(ImportError, match=r"pip install 'attennorm_tf\[serving\]' for 2.21"):
        ServingClient("127.0.0.1:1", "m")
    monkeypatch.setitem(__import__("sys").modules, "urllib3", None)
    with pytest.raises(ImportError, match=r"REST needs urllib3 .*attennorm_tf\[serving\]"):
        ServingClient("127.0.0.1:1", "m", "rest")


def test_tls(models: Path, certificate: tuple[bytes, bytes, Path]) -> None:
    key, chain, path = certificate
    credentials = grpc.ssl_server_credentials([(key, chain)])
    with ServingServer(config_of(entry("inpainting", models / "inpainting")), credentials=credentials) as secure:
        with inpainting(secure, "grpc", tls=True, certificate=str(path)) as client:
            assert level_of(client) == 200
        with inpainting(secure, "grpc", deadline=1.0, retries=0) as client, pytest.raises(ServingError):
            level_of(client)
    with pytest.raises(OSError, match=r"nowhere.pem"):
        InpaintingClient("localhost:1", "m", tls=True, certificate="nowhere.pem")


def test_rest_over_https(models: Path, certificate: tuple[bytes, bytes, Path]) -> None:
    """By address and by tls; a server whose authority is not known, and one that is spoken to in the clear."""
    _, _, path = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, path.with_name("key.pem"))
    with ServingServer(config_of(entry("inpainting", models / "inpainting")), rest_tls=context) as secure:
        port = secure.rest_address.rpartition(":")[2]
        for server, options in ((f"https://localhost:{port}", {}), (f"127.0.0.1:{port}", {"tls": True})):
            with InpaintingClient(server, "inpainting", "rest", certificate=str(path), **options) as client:
                assert level_of(client) == 200
                assert client.status()[0].state == "AVAILABLE"
        refused = pytest.raises(
            ServingError, match=r"no TLS: .*certificate verify failed.*certificate of its authority"
        )
        with InpaintingClient(f"https://localhost:{port}", "inpainting", "rest") as client, refused as caught:
            level_of(client)
        assert caught.value.attempts == 1
        refused = pytest.raises(ServingError, match="UNAVAILABLE")
        with (
            InpaintingClient(f"http://localhost:{port}", "inpainting", "rest", deadline=2.0, retries=0) as client,
            refused,
        ):
            level_of(client)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes, Path]:
    """Key, certificate for localhost, and its file; made by openssl for this test alone."""
    import subprocess

    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return (folder / "key.pem").read_bytes(), (folder / "cert.pem").read_bytes(), folder / "cert.pem"
