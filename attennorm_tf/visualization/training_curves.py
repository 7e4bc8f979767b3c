"""Curves of a training run from its metrics.jsonl."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from attennorm_tf.visualization.entity_colors import layout_colors
from attennorm_tf.visualization.png import save_png

_logger = logging.getLogger(__name__)
_Points = list[tuple[float, float]]


def training_curves(
    metrics_jsonl_path: str | os.PathLike[str], output_png: str | os.PathLike[str], *, step_key: str = "step"
) -> None:
    """`curves_figure` as a PNG, written atomically."""
    save_png(output_png, figure_pixels(curves_figure(metrics_jsonl_path, step_key=step_key)))


def figure_pixels(figure: Any) -> np.ndarray:
    """A matplotlib Figure as uint8 (H, W, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def curves_figure(
    metrics_jsonl_path: str | os.PathLike[str], *, step_key: str = "step", names: Sequence[str] | None = None
) -> Any:
    """One panel for each scalar of a metrics.jsonl, over the step.

    Every line is a JSON object with `step`; a scalar may be missing from lines. What is not a number is
    passed over, and so is a last line that a killed run left unfinished; a number that is not finite leaves a gap.
    Scalars with a slash in their name are one for each entity ("rho_ratio/03"): they share a panel, each in the colour
    that its entity has in the pictures of layouts.

    Args:
        metrics_jsonl_path: the file.
        step_key: the key of the step.
        names: of the panels, in this order; None: all, sorted.

    Returns:
        A matplotlib Figure.

    Raises:
        ValueError: no line holds a step and a number, a line other than the last is not JSON, or a name is not in it.
        OSError: the file cannot be read.
    """
    panels = _panels(_read(metrics_jsonl_path, step_key))
    if not panels:
        raise ValueError(f"{os.fspath(metrics_jsonl_path)!r} holds no line with {step_key!r} and a number.")
    for name in names or ():
        if name not in panels:
            raise ValueError(f"{os.fspath(metrics_jsonl_path)!r} holds no {name!r}, only {', '.join(sorted(panels))}.")
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    shown = {name: panels[name] for name in names or sorted(panels)}
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.6 * rows), dpi=100, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    every = [step for lines in shown.values() for points in lines.values() for step, _ in points]
    margin = 0.03 * (max(every) - min(every)) or 1.0
    for axis, (name, lines) in zip(axes, shown.items()):
        _draw(axis, lines)
        if all(value.is_integer() for points in lines.values() for _, value in points):
            axis.yaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))  # counts
        axis.set_xlim(min(every) - margin, max(every) + margin)  # the same steps below each other
        axis.set_title(name, fontsize=10)
        axis.grid(color="0.9")
        axis.set_axisbelow(True)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axis.set_xlabel(step_key, fontsize=8)
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    return figure


def _draw(axis: Any, lines: Mapping[int | None, _Points]) -> None:
    """One line, or one for each entity."""
    colors = layout_colors(1 + max((entity for entity in lines if entity is not None), default=0)) / 255
    for entity, points in sorted(lines.items(), key=lambda line: -1 if line[0] is None else line[0]):
        steps, values = np.array(points).T
        axis.plot(
            steps,
            values,
            color="#0072B2" if entity is None else tuple(colors[entity]),
            linewidth=1.2,
            marker="." if len(steps) < 30 else "",
            label=None if entity is None else str(entity),
        )
    if None not in lines:
        axis.legend(
            title="entity", fontsize=7, title_fontsize=7, ncols=math.ceil(len(lines) / 8), loc="center left",
            bbox_to_anchor=(1.0, 0.5), frameon=False, handlelength=1.0, columnspacing=0.8, labelspacing=0.3,
        )  # fmt: skip


def _panels(series: Mapping[str, _Points]) -> dict[str, dict[int | None, _Points]]:
    """Title -> entity (None for a scalar that is one of its kind) -> points."""
    panels: dict[str, dict[int | None, _Points]] = {}
    for name, points in series.items():
        kind, slash, entity = name.rpartition("/")
        if not slash:
            panels.setdefault(name, {})[None] = points
        elif entity.isdigit():
            panels.setdefault(f"{kind} of each entity", {})[int(entity)] = points
    return panels


def _read(path: str | os.PathLike[str], step_key: str) -> dict[str, _Points]:
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    series: dict[str, _Points] = {}
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
            if name != step_key and _is_number(value):
                series.setdefault(name, []).append((float(record[step_key]), float(value)))
    return series


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
