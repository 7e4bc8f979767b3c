"""attennorm-client: fills holes and draws images by models on a TensorFlow Serving server.

    attennorm-client inpaint --server=127.0.0.1:8500 --image=photo.jpg --mask=mask.png --output=out.png
    attennorm-client inpaint --server=127.0.0.1:8500 --images=photos --masks=holes --output=results
    attennorm-client generate --server=127.0.0.1:8500 --classes=3,7 --count=64 --seed=1 --output=samples
    attennorm-client status --server=127.0.0.1:8501 --protocol=rest --model=inpainting

Files are read and written as by attennorm-inpaint: white in a mask (128 and above) is the hole; everything outside it
comes back bit for bit, with transparency, EXIF and colour profile; folders keep their layout; a file that cannot be
used is reported with the reason, and the others are done. What fails for a moment (the server is busy or starting) is
tried again within the deadline of a request. Exit code: 0 if all was done, 1 otherwise.
"""

from __future__ import annotations

import io
import math
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from absl import flags
from PIL import Image
from tqdm import tqdm

from attennorm_tf.cli.command import UsageError, class_ids, run_command, show_in_help
from attennorm_tf.cli.photo_jobs import note_on_jpeg, planned_jobs, show_outcomes
from attennorm_tf.data.image_decoding import DEFAULT_MAX_PIXELS
from attennorm_tf.export.client import PROTOCOLS, GenerationClient, InpaintingClient, ServingClient
from attennorm_tf.export.serving_errors import ServingError
from attennorm_tf.export.serving_target import DEFAULT_MAX_MESSAGE_MB
from attennorm_tf.inference.inpaint_files import ENDINGS, Fill, NotFilledError, Options, fill_files
from attennorm_tf.visualization import save_png

# Of this command alone: other commands have flags of the same names.
_FLAGS = flags.FlagValues()
_SERVER = flags.DEFINE_string(
    "server", None, "host:port of the server; for REST also http(s)://host:port/path; default 127.0.0.1:8500, for "
    "REST :8501", flag_values=_FLAGS,
)  # fmt: skip
_PROTOCOL = flags.DEFINE_enum("protocol", "grpc", list(PROTOCOLS), "how to speak to it", flag_values=_FLAGS)
_MODEL = flags.DEFINE_string(
    "model_name", None, "the model's name on the server. Default: inpainting for inpaint, generation for generate",
    flag_values=_FLAGS,
)  # fmt: skip
flags.DEFINE_alias("model", "model_name", flag_values=_FLAGS)
_VERSION = flags.DEFINE_integer(
    "model_version", None, "of the model; default: its newest", lower_bound=0, flag_values=_FLAGS
)
_LABEL = flags.DEFINE_string("label", None, "such as stable or canary, instead of --model_version", flag_values=_FLAGS)
_DEADLINE = flags.DEFINE_float(
    "deadline", 60.0, "seconds for a request, all tries included", lower_bound=0.001, flag_values=_FLAGS
)
_RETRIES = flags.DEFINE_integer(
    "retries", 4, "how often what failed for a moment is tried again", lower_bound=0, flag_values=_FLAGS
)
_MAX_MESSAGE_MB = flags.DEFINE_float(
    "max_message_mb", DEFAULT_MAX_MESSAGE_MB, "MiB that a request or an answer may have", flag_values=_FLAGS
)
_TLS = flags.DEFINE_bool("tls", False, "encrypted connection", flag_values=_FLAGS)
_CERTIFICATE = flags.DEFINE_string(
    "certificate", None, "PEM file of the authorities to trust with --tls or https://; default: the system's",
    flag_values=_FLAGS,
)  # fmt: skip
flags.DEFINE_alias("ca_file", "certificate", flag_values=_FLAGS)
_OUTPUT = flags.DEFINE_string(
    "output", None, "file for the result of --image; folder for those of --images and of generate", flag_values=_FLAGS
)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "replace outputs that exist", flag_values=_FLAGS)
_PARALLEL = flags.DEFINE_integer("parallel", 2, "requests at a time", lower_bound=1, flag_values=_FLAGS)
_IMAGE = flags.DEFINE_string("image", None, "inpaint: one photograph; needs --mask", flag_values=_FLAGS)
_MASK = flags.DEFINE_string("mask", None, "inpaint: its mask", flag_values=_FLAGS)
_IMAGES = flags.DEFINE_string("images", None, "inpaint: folder of photographs; needs --masks", flag_values=_FLAGS)
_MASKS = flags.DEFINE_string("masks", None, "inpaint: folder of masks, or one mask for all", flag_values=_FLAGS)
_GROW = flags.DEFINE_float(
    "grow", 0, "inpaint: make holes larger by this many pixels", lower_bound=0, flag_values=_FLAGS
)
_INVERT = flags.DEFINE_bool("invert", False, "inpaint: black is the hole, not white", flag_values=_FLAGS)
_FORMAT = flags.DEFINE_enum(
    "format", "png", list(ENDINGS), "inpaint: of the results of --images; same: as the photograph's", flag_values=_FLAGS
)
_QUALITY = flags.DEFINE_integer("quality", 95, "inpaint: of JPEG, 1 to 100", 1, 100, flag_values=_FLAGS)
_MAX_PIXELS = flags.DEFINE_integer(
    "max_pixels", DEFAULT_MAX_PIXELS, "inpaint: largest width * height that is read", lower_bound=1, flag_values=_FLAGS
)
_CLASSES = flags.DEFINE_list("classes", [], "generate: class ids, or names with --class_names", flag_values=_FLAGS)
_CLASS_NAMES = flags.DEFINE_string(
    "class_names", None, "generate: text file with the model's class names, one a line", flag_values=_FLAGS
)
_COUNT = flags.DEFINE_integer(
    "count", 16, "generate: images in all, shared out over the classes", lower_bound=1, flag_values=_FLAGS
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "generate: of the first image; each next one has the next", flag_values=_FLAGS
)  # fmt: skip
_TRUNCATION = flags.DEFINE_float(
    "truncation", None, "generate: noise stays within +-this: less variety, cleaner images", lower_bound=0.01,
    flag_values=_FLAGS,
)  # fmt: skip
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "generate: images of a request", lower_bound=1, flag_values=_FLAGS)

_MODELS = {"inpaint": "inpainting", "generate": "generation"}
_OF_INPAINT = ("image", "mask", "images", "masks", "grow", "invert", "format", "quality", "max_pixels")
_OF_GENERATE = ("classes", "class_names", "count", "seed", "truncation", "batch_size")


def run(arguments: list[str]) -> int:
    """Does what the first argument says."""
    commands = {"inpaint": _inpaint, "generate": _generate, "status": _status}
    if len(arguments) != 1 or arguments[0] not in commands:
        raise UsageError(f"expected one of {', '.join(commands)}, and flags; got {' '.join(arguments) or 'none'}.")
    for command, names in (("inpaint", _OF_INPAINT), ("generate", _OF_GENERATE)):
        strange = [name for name in names if _FLAGS[name].present]
        if strange and command != arguments[0]:
            raise UsageError(f"--{strange[0]} belongs to {command}, not to {arguments[0]}.")
    return commands[arguments[0]]()


def _options(command: str) -> dict:
    port = {"grpc": 8500, "rest": 8501}[_PROTOCOL.value]
    model = _MODEL.value or _MODELS.get(command)
    if not model:
        raise UsageError(
            f"--model_name is needed: the model's name on the server, such as {' or '.join(_MODELS.values())}."
        )
    return {
        "server": _SERVER.value or f"127.0.0.1:{port}", "model": model, "protocol": _PROTOCOL.value,
        "version": _VERSION.value, "label": _LABEL.value, "deadline": _DEADLINE.value, "retries": _RETRIES.value,
        "max_message_mb": _MAX_MESSAGE_MB.value, "tls": _TLS.value, "certificate": _CERTIFICATE.value,
    }  # fmt: skip


def _status() -> int:
    with ServingClient(**_options("status")) as client:
        versions = client.status()
    for version, state, message in versions:
        print(f"{client.target.model} version {version}: {state}{f', {message}' if message else ''}")
    return 0 if any(state == "AVAILABLE" for _, state, _ in versions) else 1


def _inpaint() -> int:
    options = Options(
        grow=_GROW.value, invert=_INVERT.value, max_pixels=_MAX_PIXELS.value, quality=_QUALITY.value,
        overwrite=_OVERWRITE.value,
    )  # fmt: skip
    jobs = planned_jobs(_IMAGE.value, _MASK.value, _IMAGES.value, _MASKS.value, str(_needed_output()), _FORMAT.value)
    note_on_jpeg(jobs)
    with InpaintingClient(**_options("inpaint")) as client:
        outcomes = fill_files(jobs, _fill_by(client), options, min(_PARALLEL.value, len(jobs)))
        # What concerns the server would be met by the next photograph, too.
        return 1 if show_outcomes(outcomes, len(jobs), str(client.target), (ServingError,)) else 0


def _fill_by(client: InpaintingClient) -> Fill:
    def fill(rgb: np.ndarray, hole: np.ndarray) -> np.ndarray:
        try:
            (answer,) = client.complete([_png(rgb)], [_png(np.where(hole, np.uint8(255), np.uint8(0)))])
        except ServingError as error:
            if error.concerns_all:
                raise
            raise NotFilledError(str(error)) from error
        try:
            with Image.open(io.BytesIO(answer), formats=["PNG"]) as picture:
                if picture.size != (rgb.shape[1], rgb.shape[0]):
                    size = "{} x {}".format(*picture.size)
                    raise NotFilledError(f"{client.target}: the answer has {size} pixels, not as many as were sent.")
                return np.asarray(picture.convert("RGB"))
        except (OSError, SyntaxError) as error:
            raise NotFilledError(f"{client.target}: the answer is no whole PNG file: {error}.") from error

    return fill


def _generate() -> int:
    output = _needed_output()
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output: {output} is a file, expected a folder.")
    if not _CLASSES.value:
        raise UsageError("--classes is needed, such as --classes=3,7.")
    ids, count = _class_ids(), _COUNT.value
    truncation = math.inf if _TRUNCATION.value is None else _TRUNCATION.value
    labels = np.resize(np.asarray(ids, np.int64), count).tolist()
    seeds = range(_SEED.value, _SEED.value + count)
    if not -(2**63) <= seeds[0] <= seeds[-1] < 2**63:
        raise UsageError(f"--seed: {_SEED.value} to {seeds[-1]} are not all 64-bit integers.")
    names = [
        output / f"{index:05d}-class{label}-seed{seed}.png" for index, (label, seed) in enumerate(zip(labels, seeds))
    ]
    there = [name for name in names if name.exists()]
    if there and not _OVERWRITE.value:
        raise ValueError(f"output '{there[0]}' exists; it is replaced only with overwrite.")
    with (
        GenerationClient(**_options("generate")) as client,
        tqdm(total=count, unit="image", disable=None if count > 1 else True, leave=False) as bar,
    ):
        for start in range(0, count, _BATCH_SIZE.value):
            rows = slice(start, start + _BATCH_SIZE.value)
            answers = client.generate(labels[rows], list(seeds[rows]), truncation)
            for index, (name, answer) in enumerate(zip(names[rows], answers), start=start + 1):
                with Image.open(io.BytesIO(answer), formats=["PNG"]) as picture:
                    save_png(name, np.asarray(picture))
                bar.update()
                if bar.disable:
                    print(f"[{index}/{count}] {name}" if count > 1 else str(name), flush=True)
    if count > 1:
        print(f"{client.target}: {count} of {count} written")
    return 0


def _class_ids() -> list[int]:
    """Ids as given, or by name where the names are known. The server says which ids it has."""
    if _CLASS_NAMES.value:
        names = Path(_CLASS_NAMES.value).read_text(encoding="utf-8").splitlines()
        return class_ids("classes", _CLASSES.value, [name.strip() for name in names if name.strip()])
    for value in _CLASSES.value:
        if not value.isdigit() or int(value) >= 2**31:
            raise UsageError(f"--classes: {value!r} is no id; names need --class_names, a file with one name a line.")
    return [int(value) for value in _CLASSES.value]


def _needed_output() -> Path:
    if not _OUTPUT.value:
        raise UsageError("--output is needed: where the results go.")
    return Path(_OUTPUT.value)


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def main() -> None:
    """Entry point of the console command."""
    show_in_help(__doc__, _FLAGS)
    run_command(run, (ServingError,), takes_arguments=True)


if __name__ == "__main__":
    main()
