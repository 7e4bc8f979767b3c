"""TF-GAN's Inception, the network of Inception Scores and FIDs published with TensorFlow."""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from pathlib import Path

from attennorm_tf.metrics.extractors.saved_model import SavedModelExtractor
from attennorm_tf.metrics.feature_extractor import FeatureExtractor

HANDLE = "https://tfhub.dev/tensorflow/tfgan/eval/inception/1"
_SIDE = 299


def load(argument: str) -> FeatureExtractor:
    """From a TF Hub handle (default TF-GAN's own), or the folder of the same SavedModel.

    Features are "pool_3" (2048), logits "logits" (1008). As in TF-GAN's examples, images in [-1, 1] are resized to
    299 x 299 bilinearly, not antialiased.
    """
    handle = argument or HANDLE
    folder = resolve_handle(handle) if "://" in handle else handle
    return SavedModelExtractor(folder, "pool_3", "logits", resolution=_SIDE, name="tfgan_inception", antialias=False)


def resolve_handle(handle: str) -> str:
    """The folder of a TF Hub module: the cached copy, or a download by the package tensorflow-hub.

    The cache is that of tensorflow-hub, a folder named by the SHA-1 of the handle in $TFHUB_CACHE_DIR; what is there is
    used without the package and without a network.

    Raises:
        ImportError: not cached, and the package is missing.
        ValueError: not cached, and the download failed.
    """
    cache = os.environ.get("TFHUB_CACHE_DIR") or os.path.join(tempfile.gettempdir(), "tfhub_modules")
    cached = Path(cache) / hashlib.sha1(handle.encode()).hexdigest()  # a name only, as tensorflow-hub makes it
    if (cached / "saved_model.pb").is_file():
        return str(cached)
    mend = "or download the SavedModel by other means and pass its folder: 'tfgan_inception:<folder>'"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)
            import tensorflow_hub
    except ImportError as error:
        raise ImportError(
            f"{handle!r} is not in the cache {cache!r}, and fetching it needs tensorflow-hub, which cannot be imported "
            f"({error}): pip install 'attennorm_tf[hub]', {mend}."
        ) from error
    try:
        return str(tensorflow_hub.resolve(handle))
    # The resolver lets every error of the network and of the archive through.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{handle!r} cannot be fetched ({reason}): check the network, {mend}.") from error
