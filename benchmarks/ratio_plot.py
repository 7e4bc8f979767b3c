"""The picture of a benchmark that draws none of its own: every subject's time over its case's baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.harness import MEASURED, ratio

LINE = 0.26  # inches for a subject


def plot_ratios(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Bars of medians with quartiles, a panel a case, on one logarithmic axis.

    Args:
        results: of `harness.measure`, by the name of the case.
        path: of the .png.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    heights = [LINE * len(result["subjects"]) + 0.5 for result in results.values()]
    figure, axes = pyplot.subplots(
        len(results), 1, figsize=(9, sum(heights) + 0.5), sharex=True, squeeze=False, layout="constrained",
        gridspec_kw={"height_ratios": heights},
    )  # fmt: skip
    for axis, (name, result) in zip(axes[:, 0], results.items()):
        for place, (subject, found) in enumerate(result["subjects"].items()):
            over = ratio(result, subject, result["baseline"]) if found["status"] == MEASURED else None
            if over is None:
                axis.text(1, place, f"  {found['status']}", va="center", fontsize="small", style="italic")
                continue
            low, high = over.quartiles
            spread = [[over.median - low], [high - over.median]]
            axis.barh(place, over.median - 1, left=1, xerr=spread, ecolor="black", capsize=2)
            axis.text(max(1, high), place, f"  {over.median:.3g}", va="center", fontsize="small")
        axis.axvline(1, color="tab:gray", linewidth=1)
        axis.set_yticks(range(len(result["subjects"])), list(result["subjects"]), fontsize="small")
        axis.set_ylim(len(result["subjects"]) - 0.4, -0.6)
        axis.set_title(f"{name}: time over {result['baseline']}", fontsize="small", loc="left")
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(ticker.NullFormatter())
        axis.tick_params(axis="x", labelsize="small")
        axis.margins(x=0.1)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlabel("less is faster (median, quartiles)")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
