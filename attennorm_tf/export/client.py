"""Clients for exported models behind a TensorFlow Serving server."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np

from attennorm_tf.export.grpc_transport import GrpcTransport
from attennorm_tf.export.rest_transport import RestTransport
from attennorm_tf.export.serving_errors import RetryPolicy, ServingError, call_with_retries
from attennorm_tf.export.serving_target import DEFAULT_MAX_MESSAGE_MB, ServingTarget, VersionStatus

PROTOCOLS = {"grpc": GrpcTransport, "rest": RestTransport}
_PNG = b"\x89PNG\r\n\x1a\n"


class ServingClient:
    """A model on a server; may be used by several threads. A context manager: leaving it closes the connections.

    Args:
        server: host:port of the server's gRPC or REST port; for REST also a URL.
        model: the name that the server gives the model.
        protocol: "grpc" or "rest".
        version: of the model; by default the newest that the server has.
        label: such as "stable", instead of a version.
        deadline: seconds for a call, all its attempts and waits included.
        retries: how often a transient failure is tried again, or a RetryPolicy.
        max_message_mb: MiB that a request or an answer may have.
        tls: encrypted connection.
        certificate: PEM file of the authorities to trust, instead of the system's.

    Raises:
        ValueError: an argument is out of range.
        ImportError: the packages of the extra `serving` are not installed.
        OSError: the certificate cannot be read.
    """

    def __init__(
        self,
        server: str,
        model: str,
        protocol: str = "grpc",
        version: int | None = None,
        label: str | None = None,
        deadline: float = 60.0,
        retries: int | RetryPolicy = 4,
        max_message_mb: float = DEFAULT_MAX_MESSAGE_MB,
        tls: bool = False,
        certificate: str | None = None,
    ):
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}; got {protocol!r}.")
        if not 0 < deadline < math.inf:
            raise ValueError(f"deadline must be a positive number of seconds, got {deadline}.")
        self.target = ServingTarget(server, model, version, label, max_message_mb, tls, certificate)
        self.target.check()
        self.deadline = deadline
        self.policy = retries if isinstance(retries, RetryPolicy) else RetryPolicy(retries)
        self.policy.check()
        self._transport: Any = PROTOCOLS[protocol](self.target)

    def predict(self, signature: str, inputs: Mapping[str, Any], outputs: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Calls one of the model's signatures.

        Args:
            signature: its name.
            inputs: an array for each of its inputs, of the signature's type; bytes as lists or arrays of objects.
            outputs: names of the outputs wanted; all of them by default. Over REST a single output has no name of its
                own: it is called as said here, else "outputs".

        Returns:
            An array for each output; bytes as an array of objects.

        Raises:
            ServingError: no answer, or one that says what is wrong.
        """
        arrays = {name: _array(values) for name, values in inputs.items()}
        return call_with_retries(
            lambda left: self._transport.predict(signature, arrays, outputs, left), self.policy, self.deadline
        )

    def status(self) -> list[VersionStatus]:
        """State of the model's versions, the newest first.

        Raises:
            ServingError: the server has no such model, or cannot be reached.
        """
        found: list[VersionStatus] = call_with_retries(self._transport.status, self.policy, self.deadline)
        return sorted(found, reverse=True)

    def signatures(self) -> dict[str, Any]:
        """What the model can be asked: {name: {"inputs" and "outputs": {name: {"shape", "dtype"}}}}, None where free.

        Raises:
            ServingError: the server has no such model, or cannot be reached.
        """
        found: dict[str, Any] = call_with_retries(self._transport.signatures, self.policy, self.deadline)
        return found

    def close(self) -> None:
        """Closes the connections."""
        self._transport.close()

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _pictures(self, inputs: Mapping[str, Any], output: str, count: int) -> list[bytes]:
        """PNG files that `serving_default` answers with, as many as were asked for."""
        found = list(self.predict("serving_default", inputs, [output])[output])
        if len(found) != count or not all(isinstance(png, bytes) and png.startswith(_PNG) for png in found):
            reason = f"{output} must be {count} PNG files, got {len(found)} values"
            hint = "is this model one that attennorm-export wrote?"
            raise ServingError(str(self.target), "INTERNAL", reason, transient=False, hint=hint)
        return found


class InpaintingClient(ServingClient):
    """An inpainting network on a server."""

    def complete(self, images: Sequence[bytes], masks: Sequence[bytes]) -> list[bytes]:
        """Fills holes.

        Args:
            images: PNG or JPEG files as bytes, of one size.
            masks: as many, of the same size; white is the hole.

        Returns:
            PNG files as bytes, with the pixels outside the holes as they were.

        Raises:
            ValueError: another number of masks than images, or none.
            ServingError: no answer, or one that says what is wrong.
        """
        if len(images) != len(masks) or not images:
            raise ValueError(f"expected as many masks as images and at least one, got {len(masks)} and {len(images)}.")
        inputs = {"image_bytes": list(images), "mask_bytes": list(masks)}
        return self._pictures(inputs, "inpainted_bytes", len(images))


class GenerationClient(ServingClient):
    """A class-conditional generator on a server."""

    def generate(
        self, class_ids: Sequence[int], seeds: Sequence[int], truncation: float | Sequence[float] = math.inf
    ) -> list[bytes]:
        """Draws images; the same class, seed and truncation give the same image.

        Args:
            class_ids: a class for each image.
            seeds: a seed for each image, any int64.
            truncation: noise stays within +- this, above 0; one for all or one for each. Infinity is none.

        Returns:
            PNG files as bytes.

        Raises:
            ValueError: not as many seeds or truncations as class ids, or none.
            ServingError: no answer, or one that says what is wrong.
        """
        count = len(class_ids)
        every = np.broadcast_to(truncation, count) if np.ndim(truncation) == 0 else np.asarray(truncation)
        if not count or len(seeds) != count or every.shape != (count,):
            raise ValueError(
                f"expected a seed and a truncation for each class id and at least one, got {count} class ids, "
                f"{len(seeds)} seeds and {len(every)} truncations."
            )
        inputs = {
            "class_ids": np.asarray(class_ids, np.int32),
            "seeds": np.asarray(seeds, np.int64),
            "truncation": every.astype(np.float32),
        }
        return self._pictures(inputs, "image_bytes", count)


def _array(values: Any) -> np.ndarray:
    if isinstance(values, (list, tuple)) and values and isinstance(values[0], bytes):
        array = np.empty(len(values), object)  # np.array would cut bytes off at their last zero
        array[:] = values
        return array
    return np.asarray(values)
