"""Checkpoints appear whole or not at all, and damage is found."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from attennorm_tf.training.checkpointing import (
    CheckpointError,
    CheckpointStore,
    Ranking,
    find_checkpoint,
    find_damage,
    read_manifest,
    restore,
)
from tests.processes import run_module


def items(value: float = 0.0) -> dict[str, Any]:
    return {"value": tf.Variable([float(value)] * 8)}


def test_round_trip_and_keep(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "checkpoints", keep=2)
    assert store.latest() is None
    for step in (1, 20, 3000):
        store.save(step, items(step), {"a": step})
    assert store.steps() == [20, 3000]
    path = store.latest()
    assert path == find_checkpoint(tmp_path) == find_checkpoint(tmp_path / "checkpoints") == find_checkpoint(path)
    assert read_manifest(path)["metadata"] == {"a": 3000}
    read = items()
    restore(path, read)
    assert read["value"].numpy().tolist() == [3000.0] * 8
    assert sorted(entry.name for entry in store.folder.iterdir()) == ["step-00000020", "step-00003000"]


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.save(1, items(1), {})
    store.save(1, items(2), {})
    read = items()
    restore(store.path(1), read)
    assert read["value"].numpy()[0] == 2.0


def damage_file(file: Path, damage: str, random: np.random.Generator) -> None:
    content = bytearray(file.read_bytes())
    if damage == "flip":
        content[random.integers(len(content))] ^= 1 << int(random.integers(8))
    elif damage == "cut":
        del content[random.integers(len(content)) :]
    elif damage == "empty":
        content.clear()
    else:
        file.unlink()
        return
    file.write_bytes(content)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "missing"])
@pytest.mark.parametrize("name", ["state.data-00000-of-00001", "state.index", "manifest.json"])
def test_damage_is_found_named_and_the_one_before_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, damage: str
) -> None:
    store = CheckpointStore(tmp_path)
    store.save(1, items(1), {"class_names": ["a", "b"]})
    path = store.save(2, items(2), {"class_names": ["a", "b"]}, {"loss": 0.5})
    whole = (path / name).read_bytes()
    random = np.random.default_rng(0)
    for _ in range(25 if damage == "flip" else 1):
        (path / name).write_bytes(whole)
        assert find_damage(path) is None
        damage_file(path / name, damage, random)
        assert name in str(find_damage(path))
    with pytest.raises(CheckpointError, match=f"checkpoint: {path} is damaged \\({name}"):
        find_checkpoint(path)
    assert find_checkpoint(tmp_path) == store.latest() == store.path(1)
    assert f"checkpoint {path} is damaged ({name}" in caplog.text
    assert "trying the one before it" in caplog.text


def test_a_flipped_bit_of_a_manifest_is_harmless_or_found(tmp_path: Path) -> None:
    """One of every byte."""
    path = CheckpointStore(tmp_path).save(7, items(), {"config": "{}"}, {"loss": 0.25})
    whole, right = (path / "manifest.json").read_bytes(), read_manifest(path)
    bits = np.random.default_rng(0).integers(8, size=len(whole))
    found = 0
    for index, bit in enumerate(bits):
        flipped = bytearray(whole)
        flipped[index] ^= 1 << int(bit)
        (path / "manifest.json").write_bytes(flipped)
        damage = find_damage(path)
        found += damage is not None
        assert "manifest.json" in damage if damage else read_manifest(path) == right
    assert found > 0.9 * len(whole)


def test_a_checkpoint_under_the_name_of_another(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.save(5, items(), {}).rename(store.path(9))
    assert find_damage(store.path(9)) == "it is that of step 5"


def test_all_damaged_is_an_error_that_says_how_to_begin_anew(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "checkpoints")
    for step in (1, 2):
        (store.save(step, items(), {}) / "state.index").unlink()
    with pytest.raises(CheckpointError, match=r"all 2 checkpoints are damaged .*step-00000002: state.index is missing"):
        store.latest()
    with pytest.raises(CheckpointError, match=r"delete this folder to begin anew"):
        find_checkpoint(tmp_path)
    assert store.steps() == [1, 2]


def test_what_a_killed_run_left_behind_is_tidied(tmp_path: Path) -> None:
    """Remains of a write and of a removal go; a damaged checkpoint is set aside, or it would be kept as the newest."""
    store = CheckpointStore(tmp_path, keep=1)
    for leftover in (".partial-00000030", ".partial-removed-step-00000002"):
        (tmp_path / leftover).mkdir()
        (tmp_path / leftover / "state.index").write_text("torn")
    store.save(10, items(1), {})
    (store.path(10)).rename(tmp_path / "kept")
    (store.save(20, items(), {}) / "state.index").write_text("torn")
    (tmp_path / "kept").rename(store.path(10))
    store.tidy(store.latest())
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["damaged-step-00000020", "step-00000010"]
    store.save(15, items(), {})
    assert store.latest() == store.path(15)


def test_a_manifest_of_the_first_version_is_read(tmp_path: Path) -> None:
    path = CheckpointStore(tmp_path).save(3, items(), {"a": 1})
    old = {name: value for name, value in read_manifest(path).items() if name != "metrics"}
    (path / "manifest.json").write_text(json.dumps(old))
    assert find_damage(path) is None
    assert read_manifest(path) == {**old, "metrics": {}}


@pytest.mark.parametrize(("mode", "expected"), [("max", [2, 5, 8, 9]), ("min", [1, 4, 8, 9])])
def test_the_newest_and_the_best_are_kept(tmp_path: Path, mode: str, expected: list[int]) -> None:
    """A value that is no number is never the best, and a store that is opened later keeps the ranking."""
    values = {1: 1.0, 2: 8.0, 3: math.nan, 4: 2.0, 5: 9.0, 6: math.inf, 7: -math.inf, 8: 3.0, 9: 4.0}
    for step, value in values.items():
        store = CheckpointStore(tmp_path, keep=2, ranking=Ranking(2, "score", mode))
        store.save(step, items(), {}, {"score": value, "other": -value} if step != 8 else {})
    assert store.steps() == expected
    json.loads((store.path(expected[0]) / "manifest.json").read_text(), parse_constant=pytest.fail)


def test_ranking() -> None:
    metrics = {1: {"a": math.nan}, 2: {"a": 1.0}, 3: {"a": math.inf}, 4: {"a": 3.0}, 5: {"a": None}, 6: {"b": 9.0}}
    assert Ranking(9, "a").best(metrics) == [4, 2]
    assert Ranking(1, "a", "min").best(metrics) == [2]
    assert Ranking(0, "a").best(metrics) == []


def test_of_equal_ones_the_newer_is_kept(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=1, ranking=Ranking(1, "score"))
    for step in (1, 2, 3):
        store.save(step, items(), {}, {"score": 0.5 if step < 3 else 0.1})
    assert store.steps() == [2, 3]


def test_objects_that_do_not_fit(tmp_path: Path) -> None:
    path = CheckpointStore(tmp_path).save(1, items(), {})
    with pytest.raises(CheckpointError, match=r"does not fit these networks"):
        restore(path, {"value": tf.Variable([0.0] * 9)})
    with pytest.raises(CheckpointError, match=r"does not fit these networks"):
        restore(path, {"other": tf.Variable([0.0] * 8)})


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere does not exist"):
        find_checkpoint(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"holds no whole checkpoint"):
        find_checkpoint(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(CheckpointError, match=r"could not be written .*there is no earlier one"):
        CheckpointStore(tmp_path / "checkpoints").save(1, items(), {})


_FULL_DISK = """
import resource, signal, sys
import tensorflow as tf
from attennorm_tf.training.checkpointing import CheckpointError, CheckpointStore
store = CheckpointStore(sys.argv[1])
store.save(1, {"value": tf.Variable([1.0] * 8)}, {})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit fails with EFBIG, as on a full disk ENOSPC
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    store.save(2, {"value": tf.Variable([2.0] * 1_000_000)}, {})
except CheckpointError as error:
    print(error)
    raise SystemExit(7)
"""


def test_a_write_that_fails_half_way_leaves_the_last_good_one(tmp_path: Path) -> None:
    """A file-size limit makes TensorFlow's own write fail in the middle, as a full disk does."""
    done = run_module("-c", _FULL_DISK, tmp_path)
    assert done.returncode == 7, done.stderr[-2000:]
    assert f"checkpoint {tmp_path}/step-00000002 could not be written" in done.stdout
    assert f"the last good one is {tmp_path}/step-00000001" in done.stdout
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["step-00000001"]
    assert find_damage(tmp_path / "step-00000001") is None
    assert json.loads((tmp_path / "step-00000001" / "manifest.json").read_text())["step"] == 1
