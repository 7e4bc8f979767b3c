"""The order of the test files, and which of them one stack is enough for.

What takes long begins first, so that the processes of tests end together.

`--dist loadfile` deals the files out in this order. In the order of their names the slowest would come last, and one
process would work on them while the others have nothing left. Within a file the order stays.
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
    "tests/training/test_compiled_updates.py",
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

# Files and folders about documents, benchmarks, programs as processes, arguments, files and clients: what they test is
# the same on both stacks, or takes minutes. Their tests are marked `once`. All of them run there too by
# `make test-classic CLASSIC_MARKS="once or not once"`.
ONCE = (
    "tests/benchmarks",
    "tests/cli/test_client.py",
    "tests/cli/test_compare_results.py",
    "tests/cli/test_demo.py",
    "tests/cli/test_evaluate_gan.py",
    "tests/cli/test_evaluate_inpainting.py",
    "tests/cli/test_inpaint.py",
    # On the classic stack TensorFlow's clients go on calling for services that have ended, and say so.
    "tests/data/test_data_services.py",
    "tests/data/test_image_decoding.py",
    "tests/data/test_image_folder.py",
    "tests/data/test_image_source.py",
    "tests/data/test_photo_files.py",
    "tests/data/test_photographs.py",
    "tests/demo",
    "tests/export/test_client.py",
    "tests/export/test_fuzz.py",
    "tests/export/test_serving_files.py",
    "tests/inference/test_compare_results.py",
    "tests/inference/test_evaluate_gan.py",
    "tests/inference/test_evaluate_inpainting.py",
    "tests/inference/test_hole_filling.py",
    "tests/inference/test_inpaint.py",
    "tests/inference/test_inpaint_files.py",
    "tests/inference/test_inspect_checkpoint.py",
    "tests/inference/test_visualize.py",
    "tests/metrics/test_digits_classifier.py",
    "tests/metrics/test_image_classifier.py",
    "tests/test_docs.py",
    "tests/test_house.py",
    "tests/test_import_graph.py",
    "tests/test_notebooks.py",
    "tests/test_packaging.py",
    "tests/test_processes.py",
    "tests/test_readme.py",
    # The training command runs on the classic stack for the GAN (test_gan_command.py).
    "tests/train/test_inpainting_command.py",
    "tests/train/test_multi_worker.py",
    "tests/train/test_paper_experiments.py",
    "tests/train/test_reproduce.py",
    "tests/train/test_survival.py",
    "tests/training/test_workers.py",
)

_ONCE = tuple(ROOT / name for name in ONCE)
_PLACES = {ROOT / name: place for place, name in enumerate(SLOWEST)}


def place(path: Path) -> int:
    """Key of a stable sort of tests by their file: a named file's place, the same for all others."""
    return _PLACES.get(path, len(SLOWEST))


def is_once(path: Path) -> bool:
    """Whether a file's tests run on the current stack only."""
    return any(path == place or place in path.parents for place in _ONCE)
