"""Results of GAN evaluations side by side, with a mark wherever two were not measured alike."""

from __future__ import annotations

import string
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

from attennorm_tf.inference.gan_protocol import protocol_differences
from attennorm_tf.inference.gan_tables import score_names, score_text

_WIDTH = 80
_SHORTEST_NAME = 12


class Compared(NamedTuple):
    """A row: a result and the letter of its protocol, "" for that of the first result."""

    name: str
    mark: str
    result: dict[str, Any]


class Comparison:
    """Results in groups of one feature extractor; within and across groups, other protocols carry letters.

    The first result's protocol goes without a letter. Every other protocol has one, and a footnote that says exactly
    in which facts it differs from the first: "fact: first / this". A measure that a result lacks is an empty cell and
    no difference; how it was taken is held against the first result that has it.

    Args:
        results: as from `load_result`, one or more, of which no two need be alike.
        names: what to call them; None: by their subjects, with the step where several have one name.

    Attributes:
        rows: in the order given.
        notes: letter -> differences, one line each.

    Raises:
        ValueError: no results, or not one name for each.
    """

    def __init__(self, results: Sequence[dict[str, Any]], names: Sequence[str] | None = None):
        if not results:
            raise ValueError("results must be one or more, got none.")
        names = _names(results) if names is None else list(names)
        if len(names) != len(results):
            raise ValueError(f"names must be one for each of {len(results)} results, got {len(names)}.")
        measures: dict[str, Any] = {}
        for result in results:
            measures = {**result["protocol"].get("metrics", {}), **measures}
        self.rows: list[Compared] = []
        self.notes: dict[str, list[str]] = {}
        for name, result in zip(names, results):
            protocol = result["protocol"]
            common = {measure: measures[measure] for measure in protocol.get("metrics", {})}
            differences = protocol_differences({**results[0]["protocol"], "metrics": common}, protocol)
            mark = next((letter for letter, found in self.notes.items() if found == differences), "")
            if differences and not mark:
                mark = _letter(len(self.notes))
                self.notes[mark] = differences
            self.rows.append(Compared(name, mark, result))

    def table(self) -> str:
        """For a terminal of 80 columns."""
        lines: list[str] = []
        for title, heads, rows in self._groups():
            lines += [title, *_aligned([heads, *rows]), ""]
        for mark, differences in self.notes.items():
            lines += textwrap.wrap(
                f"{mark}) protocol differs from that of {self.rows[0].name} ({self.rows[0].name} / this):", _WIDTH
            )
            for difference in differences:
                lines += textwrap.wrap(difference, _WIDTH, initial_indent="   ", subsequent_indent="     ")
        for row in self.rows:
            for warning in row.result["warnings"]:
                text = f"warning, {_shown(row)}: {warning}"
                lines += textwrap.wrap(text, _WIDTH, subsequent_indent="  ")
        return "\n".join(lines).rstrip() + "\n"

    def markdown(self) -> str:
        """The same in Markdown, names in full."""
        lines: list[str] = []
        for title, heads, rows in self._groups():
            lines += [f"**{title}**", "", "| " + " | ".join(heads) + " |", "|---|" + "--:|" * (len(heads) - 1)]
            lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
            lines.append("")
        for mark, differences in self.notes.items():
            lines.append(f"{mark}) protocol differs from that of {self.rows[0].name} ({self.rows[0].name} / this):")
            lines += ["", *(f"- {difference}" for difference in differences), ""]
        for row in self.rows:
            lines += [f"- warning, {_shown(row)}: {warning}" for warning in row.result["warnings"]]
        return "\n".join(lines).rstrip() + "\n"

    def _groups(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """(title, heads, rows of cells) for each extractor, in the order of first appearance."""
        groups: dict[tuple[str, str], list[Compared]] = {}
        for row in self.rows:
            extractor = row.result["protocol"]["extractor"]
            groups.setdefault((extractor["name"], extractor["content_hash"]), []).append(row)
        made = []
        for (extractor, content_hash), rows in groups.items():
            short = {"precision": "prec.", "coverage": "cover."}
            names = {
                key: short.get(key, name)
                for key, name in score_names(extractor).items()
                if any(row.result["scores"].get(key) is not None for row in rows)
            }
            cells = [
                [_shown(row), *(score_text(row.result["scores"], key, error=False) for key in names)] for row in rows
            ]
            made.append((f"features of {extractor} ({content_hash[:12]})", ["result", *names.values()], cells))
        return made


def _names(results: Sequence[dict[str, Any]]) -> list[str]:
    names = [result["subject"]["name"] for result in results]
    steps = [result["subject"].get("step") for result in results]
    names = [
        f"{name}@{step}" if names.count(name) > 1 and step is not None else name for name, step in zip(names, steps)
    ]
    seen = [names[:index].count(name) for index, name in enumerate(names)]
    return [f"{name} ({before + 1})" if before else name for name, before in zip(names, seen)]


def _letter(index: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    letters = string.ascii_lowercase
    return (
        letters[index] if index < len(letters) else _letter(index // len(letters) - 1) + letters[index % len(letters)]
    )


def _shown(row: Compared) -> str:
    return f"{row.name} {row.mark})" if row.mark else row.name


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines of at most 80 columns, for which long names lose their middle, never their mark."""
    columns = list(zip(*table))
    widths = [max(map(len, column)) for column in columns[1:]]
    room = max(_SHORTEST_NAME, _WIDTH - sum(2 + width for width in widths))
    left = min(room, max(map(len, columns[0])))
    lines = []
    for name, *cells in table:
        if len(name) > left:
            head = (left - 1) // 2
            name = f"{name[:head]}~{name[len(name) - (left - 1 - head) :]}"
        lines.append(f"{name:<{left}}" + "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths)))
    return [line.rstrip() for line in lines]
