"""A folder of photographs, with or without folders in it."""

from __future__ import annotations

import os

from attennorm_tf.data.image_decoding import read_image
from attennorm_tf.data.image_files import list_image_files, unreadable_files
from attennorm_tf.data.unlabeled_images import IndexedPhotographs, Photographs, PhotographsRequest
from attennorm_tf.data.validation_split import select_part


def load(request: PhotographsRequest) -> Photographs:
    """Every image file under the root, in order of its path; see `list_image_files`."""
    if request.root is None:
        raise ValueError("data set 'image_folder' needs root, the folder that holds the photographs.")
    names = list_image_files(request.root)
    chosen = select_part(names, request.part, request.validation_fraction, f"image folder {request.root!r}")
    names = [names[index] for index in chosen]
    paths = {name: os.path.join(request.root, *name.split("/")) for name in names}
    skipped: list[str] = []
    if request.skip_corrupt:
        bad = unreadable_files(list(paths.values()), request.max_pixels)
        skipped = [paths[name] for name in names if paths[name] in bad]
        names = [name for name in names if paths[name] not in bad]
        if not names:
            raise ValueError(f"image folder {request.root!r} holds no readable image (part {request.part!r}).")
    return IndexedPhotographs(
        request.name,
        read=lambda index: read_image(paths[names[index]], max_pixels=request.max_pixels),
        num_examples=len(names),
        file_names=names,
        skipped=skipped,
    )
