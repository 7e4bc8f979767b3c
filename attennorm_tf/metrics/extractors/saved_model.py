"""Any SavedModel as a feature extractor."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Callable, NamedTuple

import tensorflow as tf

from attennorm_tf.metrics.feature_extractor import FeatureExtractor, Features, hash_files

_SIGNATURE = "serving_default"


def load(argument: str) -> FeatureExtractor:
    """Of "<folder>[:<features>[,<logits>]][@<side>]"."""
    if not argument:
        raise ValueError("saved_model needs a folder after a colon, as in 'saved_model:<folder>:<features output>'.")
    folder, side, features, logits = argument, None, None, None
    if not Path(folder).is_dir():
        parts = re.fullmatch(r"(?P<rest>.+)@(?P<side>\d+)", folder)
        if parts:
            folder, side = parts["rest"], int(parts["side"])
    if not Path(folder).is_dir() and ":" in folder:
        folder, outputs = folder.rsplit(":", 1)
        features, _, logits = outputs.partition(",")
    return SavedModelExtractor(folder, features or None, logits or None, resolution=side)


class _Endpoint(NamedTuple):
    """A way to call a SavedModel."""

    name: str
    call: Callable[[tf.Tensor], Any]
    image: tf.TensorSpec | None  # what it takes, where it tells


class SavedModelExtractor(FeatureExtractor):
    """A SavedModel of images: its signature "serving_default", or itself where it can be called.

    It takes float32 images (batch, R, R, 1 or 3) in [-1, 1], the batch of any size. Outputs are (batch, size), or
    (batch, 1, 1, size), by name; those of a callable that returns a list are "output_0", "output_1", ...

    Args:
        folder: of the SavedModel.
        features_output: name of the features; None: "features", or the only output.
        logits_output: name of the logits; None: "logits" if there is such an output, else none.
        resolution: R; None: as the SavedModel tells.
        name: in results; None: "saved_model_<folder's name>".
        antialias: see `FeatureExtractor`.

    Raises:
        ValueError: no such folder, no SavedModel in it, an output that is missing or of another rank, or an unknown
            or contradictory size of images; each message names the folder.
    """

    def __init__(
        self,
        folder: str,
        features_output: str | None = None,
        logits_output: str | None = None,
        *,
        resolution: int | None = None,
        name: str | None = None,
        antialias: bool = True,
    ) -> None:
        root = Path(folder)
        self._where = f"SavedModel {str(folder)!r}"
        if not (root / "saved_model.pb").is_file():
            problem = "does not exist" if not root.exists() else "holds no saved_model.pb"
            raise ValueError(f"{self._where} {problem}; expected the folder of a SavedModel.")
        try:
            loaded = tf.saved_model.load(str(root))
        except Exception as error:  # damaged files are met with many kinds of exception
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(f"{self._where} cannot be loaded: {reason}") from error
        self._loaded = loaded  # owns the variables
        self._endpoint, side, channels, outputs = self._choose(
            list(_endpoints(loaded)), resolution, features_output, logits_output
        )
        self.features_output = features_output or _default_features(self._where, outputs)
        self.logits_output = logits_output or ("logits" if "logits" in outputs else None)
        if self.logits_output == self.features_output:
            self.logits_output = None
        files = [path for path in root.rglob("*") if path.is_file() and path.parent.name in ("variables", "assets")]
        super().__init__(
            name or f"saved_model_{root.resolve().name}",
            content_hash=hash_files(root, [root / "saved_model.pb", *files]),
            resolution=side,
            channels=channels,
            feature_size=self._checked(outputs, self.features_output),
            num_classes=None if self.logits_output is None else self._checked(outputs, self.logits_output),
            antialias=antialias,
        )

    def protocol(self) -> dict[str, Any]:
        return {
            **super().protocol(),
            "features_output": self.features_output,
            "logits_output": self.logits_output,
        }

    def _forward(self, images: tf.Tensor) -> Features:
        outputs = _named(self._endpoint.call(images))
        features = tf.reshape(tf.cast(outputs[self.features_output], tf.float32), (-1, self.feature_size))
        if self.logits_output is None:
            return Features(features, None)
        return Features(features, tf.reshape(tf.cast(outputs[self.logits_output], tf.float32), (-1, self.num_classes)))

    def _choose(
        self, endpoints: list[_Endpoint], resolution: int | None, *wanted: str | None
    ) -> tuple[_Endpoint, int, int, dict[str, tf.TensorSpec]]:
        """The first way to call it that has the outputs, with the side and channels of its images and its outputs."""
        if not endpoints:
            raise ValueError(f"{self._where} has no signature {_SIGNATURE!r} and cannot be called.")
        found: dict[str, list[str]] = {}
        for endpoint in endpoints:
            side, channels = self._image_size(endpoint, resolution)
            try:
                outputs = _outputs(endpoint, tf.TensorSpec((None, side, side, channels)))
            except (ValueError, TypeError, tf.errors.OpError) as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                raise ValueError(
                    f"{self._where}, {endpoint.name}: refuses float32 images of {side} x {side} x {channels}: {reason}"
                ) from error
            if all(name is None or name in outputs for name in wanted):
                return endpoint, side, channels, outputs
            found[endpoint.name] = [f"{name} {value.shape}" for name, value in outputs.items()]
        missing = ", ".join(repr(name) for name in wanted if name)
        there = "; ".join(f"{name}: {', '.join(outputs)}" for name, outputs in found.items())
        raise ValueError(f"{self._where} lacks the output {missing}; outputs there are: {there}.")

    def _image_size(self, endpoint: _Endpoint, resolution: int | None) -> tuple[int, int]:
        shape: Any = tf.TensorShape(None) if endpoint.image is None else endpoint.image.shape
        if endpoint.image is not None and (endpoint.image.dtype != tf.float32 or shape.rank not in (None, 4)):
            raise ValueError(
                f"{self._where}, {endpoint.name}: takes {endpoint.image.dtype.name} {shape}, expected float32 "
                "(batch, height, width, channels)."
            )
        batch, height, width, channels = shape if shape.rank else (None, None, None, None)
        if batch is not None:
            raise ValueError(f"{self._where}, {endpoint.name}: takes batches of {batch} only, expected any size.")
        if height != width and None not in (height, width):
            raise ValueError(f"{self._where}, {endpoint.name}: takes {height} x {width} images, expected squares.")
        side = height or width or resolution
        if resolution not in (None, side):
            raise ValueError(f"{self._where}, {endpoint.name}: takes images of side {side}, got side {resolution}.")
        if side is None:
            raise ValueError(
                f"{self._where}, {endpoint.name}: does not tell the side of its images; add it, as in "
                "'saved_model:<folder>@299'."
            )
        if channels not in (None, 1, 3):
            raise ValueError(f"{self._where}, {endpoint.name}: takes {channels} channels, expected 1 or 3.")
        return side, channels or 3

    def _checked(self, outputs: Mapping[str, tf.TensorSpec], name: str) -> int:
        """The size of an output."""
        shape = outputs[name].shape
        flat = shape.rank == 2 or (shape.rank == 4 and tuple(shape[1:3]) == (1, 1))
        if not flat or not outputs[name].dtype.is_floating or shape[-1] is None:
            there = ", ".join(f"{key} {value.shape}" for key, value in outputs.items())
            raise ValueError(
                f"{self._where}: output {name!r} has rank {shape.rank}, {outputs[name].dtype.name} {shape}; expected "
                f"rank 2, float (batch, size). Outputs there are: {there}."
            )
        return int(shape[-1])


def _endpoints(loaded: Any) -> Iterator[_Endpoint]:
    signatures = getattr(loaded, "signatures", {})
    if _SIGNATURE in signatures:
        function = signatures[_SIGNATURE]
        arguments = function.structured_input_signature[1]
        if len(arguments) == 1:
            ((name, spec),) = arguments.items()
            yield _Endpoint(f"signature {_SIGNATURE!r}", lambda images: function(**{name: images}), spec)
    if callable(loaded):
        spec = None
        for function in getattr(loaded.__call__, "concrete_functions", ()):
            for candidate in tf.nest.flatten(function.structured_input_signature):
                if spec is None and isinstance(candidate, tf.TensorSpec):
                    spec = candidate
        yield _Endpoint("call", loaded, spec)


def _outputs(endpoint: _Endpoint, images: tf.TensorSpec) -> dict[str, tf.TensorSpec]:
    """What comes out for such images; nothing is computed."""
    return _named(tf.function(endpoint.call).get_concrete_function(images).structured_outputs)


def _named(outputs: Any) -> dict[str, tf.Tensor]:
    """Outputs by name."""
    if isinstance(outputs, Mapping):
        return {str(name): value for name, value in outputs.items()}
    if isinstance(outputs, (list, tuple)):
        return {f"output_{number}": value for number, value in enumerate(outputs)}
    return {"output_0": outputs}


def _default_features(where: str, outputs: Mapping[str, tf.TensorSpec]) -> str:
    if "features" in outputs:
        return "features"
    if len(outputs) == 1:
        return next(iter(outputs))
    there = ", ".join(f"{name} {value.shape}" for name, value in outputs.items())
    raise ValueError(f"{where} has several outputs, name the features: {there}.")
