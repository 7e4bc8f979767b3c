"""attennorm-export: a checkpoint as files that run without this package.

    attennorm-export --checkpoint=runs/facades --output=models/inpainting
    attennorm-export --checkpoint=runs/digits --output=models/generation --model_version=7 --noaverage

    attennorm-export --checkpoint=runs/facades --output=models/inpainting --format=saved_model,keras,tflite,tflite_int8

Writes models/inpainting/<version>/ as TensorFlow Serving looks for it: a SavedModel (other formats beside it), a model
card for people (README.md) and programs (export.json). The folder appears when every file in it has
been loaded and compared with the checkpoint; otherwise nothing is left. The version is one more than the largest there,
and a version is never replaced.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import flags

from attennorm_tf.cli.command import UsageError, check_choices, run_command, show_in_help
from attennorm_tf.config import GanConfig, InpaintingConfig
from attennorm_tf.export import ExportError, Limits, Subject, default_limits, export
from attennorm_tf.export.exporter import FORMATS
from attennorm_tf.inference.inpainter import load_inpainter
from attennorm_tf.inference.sample import load_generator
from attennorm_tf.training import CheckpointError
from attennorm_tf.training.checkpointing import find_checkpoint, read_manifest

# Of this command alone: other commands have flags of the same names.
_FLAGS = flags.FlagValues()
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    None,
    "work directory of train.gan or train.inpainting, or one of its checkpoints",
    required=True,
    flag_values=_FLAGS,
)
_OUTPUT = flags.DEFINE_string("output", None, "folder of the versions", required=True, flag_values=_FLAGS)
_VERSION = flags.DEFINE_integer(
    "model_version", None, "number of the version (default: one more than the largest there)", flag_values=_FLAGS
)
_AVERAGE = flags.DEFINE_bool(
    "average", True, "use the moving average of the weights, where there is one", flag_values=_FLAGS
)
_FORMAT = flags.DEFINE_list("format", ["saved_model"], f"of {','.join(FORMATS)}", flag_values=_FLAGS)
_MAX_BATCH = flags.DEFINE_integer("max_batch", None, "most rows of a request", flag_values=_FLAGS)
_MAX_PIXELS = flags.DEFINE_integer("max_pixels", None, "most width * height of an image", flag_values=_FLAGS)
_MAX_REQUEST_PIXELS = flags.DEFINE_integer(
    "max_request_pixels", None, "most of all images of a request together", flag_values=_FLAGS
)
_MAX_FILE_BYTES = flags.DEFINE_integer("max_file_bytes", None, "most of one encoded image", flag_values=_FLAGS)
_WARMUP = flags.DEFINE_list(
    "warmup",
    [],
    "sizes, as 256x256, of images in the server's warm-up records (needs tensorflow-serving-api; default: none)",
    flag_values=_FLAGS,
)
_MODEL_NAME = flags.DEFINE_string(
    "model_name", None, "as the server knows it, for the warm-up records (default: the name of --output)",
    flag_values=_FLAGS,
)  # fmt: skip


def run() -> int:
    """Exports as the flags say."""
    check_choices("format", _FORMAT.value, FORMATS)
    sizes = [_size(text) for text in _WARMUP.value]
    subject = _subject()
    given = {
        "max_batch": _MAX_BATCH.value,
        "max_pixels": _MAX_PIXELS.value,
        "max_request_pixels": _MAX_REQUEST_PIXELS.value,
        "max_file_bytes": _MAX_FILE_BYTES.value,
    }
    limits: Limits = default_limits(subject.model)._replace(
        **{name: value for name, value in given.items() if value is not None}
    )
    exported = export(
        subject,
        _OUTPUT.value,
        version=_VERSION.value,
        formats=_FORMAT.value,
        limits=limits,
        warmup_sizes=sizes,
        model_name=_MODEL_NAME.value,
    )
    print(f"{subject.name}, step {subject.step}, weights: {subject.weights}")
    for file, parity in exported.parity.items():
        for name, difference in parity.items():
            what = "" if "PSNR" in name else "differs by at most "
            print(f"  {file}: {name}: {what}{difference:.3g}")
    print(exported.folder)
    return 0


def _size(text: str) -> tuple[int, int]:
    """(height, width) of "256x192"."""
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise UsageError(f"--warmup: {text!r} is no size; expected <height>x<width>, as 256x256.")
    return int(height), int(width)


def _metrics(checkpoint: Path, step: int) -> dict[str, Any]:
    """What the work directory says of this step: its report, and the table of its evaluation."""
    workdir, found = checkpoint.parent.parent, {}
    try:
        report = json.loads((workdir / "report.json").read_text(encoding="utf-8"))
        if report.get("steps") == step:
            found["report.json"] = report
    except (OSError, ValueError, AttributeError):
        pass  # a run that is not finished has none
    try:
        results = (workdir / "evaluation/results.json").read_text(encoding="utf-8")
        if f'"step": {step},' in results or f'"step": {step}\n' in results:
            found["evaluation/table.md"] = (workdir / "evaluation/table.md").read_text(encoding="utf-8")
    except OSError:
        pass
    return found


def _subject() -> Subject:
    path = find_checkpoint(_CHECKPOINT.value)
    average = _AVERAGE.value
    if read_manifest(path)["metadata"].get("task") == "inpainting":
        inpainter = load_inpainter(path, average=average)
        assert inpainter.config is not None  # a checkpoint has one
        config: InpaintingConfig | GanConfig = inpainter.config
        subject = Subject(inpainter.model, "inpainting", config.name, inpainter.step)
    else:
        loaded = load_generator(path, average=average)
        config = loaded.config
        subject = Subject(loaded.generator, "class-conditional generation", config.name, loaded.step)
        subject = subject._replace(class_names=tuple(loaded.class_names))
    averaged = average and config.training.ema_decay > 0
    if average and not averaged:
        print("note: this run keeps no moving average of its weights; they are exported as trained.", file=sys.stderr)
    weights = "moving average" if averaged else "as trained"
    return subject._replace(weights=weights, config=json.loads(config.to_json()), metrics=_metrics(path, subject.step))


def main() -> None:
    """Entry point of the console command."""
    show_in_help(__doc__, _FLAGS)
    run_command(run, (CheckpointError, ExportError))


if __name__ == "__main__":
    main()
