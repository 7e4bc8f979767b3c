"""A data service: decodes for training processes on other machines, see `attennorm_tf.data.data_services`."""

from __future__ import annotations

import functools
import json
import socket
import threading
from typing import Any

import numpy as np
import tensorflow as tf

from attennorm_tf.data.data_services import FUNCTION, DataServiceError, Decode, versions
from attennorm_tf.data.encoded_images import crop_encoded, decode_encoded
from attennorm_tf.data.photographs import load_photographs
from attennorm_tf.data.registry import load_dataset
from attennorm_tf.data.unlabeled_images import Crops

_KEPT = 8  # decoding functions, each with what it keeps decoded
_lock = threading.Lock()
_graphs: list[tf.Graph] = []  # a function lives as long as the graph that it was made in


class DataServer:
    """A dispatcher and its one worker, in this process.

    Trusts whoever can reach it: a request is a graph that this process runs.

    Args:
        port: of the dispatcher; the worker takes the next one.
        host: name or address of this machine, as the training processes know it.

    Raises:
        ValueError: a port that is out of range or taken.
        DataServiceError: this process has made Python functions of TensorFlow's before.
    """

    def __init__(self, port: int, host: str) -> None:
        if not 1 <= port < 2**16 - 1:
            raise ValueError(f"port must be in [1, 65534], the next one is used too; got {port}.")
        for number in (port, port + 1):
            _check_free(number)
        register()
        service = tf.data.experimental.service
        self.address = f"grpc://{host}:{port}"
        self._dispatcher = service.DispatchServer(service.DispatcherConfig(port=port, protocol="grpc"))
        self._worker = service.WorkerServer(
            service.WorkerConfig(
                dispatcher_address=f"localhost:{port}", worker_address=f"{host}:{port + 1}", port=port + 1
            )
        )


def register() -> None:
    """Makes `answer` the first Python function of this process, as which clients call it.

    Raises:
        DataServiceError: it cannot be, as others came before.
    """
    if _graphs:
        return
    with tf.Graph().as_default() as graph:
        call = tf.numpy_function(answer, [tf.constant(b"")], tf.uint8, stateful=False)
    name = call.op.get_attr("token").decode()
    if name != FUNCTION:
        raise DataServiceError(f"a data service must be a process of its own: here {name} is the next function.")
    _graphs.append(graph)


def answer(content: bytes, *arrays: np.ndarray) -> np.ndarray:
    """What a request asks for: see `_decoder` for the kinds of requests.

    Args:
        content: JSON.
        *arrays: for the function that it describes.

    Raises:
        ValueError: the request cannot be met here.
    """
    with _lock:  # two requests that need the same data do not both open it
        decode = _decoder(content)
    return decode(*arrays)


@functools.lru_cache(maxsize=_KEPT)
def _decoder(content: bytes) -> Decode:
    request = json.loads(content)
    theirs, own = request.pop("versions"), versions()
    if theirs != own:
        differ = ", ".join(f"{name} {own[name]} here, {theirs.get(name)} in training" for name in own
                           if own[name] != theirs.get(name))  # fmt: skip
        raise DataServiceError(f"other versions than in training decode other images: {differ}.")
    if request["kind"] == "greet":
        return lambda: np.zeros((), np.uint8)
    if request["kind"] == "open":
        _decoder(json.dumps({**request["request"], "versions": theirs}, sort_keys=True).encode())
        return lambda: np.zeros((), np.uint8)
    return _KINDS[request["kind"]](request["arguments"])


def _images_by_index(arguments: dict[str, Any]) -> Decode:
    dataset = load_dataset(**arguments["data"])
    _check_same(dataset, arguments)
    return dataset.decoder(arguments["resolution"])  # type: ignore[attr-defined]


def _photographs_by_index(arguments: dict[str, Any]) -> Decode:
    photographs = load_photographs(**arguments["data"])
    _check_same(photographs, arguments)
    return photographs.cutter(Crops(**arguments["crops"]))  # type: ignore[attr-defined]


def _check_same(found: Any, arguments: dict[str, Any]) -> None:
    if found.fingerprint() != arguments["fingerprint"]:
        where = f" in {arguments['data']['root']!r}" if arguments["data"]["root"] else ""
        raise DataServiceError(
            f"{found.name}{where} are other images there than in training ({found.num_examples} against "
            f"{arguments['num_examples']}); both must see the same folder at the same path."
        )


_KINDS = {
    "images by index": _images_by_index,
    "photographs by index": _photographs_by_index,
    "encoded images": lambda arguments: decode_encoded(**arguments),
    "encoded photographs": lambda arguments: crop_encoded(Crops(**arguments.pop("crops")), **arguments),
}


def _check_free(port: int) -> None:
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind(("", port))
        except OSError as error:
            raise ValueError(f"port {port} cannot be used ({error.strerror}); choose another --port.") from error
