"""Requests to TensorFlow Serving's REST API."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np

from attennorm_tf.export.serving_errors import ServingError
from attennorm_tf.export.serving_target import ServingTarget, VersionStatus, check_host_and_port
from attennorm_tf.export.signature_defs import shapes_of_json

_MEBIBYTE = 2**20
_BLOCK = 2**16
# What a proxy or TensorFlow Serving answers, in gRPC's words.
_CODES = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 409: "ABORTED",
    412: "FAILED_PRECONDITION", 413: "TOO_LARGE", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 501: "UNIMPLEMENTED",
    502: "UNAVAILABLE", 503: "UNAVAILABLE", 504: "UNAVAILABLE",
}  # fmt: skip
_TRANSIENT = (429, 502, 503, 504)


class RestTransport:
    """Connections to a server's REST port, kept open; may be used by several threads.

    Args:
        target: server, model and limits.
        connections: kept open at most.

    Raises:
        ValueError: the server is neither host:port nor a URL.
        ImportError: urllib3 is missing.
        OSError: the certificate cannot be read.
    """

    def __init__(self, target: ServingTarget, connections: int = 16):
        try:
            import urllib3
        except ImportError as error:
            raise ImportError(f"REST needs urllib3 ({error}): pip install 'attennorm_tf[serving]'.") from error
        self._urllib3 = urllib3
        self._target = target
        self._base = _base_address(target)
        target.read_certificate()  # a file that cannot be read is named here, not at the first request
        self._pool = urllib3.PoolManager(
            maxsize=connections, retries=False, cert_reqs="CERT_REQUIRED", ca_certs=target.certificate
        )

    def predict(
        self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str], timeout: float
    ) -> dict[str, np.ndarray]:
        """One attempt; see `ServingClient.predict`."""
        body = json.dumps(
            {"signature_name": signature, "inputs": {name: _to_json(values) for name, values in inputs.items()}}
        ).encode()
        self._target.check_request_size(len(body))
        answer = self._request("POST", f"{self._path()}:predict", body, timeout)
        values = answer.get("outputs") if isinstance(answer, dict) else None
        # A single output comes without its name.
        named = values if isinstance(values, dict) and "b64" not in values else {next(iter(outputs), "outputs"): values}
        missing = [name for name in outputs if name not in named]
        if values is None or missing:
            raise self._odd_answer(f"no {', '.join(missing) or 'outputs'} in {json.dumps(answer)[:200]}")
        return {name: _from_json(value) for name, value in named.items() if not outputs or name in outputs}

    def status(self, timeout: float) -> list[VersionStatus]:
        """One attempt; see `ServingClient.status`."""
        answer = self._request("GET", self._path(), None, timeout)
        try:
            return [
                VersionStatus(int(entry["version"]), entry["state"], entry.get("status", {}).get("error_message", ""))
                for entry in answer["model_version_status"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise self._odd_answer(f"no status of versions in {json.dumps(answer)[:200]}") from error

    def signatures(self, timeout: float) -> dict[str, Any]:
        """One attempt; see `ServingClient.signatures`."""
        answer = self._request("GET", f"{self._path()}/metadata", None, timeout)
        try:
            return shapes_of_json(answer["metadata"]["signature_def"]["signature_def"])
        except (KeyError, TypeError, ValueError) as error:
            raise self._odd_answer(f"no signatures in {json.dumps(answer)[:200]}") from error

    def close(self) -> None:
        """Closes all connections."""
        self._pool.clear()

    def _path(self) -> str:
        path = f"{self._base}/v1/models/{quote(self._target.model, safe='')}"
        if self._target.version is not None:
            return f"{path}/versions/{self._target.version}"
        return f"{path}/labels/{quote(self._target.label, safe='')}" if self._target.label else path

    def _request(self, method: str, url: str, body: bytes | None, timeout: float) -> Any:
        errors, where = self._urllib3.exceptions, str(self._target)
        end = time.monotonic() + timeout
        try:
            reply = self._pool.request(
                method, url, body=body, headers={"Content-Type": "application/json"}, preload_content=False,
                redirect=False, timeout=self._urllib3.Timeout(total=timeout),
            )  # fmt: skip
            try:
                content = self._read(reply, end)
            except BaseException:
                reply.close()  # what was not read must not be the next request's answer
                raise
            reply.release_conn()
        except errors.SSLError as error:
            hint = "tls needs a server that speaks it, and the certificate of its authority."
            raise ServingError(where, "UNAVAILABLE", f"no TLS: {error}", transient=False, hint=hint) from error
        except errors.NewConnectionError as error:  # urllib3 counts it as a timeout, too
            raise ServingError(where, "UNAVAILABLE", str(error)) from error
        except (errors.ConnectTimeoutError, errors.ReadTimeoutError, TimeoutError) as error:
            raise ServingError(where, "DEADLINE_EXCEEDED", f"no answer in {timeout:.3g} s") from error
        except errors.HTTPError as error:
            if "BadStatusLine" in str(error) or "illegal status line" in str(error):
                raise ServingError(
                    where, "UNAVAILABLE", f"no HTTP: {error}", transient=False, hint="is this a port for gRPC?"
                ) from error
            raise ServingError(where, "UNAVAILABLE", str(error)) from error
        return self._parsed(reply.status, reply.headers.get("Retry-After", ""), content)

    def _read(self, reply: Any, end: float) -> bytes:
        """The body, as far as limit and time allow: a socket's own timeout starts again with every block."""
        blocks: list[bytes] = []
        size = 0
        limit = self._target.max_message_mb * _MEBIBYTE
        while True:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError
            connection = getattr(reply, "connection", None)
            if connection is not None and connection.sock is not None:
                connection.sock.settimeout(left)
            block = reply.read1(_BLOCK)
            if not block:
                return b"".join(blocks)
            size += len(block)
            if size > limit:
                raise self._target.too_large("the answer", None)
            blocks.append(block)

    def _parsed(self, status: int, retry_after: str, content: bytes) -> Any:
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        if status == 200 and answer is not None:
            return answer
        said = answer.get("error") if isinstance(answer, dict) else None
        reason = said or content[:200].decode("utf-8", "replace").strip() or "no content"
        if status == 200:
            raise self._odd_answer(f"no JSON: {reason}")
        code = _CODES.get(status, "UNKNOWN")
        wait = float(retry_after) if retry_after.isdigit() else None
        raise ServingError(str(self._target), code, f"{reason} (HTTP {status})", status in _TRANSIENT, wait)

    def _odd_answer(self, reason: str) -> ServingError:
        hint = "is this the REST port of a TensorFlow Serving?"
        return ServingError(str(self._target), "INTERNAL", f"an answer of another kind: {reason}", False, hint=hint)


def _base_address(target: ServingTarget) -> str:
    server = target.server
    scheme = "https" if target.tls else "http"
    if "://" not in server:
        check_host_and_port(server)
        return f"{scheme}://{server}"
    parts = urlsplit(server)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment or parts.username:
        raise ValueError(f"server must be host:port or http(s)://host:port, got {server!r}.")
    if target.tls and parts.scheme == "http":
        raise ValueError(f"server {server!r} is not encrypted; with tls it must start with https://.")
    return server.rstrip("/")


def _to_json(values: np.ndarray) -> Any:
    """Nested lists; bytes as {"b64": ...}."""

    def encoded(part: Any) -> Any:
        return [encoded(one) for one in part] if isinstance(part, list) else {"b64": base64.b64encode(part).decode()}

    return encoded(values.tolist()) if values.dtype == object else values.tolist()


def _from_json(value: Any) -> np.ndarray:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return np.array([base64.b64decode(item["b64"]) for item in value], object)
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype == np.float64 else array
