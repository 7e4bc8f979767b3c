"""Malformed requests by thousands: see tests/export/fuzz_requests.py."""

from __future__ import annotations

import json
import random

import pytest

from tests.export.hostile_images import HEIGHT, WIDTH, bombs, hostile, jpeg_of_size, pictures, png_of
from tests.export.tiny_models import pixels_of
from tests.processes import run_module


@pytest.mark.slow
def test_malformed_requests_neither_crash_nor_hang_nor_fill_memory() -> None:
    """In a process of its own: a crash is its exit code, and its memory is its alone."""
    done = run_module("tests.export.fuzz_requests", "--requests=10000", "--seed=7", timeout=240)
    assert done.stdout.startswith("{"), f"exit code {done.returncode}\n{done.stderr[-2000:]}"
    summary = json.loads(done.stdout)
    assert summary["wrong"] == []
    assert done.returncode == 0
    assert sum(summary["codes"].values()) == 10_000
    assert summary["codes"]["INVALID_ARGUMENT"] > 6_000
    assert summary["codes"]["OK"] > 750, "damaged files that can still be read are answered"


def test_the_hostile_files_are_what_they_say() -> None:
    """They fail for the reason that they are made for: the same writers make files that are right."""
    assert pixels_of(png_of(2, 1, b"\0\1\2\3\4\5\6")).tolist() == [[[1, 2, 3], [4, 5, 6]]]
    jpeg = pictures()[4]
    assert jpeg_of_size(jpeg, WIDTH, HEIGHT) == jpeg
    assert all(pixels_of(file).shape[:2] == (HEIGHT, WIDTH) for file in pictures())
    assert len({kind for kind, _ in hostile(random.Random(0))}) >= 25
    assert all(len(file) < 65_536 for _, file in bombs()), "larger ones are refused by their length"
