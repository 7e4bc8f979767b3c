"""Photographs that ship inside scikit-learn and scikit-image, no download."""

from __future__ import annotations

import importlib.util
import os

from PIL import Image

from attennorm_tf.data.image_decoding import read_image
from attennorm_tf.data.unlabeled_images import IndexedPhotographs, Photographs, PhotographsRequest
from attennorm_tf.data.validation_split import PARTS

# Of what is in both packages' wheels: photographs, no drawings or microscopes. Two views of the same motorcycle are on
# the same side.
_TRAIN = (
    "skimage/astronaut.png",
    "skimage/brick.png",
    "skimage/camera.png",
    "skimage/coffee.png",
    "skimage/coins.png",
    "skimage/grass.png",
    "skimage/gravel.png",
    "skimage/moon.png",
    "skimage/motorcycle_left.png",
    "skimage/motorcycle_right.png",
    "sklearn/china.jpg",
)
_VALIDATION = ("skimage/chelsea.png", "skimage/rocket.jpg", "sklearn/flower.jpg")
_NAMES = {"train": _TRAIN, "validation": _VALIDATION, "all": tuple(sorted(_TRAIN + _VALIDATION))}

_FOLDERS = {"skimage": ("scikit-image", "data"), "sklearn": ("scikit-learn", os.path.join("datasets", "images"))}


def load(request: PhotographsRequest) -> Photographs:
    """Eleven photographs for training, three for validation."""
    if request.root is not None:
        raise ValueError(f"data set 'photographs' ships with other packages and takes no root, got {request.root!r}.")
    if request.part not in PARTS:
        raise ValueError(f"part must be one of {', '.join(map(repr, PARTS))}, got {request.part!r}.")
    folders = {package: _folder(package) for package in _FOLDERS}
    names = _NAMES[request.part]

    def read(index: int) -> Image.Image:
        package, name = names[index].split("/")
        return read_image(os.path.join(folders[package], name), max_pixels=request.max_pixels)

    return IndexedPhotographs(request.name, read=read, num_examples=len(names), file_names=names)


def _folder(package: str) -> str:
    """Where a package keeps its pictures; it is not imported."""
    distribution, place = _FOLDERS[package]
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ImportError(
            f"data set 'photographs' needs {distribution}, which is not installed: pip install 'attennorm_tf[data]'."
        )
    return os.path.join(found.submodule_search_locations[0], place)
