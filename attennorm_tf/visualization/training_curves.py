"""Curves of a training run from its metrics.jsonl."""

from __future__ import annotations

import json
import logging
import os

import numpy as np

from attennorm_tf.visualization.png import save_png

_logger = logging.getLogger(__name__)


def training_curves(
    metrics_jsonl_path: str | os.PathLike[str], output_png: str | os.PathLike[str], *, step_key: str = "step"
) -> None:
    """One panel for each scalar of a metrics.jsonl, over the step, all in one PNG.

    Every line is a JSON object with `step`; a scalar may be missing from lines. What is not a number is
    passed over, and so are scalars with a slash in their name (one of many of a kind, as of each entity) and a
    last line that a killed run left unfinished.

    Args:
        metrics_jsonl_path: the file.
        output_png: where to write, atomically.
        step_key: the key of the step.

    Raises:
        ValueError: no line holds a step and a number, or a line other than the last is not JSON.
    """
    series = _read(metrics_jsonl_path, step_key)
    if not series:
        raise ValueError(f"{os.fspath(metrics_jsonl_path)!r} holds no line with {step_key!r} and a number.")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    columns = min(3, len(series))
    rows = -(-len(series) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.6 * rows), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, (name, points) in zip(axes, sorted(series.items())):
        steps, values = np.array(points).T
        axis.plot(steps, values, color="#0072B2", linewidth=1.2, marker="." if len(steps) < 30 else "")
        axis.set_title(name, fontsize=10)
        axis.grid(color="0.9")
        axis.set_axisbelow(True)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axis.set_xlabel(step_key, fontsize=8)
    for axis in axes[len(series) :]:
        axis.set_visible(False)
    canvas.draw()
    save_png(output_png, np.asarray(canvas.buffer_rgba())[..., :3])


def _read(path: str | os.PathLike[str], step_key: str) -> dict[str, list[tuple[float, float]]]:
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    series: dict[str, list[tuple[float, float]]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                _logger.warning("%s: passed over an unfinished last line.", os.fspath(path))
                break
            raise ValueError(f"line {number} of {os.fspath(path)!r} is not JSON: {error}.") from error
        if not isinstance(record, dict) or not _is_number(record.get(step_key)):
            continue
        for name, value in record.items():
            if name != step_key and "/" not in name and _is_number(value):
                series.setdefault(name, []).append((float(record[step_key]), float(value)))
    return series


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
