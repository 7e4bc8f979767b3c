"""The end of a GAN run: what it made and how good it is, as files and as a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from attennorm_tf.config import GanConfig
from attennorm_tf.export import export_generator
from attennorm_tf.inference import DigitsJudge, draw_pictures, load_generator
from attennorm_tf.training.run_directory import write_text
from attennorm_tf.visualization import training_curves


def write_report(workdir: Path, config: GanConfig, judge: DigitsJudge | None) -> str:
    """Draws, scores and exports the run's newest checkpoint.

    Args:
        workdir: of a finished run.
        config: the run's.
        judge: scores the generator, or None.

    Returns:
        A table for the terminal; `report.json` holds the same.
    """
    loaded = load_generator(workdir)
    metrics = workdir / "metrics.jsonl"
    last = json.loads(metrics.read_text(encoding="utf-8").splitlines()[-1]) if metrics.exists() else {}
    report: dict[str, Any] = {
        "name": config.name,
        "steps": loaded.step,
        "images_per_second": round(last.get("images_per_second", 0.0), 1),
    }
    rows = [("steps", f"{loaded.step}"), ("training speed", f"{report['images_per_second']:.0f} images/s")]
    if judge is not None:
        start = json.loads((workdir / "scores_at_start.json").read_text(encoding="utf-8"))
        end = judge.score(loaded.generator, config.evaluation.num_samples)
        ratio = start["frechet_distance"] / max(end.frechet_distance, 1e-12)
        report.update(
            num_samples=config.evaluation.num_samples,
            classifier_accuracy_on_real_test_digits=judge.test_accuracy,
            class_accuracy=end.accuracy,
            frechet_distance_at_start=start["frechet_distance"],
            frechet_distance=end.frechet_distance,
            frechet_ratio=ratio,
        )
        rows += [
            ("generated digits read as asked", f"{end.accuracy:.1%} of {config.evaluation.num_samples}"),
            ("  by a classifier that reads", f"{judge.test_accuracy:.1%} of held-out real digits"),
            ("Frechet distance, its features", f"{start['frechet_distance']:.4g} -> {end.frechet_distance:.4g}"),
            ("  smaller by a factor of", f"{ratio:.1f}"),
        ]
    files = draw_pictures(loaded.generator, workdir, names=loaded.class_names)
    if last:
        files.append(workdir / "curves.png")
        training_curves(metrics, files[-1])
    files.append(export_generator(loaded.generator, workdir / "saved_model"))
    # The sign of a finished run, so written last.
    files += [workdir / "metrics.jsonl", workdir / "checkpoints", workdir / "report.json"]
    write_text(files[-1], json.dumps(report, indent=2) + "\n")
    lines = [f"{name:<32} {value}" for name, value in rows]
    lines += ["", f"{config.name} wrote"] + [f"  {file}" for file in files]
    return "\n" + "\n".join(lines)
