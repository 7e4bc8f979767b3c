"""The end of an inpainting run: what it made and how far it is from the truth, as files and as a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from attennorm_tf.config import InpaintingConfig
from attennorm_tf.training.inpainting_watch import InpaintingWatch
from attennorm_tf.training.run_directory import write_text
from attennorm_tf.visualization import save_png, training_curves


def write_report(workdir: Path, config: InpaintingConfig, watch: InpaintingWatch) -> str:
    """Draws and measures a finished run's network on the photographs held out.

    Args:
        workdir: of the run.
        config: the run's.
        watch: on the run's generator, as it ended.

    Returns:
        A table for the terminal; `report.json` holds the same.
    """
    metrics = workdir / "metrics.jsonl"
    last = json.loads(metrics.read_text(encoding="utf-8").splitlines()[-1])
    scores = {name: value for name, value in watch.validate().items() if np.isfinite(value)}
    floor = watch.mean_fill_psnr()
    report: dict[str, Any] = {
        "name": config.name,
        "steps": last["step"],
        "validation_photographs": watch.count,
        "images_per_second": round(last.get("images_per_second", 0.0), 1),
        "hole_psnr_of_the_mean_colour": floor,
        **scores,
    }
    rows = [
        ("steps", f"{last['step']}"),
        ("training speed", f"{report['images_per_second']:.1f} images/s"),
        ("photographs held out", f"{watch.count}"),
        ("PSNR in the hole", f"{scores['validation_hole_psnr']:.2f} dB"),
        ("  filled with the mean colour", f"{floor:.2f} dB"),
    ]
    files = []
    for name, pixels in watch.pictures().items():
        files.append(workdir / f"{name}.png")
        save_png(files[-1], pixels)
    files.append(workdir / "curves.png")
    training_curves(metrics, files[-1])
    # The sign of a finished run, so written last.
    files += [metrics, workdir / "checkpoints", workdir / "report.json"]
    write_text(files[-1], json.dumps(report, indent=2) + "\n")
    lines = [f"{name:<32} {value}" for name, value in rows]
    lines += ["", f"{config.name} wrote"] + [f"  {file}" for file in files]
    return "\n" + "\n".join(lines)
