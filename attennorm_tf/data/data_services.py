"""Images decoded on other machines by tf.data's service: the same elements in the same order as without it.

The service moves a part of an input pipeline to other processes. Which examples come when is settled by arithmetic
(`attennorm_tf.data.global_stream`), so service i of n is given every n-th element to make, one worker to a service, and
the elements are put together in turn. Each says its number, which is checked: a service that was started again in the
middle of a run cannot slip in what was there before.

The decoding is a Python function, which the service cannot send. It sends the name under which TensorFlow knows the
function: `attennorm_tf.data.data_server` sees to it that the same name means the same function there.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any, Callable

import numpy as np
import tensorflow as tf

from attennorm_tf.config.schema import service_addresses
from attennorm_tf.data.host_function import host_function

# TensorFlow's name for the first Python function of a process.
FUNCTION = "pyfunc_0"

Decode = Callable[..., np.ndarray]
Call = Callable[[list[tf.Tensor], tf.DType], tf.Tensor]

_OUT_OF_ORDER = "data.service: elements out of order"
_CONNECTED_WITHIN = 5.0  # seconds
_ANSWERED_WITHIN = 30.0
_PACKAGES = ("attennorm_tf", "tensorflow", "numpy", "pillow")


class DataServiceError(ValueError):
    """A data service that cannot be used; the message names it, says why and how to mend it."""


class DataServices:
    """Services that decode for this process.

    Args:
        addresses: "grpc://host:port" of each.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        self.addresses = tuple(addresses)

    @classmethod
    def of(cls, text: str) -> DataServices | None:
        """Those of a config's `data.service`; None where it is empty.

        Raises:
            ValueError: not such a list.
        """
        addresses = service_addresses(text)
        return cls(addresses) if addresses else None

    def check(self, request: dict[str, Any]) -> None:
        """Asks every service whether it can do what `request` describes.

        Raises:
            DataServiceError: one is not there, is another kind of service, or sees other data.
        """
        for address in self.addresses:
            _check_listens(address)
            failed: list[BaseException] = []
            greeting = threading.Thread(target=_ask, args=(address, {"kind": "greet"}, failed), daemon=True)
            greeting.start()
            greeting.join(_ANSWERED_WITHIN)
            if greeting.is_alive():
                raise DataServiceError(
                    f"data.service {address} does not answer within {_ANSWERED_WITHIN:.0f} s: it has no worker, or the "
                    f"worker cannot be reached under the host name that it gives. {_start(address)}"
                )
            _ask(address, {"kind": "open", "request": request}, failed)
            if failed:
                raise DataServiceError(_explained(address, failed[0])) from failed[0]

    def elements(
        self, source: tf.data.Dataset, element: Callable[..., Any], request: dict[str, Any]
    ) -> tf.data.Dataset:
        """See `decoded_elements`."""
        content = _content(request)

        def call(inputs: list[tf.Tensor], dtype: tf.DType) -> tf.Tensor:
            [result] = tf.raw_ops.PyFuncStateless(input=[content, *inputs], token=FUNCTION, Tout=[dtype])
            return result

        several = isinstance(source.element_spec, tuple)

        def numbered(number: tf.Tensor, row: Any) -> Any:
            return number, element(call, *(row if several else (row,)))

        count = len(self.addresses)
        parts = []
        for index, address in enumerate(self.addresses):
            own = source.enumerate().shard(count, index).map(numbered, num_parallel_calls=2, deterministic=True)
            parts.append(own.prefetch(2).apply(_distribute(address)))
        turns = tf.data.Dataset.range(tf.int64.max).map(lambda turn: turn % count)
        merged = parts[0] if count == 1 else tf.data.Dataset.choose_from_datasets(parts, turns)

        def checked(place: tf.Tensor, row: Any) -> Any:
            number, values = row
            # Without this what a service that was started again sends would be taken for what comes next.
            check = tf.debugging.assert_equal(number, place, _OUT_OF_ORDER)
            with tf.control_dependencies([check] if check is not None else []):
                return tf.nest.map_structure(tf.identity, values)

        return merged.enumerate().map(checked)


def decoded_elements(
    source: tf.data.Dataset,
    element: Callable[..., Any],
    decode: Decode,
    services: DataServices | None,
    request: Callable[[], dict[str, Any]],
) -> tf.data.Dataset:
    """`source` mapped through a function that decodes images, here or by services.

    Args:
        source: pure TensorFlow, always the same elements in the same order.
        element: (call, *columns of the source) -> the columns of an element, pure TensorFlow but for
            `call(inputs, dtype)`, which is `decode` of the inputs.
        decode: NumPy arrays -> array.
        services: that do it; None: this process.
        request: makes the description by which a service finds the same `decode`.

    Returns:
        The elements in order, unbatched as they are.
    """
    if services is not None:
        return services.elements(source, element, request())

    def call(inputs: list[tf.Tensor], dtype: tf.DType) -> tf.Tensor:
        return host_function(decode, inputs, dtype)

    # Decoding uses every core within one element; two at a time hide the seams.

    @tf.autograph.experimental.do_not_convert  # plain Python
    def one(*columns: Any) -> Any:
        return element(call, *columns)

    return source.map(one, num_parallel_calls=2)


@contextlib.contextmanager
def broken_streams_explained() -> Iterator[None]:
    """Turns TensorFlow's errors of a service that was started again while it was in use into one that says so.

    Raises:
        DataServiceError: that is what happened.
    """
    try:
        yield
    except (tf.errors.NotFoundError, tf.errors.InvalidArgumentError) as error:
        if not any(sign in str(error) for sign in ("iteration client", _OUT_OF_ORDER)):
            raise
        raise DataServiceError(
            "data.service: a service was started again while it was in use. Start this command again: it goes on from "
            "the last checkpoint."
        ) from error


def versions() -> dict[str, str]:
    """Of what decides on the pixels; the same at both ends."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # of this package, where it runs from a folder
            found[name] = "not installed"
    return found


def _content(request: dict[str, Any]) -> str:
    return json.dumps({**request, "versions": versions()}, sort_keys=True)


def _distribute(address: str) -> Any:
    service = tf.data.experimental.service
    # Images barely shrink, and compression costs both ends time.
    return service.distribute(processing_mode=service.ShardingPolicy.OFF, service=address, compression=None)


def _check_listens(address: str) -> None:
    host, _, port = address.partition("://")[2].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECTED_WITHIN).close()
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise DataServiceError(f"data.service {address} cannot be reached ({reason}). {_start(address)}") from error


def _ask(address: str, request: dict[str, Any], failed: list[BaseException]) -> None:
    content = _content(request)

    def answer(_: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.PyFuncStateless(input=[tf.constant(content)], token=FUNCTION, Tout=[tf.uint8])[0]

    try:
        # Of an endless data set, since the service takes a second to tell the end of one.
        for _ in tf.data.Dataset.range(tf.int64.max).map(answer).apply(_distribute(address)).take(1):
            pass
    except tf.errors.OpError as error:
        failed.append(error)


def _start(address: str) -> str:
    return f"Start it there by `python -m train.data_service --port={address.rpartition(':')[2]}`."


def _explained(address: str, error: BaseException) -> str:
    text = str(error)
    said = re.search(r"(?:ValueError|ImportError|DataServiceError|UnreadableImageError): (.+)", text)
    if "find callback" in text and FUNCTION in text:
        return f"data.service {address} is not one of this package, whose functions it lacks. {_start(address)}"
    reason = said.group(1) if said else text.strip().splitlines()[0]
    return f"data.service {address}: {reason}"
