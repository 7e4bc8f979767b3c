"""Table 3: both inpainting networks trained, then measured on the same images and holes."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
from PIL import Image
from tensorflow import keras
from tqdm import tqdm

from attennorm_tf.config import InpaintingConfig
from attennorm_tf.data.masks import make_masks
from attennorm_tf.inference.evaluate_inpainting import evaluate_inpainting, write_evaluation
from attennorm_tf.inference.inpainter import load_inpainter
from attennorm_tf.inference.inpainting_cases import InpaintingCases, SeededMasks, open_images
from attennorm_tf.inference.inpainting_methods import Network
from attennorm_tf.training.run_directory import write_text
from attennorm_tf.training.runs import InpaintingRun
from train.paper_tables import PaperTable, Row
from train.reproduction.experiments import Options, inpainting_config, paper_config
from train.reproduction.report import MeasuredRow
from train.reproduction.stopping import StoppedError


class InpaintingTable:
    """Trains the networks of table 3 and measures them on the photographs held out, in one evaluation.

    The holes are drawn as in training, by a seed; what lies outside them is the photograph's. Measured is the whole
    image, by the 11-tap SSIM.

    Args:
        table: table 3.
        options: the user's.
    """

    def __init__(self, table: PaperTable, options: Options):
        self.table = table
        self.options = options
        self._folder = options.workdir / "evaluation-inpainting"
        self._configs = {row.experiment: inpainting_config(row.experiment, options) for row in table.rows}

    def rows(self, wanted: list[Row]) -> list[MeasuredRow]:
        """Trains and measures, unless that is done.

        Raises:
            StoppedError: by a signal during training; the same call goes on from there.
        """
        request = {
            "rows": [row.experiment for row in wanted],
            **{row.experiment: self._facts(self._configs[row.experiment]) for row in wanted},
        }
        results = self._folder / "results.json"
        kept = self._folder / "request.json"
        if not (kept.exists() and results.exists() and json.loads(kept.read_text(encoding="utf-8")) == request):
            for row in wanted:
                print(f"{row.experiment}: training", flush=True)
                run = InpaintingRun(self._configs[row.experiment], self.options.workdir / row.experiment)
                outcome = run.train()
                if outcome.stopped_by is not None:
                    raise StoppedError(outcome.stopped_by, row.experiment, outcome.step)
                del run
                keras.backend.clear_session()  # also collects the networks and graphs of this row
            print("evaluation", flush=True)
            kept.unlink(missing_ok=True)
            self._evaluate(wanted)
            write_text(kept, json.dumps(request, indent=2) + "\n")
        found = json.loads(results.read_text(encoding="utf-8"))["methods"]
        return [
            MeasuredRow(
                row.title, row.experiment, self._configs[row.experiment].training.steps,
                {score.key: found[row.title]["whole"][score.key]["mean"] for score in self.table.scores},
                f"{self._folder.name}/results.json", (),
            )
            for row in wanted
        ]  # fmt: skip

    def differences(self) -> list[str]:
        """Why the numbers do not compare with the paper's."""
        experiment = self.table.rows[0].experiment
        config, paper = self._configs[experiment], paper_config(experiment)
        found = ["the paper does not say which images, masks and SSIM it measures"]
        if config.data.name != "image_folder":
            found.append("a few photographs that come with scikit-learn and scikit-image, not Paris StreetView")
        for section, name, unit in (("model", "resolution", "pixels a side"), ("model", "width", "times the width"),
                                    ("training", "steps", "steps")):  # fmt: skip
            here, there = (getattr(getattr(one, section), name) for one in (config, paper))
            if here != there:
                found.append(f"{here} {unit}, not {there}")
        return found

    def picture(self) -> np.ndarray:
        """Holes, completions and truth."""
        with Image.open(self._folder / "sheet.png") as image:
            return np.asarray(image.convert("RGB"))

    def _facts(self, config: InpaintingConfig) -> dict[str, Any]:
        facts = dataclasses.asdict(config)
        return {name: facts[name] for name in ("name", "data", "masks", "model", "training")}

    def _evaluate(self, wanted: list[Row]) -> None:
        config = self._configs[wanted[0].experiment]
        source = config.data.root if config.data.name == "image_folder" else "photographs"
        images = open_images(source, part="validation", validation_fraction=config.data.validation_fraction)
        masks = dataclasses.asdict(config.masks)
        drawn = SeededMasks(lambda height, width: make_masks(**masks), self.options.seed, masks)
        cases = InpaintingCases(images, drawn, config.model.resolution)
        methods = [Network(load_inpainter(self.options.workdir / row.experiment), row.title) for row in wanted]
        with tqdm(total=len(cases), desc="images", unit="image", disable=None, leave=False) as bar:
            evaluation = evaluate_inpainting(cases, methods, progress=bar.update)
        write_evaluation(evaluation, self._folder)
