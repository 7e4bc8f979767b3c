"""SavedModels in an environment that holds TensorFlow and NumPy, not this package: this stack's, and the other's."""

from __future__ import annotations

import subprocess
import venv
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from attennorm_tf._compat import stack_name
from attennorm_tf.export import write_saved_model
from tests.export.write_goldens import GOLDENS, TASKS, network, packed, unpack, values_of

ROOT = Path(__file__).parents[2]
STACKS = ("classic", "current")

# Run by the environment's own Python, from a folder of its own. Prints the largest difference of each archive.
LOAD_AND_COMPARE = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import importlib.util
for name in ("attennorm_tf", "train", "tests"):
    assert importlib.util.find_spec(name) is None, name
import numpy as np, tensorflow as tf
for path in sys.argv[1:]:
    with np.load(path + ".npz") as values:
        signatures, worst = tf.saved_model.load(path).signatures, 0.0
        cases = {tuple(key.split("/")[:2]) for key in values if "/" in key}
        for case in sorted(cases):
            tensors = {way: {key.split("/")[3]: values[key] for key in values
                             if key.split("/")[:3] == [*case, way]} for way in ("in", "out")}
            found = signatures[case[0]](**{name: tf.constant(value) for name, value in tensors["in"].items()})
            assert set(found) == set(tensors["out"]), sorted(found)
            for name, expected in tensors["out"].items():
                assert found[name].shape == expected.shape
                worst = max(worst, float(np.abs(found[name].numpy().astype(np.float64) - expected).max()))
        print(os.path.basename(path), len(cases), worst)
assert not [name for name in sys.modules if name.split(".")[0] in ("attennorm_tf", "train", "tests")]
"""


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory) -> Path:
    """A virtual environment whose only packages are those beside TensorFlow; nothing of this repository.

    The packages are not copied but named by a .pth file: this package is installed there for development, by a finder
    that is left out with every other .pth file.
    """
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    beside = Path(tf.__file__).parents[1]
    kept = folder / "kept"
    kept.mkdir()
    for entry in beside.iterdir():
        if "attennorm" not in entry.name and entry.suffix != ".pth" and not entry.name.startswith("__editable__"):
            (kept / entry.name).symlink_to(entry)
    (packages / "kept.pth").write_text(str(kept) + "\n")
    return folder / "bin/python"


@pytest.mark.slow
def test_they_load_and_compute_the_same(bare_python: Path, tmp_path: Path) -> None:
    """To 1e-5: written just now by this stack, and before by the other one."""
    folders = [tmp_path / "fresh_inpainting", tmp_path / "fresh_generation"]
    for folder in folders:
        model = network(folder.name.removeprefix("fresh_"))
        write_saved_model(model, folder)
        np.savez(f"{folder}.npz", **values_of(model))
    (other,) = set(STACKS) - {stack_name()}
    for task in TASKS:
        with np.load(GOLDENS / f"{other}_{task}.npz") as stored:
            folder = unpack(stored["archive"], tmp_path / f"{other}_{task}")
            np.savez(f"{folder}.npz", **{name: stored[name] for name in stored if name != "archive"})
        folders.append(folder)
    done = subprocess.run(
        [str(bare_python), "-I", "-c", LOAD_AND_COMPARE, *map(str, folders)],
        cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    differences = {name: (int(cases), float(worst)) for name, cases, worst in map(str.split, done.stdout.splitlines())}
    assert len(differences) == 2 + len(TASKS)
    assert {name: found for name, found in differences.items() if not (found[0] >= 1 and found[1] <= 1e-5)} == {}


def test_the_goldens_are_of_both_stacks_and_small() -> None:
    assert sorted(path.stem for path in GOLDENS.iterdir()) == sorted(f"{s}_{t}" for s in STACKS for t in TASKS)
    assert sum(path.stat().st_size for path in GOLDENS.iterdir()) < 500_000
    assert stack_name() in STACKS


def test_archives_come_back(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/c").write_bytes(b"\0\1")
    assert (unpack(packed(tmp_path / "a"), tmp_path / "d") / "b/c").read_bytes() == b"\0\1"
