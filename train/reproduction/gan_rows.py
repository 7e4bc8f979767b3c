"""Rows of tables 1, 2 and 4: a GAN trained, then scored."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras
from tqdm import tqdm

from attennorm_tf.config import GanConfig
from attennorm_tf.data import LabeledImages, load_dataset
from attennorm_tf.inference import draw_latents, load_generator
from attennorm_tf.metrics import FeatureExtractor, load_extractor, train_image_classifier
from attennorm_tf.training import make_strategy
from attennorm_tf.training.run_directory import write_text
from attennorm_tf.training.runs import GanRun
from attennorm_tf.visualization import comparison_sheet
from train.paper_tables import TABLE_2_CLASSES, PaperTable
from train.reproduction.experiments import INCEPTION, PAPER_SAMPLES, Options, gan_config, paper_config, samples
from train.reproduction.report import MeasuredRow
from train.reproduction.scoring import score
from train.reproduction.stopping import StoppedError

_SHOWN = 6
_IMAGENET_CLASSES = 1000
_SAMPLES_OF_A_CLASS = 5000
_SIZES = (
    ("model", "resolution", "pixels a side"),
    ("model", "width", "times the width"),
    ("training", "steps", "steps"),
    ("training", "batch_size", "images a batch"),
)


class GanTable:
    """Trains and scores the rows of one table; what is finished is taken from the work directory.

    Args:
        table: table 1, 2 or 4.
        options: the user's.
    """

    def __init__(self, table: PaperTable, options: Options):
        self.table = table
        self.options = options
        self.config = gan_config(table.rows[0].experiment, options)
        data = self.config.data
        self._dataset: LabeledImages | None = None
        self._extractor: FeatureExtractor | None = None
        self._strategy = make_strategy(self.config.training.strategy, self.config.training.deterministic)
        self._data: dict[str, Any] = {"root": data.root or None, "split": data.split, "skip_corrupt": data.skip_corrupt}

    @property
    def dataset(self) -> LabeledImages:
        if self._dataset is None:
            self._dataset = load_dataset(self.config.data.name, **self._data)
        return self._dataset

    @property
    def extractor_spec(self) -> str:
        """What judges the images, for `load_extractor`."""
        own = {"full": INCEPTION, "small": f"classifier:{self.options.workdir / 'classifier'}", "smoke": "digits:16"}
        return self.options.extractor or own[self.options.scale]

    @property
    def extractor(self) -> FeatureExtractor:
        """Loaded once; at small scale, unless another is asked for, trained before that."""
        if self._extractor is None:
            folder = self.options.workdir / "classifier"
            if self.extractor_spec == f"classifier:{folder}" and not (folder / "classifier.json").exists():
                self._train_classifier(folder)
            self._extractor = load_extractor(self.extractor_spec, self._strategy)
        return self._extractor

    @property
    def classes(self) -> list[int]:
        """Those of table 2, where the images are ImageNet's, to be scored one by one; else none, for all."""
        if self.table.number != 2 or self.stand_ins():
            return []
        return [c.class_id for c in TABLE_2_CLASSES]

    @property
    def num_samples(self) -> int:
        """Images of all classes to score, or of each of `classes`."""
        return (self.options.num_samples or _SAMPLES_OF_A_CLASS) if self.classes else samples(self.options)

    def stand_ins(self) -> list[tuple[str, str]]:
        """For table 2, the classes of another data set, all, in the place of ImageNet's."""
        names = self.dataset.class_names
        if self.table.number != 2 or len(names) == _IMAGENET_CLASSES:
            return []
        return [(f"intra_fid/{label}", f"{name} ({label})") for label, name in enumerate(names)]

    def row(self, title: str, experiment: str) -> MeasuredRow:
        """Trains and scores a row, unless that is done.

        Raises:
            StoppedError: by a signal during training; the same call goes on from there.
        """
        config = gan_config(experiment, self.options)
        folder = self.options.workdir / experiment
        request = self._request(config)
        evaluation = folder / ("evaluation-classes" if self.classes else "evaluation")
        kept = _kept(evaluation, request)
        if kept is None:
            print(f"{experiment}: training", flush=True)
            outcome = GanRun(config, folder).train()
            if outcome.stopped_by is not None:
                raise StoppedError(outcome.stopped_by, experiment, outcome.step)
            keras.backend.clear_session()  # also collects the networks and graphs of this row
            print(f"{experiment}: evaluation", flush=True)
            (evaluation / "request.json").unlink(missing_ok=True)
            score(
                folder, evaluation, self.dataset, self.extractor, cache=self.options.workdir / "reference",
                num_samples=self.num_samples, classes=self.classes, seed=self.options.seed, strategy=self._strategy,
            )  # fmt: skip
            write_text(evaluation / "request.json", json.dumps(request, indent=2) + "\n")
            kept = _kept(evaluation, request)
            assert kept is not None  # just written
        scores = kept["scores"]
        per_class = {f"intra_fid/{label}": value for label, value in (scores.get("intra_fid") or {}).items()}
        keys = [key for key, _ in self.stand_ins()] or [score.key for score in self.table.scores]
        known = {key: per_class.get(key, scores.get(key)) for key in keys}
        return MeasuredRow(
            title, experiment, config.training.steps, known, f"{experiment}/{evaluation.name}/results.json",
            kept["warnings"],
        )  # fmt: skip

    def differences(self) -> list[str]:
        """Why the scores do not compare with the paper's."""
        paper: GanConfig = paper_config(self.table.rows[0].experiment)
        found = []
        if "inception" not in self.extractor.name:
            found.append(f"features of {self.extractor.name}, not of Inception")
        if self.config.data.name.split(":")[:2] != paper.data.name.split(":"):
            found.append(f"images of {self.config.data.name}, not of ImageNet")
        for section, name, unit in _SIZES:
            here, there = (getattr(getattr(config, section), name) for config in (self.config, paper))
            if here != there:
                found.append(f"{here} {unit}, not {there}")
        if self.classes:
            found.append(f"{self.num_samples} images of each class, where the paper says 50k in all")
        if self.stand_ins():
            found.append("classes of another data set in the place of ImageNet's")
        if self.table.number != 2 and samples(self.options) != PAPER_SAMPLES:
            found.append(f"{samples(self.options)} samples, not {PAPER_SAMPLES}")
        return found

    def picture(self, rows: Sequence[MeasuredRow]) -> np.ndarray:
        """Images of every row, one column each, from the same noise and classes."""
        columns = {}
        labels = np.arange(_SHOWN, dtype=np.int32) % self.dataset.num_classes
        for row in rows:
            loaded = load_generator(self.options.workdir / row.experiment)
            latents = draw_latents(_SHOWN, loaded.generator.latent_dim, self.options.seed)
            columns[row.title] = loaded.generator([tf.constant(latents), tf.constant(labels)], training=False).numpy()
        return comparison_sheet(columns)

    def _request(self, config: GanConfig) -> dict[str, Any]:
        """All that decides the scores: while it stays the same, they need not be computed again."""
        facts = dataclasses.asdict(config)
        return {
            "experiment": {name: facts[name] for name in ("name", "data", "model", "training")},
            "extractor": self.extractor.protocol(),
            "num_samples": self.num_samples,
            "classes": self.classes,
        }

    def _train_classifier(self, folder: Path) -> None:
        print("training the classifier that judges the images", flush=True)
        data = self.config.data
        test = load_dataset(data.name, **{**self._data, "split": "test"})
        with tqdm(desc="classifier", unit="image", disable=None, leave=False) as bar:
            made = train_image_classifier(self.dataset, test, self.config.model.resolution, progress=bar.update)
        made.save(folder)
        print(f"{made.name}: {made.test_accuracy:.1%} of the test images right", flush=True)


def _kept(folder: Path, request: dict[str, Any]) -> dict[str, Any] | None:
    """The results in a folder, where they are of this very request."""
    files = folder / "request.json", folder / "results.json"
    if not all(file.exists() for file in files):
        return None
    asked, results = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    return results if asked == json.loads(json.dumps(request)) else None
