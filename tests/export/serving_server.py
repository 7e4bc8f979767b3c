"""TensorFlow Serving's two protocols on loopback, for tests of what speaks to a server.

PredictionService and ModelService of tensorflow-serving-api over gRPC, and the REST API, in front of real SavedModels
that TensorFlow's session runs. Faults can be ordered: each is met by one request.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.export.served_models import ModelError, ModelStore

_HTTP = {
    "INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 412, "NOT_FOUND": 404, "UNAVAILABLE": 503, "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429, "DEADLINE_EXCEEDED": 504, "UNIMPLEMENTED": 501, "INTERNAL": 500,
}  # fmt: skip


class Fault(NamedTuple):
    """kind "error": answers with `code` (over REST with `http`, if given, and `headers`); "delay": waits `seconds`
    first; "drop": closes the connection (REST); "trickle": a byte of the answer every `seconds` (REST); "bytes":
    answers with `body` (REST)."""

    kind: str
    code: str = ""
    seconds: float = 0.0
    http: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


def entry(name: str, base_path: Path, more: str = "") -> str:
    """A model's entry for `config_of`; `more` goes into it."""
    return f"config {{ name: '{name}' base_path: '{base_path}' model_platform: 'tensorflow' {more} }}"


def config_of(*entries: str) -> str:
    """A ModelServerConfig as text."""
    return f"model_config_list {{ {' '.join(entries)} }}"


class ServingServer:
    """A server on ports of the system's choosing; a context manager.

    Args:
        config: a ModelServerConfig, or its text.
        max_message: bytes that a gRPC request may have, -1 for any.
        credentials: of the gRPC port; None for no TLS.
        grpc_port: a port, or 0 for any.
        rest_tls: ssl.SSLContext of the REST port; None for no TLS.
    """

    def __init__(
        self, config: Any, max_message: int = -1, credentials: Any = None, grpc_port: int = 0, rest_tls: Any = None
    ):
        self.store = ModelStore(config)
        self.faults: list[Fault] = []
        self.calls = 0
        self._taking = threading.Lock()
        options = [("grpc.max_receive_message_length", max_message), ("grpc.max_send_message_length", -1),
                   ("grpc.so_reuseport", 0)]  # fmt: skip
        self._grpc = grpc.server(ThreadPoolExecutor(8), options=options)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Prediction(self), self._grpc)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Models(self), self._grpc)
        address = f"localhost:{grpc_port}" if credentials else f"127.0.0.1:{grpc_port}"
        port = (
            self._grpc.add_secure_port(address, credentials) if credentials else self._grpc.add_insecure_port(address)
        )
        self.grpc_address = f"{address.split(':')[0]}:{port}"
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Rest)
        self._http.daemon_threads = True
        if rest_tls is not None:
            self._http.socket = rest_tls.wrap_socket(self._http.socket, server_side=True)
        self._http.served = self  # type: ignore[attr-defined]
        self.ended = False
        self.rest_address = f"127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> ServingServer:
        self._grpc.start()
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended = True
        self._grpc.stop(None).wait()
        self._http.shutdown()
        self._http.server_close()
        self.store.close()

    def address(self, protocol: str) -> str:
        return self.grpc_address if protocol == "grpc" else self.rest_address

    def next_fault(self) -> Fault | None:
        """The fault that this request meets; counts the request."""
        with self._taking:
            self.calls += 1
            return self.faults.pop(0) if self.faults else None

    def predict(self, request: predict_pb2.PredictRequest, timeout: float | None = None) -> predict_pb2.PredictResponse:
        """What both protocols come down to."""
        spec = request.model_spec
        version = spec.version.value if spec.HasField("version") else None
        try:
            inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
        except (ValueError, TypeError, KeyError) as error:
            raise ModelError("INVALID_ARGUMENT", f"Tensor proto cannot be parsed: {error}") from error
        number, loaded = self.store.acquire(spec.name, version, spec.version_label or None)
        with _Exited(loaded):
            outputs = loaded.predict(spec.signature_name, inputs, list(request.output_filter), timeout)
        response = predict_pb2.PredictResponse()
        response.model_spec.name, response.model_spec.signature_name = spec.name, spec.signature_name
        response.model_spec.version.value = number
        for name, values in outputs.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(values))
        return response


class _Exited:
    """Leaves a version that was entered before."""

    def __init__(self, loaded: Any):
        self._loaded = loaded

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        self._loaded.__exit__(*error)


class _Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, server: ServingServer):
        self._server = server

    def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802
        fault = self._server.next_fault()
        if fault and fault.kind == "delay":
            time.sleep(fault.seconds)
        if fault and fault.kind == "error":
            context.abort(grpc.StatusCode[fault.code], f"ordered: {fault.code}")
        try:
            return self._server.predict(request, context.time_remaining())
        except ModelError as error:
            context.abort(grpc.StatusCode[error.code], error.message)

    def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        spec = request.model_spec
        try:
            number, loaded = self._server.store.acquire(
                spec.name, spec.version.value if spec.HasField("version") else None, spec.version_label or None
            )
        except ModelError as error:
            context.abort(grpc.StatusCode[error.code], error.message)
        with _Exited(loaded):
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.model_spec.name = spec.name
            response.model_spec.version.value = number
            signatures = get_model_metadata_pb2.SignatureDefMap()
            for name, definition in loaded.signatures.items():
                signatures.signature_def[name].CopyFrom(definition)
            response.metadata["signature_def"].Pack(signatures)
            return response


class _Models(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, server: ServingServer):
        self._server = server

    def GetModelStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        spec = request.model_spec
        fault = self._server.next_fault()
        if fault and fault.kind == "error":
            context.abort(grpc.StatusCode[fault.code], f"ordered: {fault.code}")
        try:
            found = self._server.store.status(spec.name, spec.version.value if spec.HasField("version") else None)
        except ModelError as error:
            context.abort(grpc.StatusCode[error.code], error.message)
        response = get_model_status_pb2.GetModelStatusResponse()
        for number, state, message in found:
            entry = response.model_version_status.add(version=number)
            entry.state = get_model_status_pb2.ModelVersionStatus.State.Value(state)
            entry.status.error_message = message
        return response

    def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:  # noqa: N802
        response = model_management_pb2.ReloadConfigResponse()
        try:
            self._server.store.reload(request.config)
        except ModelError as error:
            response.status.error_code = tf.errors.FAILED_PRECONDITION
            response.status.error_message = error.message
        return response


class _Rest(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, format: str, *args: object) -> None:
        pass

    def parse_request(self) -> bool:
        """A server that has ended answers nothing more on the connections that clients keep."""
        if self.server.served.ended:
            self.close_connection = True
            return False
        return super().parse_request()

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, method: Any) -> None:
        fault = self.server.served.next_fault()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if fault and fault.kind == "drop":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        if fault and fault.kind == "delay":
            time.sleep(fault.seconds)
        if fault and fault.kind == "error":
            status = fault.http or _HTTP[fault.code]
            content = json.dumps({"error": f"ordered: {fault.code or status}"}).encode()
        elif fault and fault.kind == "bytes":
            status, content = fault.http or 200, fault.body
        else:
            try:
                status, content = 200, json.dumps(method(body)).encode()
            except ModelError as error:
                status, content = _HTTP.get(error.code, 500), json.dumps({"error": error.message}).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            for name, value in fault.headers if fault else ():
                self.send_header(name, value)
            self.end_headers()
            if fault and fault.kind == "trickle":
                for byte in content:
                    self.wfile.write(bytes([byte]))
                    time.sleep(fault.seconds)
            else:
                self.wfile.write(content)
        except OSError:  # the client has gone
            self.close_connection = True

    def _named(self, verb: str) -> tuple[str, int | None, str | None]:
        pattern = rf"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?{verb}"
        match = re.fullmatch(pattern, self.path)
        if not match:
            raise ModelError("INVALID_ARGUMENT", f"Malformed request: {self.command} {self.path}")
        model, version, label = match.groups()
        return unquote(model), int(version) if version else None, unquote(label) if label else None

    def _get(self, body: bytes) -> Any:
        if self.path.endswith("/metadata"):
            return self._metadata()
        model, version, _ = self._named("")
        return {
            "model_version_status": [
                {
                    "version": str(number),
                    "state": state,
                    "status": {"error_code": "UNKNOWN" if text else "OK", "error_message": text},
                }
                for number, state, text in self.server.served.store.status(model, version)
            ]
        }

    def _metadata(self) -> Any:
        model, version, label = self._named("/metadata")
        number, loaded = self.server.served.store.acquire(model, version, label)
        with _Exited(loaded):
            signatures = {
                name: json_format.MessageToDict(definition, preserving_proto_field_name=True)
                for name, definition in loaded.signatures.items()
            }
        return {
            "model_spec": {"name": model, "signature_name": "", "version": str(number)},
            "metadata": {"signature_def": {"signature_def": signatures}},
        }

    def _post(self, body: bytes) -> Any:
        model, version, label = self._named(":predict")
        server: ServingServer = self.server.served
        try:
            given = json.loads(body)
        except ValueError as error:
            raise ModelError("INVALID_ARGUMENT", f"JSON Parse error: {error}") from error
        if not isinstance(given, dict) or ("instances" in given) == ("inputs" in given):
            raise ModelError("INVALID_ARGUMENT", "Request must have either 'instances' or 'inputs'")
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.version_label = model, label or ""
        if version is not None:
            request.model_spec.version.value = version
        request.model_spec.signature_name = given.get("signature_name", "")
        _, loaded = server.store.acquire(model, version, label)
        with _Exited(loaded):
            signature = request.model_spec.signature_name or "serving_default"
            if signature not in loaded.signatures:
                raise ModelError("INVALID_ARGUMENT", f'Serving signature name: "{signature}" not found')
            expected = dict(loaded.signatures[signature].inputs)
        for name, values in _columns(given, list(expected)).items():
            dtype = tf.as_dtype(expected[name].dtype) if name in expected else None
            try:
                array = np.asarray(_decoded(values), object if dtype == tf.string else None)
                # NumPy would read numbers in strings.
                if dtype not in (None, tf.string) and array.dtype.kind not in "biuf":
                    raise ValueError(f"JSON Value: {json.dumps(values)[:80]} is not of expected type: {dtype.name}")
                request.inputs[name].CopyFrom(tf.make_tensor_proto(array, dtype))
            except (ValueError, TypeError, AttributeError) as error:
                raise ModelError("INVALID_ARGUMENT", f"Failed to process element of '{name}': {error}") from error
        response = server.predict(request)
        outputs = {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}
        columns = {name: _encoded(name, values) for name, values in outputs.items()}
        only = next(iter(columns.values())) if len(columns) == 1 else None
        if "inputs" in given:
            return {"outputs": columns if only is None else only}
        if only is not None:
            return {"predictions": only}
        return {"predictions": [dict(zip(columns, row)) for row in zip(*columns.values())]}


def _columns(given: dict[str, Any], expected: list[str]) -> dict[str, Any]:
    """The inputs by name, from the row format or the columnar one; a single input may go without its name."""
    values = given.get("inputs", given.get("instances"))
    if "inputs" in given:
        return values if isinstance(values, dict) and "b64" not in values else {expected[0]: values}
    if not isinstance(values, list) or not values:
        raise ModelError("INVALID_ARGUMENT", "'instances' must be a list of at least one element")
    if not isinstance(values[0], dict) or "b64" in values[0]:
        return {expected[0]: values}
    if any(not isinstance(row, dict) or set(row) != set(values[0]) for row in values):
        raise ModelError("INVALID_ARGUMENT", "Failed to process element: rows have different names")
    return {name: [row[name] for row in values] for name in values[0]}


def _decoded(values: Any) -> Any:
    if isinstance(values, dict):
        return base64.b64decode(values["b64"], validate=True) if set(values) == {"b64"} else values
    return [_decoded(value) for value in values] if isinstance(values, list) else values


def _encoded(name: str, values: np.ndarray) -> Any:
    if values.dtype != object:
        return values.tolist()
    if name.endswith("_bytes"):
        return [{"b64": base64.b64encode(value).decode()} for value in values.tolist()]
    return [value.decode() for value in values.tolist()]
