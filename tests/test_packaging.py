"""The built wheel: what is in it, and that it works in an environment that knows nothing of this checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHIPPED = ("attennorm_tf", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")

USE_WHAT_IS_INSTALLED = """
import attennorm_tf, pathlib, sys
from importlib.metadata import version
import tensorflow as tf
layer = attennorm_tf.AttentiveNormalization(num_entities=4)
features = tf.random.stateless_normal([2, 8, 8, 16], seed=[0, 1])
assert layer(features).shape == features.shape
assert pathlib.Path(attennorm_tf.__file__).is_relative_to(sys.prefix), attennorm_tf.__file__
assert attennorm_tf.__version__ == version("attennorm_tf")

from importlib.metadata import distribution
commands = [entry for entry in distribution("attennorm_tf").entry_points if entry.group == "console_scripts"]
assert all(callable(entry.load()) for entry in commands)
print(*sorted(entry.name for entry in commands))
"""


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The folder with the wheel and the source distribution; built from a copy, the checkout stays clean."""
    source = tmp_path_factory.mktemp("source")
    for name in SHIPPED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", source / "dist", cwd=source)
    return source / "dist"


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory) -> Path:
    """Scripts folder of an environment with the wheel; this interpreter lends it the dependencies."""
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment, with_pip=True)
    scripts = environment / ("Scripts" if sys.platform == "win32" else "bin")
    (wheel,) = built.glob("*.whl")
    run(scripts / "python", "-m", "pip", "install", "--no-deps", "--no-index", wheel, cwd=environment)
    # A path file adds the folder but not the path files in it: an editable install of the checkout stays out.
    where = run(scripts / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=environment)
    Path(where.strip(), "lent.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return scripts


@pytest.mark.slow
def test_wheel_holds_the_package_and_nothing_else(built):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
    package = {name for name in names if not name.split("/")[0].endswith(".dist-info")}
    source = {path.relative_to(ROOT).as_posix() for path in (ROOT / "attennorm_tf").rglob("*.py")}
    data = {f"attennorm_tf/demo/{name}" for name in ("page.css", "painter.html", "painter.js")}
    assert package == source | data | {"attennorm_tf/py.typed"}
    assert any(name.endswith("LICENSE") for name in names - package)


@pytest.mark.slow
def test_source_distribution_builds_the_same(built):
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.split("/", 1)[-1] for name in opened.getnames()}
    assert {
        "setup.cfg",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "attennorm_tf/py.typed",
        "attennorm_tf/demo/painter.js",
    } <= names


@pytest.mark.slow
def test_installed_layer_works_and_commands_load(installed, tmp_path):
    commands = sorted(path for path in installed.iterdir() if path.name.startswith("attennorm-"))
    loaded = run(installed / "python", "-c", USE_WHAT_IS_INSTALLED, cwd=tmp_path).split()
    assert loaded == [path.name for path in commands]
    assert len(loaded) > 3


@pytest.mark.slow
def test_a_console_command_starts(installed, tmp_path):
    # By its name, without any variable that silences TensorFlow: a command says what it has to say and nothing else.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_CPP")}
    done = subprocess.run(
        [str(installed / "attennorm-doctor")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^  data +scikit-learn +\d", done.stdout, flags=re.MULTILINE)
    assert done.stdout.endswith(" checks passed\n")
