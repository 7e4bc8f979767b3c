"""Requests to TensorFlow Serving over gRPC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from attennorm_tf.export.serving_api import import_serving_api
from attennorm_tf.export.serving_errors import ServingError
from attennorm_tf.export.serving_target import ServingTarget, VersionStatus, check_host_and_port
from attennorm_tf.export.signature_defs import shapes_of

_MEBIBYTE = 2**20


class GrpcTransport:
    """One channel to a server; may be used by several threads.

    Args:
        target: server, model and limits.

    Raises:
        ValueError: the server is not host:port.
        ImportError: grpcio or tensorflow-serving-api is missing.
        OSError: the certificate cannot be read.
    """

    def __init__(self, target: ServingTarget):
        check_host_and_port(target.server)
        self._api = import_serving_api()
        self._target = target
        limit = int(target.max_message_mb * _MEBIBYTE)
        options = [
            ("grpc.max_receive_message_length", limit),
            ("grpc.max_send_message_length", -1),  # checked here, with a message that helps
            ("grpc.enable_retries", 0),  # the client has its own
            # gRPC refuses calls at once while it waits to connect again: its waits must be shorter than the client's.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2000),
        ]
        grpc = self._api.grpc
        if target.tls:
            roots = target.read_certificate()
            self._channel = grpc.secure_channel(target.server, grpc.ssl_channel_credentials(roots), options)
        else:
            self._channel = grpc.insecure_channel(target.server, options)
        self._prediction = self._api.prediction_service.PredictionServiceStub(self._channel)
        self._models = self._api.model_service.ModelServiceStub(self._channel)

    def predict(
        self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str], timeout: float
    ) -> dict[str, np.ndarray]:
        """One attempt; see `ServingClient.predict`."""
        request = self._api.predict.PredictRequest()
        self._name_model(request.model_spec)
        request.model_spec.signature_name = signature
        for name, values in inputs.items():
            dtype = tf.string if values.dtype == object else tf.as_dtype(values.dtype)
            request.inputs[name].CopyFrom(tf.make_tensor_proto(values, dtype=dtype, shape=values.shape))
        request.output_filter.extend(outputs)
        self._target.check_request_size(request.ByteSize())
        reply = self._call(self._prediction.Predict, request, timeout)
        return {name: tf.make_ndarray(proto) for name, proto in reply.outputs.items()}

    def status(self, timeout: float) -> list[VersionStatus]:
        """One attempt; see `ServingClient.status`."""
        request = self._api.status.GetModelStatusRequest()
        self._name_model(request.model_spec)
        reply = self._call(self._models.GetModelStatus, request, timeout)
        state = self._api.status.ModelVersionStatus.State
        return [
            VersionStatus(version.version, state.Name(version.state), version.status.error_message)
            for version in reply.model_version_status
        ]

    def signatures(self, timeout: float) -> dict[str, Any]:
        """One attempt; see `ServingClient.signatures`."""
        request = self._api.metadata.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._name_model(request.model_spec)
        reply = self._call(self._prediction.GetModelMetadata, request, timeout)
        found = self._api.metadata.SignatureDefMap()
        reply.metadata["signature_def"].Unpack(found)
        return shapes_of(found.signature_def)

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def _name_model(self, spec: Any) -> None:
        spec.name = self._target.model
        if self._target.version is not None:
            spec.version.value = self._target.version
        elif self._target.label:
            spec.version_label = self._target.label

    def _call(self, method: Any, request: Any, timeout: float) -> Any:
        try:
            return method(request, timeout=timeout)
        except self._api.grpc.RpcError as error:
            raise self._explained(error) from error

    def _explained(self, error: Any) -> ServingError:
        code, details, where = error.code().name, error.details() or "no details", str(self._target)
        if code == "RESOURCE_EXHAUSTED" and "message larger than max" in details:
            if details.startswith("Received") and str(int(self._target.max_message_mb * _MEBIBYTE)) in details:
                return self._target.too_large("the answer", None)
            hint = "the server's own limit: start it with --grpc_channel_arguments=grpc.max_receive_message_length=..."
            return ServingError(where, "TOO_LARGE", details, transient=False, hint=hint)
        if code == "UNAVAILABLE" and "http1" in details.lower():
            return ServingError(where, code, details, transient=False, hint="this is a port for REST, not for gRPC.")
        return ServingError(where, code, details)
