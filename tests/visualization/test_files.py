"""PNG files are whole or absent; curves come from what a run has written so far."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image

from attennorm_tf.visualization import curves_figure, layout_colors, save_png, training_curves


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 1), (3, 4, 3)])
def test_png_round_trip(tmp_path, shape):
    array = np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)
    path = tmp_path / "new" / "folder" / "picture.png"
    save_png(path, array)
    np.testing.assert_array_equal(np.array(Image.open(path)).reshape(shape), array)
    assert [file.name for file in path.parent.iterdir()] == ["picture.png"]


def test_a_failed_write_leaves_the_old_picture_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "picture.png"
    save_png(path, np.zeros((2, 2), np.uint8))
    before = path.read_bytes()

    def full_disk(self, file, *arguments, **options):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(OSError, match="No space left on device"):
        save_png(path, np.ones((2, 2), np.uint8))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("array", [np.zeros((2, 2)), np.zeros((2, 2, 4), np.uint8), np.zeros(2, np.uint8)])
def test_png_of_something_else(tmp_path, array):
    with pytest.raises(ValueError, match=re.escape("array must be uint8 (H, W), (H, W, 1) or (H, W, 3), got")):
        save_png(tmp_path / "x.png", array)


def _write(path, *records, tail=""):
    path.write_text("".join(json.dumps(record) + "\n" for record in records) + tail)
    return path


def test_curves(tmp_path):
    records = [{"step": step, "loss": 1 / (step + 1), "name": "x", "flag": True} for step in range(5)]
    records.append({"step": 5, "accuracy": 0.5, "ratio/00": 0.1, "ratio/01": 0.2})
    path = _write(tmp_path / "metrics.jsonl", *records, tail='{"step": 6, "lo')
    training_curves(path, tmp_path / "curves.png")
    picture = np.array(Image.open(tmp_path / "curves.png"))
    assert picture.shape == (260, 1260, 3)  # three panels
    blue = (picture == (0, 114, 178)).all(axis=-1)
    assert [blue[:, left : left + 420].any() for left in (0, 420, 840)] == [True, True, False]
    figure = curves_figure(path)
    assert [axis.get_title() for axis in figure.axes] == ["accuracy", "loss", "ratio of each entity"]
    assert [axis.get_xlim() for axis in figure.axes] == [(-0.15, 5.15)] * 3, "the same steps below each other"
    loss, ratios = (figure.axes[panel].get_lines() for panel in (1, 2))
    np.testing.assert_array_equal(loss[0].get_xydata(), [[step, 1 / (step + 1)] for step in range(5)])
    assert [line.get_label() for line in ratios] == ["0", "1"]
    for entity, line in enumerate(ratios):
        np.testing.assert_allclose(line.get_color(), layout_colors(2)[entity] / 255)
    assert [axis.get_title() for axis in curves_figure(path, names=["loss"]).axes] == ["loss"]
    with pytest.raises(ValueError, match=r"holds no 'x', only accuracy, loss, ratio of each entity"):
        curves_figure(path, names=["x"])


def test_curves_of_counts_have_whole_ticks(tmp_path):
    path = _write(tmp_path / "metrics.jsonl", *({"step": step, "in_use": 8, "rho": 0.1} for step in range(3)))
    counts, rho = curves_figure(path).axes
    assert all(float(tick).is_integer() for tick in counts.get_yticks())
    assert not all(float(tick).is_integer() for tick in rho.get_yticks())


def test_curves_of_many_entities_keep_their_colors_and_a_gap(tmp_path):
    values = [{"step": step, **{f"ratio/{k:02d}": k + step for k in (3, 31)}} for step in range(1, 40)]
    values[20]["ratio/31"] = float("nan")
    (axis,) = curves_figure(_write(tmp_path / "metrics.jsonl", *values)).axes
    three, last = axis.get_lines()
    np.testing.assert_allclose([three.get_color(), last.get_color()], layout_colors(32)[[3, 31]] / 255)
    assert np.isnan(last.get_ydata()).nonzero()[0].tolist() == [20]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["3", "31"]


def test_curves_of_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"metrics\.jsonl' holds no line with 'step' and a number"):
        training_curves(_write(tmp_path / "metrics.jsonl", {"step": 1}), tmp_path / "x.png")
    broken = _write(tmp_path / "metrics.jsonl", tail='{"step"\n{"step": 1, "loss": 2}\n')
    with pytest.raises(ValueError, match=r"line 1 of .*metrics\.jsonl' is not JSON"):
        training_curves(broken, tmp_path / "x.png")


def test_curves_leave_out_values_that_are_not_finite(tmp_path):
    path = _write(tmp_path / "metrics.jsonl", *({"step": step, "loss": float("nan")} for step in range(3)))
    training_curves(path, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").exists()
