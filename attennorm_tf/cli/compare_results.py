"""attennorm-compare-results: results of attennorm-evaluate-gan in one table, marked where they do not compare.

    attennorm-compare-results runs/a/evaluation runs/b/evaluation/results.json
    attennorm-compare-results --strict --output=table.md a.json b.json c.json

Scores compare only where everything that they depend on is the same: the feature extractor, the real images, the
number of samples, the statistics of batch normalization, the versions. A result whose protocol is not that of the first
one carries a letter, and a footnote says exactly what differs; with `--strict` such a table is refused (exit 1).
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from attennorm_tf.cli.command import UsageError, console_command
from attennorm_tf.inference.compare_results import Comparison
from attennorm_tf.inference.gan_protocol import load_result
from attennorm_tf.training.run_directory import write_text

# Of this command alone: other commands have flags of the same names.
_FLAGS = flags.FlagValues()
_STRICT = flags.DEFINE_bool("strict", False, "refuse results of different protocols", flag_values=_FLAGS)
_OUTPUT = flags.DEFINE_string("output", None, "Markdown file for the table", flag_values=_FLAGS)
_NAME = flags.DEFINE_list(
    "name", [], "what to call the results, separated by commas (default: as they were evaluated)", flag_values=_FLAGS
)


def run(paths: list[str]) -> int:
    """Compares the results in `paths`, files or folders with a `results.json`."""
    if not paths:
        raise UsageError("name one or more results: files, or folders with a results.json.")
    output = None if _OUTPUT.value is None else Path(_OUTPUT.value)
    if output is not None and output.is_dir():
        raise ValueError(f"--output: {output} is a folder, expected a file.")
    results = [load_result(path) for path in paths]
    if _NAME.value and len(_NAME.value) != len(results):
        raise UsageError(f"--name: expected one for each of {len(results)} results, got {len(_NAME.value)}.")
    comparison = Comparison(results, _NAME.value or None)
    if _STRICT.value and comparison.notes:
        differing = next(row for row in comparison.rows if row.mark)
        found = comparison.notes[differing.mark]
        raise ValueError(
            f"--strict: {comparison.rows[0].name} and {differing.name} were not measured alike: {'; '.join(found)}."
        )
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_text(output, comparison.markdown())
    print(comparison.table(), end="")
    if output is not None:
        print(f"\n  {output}")
    return 0


main = console_command(__doc__, _FLAGS, run, takes_arguments=True)


if __name__ == "__main__":
    main()
