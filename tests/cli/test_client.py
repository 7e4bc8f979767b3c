"""attennorm-client against a server: flags, what it says, what it writes, exit codes."""

from __future__ import annotations

import base64
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attennorm_tf.cli import client as command
from attennorm_tf.export.serving_errors import ServingError
from tests.export.serving_server import Fault, ServingServer, config_of, entry
from tests.export.tiny_models import photo_and_mask, write_filler, write_generator
from tests.processes import run_module

LEVEL = 40  # what the model fills holes with


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingServer]:
    root = tmp_path_factory.mktemp("models")
    write_filler(root / "inpainting" / "3", LEVEL)
    write_generator(root / "generation" / "1")
    config = config_of(entry("inpainting", root / "inpainting"), entry("generation", root / "generation"))
    with ServingServer(config) as started:
        yield started


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`photos` in a folder and a folder in it, with their `masks`; read only."""
    root = tmp_path_factory.mktemp("place")
    for index, name in enumerate(("a.png", "b.png", "more/c.png")):
        photo, mask = photo_and_mask(12, 16 + 4 * index, seed=index)
        for folder, pixels in (("photos", photo), ("masks", mask)):
            (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / folder / name)
    return root


@pytest.fixture(autouse=True)
def _no_faults_left(server: ServingServer) -> Iterator[None]:
    yield
    server.faults.clear()


def run(server: ServingServer, what: str, *arguments: object, protocol: str = "grpc") -> int:
    """Runs the command in this process."""
    for name in command._FLAGS:
        command._FLAGS[name].unparse()
    given = [f"--server={server.address(protocol)}", f"--protocol={protocol}", *map(str, arguments)]
    rest = command._FLAGS(["attennorm-client", what, *given])
    return command.run(rest[1:])


def expected(place: Path, name: str) -> np.ndarray:
    photo, mask = (np.asarray(Image.open(place / folder / name)) for folder in ("photos", "masks"))
    return np.where(mask[..., None] > 0, LEVEL, photo)


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_a_folder(server: ServingServer, place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str],
                  protocol: str) -> None:  # fmt: skip
    arguments = (f"--images={place}/photos", f"--masks={place}/masks", f"--output={tmp_path}", "--parallel=3")
    assert run(server, "inpaint", *arguments, protocol=protocol) == 0
    said = capfd.readouterr()
    assert said.out.splitlines() == [
        f"[1/3] {tmp_path}/a.png",
        f"[2/3] {tmp_path}/b.png",
        f"[3/3] {tmp_path}/more/c.png",
        f"server {server.address(protocol)}, model 'inpainting': 3 of 3 written",
    ]
    assert said.err == ""
    for name in ("a.png", "b.png", "more/c.png"):
        assert np.array_equal(np.asarray(Image.open(tmp_path / name)), expected(place, name))
    assert run(server, "inpaint", *arguments, protocol=protocol) == 1
    assert capfd.readouterr().err.count("exists; it is replaced only with overwrite.") == 3


def test_what_a_photograph_holds_besides_colour_is_kept(server: ServingServer, tmp_path: Path) -> None:
    photo, mask = photo_and_mask()
    alpha = np.random.default_rng(5).integers(0, 256, (*mask.shape, 1), np.uint8)
    before = np.concatenate([photo, alpha], -1)
    Image.fromarray(before).save(tmp_path / "photo.webp", lossless=True, exact=True, exif=Image.Exif())
    Image.fromarray(255 - mask).save(tmp_path / "mask.png")
    arguments = (f"--image={tmp_path}/photo.webp", f"--mask={tmp_path}/mask.png", f"--output={tmp_path}/out.tif")
    assert run(server, "inpaint", *arguments, "--invert", "--grow=1") == 0
    after = np.asarray(Image.open(tmp_path / "out.tif"))
    changed = (after[..., :3] != before[..., :3]).any(axis=-1)
    assert np.array_equal(after[..., 3], before[..., 3])
    assert changed[mask > 0].all()
    rows, columns = np.where(changed)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (1, 6, 2, 10), "the hole grew by one pixel"


def test_one_bad_photograph(server: ServingServer, place: Path, tmp_path: Path,
                            capfd: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    server.faults += [Fault("error", "INVALID_ARGUMENT"), Fault("error", "UNAVAILABLE")]
    arguments = (f"--images={place}/photos", f"--masks={place}/masks", f"--output={tmp_path}", "--parallel=1")
    assert run(server, "inpaint", *arguments) == 1
    said = capfd.readouterr()
    assert f"error: image '{place}/photos/a.png': server 127" in said.err
    assert "INVALID_ARGUMENT: ordered" in said.err
    assert said.out.endswith("2 of 3 written, 1 failed\n")
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == ["b.png", "c.png"]


def test_a_server_that_is_gone_ends_the_folder(server: ServingServer, place: Path, tmp_path: Path,
                                               capfd: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    arguments = (f"--images={place}/photos", f"--masks={place}/masks", f"--output={tmp_path}", "--retries=0")
    before = server.calls
    server.faults += [Fault("error", "UNAVAILABLE")]
    assert run(server, "inpaint", *arguments, "--parallel=1") == 1
    said = capfd.readouterr()
    assert said.err.count("error: ") == 1
    assert said.out.endswith("0 of 3 written, 3 failed\n")
    assert (server.calls - before, list(tmp_path.iterdir())) == (1, [])


@pytest.mark.parametrize("body", [b"", b"\x89PNG\r\n\x1a\n and nothing else"])
def test_an_answer_that_is_no_picture(server: ServingServer, place: Path, tmp_path: Path,
                                      capfd: pytest.CaptureFixture[str], body: bytes) -> None:  # fmt: skip
    answer = b'{"outputs": [{"b64": "%s"}]}' % base64.b64encode(body)
    server.faults.append(Fault("bytes", body=answer))
    arguments = (f"--image={place}/photos/a.png", f"--mask={place}/masks/a.png", f"--output={tmp_path}/a.png")
    assert run(server, "inpaint", *arguments, protocol="rest") == 1
    assert re.search("PNG file", capfd.readouterr().err)
    assert list(tmp_path.iterdir()) == []


def test_an_answer_of_another_size(server: ServingServer, place: Path, tmp_path: Path,
                                   capfd: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    buffer = io.BytesIO()
    Image.new("RGB", (3, 5)).save(buffer, "PNG")
    server.faults.append(Fault("bytes", body=b'{"outputs": [{"b64": "%s"}]}' % base64.b64encode(buffer.getvalue())))
    arguments = (f"--image={place}/photos/a.png", f"--mask={place}/masks/a.png", f"--output={tmp_path}/a.png")
    assert run(server, "inpaint", *arguments, protocol="rest") == 1
    assert "the answer has 3 x 5 pixels, not as many as were sent" in capfd.readouterr().err


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_images_are_generated(server: ServingServer, tmp_path: Path, capfd: pytest.CaptureFixture[str],
                              protocol: str) -> None:  # fmt: skip
    (tmp_path / "names.txt").write_text("zero\none\ntwo\n")
    output = tmp_path / "out"
    arguments = ("--classes=two,1", "--count=5", "--seed=7", "--truncation=0.5", "--batch_size=2", f"--output={output}")
    before = server.calls
    assert run(server, "generate", *arguments, f"--class_names={tmp_path}/names.txt", protocol=protocol) == 0
    assert server.calls == before + 3
    colours = {path.name: np.asarray(Image.open(path))[0, 0].tolist() for path in sorted(output.iterdir())}
    assert colours == {
        "00000-class2-seed7.png": [20, 7, 50],
        "00001-class1-seed8.png": [10, 8, 50],
        "00002-class2-seed9.png": [20, 9, 50],
        "00003-class1-seed10.png": [10, 10, 50],
        "00004-class2-seed11.png": [20, 11, 50],
    }
    assert capfd.readouterr().out.splitlines()[-1].endswith("model 'generation': 5 of 5 written")
    with pytest.raises(ValueError, match="exists; it is replaced only with overwrite"):
        run(server, "generate", "--classes=2", "--seed=7", f"--output={output}")
    with pytest.raises(ServingError, match=r"INVALID_ARGUMENT: assertion failed: \[class out of range"):
        run(server, "generate", "--classes=9", "--overwrite", f"--output={output}", protocol=protocol)


def test_status(server: ServingServer, capfd: pytest.CaptureFixture[str]) -> None:
    for protocol in ("grpc", "rest"):
        assert run(server, "status", "--model=inpainting", protocol=protocol) == 0
        assert capfd.readouterr().out == "inpainting version 3: AVAILABLE\n"
    with pytest.raises(ServingError, match="NOT_FOUND"):
        run(server, "status", "--model=nothing")


def test_progress_on_a_terminal(server: ServingServer, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    assert run(server, "inpaint", f"--images={place}/photos", f"--masks={place}/masks", f"--output={tmp_path}") == 0
    assert "/3 [" in sys.stderr.getvalue()
    assert capsys.readouterr().out.count("\n") == 1


@pytest.mark.parametrize(
    ("what", "arguments", "message"),
    [
        ("paint", (), r"expected one of inpaint, generate, status, and flags; got paint"),
        ("status", (), r"--model_name is needed"),
        ("status", ("--model=m", "--seed=1"), r"--seed belongs to generate, not to status"),
        ("generate", ("--output={o}", "--classes=1", "--mask=m.png"), r"--mask belongs to inpaint, not to generate"),
        ("inpaint", ("--image=a.png", "--mask=b.png"), r"--output is needed"),
        ("inpaint", ("--image=a.png", "--output={o}/a.png"), r"give either --image and --mask, or --images"),
        ("generate", ("--classes=1",), r"--output is needed"),
        ("generate", ("--output={o}",), r"--classes is needed"),
        ("generate", ("--output={o}", "--classes=cat"), r"'cat' is no id; names need --class_names"),
        ("generate", ("--output={o}", "--classes=1", f"--seed={2**63 - 2}"), r"are not all 64-bit integers"),
        ("status", ("--model=m", "--model_version=1", "--label=stable"), r"a version or a label, not both"),
        ("status", ("--model=m", "--certificate=x"), r"of use only with tls"),
    ],
)
def test_mistakes(server: ServingServer, tmp_path: Path, what: str, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(server, what, *(argument.format(o=tmp_path) for argument in arguments))
    assert list(tmp_path.iterdir()) == []


def test_https_with_a_file_of_authorities(server: ServingServer, tmp_path: Path) -> None:
    """--ca_file is --certificate; a file that is not there is told."""
    with pytest.raises(OSError, match=r"nowhere\.pem"):
        run(server, "status", "--model=m", "--server=https://localhost:1", "--ca_file=nowhere.pem", protocol="rest")
    assert command._CERTIFICATE.value == "nowhere.pem"


def test_as_a_command_of_its_own(server: ServingServer) -> None:
    """What only a process shows: flags beside the command's name, one line for an error, the exit code."""
    arguments = ["status", f"--server={server.rest_address}", "--protocol=rest"]
    done = run_module("attennorm_tf.cli.client", *arguments, "--model=generation")
    assert (done.returncode, done.stdout) == (0, "generation version 1: AVAILABLE\n"), done.stderr
    done = run_module("attennorm_tf.cli.client", *arguments, "--model=other")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"error: server {server.rest_address}, model 'other': NOT_FOUND: " in done.stderr
