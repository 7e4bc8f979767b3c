"""All benchmarks in turn, or those named: `python -m benchmarks [--quick] [name ...]`; `make bench` runs this.

Each is a command of its own, `python -m benchmarks.<module>`, and writes `benchmarks/results/<module>.*`. One that
fails does not keep the next from running; the exit code tells.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

# Name: module and options. To add a benchmark, write its module and a line here.
BENCHMARKS: Mapping[str, tuple[str, ...]] = {
    "layer": ("benchmarks.normalization_layers",),
    "layer_ideas": ("benchmarks.layer_ideas",),
    "regional_normalization": ("benchmarks.regional_normalization",),
    "resampled_convolutions": ("benchmarks.resampled_convolutions",),
    "inpainting": ("benchmarks.inpainting",),
    "inpainting_methods": ("benchmarks.inpainting_methods",),
    "serving": ("benchmarks.serving",),
    "gan_metrics": ("benchmarks.gan_metrics", "--count=10000"),
    "training_memory": ("benchmarks.training_memory",),
    "training_step": ("benchmarks.training_step",),
    "start_up": ("benchmarks.start_up",),
    "precision": ("benchmarks.precision",),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmarks; 1 when one failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(BENCHMARKS)}; all by default")
    parser.add_argument(
        "--quick", action="store_true", help="the short form of each: measures nothing; into build/benchmarks"
    )
    parser.add_argument("--list", action="store_true", help="print the commands and run none")
    parser.add_argument("--output", help="folder of the results, instead of benchmarks/results")
    options = parser.parse_args(argv)
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    failed = []
    for name in options.names or BENCHMARKS:
        module, *flags = BENCHMARKS[name]
        if options.quick:
            flags = [*(flag for flag in flags if not flag.startswith("--count")), "--quick"]
        if options.output:
            flags.append(f"--output={options.output}")
        command = ["python", "-m", module, *flags]
        print(f"== {name}: {' '.join(command)}", flush=True)
        if options.list:
            continue
        began = time.monotonic()
        code = subprocess.run([sys.executable, *command[1:]], check=False).returncode
        print(f"== {name}: exit code {code} after {time.monotonic() - began:.0f} s", flush=True)
        if code:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
