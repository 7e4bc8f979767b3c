"""What `benchmarks.serving` measures: one network by several runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, NamedTuple

RUNTIMES = {  # name: largest difference from the Keras model's output in [-1, 1]
    "Keras in a tf.function": 0.0,
    "SavedModel": 1e-4,
    "SavedModel, PNG": 1.01 / 127.5,
    "OpenVINO": 1e-4,
    "TFLite float32": 1e-4,
    "TFLite int8": 0.5,
}

WEIGHTS = "weights.npz"  # of the network: another process builds it with others


class Case(NamedTuple):
    """Side of the images in pixels, and multiplier of the network's channels."""

    size: int
    width: float


def network(case: Case) -> Any:
    """The inpainting network with the gate of attentive normalization open, so that nothing of it is idle."""
    from attennorm_tf.config import InpaintingModelConfig
    from attennorm_tf.models import build_inpainter

    model = build_inpainter(InpaintingModelConfig(network="attentive", width=case.width), seed=0)
    model.attentive_normalization.rho.assign(1.0)
    return model


def inputs(case: Case, batch: int) -> dict[str, Any]:
    """Images of noise with a square hole, as floats."""
    import numpy as np

    size = case.size
    images = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3)).astype(np.float32) / 127.5 - 1
    masks = np.zeros((batch, size, size, 1), np.float32)
    masks[:, size // 4 : size // 2, size // 4 : size // 2] = 1
    return {"images": images, "masks": masks}


def prepare(case: Case, folder: Path) -> None:
    """Writes what the other processes load."""
    import numpy as np

    from attennorm_tf.export import write_saved_model
    from attennorm_tf.export.default_signature import with_default_signature
    from attennorm_tf.export.tflite import write_tflite
    from attennorm_tf.export.warmup import write_warmup

    model = network(case)
    np.savez(folder / WEIGHTS, *model.get_weights())
    write_saved_model(model, folder / "saved_model")
    write_warmup(folder / "saved_model", "inpainting", sizes=((case.size, case.size),))
    with_default_signature(folder / "saved_model", "tensors", folder / "tensors")
    write_tflite(model, folder / "float32.tflite")
    write_tflite(model, folder / "int8.tflite", int8=True)


def keras_call(case: Case, folder: Path) -> Callable[[dict[str, Any]], Any]:
    """The Keras model in a tf.function, composited like the exported one."""
    import numpy as np
    import tensorflow as tf

    model = network(case)
    with np.load(folder / WEIGHTS) as weights:
        model.set_weights([weights[name] for name in weights.files])
    specs = [tf.TensorSpec([None, None, None, channels]) for channels in (3, 1)]
    fine = tf.function(lambda images, masks: model([images, masks], training=False)[1], input_signature=specs)
    return lambda values: values["images"] * (1 - values["masks"]) + values["masks"] * fine(**values).numpy()


def callers(case: Case, runtime: str, folder: Path) -> Callable[[], Callable[[dict[str, Any]], Any]]:
    """Loads a runtime; what it returns makes the function of one client: inputs -> inpainted images."""
    import numpy as np

    if runtime == "OpenVINO":
        import openvino

        compiled = openvino.Core().compile_model(
            str(folder / "tensors"), "CPU", {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        )

        def by_request() -> Callable[[dict[str, Any]], Any]:
            request = compiled.create_infer_request()
            return lambda values: request.infer(values)["inpainted"]

        return by_request
    if runtime.startswith("TFLite"):
        from attennorm_tf.export.tflite import interpreter

        content = (folder / f"{runtime.split()[1]}.tflite").read_bytes()

        def by_interpreter() -> Callable[[dict[str, Any]], Any]:  # an interpreter serves one thread
            runner = interpreter(content).get_signature_runner("tensors")
            return lambda values: runner(**values)["inpainted"]

        return by_interpreter
    if runtime == "Keras in a tf.function":
        call = keras_call(case, folder)
        return lambda: call
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder / "saved_model"))  # its functions end with it
    if runtime == "SavedModel":
        function = loaded.signatures["tensors"]
        return lambda: (
            lambda values: loaded and function(**{n: tf.constant(v) for n, v in values.items()})["inpainted"].numpy()
        )
    files = loaded.signatures["serving_default"]
    encoded: dict[int, dict[str, Any]] = {}

    def by_files(values: dict[str, Any]) -> Any:
        batch = len(values["images"])
        if batch not in encoded:
            rgb = np.round((values["images"] + 1) * 127.5).astype(np.uint8)
            holes = (values["masks"] * 255).astype(np.uint8)
            encoded[batch] = {
                name: tf.stack([tf.io.encode_png(picture) for picture in pictures])
                for name, pictures in (("image_bytes", rgb), ("mask_bytes", holes))
            }
        return loaded and files(**encoded[batch])["inpainted_bytes"].numpy()

    return lambda: by_files


def pixels(answer: Any) -> Any:
    """Floats of an answer, which may be PNG files."""
    import numpy as np
    import tensorflow as tf

    if answer.dtype != object:
        return answer
    return np.stack([tf.io.decode_png(file).numpy() for file in answer]) / 127.5 - 1
