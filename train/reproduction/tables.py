"""One table of the paper from beginning to end."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from attennorm_tf.visualization import save_png
from train.paper_tables import PaperTable, Row
from train.reproduction.experiments import Options
from train.reproduction.gan_rows import GanTable
from train.reproduction.inpainting_rows import InpaintingTable
from train.reproduction.report import MeasuredTable, write_table


def chosen_rows(table: PaperTable, names: Sequence[str]) -> list[Row]:
    """The rows of these experiments, in the table's order; all where there are no names.

    Raises:
        ValueError: a name that the table does not have.
    """
    known = [row.experiment for row in table.rows]
    for name in names:
        if name not in known:
            raise ValueError(f"--rows: {name!r} is not in table {table.number}; its rows are {', '.join(known)}.")
    return [row for row in table.rows if not names or row.experiment in names]


def reproduce(table: PaperTable, rows: Sequence[Row], options: Options) -> tuple[MeasuredTable, list[Path]]:
    """Trains and measures what is not done yet; the files are written anew after every row.

    Returns:
        The table and its files in the work directory.

    Raises:
        StoppedError: by a signal during training.
        ValueError: settings or data that cannot be used.
        RuntimeError: a checkpoint that cannot be written or read, or a loss that is not finite.
    """
    options.workdir.mkdir(parents=True, exist_ok=True)
    logging.getLogger("tensorflow").addFilter(_says_something)
    picture = options.workdir / f"table{table.number}.png"
    if table.number == 3:
        inpainting = InpaintingTable(table, options)
        found = inpainting.rows(list(rows))
        measured = MeasuredTable(table, options.scale, None, found, inpainting.differences())
        save_png(picture, inpainting.picture())
        return measured, [*write_table(measured, options.workdir), picture]
    gan = GanTable(table, options)
    done = []
    for row in rows:
        done.append(gan.row(row.title, row.experiment))
        measured = MeasuredTable(
            table, options.scale, gan.extractor.name, list(done), gan.differences(), gan.stand_ins()
        )
        files = write_table(measured, options.workdir)
    save_png(picture, gan.picture(done))
    return measured, [*files, picture]


def _says_something(record: logging.LogRecord) -> bool:
    """Not TensorFlow's suspicion that a function is traced too often: every network of a table traces it once."""
    return "triggered tf.function retracing" not in record.getMessage()
