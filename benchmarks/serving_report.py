"""Tables and plot of `benchmarks.serving`."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any


def markdown(results: dict[str, Any], at_most: float) -> str:
    """The results as tables; `at_most` is what the exported network may take of the Keras model's time."""
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    lines = [
        f"{versions}, Python {results['python']}, {results['cores']} CPU cores, float32; attentive inpainting network "
        f"of width {results['width']:g}, {results['size']} x {results['size']} pixels. Command: "
        f"`python -m benchmarks.serving{' --quick' if results['quick'] else ''}`",
    ]
    parts = {"compared": lambda: _compared(results, at_most), "cold": lambda: _cold(results),
             "runtimes": lambda: _runtimes(results)}  # fmt: skip
    for section, part in parts.items():
        if section in results:
            first, last = results["load"][section]
            title, *rest = part()
            lines += ["", f"{title} (load average {first:.1f} before, {last:.1f} after):", "", *rest]
    return "\n".join(lines) + "\n"


def _compared(results: dict[str, Any], at_most: float) -> list[str]:
    lines = [
        "Exported network against the Keras model in a tf.function, in turn in one process",
        "| task | batch | exported | Keras | ratio, median (quartiles) | required | met |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in results["compared"]:
        low, high = row["quartiles"]
        met = "yes" if row["ratio"] <= at_most else "no"
        lines.append(
            f"| {row['task']} | {row['batch']} | {row['exported_ms']:.1f} ms | {row['keras_ms']:.1f} ms | "
            f"{row['ratio']:.2f} ({low:.2f}, {high:.2f}) | <= {at_most:g} | {met} |"
        )
    return lines


def _cold(results: dict[str, Any]) -> list[str]:
    lines = [
        "Cold start of the SavedModel, medians of fresh processes",
        "| | load | warm-up | first answer | third answer |",
        "|---|---|---|---|---|",
    ]
    for kind, name in (("bare", "without warm-up records"), ("warmed", "with warm-up records")):
        parts = [
            statistics.median(start[part] for start in results["cold"][kind])
            for part in ("load_ms", "warm_up_ms", "first_ms", "third_ms")
        ]
        lines.append(f"| {name} | " + " | ".join(f"{part:.0f} ms" for part in parts) + " |")
    return lines


def _runtimes(results: dict[str, Any]) -> list[str]:
    lines = [
        "Latency of a request and throughput, by clients at a time and images of a request",
        "| runtime | clients | batch | p50 | p95 | p99 | images/s | calls | differs from Keras by |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, found in results["runtimes"].items():
        for cell in found["cells"]:
            lines.append(
                f"| {name} | {cell['clients']} | {cell['batch']} | {cell['p50_ms']:.1f} ms | {cell['p95_ms']:.1f} ms | "
                f"{cell['p99_ms']:.1f} ms | {cell['images_per_second']:.1f} | {cell['calls']} | "
                f"{found['difference']:.1e} |"
            )
    return lines


def plot(results: dict[str, Any], path: Path) -> None:
    """Throughput and 95th percentile of the latency by batch size; a column for each number of clients."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    clients = sorted({cell["clients"] for found in results["runtimes"].values() for cell in found["cells"]})
    figure, axes = pyplot.subplots(2, len(clients), figsize=(4.6 * len(clients), 7), sharex=True, squeeze=False)
    for column, count in enumerate(clients):
        for name, found in results["runtimes"].items():
            cells = [cell for cell in found["cells"] if cell["clients"] == count]
            batches = [cell["batch"] for cell in cells]
            for row, key in enumerate(("images_per_second", "p95_ms")):
                axes[row, column].plot(batches, [cell[key] for cell in cells], marker="o", markersize=4, label=name)
        axes[0, column].set_title(f"{count} client{'s' if count > 1 else ''}")
        axes[0, column].set_ylim(bottom=0)
        axes[1, column].set_yscale("log")
        axes[1, column].set_xscale("log", base=2)
        axes[1, column].set_xticks(batches, [str(batch) for batch in batches])
        axes[1, column].set_xlabel("images of a request")
    axes[0, 0].set_ylabel("images/s (higher is better)")
    axes[1, 0].set_ylabel("95th percentile of latency, ms (lower is better)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=3, frameon=False, fontsize=8)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    temporary = path.with_suffix(".tmp.png")
    figure.savefig(temporary, dpi=120)
    pyplot.close(figure)
    temporary.replace(path)
