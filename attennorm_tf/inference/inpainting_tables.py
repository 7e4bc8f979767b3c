"""The tables of an evaluation, for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from attennorm_tf.inference.inpainting_scores import InpaintingScores
from attennorm_tf.metrics import MeanInterval

_HEADINGS = {"psnr": "PSNR dB", "ssim": "SSIM", "ssim_grey": "grey SSIM", "mae": "MAE %"}
_WIDTH = 80
_SHORTEST_NAME = 12

Table = tuple[str, list[str], list[list[str]]]  # title, heads, rows of cells; the first column holds names


def make_tables(scores: InpaintingScores) -> list[Table]:
    """Hole, whole image, with half of the means' 95% intervals; and mean PSNR in the hole by its area."""
    best = scores.best_opencv()
    tables = []
    for region, title in (("hole", "hole only"), ("whole", "whole image")):
        heads = ["method", *_HEADINGS.values()]
        if region == "hole" and best is not None:
            heads.append(f"over {'N.-S.' if best == 'Navier-Stokes' else best}")
        rows = []
        for method in scores.methods:
            summary = scores.summary(method)[region]
            row = [method, *(_cell(summary[measure], measure) for measure in _HEADINGS)]
            if len(heads) > len(row):
                row.append(_cell(scores.over_opencv(method), "psnr"))
            rows.append(row)
        tables.append((title, heads, rows))
    bins = scores.bins()
    heads = ["missing", *bins]
    rows = [["images", *(str(len(indices)) for indices in bins.values())]]
    for method in scores.methods:
        values = scores.values(method, "hole", "psnr")
        rows.append([method, *(f"{values[indices].mean():.2f}" for indices in bins.values())])
    return [*tables, ("PSNR dB in the hole, by the share of the image that is missing", heads, rows)]


def terminal_tables(tables: Sequence[Table]) -> str:
    """Aligned text of at most 80 columns, for which long names lose their middle."""
    blocks = []
    aligned = [[[head, *_aligned(cells)] for head, *cells in zip(heads, *rows)] for _, heads, rows in tables]
    rooms = [_WIDTH - sum(2 + max(map(len, column)) for column in columns[1:]) for columns in aligned]
    longest = max(_SHORTEST_NAME, min(rooms))
    for (title, _, _), (names, *columns) in zip(tables, aligned):
        short = _shortened(names, longest)
        left = max(map(len, short))
        widths = [max(map(len, column)) for column in columns]
        lines = [title]
        for name, *cells in zip(short, *columns):
            lines.append(f"{name:<{left}}" + "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths)))
        blocks.append("\n".join(line.rstrip() for line in lines))
    return "\n\n".join(blocks) + "\n"


def markdown_tables(tables: Sequence[Table]) -> str:
    """The same in Markdown, names in full."""
    blocks = []
    for title, heads, rows in tables:
        lines = [f"**{title[0].upper()}{title[1:]}**", ""]
        lines.append("| " + " | ".join(heads) + " |")
        lines.append("|" + "---|" + "--:|" * (len(heads) - 1))
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _shortened(names: Sequence[str], length: int) -> list[str]:
    """Names of at most `length`, without a part of the middle; of the places to cut, one that keeps them distinct."""
    halves = (length - 1) // 2
    for head in sorted(range(length), key=lambda head: abs(head - halves)):
        tail = length - 1 - head
        short = [name if len(name) <= length else f"{name[:head]}~{name[len(name) - tail :]}" for name in names]
        if len(set(short)) == len(set(names)):
            return short
    return list(names)


def _aligned(cells: Sequence[str]) -> list[str]:
    """With the signs of the intervals one under the other."""
    parts = [cell.partition(" ±") for cell in cells]
    width = max(len(reach) for _, _, reach in parts)
    return [f"{mean} {sign.strip() + reach:>{width + 1}}" if sign else mean for mean, sign, reach in parts]


def _cell(value: MeanInterval | None, measure: str) -> str:
    """The mean and half its interval, "18.02 ±.41"; the latter is left out where there is none."""
    if value is None:
        return ""
    scale, digits = (100, 2) if measure == "mae" else (1, 2 if measure == "psnr" else 3)
    text = f"{scale * value.mean:.{digits}f}"
    if value.high is None:
        return text
    reach = f"{scale * (value.high - value.mean):.{digits}f}"
    return f"{text} ±{reach[1:] if reach.startswith('0.') else reach}"
