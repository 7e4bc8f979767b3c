"""The order of the test files: what takes long begins first, so that two processes of tests end together.

`--dist loadfile` deals the files out in this order. In the order of their names the slowest would come last, and one
process would work on them while the other has nothing left. Within a file the order stays.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]

# By the seconds they take, longest first, but for one thing: jobs of several processes, whose tests bound the seconds
# until something is noticed, do not begin beside one another.
SLOWEST = (
    "tests/train/test_survival.py",
    "tests/training/test_updates.py",
    "tests/layers/test_battery.py",
    "tests/training/test_gan.py",
    "tests/train/test_gan_command.py",
    "tests/train/test_multi_worker.py",
    "tests/demo/test_page.py",
    "tests/data/test_sources.py",
    "tests/data/test_data_services.py",
    "tests/test_docs.py",
    "tests/training/test_inpainting.py",
    "tests/models/test_class_conditional.py",
    "tests/layers/test_regional_normalization.py",
    "tests/export/test_runtimes.py",
    "tests/test_packaging.py",
    "tests/train/test_inpainting_command.py",
    "tests/training/test_workers.py",
    "tests/data/test_photographs.py",
    "tests/models/test_inpainting.py",
)

_PLACES = {ROOT / name: place for place, name in enumerate(SLOWEST)}


def place(path: Path) -> int:
    """Key of a stable sort of tests by their file: a named file's place, the same for all others."""
    return _PLACES.get(path, len(SLOWEST))
