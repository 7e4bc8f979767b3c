"""Versions of SavedModels, loaded and unloaded by TensorFlow Serving's rules, run by a session of TensorFlow."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.config import model_server_config_pb2


class ModelError(Exception):
    """What the server answers instead of outputs: gRPC's name of the code, and the message."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code
        self.message = message


class LoadedVersion:
    """One SavedModel in a session of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._graph = tf.Graph()
        with self._graph.as_default():
            self._session = tf.compat.v1.Session(graph=self._graph)
            meta = tf.compat.v1.saved_model.loader.load(self._session, ["serve"], str(folder))
        self.signatures = {n: s for n, s in meta.signature_def.items() if not n.startswith("__")}
        self._callables: dict[Any, Any] = {}
        self._in_flight = 0
        self._idle = threading.Condition()

    def predict(
        self, signature: str, inputs: Mapping[str, np.ndarray], wanted: list[str], timeout: float | None
    ) -> dict[str, np.ndarray]:
        """Runs a signature, or raises ModelError."""
        name = signature or "serving_default"
        if name not in self.signatures:
            raise ModelError("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')
        definition = self.signatures[name]
        if set(inputs) != set(definition.inputs):
            raise ModelError(
                "INVALID_ARGUMENT",
                f"input size does not match signature: {sorted(inputs)} vs {sorted(definition.inputs)}",
            )
        unknown = set(wanted) - set(definition.outputs)
        if unknown:
            raise ModelError("INVALID_ARGUMENT", f"output tensor alias not found in signature: {sorted(unknown)}")
        feeds = []
        for key, values in inputs.items():
            expected = tf.as_dtype(definition.inputs[key].dtype)
            given = tf.string if values.dtype == object else tf.as_dtype(values.dtype)
            if given != expected:
                raise ModelError(
                    "INVALID_ARGUMENT", f"Expects {key} to be {expected.name} but {given.name} is provided"
                )
            feeds.append((definition.inputs[key].name, values))
        fetches = {key: definition.outputs[key].name for key in (wanted or definition.outputs)}
        call = self._callable([tensor for tensor, _ in feeds], list(fetches.values()), timeout)
        try:
            return dict(zip(fetches, call(*(values for _, values in feeds))))
        except tf.errors.OpError as error:
            code = error.__class__.__name__.removesuffix("Error")
            spelled = "".join(f"_{letter}" if letter.isupper() else letter for letter in code).upper().lstrip("_")
            message = str(error.message).split("\n\nOriginal stack trace")[0].removeprefix("Graph execution error:\n\n")
            raise ModelError(spelled, message) from error
        except (ValueError, TypeError) as error:  # shapes that cannot be fed at all
            raise ModelError("INVALID_ARGUMENT", str(error)) from error

    def _callable(self, feeds: list[str], fetches: list[str], timeout: float | None) -> Any:
        """What runs these tensors, prepared once: `Session.run` looks for an error's place in the graph, which takes
        longer than the tiny networks."""
        milliseconds = 1000 * math.ceil(timeout) if timeout else 0  # few different ones
        key = (*feeds, None, *fetches, milliseconds)
        if key not in self._callables:
            options = config_pb2.CallableOptions(feed=feeds, fetch=fetches)
            options.run_options.timeout_in_ms = milliseconds
            self._callables[key] = self._session._make_callable_from_options(options)
        return self._callables[key]

    def __enter__(self) -> LoadedVersion:
        with self._idle:
            self._in_flight += 1
        return self

    def __exit__(self, *_: object) -> None:
        with self._idle:
            self._in_flight -= 1
            self._idle.notify_all()

    def close(self) -> None:
        """Waits for requests that use this version, and lets it go."""
        with self._idle:
            self._idle.wait_for(lambda: self._in_flight == 0)
        self._session.close()


class ModelStore:
    """The models of a ModelServerConfig; their folders are looked through again and again.

    A new version is loaded before an old one is unloaded, which ends the requests that use it first: the server's
    availability-preserving policy. A label is given only to a loaded version.
    """

    def __init__(self, config: Any | str, poll_seconds: float = 0.02):
        self._lock = threading.RLock()
        self._models: dict[str, dict[int, LoadedVersion]] = {}
        self._broken: dict[tuple[str, int], str] = {}
        self._config: Any = None
        self.reload(config)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, args=(poll_seconds,), daemon=True)
        self._thread.start()

    def reload(self, config: Any | str) -> None:
        """Takes another config, or raises ModelError where the server refuses one."""
        if isinstance(config, str):
            config = text_format.Parse(config, model_server_config_pb2.ModelServerConfig())
        with self._lock:
            before, self._config = self._config, config
            self._realize()
            for model in config.model_config_list.config:
                for label, version in model.version_labels.items():
                    if version not in self._models[model.name]:
                        self._config = before
                        raise ModelError(
                            "FAILED_PRECONDITION",
                            f"Request to assign label to version {version} of model {model.name}, which is not "
                            f"currently available for inference (label {label})",
                        )

    def acquire(self, model: str, version: int | None, label: str | None) -> tuple[int, LoadedVersion]:
        """A version, already entered (see LoadedVersion): it stays until it is exited."""
        with self._lock:
            loaded = self._models.get(model, {})
            if label:
                labels = {c.name: dict(c.version_labels) for c in self._config.model_config_list.config}
                if label not in labels.get(model, {}):
                    raise ModelError("INVALID_ARGUMENT", f"Unrecognized servable version label: {label}")
                version = labels[model][label]
            chosen = max(loaded, default=None) if version is None else version
            if chosen not in loaded:
                wanted = "Latest" if version is None else version
                raise ModelError("NOT_FOUND", f"Servable not found for request: {wanted}({model})")
            return chosen, loaded[chosen].__enter__()

    def status(self, model: str, version: int | None) -> list[tuple[int, str, str]]:
        """(version, state, error message)."""
        with self._lock:
            if model not in self._models:
                raise ModelError("NOT_FOUND", f"Could not find any versions of model {model}")
            found = [(number, "AVAILABLE", "") for number in self._models[model]]
            found += [(number, "END", message) for (name, number), message in self._broken.items() if name == model]
        found = [entry for entry in found if version in (None, entry[0])]
        if not found:
            raise ModelError("NOT_FOUND", f"Could not find version {version} of model {model}")
        return sorted(found, reverse=True)

    def close(self) -> None:
        """Stops looking, unloads everything."""
        self._stop.set()
        self._thread.join()
        for versions in self._models.values():
            for loaded in versions.values():
                loaded.close()

    def _poll(self, seconds: float) -> None:
        while not self._stop.wait(seconds):
            self._realize()

    def _realize(self) -> None:
        """Loads and unloads until what is loaded is what the config wants."""
        config = self._config
        wanted = {model.name: _aspired(model) for model in config.model_config_list.config}
        for name, versions in wanted.items():
            for number, folder in versions.items():
                if number in self._models.get(name, {}) or (name, number) in self._broken:
                    continue
                try:
                    loaded = LoadedVersion(folder)  # outside the lock: requests go on meanwhile
                except (OSError, tf.errors.OpError, ValueError) as error:
                    self._broken[name, number] = str(error)
                    continue
                with self._lock:
                    self._models.setdefault(name, {})[number] = loaded
            self._models.setdefault(name, {})
        with self._lock:
            if config is not self._config:
                return
            gone = [
                (name, number)
                for name, versions in self._models.items()
                for number in versions
                # The last version goes only when the next one is there.
                if number not in wanted.get(name, {}) and (name not in wanted or set(wanted[name]) & set(versions))
            ]
            unloading = [self._models[name].pop(number) for name, number in gone]
            for name in set(self._models) - set(wanted):
                del self._models[name]
        for loaded in unloading:
            loaded.close()


def _aspired(model: Any) -> dict[int, Path]:
    """Versions in the model's folder that its policy asks for."""
    base = Path(model.base_path)
    there = {int(path.name): path for path in base.iterdir() if path.name.isdigit()} if base.is_dir() else {}
    policy = model.model_version_policy
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return there
    if kind == "specific":
        return {number: there[number] for number in policy.specific.versions if number in there}
    count = policy.latest.num_versions if kind == "latest" and policy.latest.num_versions else 1
    return {number: there[number] for number in sorted(there)[-count:]}


def wait_until(condition: Any, seconds: float = 20.0) -> None:
    """Waits for something that another thread does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
