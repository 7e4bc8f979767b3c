"""TensorFlow Serving's own messages and services: optional packages, imported by whoever speaks to a server."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


def import_serving_api() -> Any:
    """The modules of grpcio and tensorflow-serving-api that the client and the warm-up records need.

    Returns:
        A namespace: grpc, and of tensorflow_serving.apis: predict, prediction_service, model_service, status,
        metadata, prediction_log.

    Raises:
        ImportError: they are not installed; the message names the extra that installs them.
    """
    try:
        import grpc
        from tensorflow_serving.apis import (
            get_model_metadata_pb2,
            get_model_status_pb2,
            model_service_pb2_grpc,
            predict_pb2,
            prediction_log_pb2,
            prediction_service_pb2_grpc,
        )
    except ImportError as error:
        raise ImportError(
            f"this needs tensorflow-serving-api and grpcio ({error}). Install them by the extra for your TensorFlow: "
            "pip install 'attennorm_tf[serving]' for 2.21, 'attennorm_tf[serving_classic]' for 2.15."
        ) from error
    return SimpleNamespace(
        grpc=grpc,
        predict=predict_pb2,
        prediction_service=prediction_service_pb2_grpc,
        model_service=model_service_pb2_grpc,
        status=get_model_status_pb2,
        metadata=get_model_metadata_pb2,
        prediction_log=prediction_log_pb2,
    )
