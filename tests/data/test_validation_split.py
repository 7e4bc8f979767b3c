"""The validation split: complete, disjoint, and the same for ever."""

from __future__ import annotations

import numpy as np

from attennorm_tf.data import load_photographs
from attennorm_tf.data.validation_split import select_part
from tests.data.cases import unit_range, write_photographs


def test_the_validation_split_moves_no_other_image():
    names = [f"street/{index}.jpg" for index in range(2000)]
    parts = {part: [names[index] for index in select_part(names, part, 0.1, "x")] for part in ("train", "validation")}
    assert sorted(parts["train"] + parts["validation"]) == sorted(names)
    assert 150 < len(parts["validation"]) < 250
    fewer = names[::3]
    assert [fewer[i] for i in select_part(fewer, "validation", 0.1, "x")] == [
        name for name in fewer if name in parts["validation"]
    ]
    more = {names[index] for index in select_part(names, "validation", 0.2, "x")}
    assert set(parts["validation"]) < more
    # Each part has an image, even where the hash would leave one empty.
    for fraction in (1e-9, 1 - 1e-9):
        halves = [select_part(["a", "b", "c"], part, fraction, "x") for part in ("train", "validation")]
        assert sorted(halves[0] + halves[1]) == [0, 1, 2]
        assert all(halves)
    assert select_part(["a"], "all", 0.1, "x") == [0]


def test_the_split_is_pinned_so_that_runs_can_be_resumed_and_judged_later():
    names = [f"img_{index}.jpg" for index in range(40)]
    assert select_part(names, "validation", 0.1, "x") == [7, 31, 32]


def test_parts_of_a_folder_and_of_tfds_are_disjoint_and_complete(tmp_path, build_tfds):
    (tmp_path / "photographs").mkdir()
    names = write_photographs(tmp_path / "photographs")
    folder = {"name": "image_folder", "root": tmp_path / "photographs", "validation_fraction": 0.4}
    train, validation = (load_photographs(**folder, part=part) for part in ("train", "validation"))
    assert sorted(train.file_names + validation.file_names) == names
    build_tfds(tmp_path)
    images = [
        load_photographs("tfds:tiny_shapes", root=tmp_path, validation_fraction=0.3, part=part).arrays(1)[:, 0, 0, 0]
        for part in ("train", "validation", "all")
    ]
    np.testing.assert_array_equal(images[2], unit_range(np.arange(23)))
    np.testing.assert_array_equal(np.sort(np.concatenate(images[:2])), images[2])
    assert 0 < len(images[1]) < len(images[0])


def test_embedded_photographs_are_divided_for_all_time():
    train, validation, both = (load_photographs(part=part) for part in ("train", "validation", "all"))
    assert (train.num_examples, validation.num_examples, both.num_examples) == (11, 3, 14)
    assert not set(train.file_names) & set(validation.file_names)
    assert set(train.file_names) | set(validation.file_names) == set(both.file_names)
    # They are really there, and photographs: no two alike, none of one colour.
    images = both.arrays(64)
    assert (images.std(axis=(1, 2, 3)) > 0.03).all()
    assert len(np.unique(images.reshape(14, -1), axis=0)) == 14
