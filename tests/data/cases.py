"""Data sets that tests make themselves, and the ways to open one, all of which must deliver the same."""

from __future__ import annotations

import numpy as np
from PIL import Image


def ways_to_open(load, tfds_module, write_folder, **options):
    """Registered name -> functions of (folder, build_tfds, monkeypatch): in memory as a whole, and not.

    `load` opens by name, `write_folder` fills a folder of images that is opened with `options`; `tfds_module` reads
    data sets of TensorFlow Datasets.
    """

    def image_folder(folder, build_tfds, monkeypatch):
        write_folder(folder)
        return load("image_folder", root=folder, **options)

    def image_folder_not_kept(folder, build_tfds, monkeypatch):
        data = image_folder(folder, build_tfds, monkeypatch)
        monkeypatch.setattr(data, "_cache_bytes", 0)
        return data

    def tfds(folder, build_tfds, monkeypatch):
        build_tfds(folder)
        return load("tfds:tiny_shapes", root=folder)

    def tfds_streamed(folder, build_tfds, monkeypatch):
        monkeypatch.setattr(tfds_module, "DEFAULT_CACHE_BYTES", 0)
        data = tfds(folder, build_tfds, monkeypatch)
        monkeypatch.setattr(data, "_block_size", 7)
        return data

    return {"image_folder": [image_folder, image_folder_not_kept], "tfds": [tfds, tfds_streamed]}


def write_photographs(folder, count=9):
    """Photographs of different sizes, some of them in folders, one grey."""
    random = np.random.RandomState(0)
    names = []
    for index in range(count):
        name = f"{'abc'[index % 3]}/{index}.png" if index % 4 else f"{index}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shape = (9 + index, 14) if index == 3 else (9 + index, 14, 3)
        Image.fromarray(random.randint(0, 256, shape).astype(np.uint8)).save(folder / name)
        names.append(name)
    return sorted(names)


def arrays_of(dataset):
    """The elements, pairs of tensors, as NumPy arrays."""
    return [(first.numpy(), second.numpy()) for first, second in dataset]


def unit_range(pixels):
    return pixels.astype(np.float32) / np.float32(127.5) - np.float32(1)
