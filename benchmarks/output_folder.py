"""Where a benchmark writes what it found: the flag --output, beside a --quick of its own."""

from __future__ import annotations

from pathlib import Path

from absl import flags

flags.disclaim_key_flags()  # in --help the flag is the benchmark's
RESULTS = "benchmarks/results"
TRIALS = "build/benchmarks"  # of --quick, which measures nothing


def define_output(files: str) -> None:
    """Defines --output; `files` are what will be in the folder."""
    flags.DEFINE_string("output", None, f"Folder for {files}; by default {RESULTS}, with --quick {TRIALS}.")


def output_folder() -> Path:
    """What --output says."""
    return Path(flags.FLAGS.output or (TRIALS if flags.FLAGS.quick else RESULTS))
