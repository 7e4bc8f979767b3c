"""attennorm-demo: a page in the browser to try trained models.

    attennorm-demo --model=runs/facades
    attennorm-demo --model=runs/facades --model=runs/digits --port=0
    attennorm-demo --model=exports/inpainting --model=http://127.0.0.1:8501/v1/models/generation

A model is the work directory of a training or one of its checkpoints, the folder of a SavedModel that attennorm-export
wrote, or a TensorFlow Serving server: grpc://host:port or http://host:port (grpcs:// and https:// with encryption),
with /v1/models/NAME behind it, and /versions/3 behind that, where it is not the newest inpainting and generation that
are meant. Each has a tab:

    Inpaint   drop a photo, paint the hole or upload a mask, fill it, compare, see the layout, download the result at
              the photo's own size, with every pixel outside the hole as it was
    Generate  draw images of classes, blend two classes, see the maps of the entities

The page needs no internet and listens on 127.0.0.1 only, unless --host says otherwise: then everyone who can reach this
machine can use it. Ctrl-C ends it; what was uploaded is removed. It needs Gradio: pip install 'attennorm_tf[demo]'.
"""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any

from absl import flags

from attennorm_tf.cli.command import console_command
from attennorm_tf.data.image_decoding import DEFAULT_MAX_PIXELS
from attennorm_tf.demo import open_models
from attennorm_tf.demo.page import LOOPBACK, check_library, serving
from attennorm_tf.export.serving_errors import ServingError
from attennorm_tf.training import CheckpointError

# Of this command alone: other commands have flags of the same names.
_FLAGS = flags.FlagValues()
_MODEL = flags.DEFINE_multi_string(
    "model", [], "a run, a checkpoint, a SavedModel's folder or a server's address; may be given several times",
    flag_values=_FLAGS,
)  # fmt: skip
_HOST = flags.DEFINE_string("host", "127.0.0.1", "name or address to listen on", flag_values=_FLAGS)
_PORT = flags.DEFINE_integer("port", 7860, "to listen on; 0 for any that is free", 0, 65535, flag_values=_FLAGS)
_MAX_UPLOAD_MEGABYTES = flags.DEFINE_float(
    "max_upload_megabytes", 32, "MiB that an uploaded file may have", lower_bound=0.001, flag_values=_FLAGS
)
_MAX_PIXELS = flags.DEFINE_integer(
    "max_pixels", DEFAULT_MAX_PIXELS, "largest width * height that is read", lower_bound=1, flag_values=_FLAGS
)
_AVERAGE = flags.DEFINE_bool(
    "average", True, "use the moving average of the weights, where there is one", flag_values=_FLAGS
)


def run() -> int:
    """Shows the page until it is interrupted."""
    if not _MODEL.value:
        raise ValueError("--model is needed: a run, a checkpoint, a SavedModel's folder or a server's address.")
    check_library()
    models = [model for place in _MODEL.value for model in open_models(place, average=_AVERAGE.value)]
    # As Ctrl-C does: the page is taken down and its files are removed.
    signal.signal(signal.SIGTERM, _stop)
    with serving(
        models, _HOST.value, _PORT.value, max_upload_megabytes=_MAX_UPLOAD_MEGABYTES.value, max_pixels=_MAX_PIXELS.value
    ) as address:
        for model in models:
            print(model.title)
        print(f"the page is at {address} (Ctrl-C ends it)", flush=True)
        if _HOST.value not in LOOPBACK:
            print(f"note: everyone who can reach {_HOST.value} can use the page.", file=sys.stderr)
        threading.Event().wait()
    return 0


def _stop(number: int, frame: Any) -> None:
    sys.exit(128 + number)


main = console_command(__doc__, _FLAGS, run, (CheckpointError, ServingError))


if __name__ == "__main__":
    main()
