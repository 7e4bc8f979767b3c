"""Malformed requests to exported models, as a server runs them: `python -m tests.export.fuzz_requests`.

Writes a tiny inpainting network and a tiny generator, serves them, and sends damaged, lying and senseless requests;
after every 100th follow good ones, whose answers must be what they were at first. Several clients send at a time. Most
go to the server's own handler as bytes of the protocol, some over its gRPC and REST ports. Prints a summary as JSON,
and ends with exit code 1 if something happened that should not: another code than INVALID_ARGUMENT, a hostile file
accepted, an answer after the deadline, a good request with another answer, memory that grew. A crash or a hang ends the
process by itself.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import gc
import json
import os
import random
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from attennorm_tf.export.client import ServingClient
from attennorm_tf.export.request_checks import Limits
from attennorm_tf.export.saved_model import write_saved_model
from attennorm_tf.export.serving_errors import ServingError
from tests.export.hostile_images import bombs, damaged, holes, hostile, pictures
from tests.export.served_models import ModelError
from tests.export.serving_server import ServingServer, config_of, entry
from tests.inference.gan_runs import tiny_generator
from tests.inference.inpainters import tiny_inpainter

LIMITS = Limits(max_batch=4, max_pixels=2048, max_request_pixels=4096, max_file_bytes=65_536)
GOOD_EVERY = 100
OVER_THE_WIRE_EVERY = 25
PROTOCOLS = ("grpc", "rest")
OUTPUTS = {
    ("inpainting", "serving_default"): "inpainted_bytes", ("inpainting", "tensors"): "inpainted",
    ("generation", "serving_default"): "image_bytes", ("generation", "latents"): "images",
    ("generation", "blend"): "images",
}  # fmt: skip
LONGEST = 60  # seconds of one request after which the process ends itself
ROOMY = 48 << 20  # bytes that memory may grow by after the first fifth
Request = tuple[str, str, dict[str, Any], bool]  # model, signature, inputs, whether it must be refused


def good_requests() -> list[tuple[str, str, dict[str, Any]]]:
    """One for each signature."""
    rng = np.random.default_rng(0)
    masks = np.zeros((1, 16, 24, 1), np.float32)
    masks[:, 4:12, 4:12] = 1
    images = rng.uniform(-1, 1, (1, 16, 24, 3)).astype(np.float32)
    latents = rng.standard_normal((2, 8)).astype(np.float32)
    classes = np.int32([0, 2])
    return [
        ("inpainting", "serving_default", {"image_bytes": strings(pictures()[:1]), "mask_bytes": strings(holes()[:1])}),
        ("inpainting", "tensors", {"images": images, "masks": masks}),
        ("generation", "serving_default",
         {"class_ids": classes, "seeds": np.int64([1, -5]), "truncation": np.float32([1, np.inf])}),
        ("generation", "latents", {"latents": latents, "class_ids": classes}),
        ("generation", "blend", {"latents": latents, "class_weights": np.float32([[0.5, 0.25, 0.25], [0, 1, 0]])}),
    ]  # fmt: skip


def malformed(source: random.Random) -> Iterator[Request]:
    """Without end: each round every kind of hostile request once, and many damaged files."""
    images, masks = pictures(), holes()
    packed = bombs()
    default = ("inpainting", "serving_default")
    while True:
        for kind, file in hostile(source):
            yield *default, {"image_bytes": strings([file]), "mask_bytes": strings([masks[0]])}, True
            # A mask's 16 bits lose nothing: it is black or white.
            as_mask = {"image_bytes": strings([images[0]]), "mask_bytes": strings([file])}
            yield *default, as_mask, kind != "PNG of 16 bits"
        for _, file in packed:
            yield *default, {"image_bytes": strings([file]), "mask_bytes": strings([masks[0]])}, False
        for request in malformed_tensors():
            yield *request, True
        for _ in range(400):
            image, mask = source.choice(images), source.choice(masks)
            if source.random() < 0.8:
                image = damaged(image, source)
            else:
                mask = damaged(mask, source)
            batch = source.choice((1, 1, 1, 2))
            pair = {"image_bytes": strings([image] * batch), "mask_bytes": strings([mask] * batch)}
            yield *default, pair, False


def malformed_tensors() -> list[tuple[str, str, dict[str, Any]]]:
    """Requests that are wrong in their tensors."""
    found = []
    image, mask = pictures()[0], holes()[0]
    other = pictures()[0][:16] + (16).to_bytes(4, "big") + pictures()[0][20:]
    for images, masks in (
        ([], []), ([image], []), ([image, image], [mask]), ([image] * 5, [mask] * 5), ([image, other], [mask, mask])
    ):  # fmt: skip
        found.append(("serving_default", {"image_bytes": strings(images), "mask_bytes": strings(masks)}))
    found.append(("serving_default", {"image_bytes": strings([image])}))
    found.append(("serving_default", {"image_bytes": np.float32([1]), "mask_bytes": strings([mask])}))
    found.append(("serving_default", {"image_bytes": np.array(image, object), "mask_bytes": strings([mask])}))
    found.append(("nothing", {"image_bytes": strings([image]), "mask_bytes": strings([mask])}))
    pixels = np.zeros((1, 8, 8, 3), np.float32)
    hole = np.zeros((1, 8, 8, 1), np.float32)
    hole[:, 2:4] = 1
    for value in (np.nan, np.inf, -np.inf, 1.5, -300.0, 1e38):
        changed = pixels.copy()
        changed[0, 3, 3, 1] = value
        found.append(("tensors", {"images": changed, "masks": hole}))
    for value in (np.nan, 0.5, -1, 2):
        found.append(("tensors", {"images": pixels, "masks": np.where(hole > 0, np.float32(value), hole)}))
    for images, masks in (
        (pixels[:0], hole[:0]), (pixels, hole[:, :4]), (pixels[..., :1], hole), (pixels[0], hole[0]),
        (np.tile(pixels, (2, 1, 1, 1)), hole), (pixels[:, :0], hole[:, :0]), (pixels.astype(np.float64), hole),
        (np.zeros((1, 64, 64, 3), np.float32), np.zeros((1, 64, 64, 1), np.float32)),
    ):  # fmt: skip
        found.append(("tensors", {"images": images, "masks": masks}))
    requests = [("inpainting", signature, inputs) for signature, inputs in found]
    right = {"class_ids": np.int32([0]), "seeds": np.int64([0]), "truncation": np.float32([1])}
    for name, value in (
        ("class_ids", np.int32([3])), ("class_ids", np.int32([-1])), ("class_ids", np.int32([2**31 - 1])),
        ("class_ids", np.int64([0])), ("class_ids", np.int32([])), ("class_ids", np.int32([[0]])),
        ("truncation", np.float32([np.nan])), ("truncation", np.float32([0])), ("truncation", np.float32([-np.inf])),
        ("seeds", np.int64([1, 2])), ("seeds", strings([b"1"])),
    ):  # fmt: skip
        requests.append(("generation", "serving_default", {**right, name: value}))
    many = {name: np.tile(values, 5) for name, values in right.items()}
    requests.append(("generation", "serving_default", many))
    latents = np.zeros((1, 8), np.float32)
    for value in (np.nan, np.inf):
        requests.append(("generation", "latents", {"latents": latents + np.float32(value), "class_ids": np.int32([0])}))
    requests.append(("generation", "latents", {"latents": latents[:, :5], "class_ids": np.int32([0])}))
    for weights in ([[np.nan, 0, 0]], [[0, 0, 0]], [[3, 0, 0]], [[0.5, 0.5]], [[-1, 1, 1]]):
        requests.append(("generation", "blend", {"latents": latents, "class_weights": np.float32(weights)}))
    return requests


def refused_as_json(inputs: dict[str, Any]) -> bool:
    """JSON has numbers, not their types: what is wrong by its type alone is right there."""
    wide = (inputs.get("images", np.float32()).dtype, np.float64), (inputs.get("class_ids", np.int32()).dtype, np.int64)
    return not any(given == dtype for given, dtype in wide)


def strings(values: list[bytes]) -> np.ndarray:
    """Bytes as they are, final zeros too."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


def encoded(model: str, signature: str, inputs: dict[str, Any]) -> bytes:
    """The request as it goes over the wire."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    for name, values in inputs.items():
        dtype = tf.string if values.dtype == object else tf.as_dtype(values.dtype)
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values, dtype, values.shape))
    return request.SerializeToString()


def resident() -> int:
    """Bytes of this process in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak() -> int:
    """The most bytes in memory since `forget_peak`."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text()).group(1)) << 10


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


class Fuzzer:
    """Sends requests and keeps account; see the module."""

    def __init__(self, server: ServingServer, deadline: float):
        self._server = server
        self._deadline = deadline
        self._clients = {
            (model, protocol): ServingClient(server.address(protocol), model, protocol, deadline=deadline, retries=0)
            for model in ("inpainting", "generation")
            for protocol in PROTOCOLS
        }
        self._good = [(request, self._answer(*request)) for request in good_requests()]
        self.codes: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []
        self.slowest = 0.0
        self._account = threading.Lock()
        self._begun: dict[int, float] = {}  # by thread: when its request began

    def _answer(self, model: str, signature: str, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
        request = predict_pb2.PredictRequest.FromString(encoded(model, signature, inputs))
        outputs = self._server.predict(request, self._deadline).outputs
        return {name: tf.make_ndarray(proto) for name, proto in outputs.items()}

    def check_good(self) -> None:
        """Every signature answers as it did at first."""
        for request, expected in self._good:
            answer = self._answer(*request)
            if set(answer) != set(expected) or any((answer[name] != expected[name]).any() for name in expected):
                self.wrong.append(f"a good request to {request[:2]} has another answer than at first")

    def send(self, number: int, request: Request, protocol: str | None = None) -> None:
        """One malformed request, over the wire by a protocol or to the handler."""
        model, signature, inputs, refuse = request
        start = time.monotonic()
        try:
            if protocol is None:
                self._answer(model, signature, inputs)
            else:
                client = self._clients[model, protocol]
                client.predict(signature, inputs, [OUTPUTS.get((model, signature), "nothing")])
            code, message = "OK", ""
        except (ModelError, ServingError) as error:
            code, message = error.code, str(error)
        took = time.monotonic() - start
        with self._account:
            self.slowest = max(self.slowest, took)
            self.codes[code] += 1
        if protocol == "rest" and not refused_as_json(inputs):
            refuse = False
        allowed = ("INVALID_ARGUMENT", "FAILED_PRECONDITION") if signature == "nothing" else ("INVALID_ARGUMENT",)
        shown = {name: (values.dtype.name, values.shape) for name, values in inputs.items()}
        if code not in allowed and (refuse or code != "OK"):
            self.wrong.append(f"request {number}, {model}/{signature} {shown}: {code} {message[:200]}")
        elif code != "OK" and len(message) < 10:
            self.wrong.append(f"request {number}, {model}/{signature} {shown}: {code} without a reason")
        if took > self._deadline:
            self.wrong.append(f"request {number}, {model}/{signature} {shown}: {took:.1f} s")

    def send_all(self, numbers: range, seed: int, after_warm_up: threading.Barrier) -> None:
        """A client's requests, as many as `numbers`; all wait for one another after the first fifth."""
        requests = malformed(random.Random(seed))
        name = threading.get_ident()
        for sent, number in enumerate(numbers):
            if sent == len(numbers) // 5:
                after_warm_up.wait()
            self._begun[name] = time.monotonic()
            if number % GOOD_EVERY < numbers.step:
                self.check_good()
            turn, rest = divmod(number, OVER_THE_WIRE_EVERY)
            self.send(number, next(requests), None if rest else PROTOCOLS[turn % 2])
        del self._begun[name]

    def longest_wait(self) -> float:
        """Seconds since the oldest request that has no answer yet."""
        return time.monotonic() - min(self._begun.values(), default=time.monotonic())


def main() -> int:
    """Runs it; see the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--deadline", type=float, default=5.0, help="seconds that one request may take")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder)
        write_saved_model(tiny_inpainter().model, models / "inpainting" / "1", LIMITS)
        write_saved_model(tiny_generator(), models / "generation" / "1", LIMITS)
        config = config_of(*(entry(name, models / name) for name in ("inpainting", "generation")))
        with ServingServer(config) as server:
            fuzzer = Fuzzer(server, arguments.deadline)
            for protocol in PROTOCOLS:  # every wrong tensor by both
                for request in malformed_tensors():
                    fuzzer.send(-1, (*request, True), protocol)
            fuzzer.codes.clear()
            start = time.monotonic()
            memory = [0]

            def remember() -> None:
                memory[0] = resident()
                forget_peak()

            warm = threading.Barrier(arguments.clients, remember)
            clients = []
            for index in range(arguments.clients):
                numbers = range(index, arguments.requests, arguments.clients)
                job = (numbers, arguments.seed + 1000 * index, warm)
                clients.append(threading.Thread(target=fuzzer.send_all, args=job, daemon=True))
                clients[-1].start()
            while any(client.is_alive() for client in clients):
                clients[0].join(0.1)
                if fuzzer.longest_wait() > LONGEST:  # a hang
                    faulthandler.dump_traceback()
                    os._exit(3)
            (before,) = memory
            if sum(fuzzer.codes.values()) != arguments.requests:
                fuzzer.wrong.append(f"a client broke off: {sum(fuzzer.codes.values())} requests have an answer")
            fuzzer.check_good()
            grown = resident() - before
            highest = peak() - before
            if max(grown, highest) > ROOMY:
                text = f"memory grew by {grown >> 20} MiB, for a time by {highest >> 20} MiB, after the first fifth"
                fuzzer.wrong.append(text)
            summary = {
                "requests": arguments.requests,
                "seconds": round(time.monotonic() - start, 1),
                "codes": dict(fuzzer.codes),
                "slowest_seconds": round(fuzzer.slowest, 3),
                "grown_mib": round(grown / 2**20, 1),
                "grown_at_most_mib": round(highest / 2**20, 1),
                "resident_mib": round(resident() / 2**20),
                "wrong": fuzzer.wrong[:20],
            }
    sys.stdout.write(json.dumps(summary, indent=2) + "\n")
    return 1 if fuzzer.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
