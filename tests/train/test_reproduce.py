"""`python -m train.reproduce`: tables from results, what is skipped, and one run from beginning to end."""

from __future__ import annotations

import dataclasses
import json
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from attennorm_tf.config import GanConfig
from attennorm_tf.inference.gan_protocol import load_result
from attennorm_tf.metrics import FeatureExtractor, Features
from attennorm_tf.models import build_gan
from attennorm_tf.training import CheckpointStore, Outcome
from train.paper_tables import PAPER_TABLES, TABLE_1, TABLE_2, TABLE_3, TABLE_4, Row
from train.reproduction import gan_rows, inpainting_rows, tables
from train.reproduction.experiments import Options
from train.reproduction.report import MeasuredRow, MeasuredTable, markdown_text, terminal_text, write_table
from train.reproduction.stopping import StoppedError


def measured_row(title: str, experiment: str, **scores: float | None) -> MeasuredRow:
    return MeasuredRow(title, experiment, 20, scores, f"{experiment}/evaluation/results.json", ())


def table_one(judged_by: str, differences: tuple[str, ...]) -> MeasuredTable:
    rows = [
        measured_row("AC-GAN", "acgan", fid=31.416, intra_fid_mean=100.0, inception_score=None),
        measured_row("Ours", "attennorm", fid=17.0, intra_fid_mean=80.0, inception_score=46.0)._replace(
            warnings=["few samples"]
        ),
    ]
    return MeasuredTable(TABLE_1, "full", judged_by, rows, differences)


def test_measured_beside_the_papers() -> None:
    text = terminal_text(table_one("tfgan_inception", ()))
    lines = [line.split() for line in text.splitlines()]
    assert lines[2] == ["FID", "FID", "intra", "FID", "intra", "FID", "IS", "IS"]
    assert ["AC-GAN", "31.42", "-", "100.00", "260.00", "-", "28.50"] in lines
    assert ["Ours", "17.00", "17.84", "80.00", "83.40", "46.00", "46.57"] in lines
    assert "not comparable" not in text
    assert "Ours: few samples" in text
    assert max(map(len, text.splitlines())) <= 80


def test_numbers_that_do_not_compare_are_marked_and_not_called_fid() -> None:
    measured = table_one("image_classifier_32x32", ("32 pixels a side, not 128", "4000 steps, not 1000000"))
    text = terminal_text(measured)
    lines = [line.split() for line in text.splitlines()]
    assert ["AC-GAN", "31.42*", "-", "100.00*", "260.00", "-", "28.50"] in lines
    assert "* not comparable with the paper's numbers: 32 pixels a side, not 128; 4000" in text
    heads = text.splitlines()[2]
    assert heads.split()[0] == "FD"
    assert "measured by image_classifier_32x32" in text
    assert "| AC-GAN | 31.42\\* | - | 100.00\\* | 260.00 | - | 28.50 |" in markdown_text(measured)


def test_table_two_has_a_line_for_every_class() -> None:
    rows = [
        measured_row(row.title, row.experiment, **{score.key: 10.0 + i for i, score in enumerate(TABLE_2.scores)})
        for row in TABLE_2.rows
    ]
    lines = terminal_text(MeasuredTable(TABLE_2, "full", "tfgan_inception", rows, ())).splitlines()
    assert ["Geyser", "(974)", "11.00", "19.50", "11.00", "21.60", "11.00", "13.97"] in [line.split() for line in lines]
    stand_ins = [("intra_fid/0", "cat (0)"), ("intra_fid/1", "dog (1)")]
    rows = [measured_row("Ours", "attennorm", **{"intra_fid/0": 5.0, "intra_fid/1": None})]
    text = terminal_text(MeasuredTable(TABLE_2, "small", "image_classifier_32x32", rows, ("other classes",), stand_ins))
    assert ["cat", "(0)", "5.00*", "-"] in [line.split() for line in text.splitlines()]
    assert ["dog", "(1)", "-", "-"] in [line.split() for line in text.splitlines()]
    assert "Geyser" not in text


def test_files_of_a_table(tmp_path: Path) -> None:
    files = write_table(table_one("tfgan_inception", ("x",)), tmp_path)
    assert [file.name for file in files] == ["table1.txt", "table1.md", "table1.json"]
    facts = json.loads(files[-1].read_text())
    assert facts["rows"][1]["measured"]["fid"] == 17.0
    assert facts["rows"][1]["paper"]["fid"] == 17.84
    assert facts["not_comparable_with_the_paper"] == ["x"]
    assert facts["about_the_paper"] == list(TABLE_1.notes)


def test_rows_by_name() -> None:
    assert [row.title for row in tables.chosen_rows(TABLE_4, ["attennorm_n8", "attennorm_bn"])] == [
        "AN w BN", "AN (n = 8)"
    ]  # fmt: skip
    assert len(tables.chosen_rows(TABLE_3, [])) == 2
    with pytest.raises(ValueError, match=r"--rows: 'sagan' is not in table 4; its rows are attennorm_bn, .*"):
        tables.chosen_rows(TABLE_4, ["sagan"])


class _Calls:
    """In the place of training and scoring: notes what is asked, and answers at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.made: list[str] = []
        self.stop: signal.Signals | None = None
        monkeypatch.setattr(gan_rows, "GanRun", self.run)
        monkeypatch.setattr(gan_rows, "score", self.score)

    def run(self, config: Any, workdir: Path) -> Any:
        self.made.append(f"train {workdir.name}")
        return self

    def train(self) -> Outcome:
        return Outcome(7, 1.0, self.stop)

    def score(self, checkpoint: Path, folder: Path, *arguments: Any, **options: Any) -> None:
        self.made.append(f"score {checkpoint.name}")
        self.options = options
        folder.mkdir(parents=True, exist_ok=True)
        scores = {"fid": 5.0, "intra_fid_mean": 6.0, "inception_score": 7.0, "intra_fid": {"0": 6.0}}
        (folder / "results.json").write_text(json.dumps({"scores": scores, "warnings": []}))


class _Extractor:
    name = "digits_classifier_16x16_seed0"

    def protocol(self) -> dict[str, Any]:
        return {"name": self.name, "content_hash": "0"}


def gan_table(options: Options) -> gan_rows.GanTable:
    table = gan_rows.GanTable(TABLE_4, options)
    table._extractor = _Extractor()
    return table


def test_what_is_finished_is_skipped_and_what_changed_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = _Calls(monkeypatch)
    options = Options("smoke", tmp_path)
    table = gan_table(options)
    row = table.row("AN w BN", "attennorm_bn")
    assert (row.measured["fid"], row.measured["inception_score"], row.steps) == (5.0, 7.0, 20)
    assert calls.made == ["train attennorm_bn", "score attennorm_bn"]
    table.row("AN w BN", "attennorm_bn")
    assert len(calls.made) == 2
    for changed in ({"num_samples": 50}, {"max_steps": 10}, {"seed": 1}):
        other = gan_table(dataclasses.replace(options, **changed))
        calls.made.clear()
        other.row("AN w BN", "attennorm_bn")
        assert calls.made == ["train attennorm_bn", "score attennorm_bn"]
    (tmp_path / "attennorm_bn" / "evaluation" / "results.json").unlink()
    calls.made.clear()
    other.row("AN w BN", "attennorm_bn")
    assert calls.made == ["train attennorm_bn", "score attennorm_bn"]


def test_table_two_scores_its_classes_of_imagenet_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = _Calls(monkeypatch)
    table = gan_rows.GanTable(TABLE_2, Options("full", tmp_path, data="digits"))
    table._extractor = _Extractor()
    table._dataset = SimpleNamespace(class_names=[f"n{i:08d}" for i in range(1000)])
    row = table.row("Ours", "attennorm")
    assert calls.options["classes"] == [825, 974, 979, 991, 14, 141, 247, 282]
    assert calls.options["num_samples"] == 5000
    assert row.evaluation == "attennorm/evaluation-classes/results.json"
    assert list(row.measured) == [score.key for score in TABLE_2.scores]
    assert "5000 images of each class, where the paper says 50k in all" in table.differences()
    table._dataset = SimpleNamespace(class_names=["cat", "dog"])
    assert (table.classes, table.num_samples) == ([], 50_000)
    assert table.stand_ins() == [("intra_fid/0", "cat (0)"), ("intra_fid/1", "dog (1)")]


def test_a_signal_ends_it_before_the_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = _Calls(monkeypatch)
    calls.stop = signal.SIGTERM
    table = gan_table(Options("smoke", tmp_path))
    with pytest.raises(
        StoppedError, match=r"stopped by SIGTERM, saved attennorm_bn at step 7; the same command"
    ) as stop:
        table.row("AN w BN", "attennorm_bn")
    assert stop.value.exit_code == 0
    assert StoppedError(signal.SIGINT, "x", 1).exit_code == 130
    assert calls.made == ["train attennorm_bn"]


class _Untrained:
    """In the place of `GanRun`: a checkpoint of the networks as they begin. (.ci/run trains a whole table.)"""

    def __init__(self, config: GanConfig, workdir: Path):
        generator, _ = build_gan(config.model, 10, 1)
        metadata = {"config": config.to_json(), "class_names": [str(i) for i in range(10)], "channels": 1}
        store = CheckpointStore(workdir / "checkpoints")
        store.save(config.training.steps, {"generator": generator, "average": generator}, metadata)
        self.steps = config.training.steps

    def train(self) -> Outcome:
        return Outcome(self.steps, 1.0, None)


class _Projection(FeatureExtractor):
    """Fixed random features, at once; the digits' classifier takes seconds to train."""

    def __init__(self) -> None:
        super().__init__(
            "projection", content_hash="0", resolution=8, channels=1, feature_size=6, num_classes=4
        )  # fmt: skip
        self._matrix = tf.random.stateless_normal([64, 10], [0, 1])

    def _forward(self, images: tf.Tensor) -> Features:
        values = tf.reshape(images, [-1, 64]) @ self._matrix
        return Features(values[:, :6], values[:, 6:])


def test_from_a_checkpoint_to_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gan_rows, "GanRun", _Untrained)
    monkeypatch.setattr(gan_rows, "load_extractor", lambda spec, strategy: _Projection())
    options = Options("smoke", tmp_path, num_samples=100)
    rows = tables.chosen_rows(PAPER_TABLES[2], ["sagan"])
    measured, files = tables.reproduce(PAPER_TABLES[2], rows, options)
    assert [file.name for file in files] == ["table2.txt", "table2.md", "table2.json", "table2.png"]
    facts = json.loads((tmp_path / "table2.json").read_text())
    scores = facts["rows"][0]["measured"]
    assert list(scores) == [f"intra_fid/{i}" for i in range(10)]
    assert np.isfinite(list(scores.values())).all()
    assert facts["feature_extractor"] == "projection"
    result = load_result(tmp_path / facts["rows"][0]["evaluation"])
    assert result["protocol"]["samples"]["count"] == 100
    assert result["scores"]["intra_fid"]["3"] == scores["intra_fid/3"]
    with Image.open(tmp_path / "table2.png") as picture:
        assert np.asarray(picture).std() > 0
    monkeypatch.setattr(gan_rows, "GanRun", None)  # not wanted again, nor by table 1, whose evaluation this is
    again, _ = tables.reproduce(PAPER_TABLES[2], rows, options)
    assert again.rows == measured.rows
    one, _ = tables.reproduce(PAPER_TABLES[1], tables.chosen_rows(TABLE_1, ["sagan"]), options)
    assert one.rows[0].measured["intra_fid_mean"] == pytest.approx(np.mean(list(scores.values())))


def test_table_three_is_measured_once_for_all_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = _Calls(monkeypatch)
    monkeypatch.setattr(inpainting_rows, "InpaintingRun", calls.run)

    def evaluate(table: inpainting_rows.InpaintingTable, wanted: list[Row]) -> None:
        calls.made.append("evaluate")
        folder = tmp_path / "evaluation-inpainting"
        folder.mkdir(exist_ok=True)
        whole = {"psnr": {"mean": 20.0}, "ssim": {"mean": 0.5}, "mae": {"mean": 0.04}}
        methods = {row.title: {"whole": whole} for row in wanted}
        (folder / "results.json").write_text(json.dumps({"methods": methods}))

    monkeypatch.setattr(inpainting_rows.InpaintingTable, "_evaluate", evaluate)
    rows = list(TABLE_3.rows)
    for options, expected in (
        (Options("smoke", tmp_path), ["train paris_contextual", "train paris_attentive", "evaluate"]),
        (Options("smoke", tmp_path), []),
        (Options("smoke", tmp_path, max_steps=2), ["train paris_contextual", "train paris_attentive", "evaluate"]),
    ):
        calls.made.clear()
        table = inpainting_rows.InpaintingTable(TABLE_3, options)
        assert [row.measured for row in table.rows(rows)] == [{"psnr": 20.0, "ssim": 0.5, "mae": 0.04}] * 2
        assert calls.made == expected
    assert any("32 pixels a side, not 256" in line for line in table.differences())
    calls.stop = signal.SIGINT
    with pytest.raises(StoppedError, match=r"saved paris_contextual at step 7"):
        inpainting_rows.InpaintingTable(TABLE_3, Options("smoke", tmp_path, seed=4)).rows(rows)
