"""Checkpoints appear whole or not at all, and damage is found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from attennorm_tf.training.checkpointing import (
    CheckpointError,
    CheckpointStore,
    find_checkpoint,
    find_damage,
    read_manifest,
    restore,
)


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


@pytest.mark.parametrize("damage", ["flip", "cut", "missing", "no manifest", "manifest"])
def test_damage_is_found_and_the_one_before_used(tmp_path: Path, damage: str) -> None:
    store = CheckpointStore(tmp_path)
    store.save(1, items(1), {})
    path = store.save(2, items(2), {})
    file = path / "state.data-00000-of-00001"
    content = file.read_bytes()
    if damage == "flip":
        file.write_bytes(content[:5] + bytes([content[5] ^ 4]) + content[6:])
    elif damage == "cut":
        file.write_bytes(content[:-1])
    elif damage == "missing":
        file.unlink()
    elif damage == "no manifest":
        (path / "manifest.json").unlink()
    else:
        (path / "manifest.json").write_text('{"step": 2')
    assert find_damage(path)
    assert store.latest() == store.path(1)
    with pytest.raises(CheckpointError, match=f"checkpoint: {path} is damaged"):
        find_checkpoint(path)


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
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(tmp_path)], capture_output=True, text=True, cwd=root, timeout=120
    )
    assert done.returncode == 7, done.stderr[-2000:]
    assert f"checkpoint {tmp_path}/step-00000002 could not be written" in done.stdout
    assert f"the last good one is {tmp_path}/step-00000001" in done.stdout
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["step-00000001"]
    assert find_damage(tmp_path / "step-00000001") is None
    assert json.loads((tmp_path / "step-00000001" / "manifest.json").read_text())["step"] == 1
