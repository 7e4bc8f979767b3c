"""Photographs to complete, as flags name them, and what became of them, as a person reads it."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from tqdm import tqdm

from attennorm_tf.cli.command import UsageError
from attennorm_tf.data.photo_files import output_format
from attennorm_tf.inference.inpaint_files import Job, Outcome, plan_file, plan_folder


def planned_jobs(
    image: str | None, mask: str | None, images: str | None, masks: str | None, output: str, ending: str
) -> list[Job]:
    """What the flags of these names ask for; says on standard error what a person may have overlooked.

    Raises:
        UsageError: neither one photograph nor folders.
        ValueError: they cannot be planned.
    """
    if image and mask and not images and not masks:
        jobs = [plan_file(image, mask, output)]
    elif not images or not masks or image or mask:
        raise UsageError("give either --image and --mask, or --images and --masks.")
    else:
        plan = plan_folder(images, masks, output, ending)
        jobs = plan.jobs
        if plan.unused:
            shown = ", ".join(str(path) for path in plan.unused[:5]) + (", ..." if len(plan.unused) > 5 else "")
            print(f"note: {len(plan.unused)} masks belong to no photograph: {shown}", file=sys.stderr)
    return jobs


def note_on_jpeg(jobs: list[Job]) -> None:
    """Says so if an output is of the format that loses something."""
    if any(output_format(job.output) == "JPEG" for job in jobs if not job.problem):
        print("note: JPEG changes all pixels a little; .png, .webp, .tif and .bmp keep what is known.", file=sys.stderr)


def show_outcomes(
    outcomes: Iterable[Outcome], total: int, name: str, ends_all: tuple[type[Exception], ...] = ()
) -> int:
    """Shows progress: a bar on a terminal, lines in a log; and errors and a summary.

    Args:
        outcomes: of the jobs, as they come.
        total: number of jobs.
        name: what fills the holes, for the summary.
        ends_all: exceptions after which the remaining jobs count as failed.

    Returns:
        How many failed.
    """
    failed = done = 0
    with tqdm(total=total, unit="image", disable=None if total > 1 else True, leave=False) as bar:
        try:
            for job, problem in outcomes:
                bar.update()
                done += 1
                failed += bool(problem)
                if problem:
                    bar.write(f"error: {problem}", file=sys.stderr)
                elif bar.disable:
                    print(f"[{done}/{total}] {job.output}" if total > 1 else str(job.output), flush=True)
        except ends_all as error:
            failed += total - done
            bar.write(f"error: {error}", file=sys.stderr)
    if total > 1:
        print(f"{name}: {total - failed} of {total} written", end="")
        print(f", {failed} failed" if failed else "", flush=True)
    return failed
