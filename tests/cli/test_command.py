"""Errors reach the user as one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from attennorm_tf.cli.command import message_of_the_pipeline
from attennorm_tf.data import load_dataset


def test_an_unreadable_image_of_a_folder_too_large_to_keep_is_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name / "good.png")
    (tmp_path / "a" / "bad.jpg").write_bytes(b"\xff\xd8\xff not a photograph")
    dataset = load_dataset("image_folder", root=str(tmp_path))
    dataset._cache_bytes = 0
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        list(dataset.batches(resolution=16, batch_size=3, seed=0).take(1))
    message = message_of_the_pipeline(caught.value)
    assert message is not None
    assert message.startswith(f"cannot read image '{tmp_path}/a/bad.jpg'")
    assert "\n" not in message


def test_other_errors_keep_their_traceback() -> None:
    assert message_of_the_pipeline(tf.errors.InvalidArgumentError(None, None, "shapes differ")) is None
