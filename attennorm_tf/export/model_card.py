"""The model card of an exported version: README.md for people, export.json for programs."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

import numpy as np

from attennorm_tf.export.request_checks import SMALLEST_TRUNCATION, Limits
from attennorm_tf.models import ClassConditionalGenerator

FILES = {
    "saved_model": ("saved_model.pb", "SavedModel: `tf.saved_model.load`, TensorFlow Serving, the C API"),
    "keras": (
        "model.keras",
        "`keras.models.load_model` after `import attennorm_tf.models`, by the Keras below",
    ),
    "tflite": ("model.tflite", "TensorFlow Lite, float32; floats in and out, no checks of requests"),
    "tflite_int8": ("model_int8.tflite", "TensorFlow Lite, weights of 8 bits (dynamic range)"),
}

_INPAINTING_NOTES = """\
- Mask: white (128 and more) is the hole. Known pixels come back exactly, transparency too; the result is PNG.
- PNG of 8 bits (grey, palette, colour, with transparency) and JPEG (grey, colour). JPEG is turned upright by its EXIF
  orientation, as a viewer shows it; other metadata is not kept, an orientation in a PNG is not looked at.
- Refused: 16 bits per channel (but in masks), CMYK, other formats, damaged files.
- All images of a request have one size, each mask that of its image. Any size: it is reflected to a multiple of 8.
- The whole image is seen at once, at the size it has: `attennorm-inpaint` instead cuts out and scales holes that are
  much larger than those of training.
"""
_GENERATION_NOTES = """\
- `seeds`: the same seed gives the same picture, alone or in a batch, on every machine; not that of
  `attennorm-sample --seed`, which draws by another method.
- `truncation`: latents come from the normal distribution between -truncation and truncation; from {smallest} on, 10
  is as good as no limit.
- `class_weights`: not negative, of sum 1.
"""
_CITATION = """\
```
@inproceedings{wang2020attentive,
  title={Attentive Normalization for Conditional Image Generation},
  author={Wang, Yi and Chen, Ying-Cong and Zhang, Xiangyu and Sun, Jian and Jia, Jiaya},
  booktitle={CVPR},
  year={2020}
}
```
"""


def card_facts(
    subject: Any, limits: Limits, parity: Mapping[str, Any], signatures: Mapping[str, Any]
) -> dict[str, Any]:
    """What export.json holds.

    Args:
        subject: see `attennorm_tf.export.exporter.Subject`.
        limits: of a request.
        parity: by format, see `Exported`.
        signatures: name: {"inputs": {name: {"shape", "dtype"}}, "outputs": ...}.
    """
    return {
        "name": subject.name,
        "task": subject.task,
        "step": subject.step,
        "weights": subject.weights,
        "parameters": int(sum(np.prod(weight.shape) for weight in subject.model.weights)),
        "class_names": list(subject.class_names),
        "signatures": dict(signatures),
        "limits": limits._asdict(),
        "parity": dict(parity),
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("tensorflow", "keras", "numpy")},
        },
        "metrics": subject.metrics,
        "config": _without_places(subject.config),
    }


def model_card(subject: Any, facts: Mapping[str, Any]) -> str:
    """README.md."""
    return "\n".join(_sections(subject, facts)) + "\n"


def _sections(subject: Any, facts: Mapping[str, Any]) -> Iterator[str]:
    generates = isinstance(subject.model, ClassConditionalGenerator)
    config = facts["config"]
    yield f"# {subject.name}\n"
    yield f"Task: {subject.task}. Network: {type(subject.model).__name__}, {facts['parameters']:,} parameters."
    yield f"Step {subject.step}, weights: {subject.weights}."
    data = config.get("data", {})
    root = " (a folder of the trainer's)" if data.get("root") else ""
    yield f"Trained on: {data.get('name', 'not known')}{root}, split {data.get('split', 'train')!r}.\n"
    if subject.class_names:
        names = ", ".join(f"{index} {name}" for index, name in enumerate(subject.class_names[:20]))
        more = f", ... ({len(subject.class_names)} in all)" if len(subject.class_names) > 20 else ""
        yield f"Classes: {names}{more}.\n"
    yield "## Files and parity\n"
    yield "Largest difference between what a file computes, loaded afresh, and the checkpoint's network; in [-1, 1].\n"
    yield "| file | compared | difference |\n| --- | --- | ---: |"
    for kind, found in facts["parity"].items():
        for what, value in found.items():
            yield f"| `{FILES[kind][0]}` | {what} | {value:.3g} |"
    yield ""
    yield from (f"- `{FILES[kind][0]}`: {FILES[kind][1]}." for kind in facts["parity"])
    yield "\n## Signatures of the SavedModel\n"
    yield "| signature | | name | type | shape |\n| --- | --- | --- | --- | --- |"
    for name, signature in facts["signatures"].items():
        for way in ("inputs", "outputs"):
            for tensor, spec in sorted(signature[way].items()):
                shape = "(" + ", ".join("any" if size is None else str(size) for size in spec["shape"]) + ")"
                yield f"| `{name}` | {way[:-1]} | `{tensor}` | {spec['dtype']} | {shape} |"
    yield "\nImages as floats are in [-1, 1], masks 1 (missing) or 0; names ending in `_bytes` are base64 in REST.\n"
    yield (_GENERATION_NOTES.format(smallest=SMALLEST_TRUNCATION) if generates else _INPAINTING_NOTES)
    yield "## Limits of a request\n"
    yield "Beyond them, and for anything else that does not fit, the answer is INVALID_ARGUMENT and says why.\n"
    yield "| limit | value |\n| --- | ---: |"
    shown = ["max_batch"] if generates else list(facts["limits"])
    yield from (f"| {name} | {facts['limits'][name]:,} |" for name in shown)
    yield "\n## Measured\n"
    yield from _metrics(facts["metrics"])
    yield "\n## Config\n"
    yield "| field | value |\n| --- | --- |"
    for section, fields in config.items():
        if not isinstance(fields, dict):
            yield f"| {section} | {fields} |"
            continue
        yield from (f"| {section}.{field} | {_cell(value)} |" for field, value in fields.items())
    yield "\n## Versions, licence, paper\n"
    yield "Exported with " + ", ".join(f"{name} {version}" for name, version in facts["versions"].items()) + "."
    yield "The code is under Apache-2.0; rights to the weights depend on the data they were trained on.\n"
    yield _CITATION


def _without_places(config: Mapping[str, Any]) -> dict[str, Any]:
    """Where the trainer's files lie is nobody's business."""

    def told(field: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: told(name, inner) for name, inner in value.items()}
        return "(a folder)" if field == "root" and value else value

    return {field: told(field, value) for field, value in config.items()}


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|") or "-"


def _metrics(metrics: Mapping[str, Any]) -> Iterator[str]:
    if not metrics:
        yield "Nothing was measured of this checkpoint in its work directory."
    for source, values in metrics.items():
        if isinstance(values, str):
            yield f"From `{source}`:\n\n{values.strip()}\n"
            continue
        yield f"From `{source}`:\n\n| measure | value |\n| --- | ---: |"
        for name, value in values.items():
            yield f"| {name} | {f'{value:.6g}' if isinstance(value, float) else value} |"
