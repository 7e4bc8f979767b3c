"""The training-step benchmark: what it says without PyTorch, and what it concludes from measurements."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.training_peer import PEER, Peer, cannot_import_torch
from benchmarks.training_step import PROJECTION, TORCH, targets


@pytest.fixture
def bare_python(tmp_path: Path) -> str:
    """An interpreter without any installed package."""
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    script.chmod(0o755)
    return str(script)


def test_without_torch_it_says_what_is_missing(bare_python: str, tmp_path: Path) -> None:
    reason = cannot_import_torch(bare_python)
    assert reason is not None
    for part in (bare_python, "No module named", "extra `peers`", "--torch_python=PATH"):
        assert part in reason
    assert "No such file" in str(cannot_import_torch(str(tmp_path / "nowhere")))
    done = subprocess.run([bare_python, str(PEER), str(tmp_path)], capture_output=True, text=True, check=True)
    assert "cannot import torch" in json.loads(done.stdout)["missing"]
    with pytest.raises(RuntimeError, match="cannot import torch"):
        Peer(bare_python, tmp_path, channels_last=False)


def measured(**seconds: list[float]) -> dict[str, Any]:
    return {"subjects": {name: {"status": "measured", "seconds": values} for name, values in seconds.items()}}


def test_targets_take_the_faster_pytorch_and_say_why_one_is_missing() -> None:
    presets = measured(sngan_star=[1.0, 1.0, 1.0], sagan=[2.0, 2.0, 2.0], attennorm=[1.2, 1.0, 1.05])
    presets["subjects"][PROJECTION] = {"status": "measured", "seconds": [1.2, 1.2, 1.2]}
    peers = measured(sngan_star=[1.0, 1.0, 2.0], **{TORCH[0]: [3.0, 3.0, 3.0], TORCH[1]: [0.9, 0.9, 1.6]})
    found = {
        target.name: target
        for target in targets({"presets at 64x64": presets, "SN-GAN* against PyTorch at 64x64": peers})
    }
    assert [(t.measured, t.verdict) for t in found.values()] == [
        (None, "not measured"),
        (1.05, "met"),
        (pytest.approx(2 / 1.05), "met"),
        (1.2, "missed"),
        (pytest.approx(2 / 1.2), "met"),
        (0.9, "missed"),
    ]
