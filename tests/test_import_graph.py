"""Data flows one way: layers <- models <- training, inference, export <- cli, train; read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "attennorm_tf"
BASE = {"_compat", "replica_random"}
LEAVES = BASE | {"layers", "losses", "metrics", "data", "visualization", "config"}

# What each top-level module or subpackage may import of the package. A new one fails until it stands here.
ALLOWED = {
    "__init__": LEAVES | {"inference"},
    "_compat": set(),
    "replica_random": {"_compat"},
    "config": {"_compat"},
    "layers": BASE,
    "losses": BASE,
    "metrics": BASE | {"data", "losses"},
    "data": BASE | {"config"},
    "visualization": BASE | {"config"},
    "models": BASE | {"layers", "config", "losses"},
    "training": LEAVES | {"models"},
    "inference": LEAVES | {"models", "training"},
    "export": LEAVES | {"models"},
    "demo": LEAVES | {"models", "training", "inference", "export"},
    "cli": LEAVES | {"models", "training", "inference", "export", "demo", "__init__"},
    "train": LEAVES | {"models", "training", "inference", "export", "cli", "__init__"},
}
READS_FLAGS = {"cli", "train"}


def sources() -> list[Path]:
    found = sorted((ROOT / PACKAGE).rglob("*.py")) + sorted((ROOT / "train").rglob("*.py"))
    assert len(found) > 10
    return found


def room(path: Path) -> str:
    """The top-level module or subpackage a file belongs to: `layers`, `_compat`, `train`, ..."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0] if parts[0] == "train" else parts[1]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of everything imported, wherever in the file it stands."""
    own = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            prefix = list(own[: len(own) - node.level + 1]) if node.level else []
            module = ".".join(prefix + ([node.module] if node.module else []))
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"


def imported_room(name: str) -> str | None:
    """The room a dotted name belongs to; `__init__` for a public name, None for other packages."""
    parts = name.split(".")
    if parts[0] == "train":
        return "train"
    if parts[0] != PACKAGE:
        return None
    return parts[1] if len(parts) > 1 and parts[1] in ALLOWED else "__init__"


def violations(path: Path) -> list[str]:
    """Every rule the file breaks, as `file:line: what`."""
    found = []
    own = room(path)
    where = path.relative_to(ROOT)
    for line, name in imports(path):
        target = imported_room(name)
        if target and target != own and target not in ALLOWED[own]:
            found.append(f"{where}:{line}: {own} imports {target}")
        if own not in READS_FLAGS and (name.startswith("absl.flags") or name.endswith(".config_flags")):
            found.append(f"{where}:{line}: only cli/ and train/ read flags")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        line = getattr(node, "lineno", 0)
        if own != "_compat" and asks_for_a_version(node):
            found.append(f"{where}:{line}: only _compat.py knows which Keras runs")
        if own not in READS_FLAGS and isinstance(node, ast.Name) and node.id == "print":
            found.append(f"{where}:{line}: only cli/ and train/ print")
    return found


def asks_for_a_version(node: ast.AST) -> bool:
    """KERAS_3, hasattr(keras, ...) and comparisons of versions."""
    if "KERAS_3" in (getattr(node, "name", ""), getattr(node, "id", ""), getattr(node, "attr", "")):
        return True
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "hasattr":
        return ast.unparse(node.args[0]).split(".")[0] in ("keras", "tf")
    if isinstance(node, ast.Compare):
        text = ast.unparse(node)
        return "__version__" in text or "version_info" in text
    return False


def test_every_room_has_a_rule():
    assert {room(path) for path in sources()} <= set(ALLOWED)


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_one_way(path):
    assert violations(path) == []


def test_no_cycle_between_rooms():
    edges = {own: allowed - {own} for own, allowed in ALLOWED.items()}
    while edges:
        free = [own for own, allowed in edges.items() if not allowed & set(edges)]
        assert free, f"the rules themselves allow a cycle among {sorted(edges)}"
        edges = {own: allowed for own, allowed in edges.items() if own not in free}


def test_no_module_without_a_name_of_its_own():
    assert [path for path in sources() if path.stem in ("utils", "util", "helpers", "common", "misc")] == []


@pytest.mark.parametrize(
    ("file", "line", "expected"),
    [
        ("layers/x.py", "from attennorm_tf.models import gan_preset", "layers imports models"),
        ("layers/x.py", "from attennorm_tf import models", "layers imports models"),
        ("layers/x.py", "from ..models.blocks import UpBlock", "layers imports models"),
        ("losses/x.py", "def f():\n    import attennorm_tf.training.loop", "losses imports training"),
        ("models/x.py", "from absl import flags", "read flags"),
        ("training/x.py", "from ml_collections import config_flags", "read flags"),
        ("models/x.py", "from attennorm_tf._compat import KERAS_3", "which Keras"),
        ("models/x.py", "if tf.__version__ < '2.16': pass", "which Keras"),
        ("models/x.py", "if hasattr(keras, 'ops'): pass", "which Keras"),
        ("models/x.py", "print(1)", "print"),
        ("export/x.py", "import train.gan", "export imports train"),
        ("models/x.py", "from attennorm_tf import AttentiveNormalization", "models imports __init__"),
    ],
)
def test_the_rules_bite(tmp_path, monkeypatch, file, line, expected):
    path = tmp_path / PACKAGE / file
    path.parent.mkdir(parents=True)
    path.write_text(line + "\n", encoding="utf-8")
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    assert len(violations(path)) == 1
    assert expected in violations(path)[0]


IMPORT_ONLY = """
import sys
for name in ("matplotlib", "sklearn", "ml_collections", "tensorflow_datasets", "tqdm"):
    sys.modules[name] = None  # importing it fails from here on
import attennorm_tf
import tensorflow as tf
# Keras finds the layer in a saved model though nobody asked for it by name.
assert tf.keras.utils.get_registered_object("attennorm_tf>AttentiveNormalization") is not None
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
print("clean")
"""


def test_import_does_no_work():
    """The import needs nothing that only some users need, and leaves the devices free to be configured."""
    done = subprocess.run([sys.executable, "-c", IMPORT_ONLY], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "clean\n", done.stderr


def test_public_names():
    """What `dir` shows is what `__all__` promises, besides the subpackages themselves."""
    import attennorm_tf

    rooms = {path.stem for path in (ROOT / PACKAGE).iterdir()}
    shown = {name for name in dir(attennorm_tf) if not name.startswith("_")}
    assert shown - rooms == set(attennorm_tf.__all__) - {"__version__"}
