"""A table with the measured numbers beside the paper's: for the terminal, in Markdown, as JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from attennorm_tf.inference.gan_tables import score_names
from attennorm_tf.training.run_directory import write_text
from train.paper_tables import PaperTable

MARK = "*"
_CELL_WIDTH = 10


class MeasuredRow(NamedTuple):
    """What came of a row.

    Attributes:
        title: as in the paper.
        experiment: its folder in the work directory.
        steps: training steps done.
        measured: the scores by their keys; None: not to be had, `warnings` say why.
        evaluation: the file with everything about them.
        warnings: of the evaluation.
    """

    title: str
    experiment: str
    steps: int
    measured: Mapping[str, float | None]
    evaluation: str
    warnings: Sequence[str]


class MeasuredTable(NamedTuple):
    """A table of the paper, measured.

    Attributes:
        table: the paper's.
        scale: "full", "small" or "smoke".
        judged_by: the feature extractor's name; None where none is used.
        stand_in: keys of `table`'s scores -> what was measured in their place, (key, head).
        rows: so far.
        differences: why the measured numbers do not compare with the paper's; empty: they do.
    """

    table: PaperTable
    scale: str
    judged_by: str | None
    rows: Sequence[MeasuredRow]
    differences: Sequence[str]
    stand_ins: Sequence[tuple[str, str]] = ()


def grid(measured: MeasuredTable) -> tuple[list[tuple[str, str]], list[list[str]]]:
    """Heads of two lines and rows of cells; a measured number that does not compare carries a mark."""
    names = score_names(measured.judged_by) if measured.judged_by else {}
    mark = MARK if measured.differences else ""

    def cell(value: float | None, digits: int, mark: str = "") -> str:
        return "-" if value is None else f"{value:.{digits}f}{mark}"

    if measured.table.number == 2:  # classes are rows there, models columns
        heads = [(names["intra_fid_mean"], "class")]
        heads += [head for row in measured.rows for head in ((row.title, "measured"), ("", "paper"))]
        titles = {row.experiment: row for row in measured.table.rows}
        classes = list(measured.stand_ins) or [(score.key, score.head) for score in measured.table.scores]
        cells = []
        for key, head in classes:
            line = [head]
            for row in measured.rows:
                line += [cell(row.measured.get(key), 2, mark), cell(titles[row.experiment].paper.get(key), 2)]
            cells.append(line)
        return heads, cells
    heads = [("", "model")]
    for score in measured.table.scores:
        heads += [(names.get(score.key, score.head), "measured"), (score.head, "paper")]
    papers = {row.title: row.paper for row in measured.table.rows}
    cells = []
    for row in measured.rows:
        line = [row.title]
        for score in measured.table.scores:
            line += [cell(row.measured.get(score.key), score.digits, mark)]
            line += [cell(papers[row.title].get(score.key), score.digits)]
        cells.append(line)
    return heads, cells


def terminal_text(measured: MeasuredTable) -> str:
    """For a terminal of 80 columns."""
    heads, rows = grid(measured)
    lines = [_title(measured), ""]
    grid_lines = [[head[part] for head in heads] for part in (0, 1)] + rows
    width = max(len(cells[0]) for cells in grid_lines)
    lines += [_line(cells, width) for cells in grid_lines]
    lines.append("")
    for note in _notes(measured):
        lines += textwrap.wrap(note, 80, subsequent_indent="  ")
    return "\n".join(lines) + "\n"


def markdown_text(measured: MeasuredTable) -> str:
    """The same in Markdown."""
    heads, rows = grid(measured)
    lines = [f"**{_title(measured)}**", ""]
    lines.append("| " + " | ".join(" ".join(part for part in head if part) for head in heads) + " |")
    lines.append("|---|" + "--:|" * (len(heads) - 1))
    escaped = [[cell.replace("|", "\\|").replace("*", "\\*") for cell in row] for row in rows]
    lines += ["| " + " | ".join(row) + " |" for row in escaped]
    lines += ["", *(f"- {note}".replace("*", "\\*") for note in _notes(measured))]
    return "\n".join(lines) + "\n"


def write_table(measured: MeasuredTable, folder: Path) -> list[Path]:
    """Writes `table<n>.txt`, `.md` and `.json` (last), each whole or not at all; returns them."""
    papers = {row.title: row.paper for row in measured.table.rows}
    facts: dict[str, Any] = {
        "kind": "reproduction",
        "table": measured.table.number,
        "caption": measured.table.caption,
        "scale": measured.scale,
        "feature_extractor": measured.judged_by,
        "not_comparable_with_the_paper": list(measured.differences),
        "about_the_paper": list(measured.table.notes),
        "rows": [{**row._asdict(), "paper": papers[row.title]} for row in measured.rows],
    }
    stem = f"table{measured.table.number}"
    texts = {
        f"{stem}.txt": terminal_text(measured),
        f"{stem}.md": markdown_text(measured),
        f"{stem}.json": json.dumps(facts, indent=2, allow_nan=False) + "\n",
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


def _title(measured: MeasuredTable) -> str:
    return f"Table {measured.table.number}: {measured.table.caption}; {measured.scale} scale"


def _notes(measured: MeasuredTable) -> list[str]:
    notes = []
    if measured.judged_by is not None:
        notes.append(f"measured by {measured.judged_by}")
    if measured.differences:
        notes.append(f"{MARK} not comparable with the paper's numbers: " + "; ".join(measured.differences))
    warnings: dict[str, list[str]] = {}
    for row in measured.rows:
        for warning in row.warnings:
            warnings.setdefault(warning, []).append(row.title)
    for warning, titles in warnings.items():
        notes.append(f"{', '.join(titles) if len(titles) < len(measured.rows) else 'all rows'}: {warning}")
    return notes + [f"about the paper: {note}" for note in measured.table.notes]


def _line(cells: Sequence[str], width: int) -> str:
    title, *rest = cells
    return (f"{title:<{width}}" + "".join(f"{cell:>{_CELL_WIDTH}}" for cell in rest)).rstrip()
