"""attennorm-evaluate-gan: FID, intra-FID, Inception Score, KID, precision and recall of a checkpoint or of any images.

    attennorm-evaluate-gan --checkpoint=runs/digits --num_samples=2000
    attennorm-evaluate-gan --checkpoint=runs/imagenet --data=tfds:imagenet2012 --num_samples=50000 --output=evaluation
    attennorm-evaluate-gan --fake_dir=theirs --real_dir=photos --extractor=tfgan_inception:inception --output=evaluation

Writes `results.json` (the scores with all that they depend on), `table.md`, `table.txt` and `samples.png`. Statistics
of the real images are kept in a cache. `attennorm-compare-results` puts several results into one table.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import tensorflow as tf
from absl import flags
from tqdm import tqdm

from attennorm_tf.cli.command import UsageError, class_ids, run_command, show_in_help
from attennorm_tf.cli.evaluation_inputs import Subject, default_cache, folder_subject, open_extractor, real_images
from attennorm_tf.inference import GeneratedImages, load_generator
from attennorm_tf.inference.batch_norm_modes import BN_MODES
from attennorm_tf.inference.evaluate_gan import DEFAULT_METRICS, METRICS, EvaluationOptions, evaluate_gan, num_to_score
from attennorm_tf.inference.generated_images import DEFAULT_STANDING_BATCHES
from attennorm_tf.metrics import reference_statistics
from attennorm_tf.training import CheckpointError, make_strategy
from attennorm_tf.training.checkpointing import find_checkpoint

_DEFAULT_SAMPLES = 50_000

# Of this command alone: other commands have flags of the same names.
_FLAGS = flags.FlagValues()
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "work directory of train.gan, or one of its checkpoints", flag_values=_FLAGS
)
_FAKE_DIR = flags.DEFINE_string(
    "fake_dir",
    None,
    "folder of images to score, searched with its folders, in place of a checkpoint",
    flag_values=_FLAGS,
)
_DATA = flags.DEFINE_string(
    "data",
    None,
    "real images: digits, image_folder, tfds:<name> or the folder of an image_folder (default: what the checkpoint was "
    "trained on)",
    flag_values=_FLAGS,
)
_DATA_ROOT = flags.DEFINE_string(
    "data_root", None, "folder of image_folder, data folder of TFDS (default: as in training)", flag_values=_FLAGS
)
_SPLIT = flags.DEFINE_string(
    "split", None, "of the real images (default: as in training, or train)", flag_values=_FLAGS
)
_REAL_DIR = flags.DEFINE_string(
    "real_dir", None, "folder of real images, searched with its folders, in place of --data", flag_values=_FLAGS
)
_CLASS_FOLDERS = flags.DEFINE_bool(
    "class_folders",
    False,
    "the first folders in --fake_dir and --real_dir are classes; for intra_fid",
    flag_values=_FLAGS,
)
_SKIP_CORRUPT = flags.DEFINE_bool(
    "skip_corrupt",
    False,
    "leave out files that cannot be read, and count them, instead of stopping",
    flag_values=_FLAGS,
)
_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "folder for the results; made if it is not there (default: evaluation in the checkpoint's work directory, or for "
    "--fake_dir in the current one)",
    flag_values=_FLAGS,
)
_NAME = flags.DEFINE_string("name", None, "what to call it in tables (default: the experiment's)", flag_values=_FLAGS)
_METRICS = flags.DEFINE_list(
    "metrics", None, f"of {','.join(METRICS)} (default: {','.join(DEFAULT_METRICS)})", flag_values=_FLAGS
)
_NUM_SAMPLES = flags.DEFINE_integer(
    "num_samples", _DEFAULT_SAMPLES, "images to generate", lower_bound=1, flag_values=_FLAGS
)
_CLASSES = flags.DEFINE_list("classes", [], "ids or names of classes for intra_fid (default: all)", flag_values=_FLAGS)
_SAMPLES_PER_CLASS = flags.DEFINE_integer(
    "samples_per_class",
    None,
    "images generated anew for intra_fid of each class (default: with --classes, --num_samples shared out over them)",
    lower_bound=2,
    flag_values=_FLAGS,
)
_SPLITS = flags.DEFINE_integer("splits", 10, "of the Inception Score", lower_bound=1, flag_values=_FLAGS)
_EXTRACTOR = flags.DEFINE_string(
    "extractor",
    None,
    "tfgan_inception[:<folder>], keras_inception_v3:<weights.h5>, saved_model:<folder>:<features>[,<logits>], "
    "digits[:<side>], or classifier:<folder>, which is trained on --data first where the folder is not there "
    "(default: digits for digits, else tfgan_inception)",
    flag_values=_FLAGS,
)
_TEST_SPLIT = flags.DEFINE_string(
    "test_split", "test", "of --data, for the accuracy of a classifier that is trained first", flag_values=_FLAGS
)
_RESOLUTION = flags.DEFINE_integer(
    "resolution",
    None,
    "side to which the centre squares of --fake_dir and the real images are resized (default: the size that most "
    "images in --fake_dir have)",
    lower_bound=1,
    flag_values=_FLAGS,
)
_BN_MODE = flags.DEFINE_enum(
    "bn_mode", "moving", list(BN_MODES), "statistics of the generator's batch normalization", flag_values=_FLAGS
)
_STANDING_BATCHES = flags.DEFINE_integer(
    "standing_batches",
    DEFAULT_STANDING_BATCHES,
    "batches whose statistics are averaged with --bn_mode=standing",
    lower_bound=1,
    flag_values=_FLAGS,
)
_AVERAGE = flags.DEFINE_bool(
    "average", True, "use the moving average of the weights, where there is one", flag_values=_FLAGS
)
_TRUNCATION = flags.DEFINE_float("truncation", None, "noise beyond +-this is drawn again", flag_values=_FLAGS)
_SEED = flags.DEFINE_integer(
    "seed", 0, "of the samples; the same seed gives the same scores", lower_bound=0, flag_values=_FLAGS
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 64, "images at a time, over all replicas", lower_bound=1, flag_values=_FLAGS
)
_STRATEGY = flags.DEFINE_enum(
    "strategy",
    "auto",
    ["auto", "one_device", "mirrored"],
    "how the devices of this machine share a batch; one process scores, however many trained",
    flag_values=_FLAGS,
)
_CACHE_DIR = flags.DEFINE_string(
    "cache_dir",
    None,
    "for statistics of real images (default: attennorm_tf in the user's cache folder; empty: none are kept)",
    flag_values=_FLAGS,
)
_SAVE_IMAGES = flags.DEFINE_bool(
    "save_images", False, "also write the samples of all classes, images/<number>-class<id>.png", flag_values=_FLAGS
)

# What says how samples are drawn, and means nothing for finished images.
_OF_CHECKPOINTS = ("num_samples", "samples_per_class", "bn_mode", "standing_batches", "average", "truncation", "seed",
                   "save_images")  # fmt: skip
_OF_FOLDERS = ("resolution",)


def run() -> int:
    """Evaluates as the flags say."""
    _check_flags()
    output = _output()
    for path, taken in ((output, output.exists() and not output.is_dir()),
                        (output / "images", _SAVE_IMAGES.value and (output / "images").exists())):  # fmt: skip
        if taken:
            raise ValueError(f"--output: {path} is in the way; remove it or choose another folder.")
    # Twice the same number also on a GPU; the CPU's kernels that are used here always give it.
    strategy = make_strategy(_STRATEGY.value, deterministic=bool(tf.config.list_logical_devices("GPU")))
    metrics = _METRICS.value or list(DEFAULT_METRICS)
    subject = _subject()
    real = real_images(
        subject,
        data=_DATA.value,
        root=_DATA_ROOT.value,
        split=_SPLIT.value,
        real_dir=_REAL_DIR.value,
        labels="intra_fid" in metrics,
        skip_corrupt=_SKIP_CORRUPT.value,
    )
    spec = _EXTRACTOR.value or ("digits" if real.is_digits else "tfgan_inception")
    extractor = open_extractor(spec, real, subject.resolution, _TEST_SPLIT.value, strategy)
    source = real.source(subject.resolution, subject.channels or extractor.channels)
    images = subject.images(source, extractor)
    if _METRICS.value is None and extractor.num_classes is None:
        metrics.remove("is")
        print(f"no Inception Score: {extractor.name} has no logits")
    names = source.class_names or ()
    if _CLASSES.value and not names:
        raise ValueError(f"--classes: {source.name} has no labels.")
    chosen = class_ids("classes", _CLASSES.value, names)
    options = EvaluationOptions(metrics, _BATCH_SIZE.value, chosen, _SAMPLES_PER_CLASS.value, _SPLITS.value)
    wanted: Any = (chosen or None) if "intra_fid" in metrics and names else ()
    cache = default_cache() if _CACHE_DIR.value is None else _CACHE_DIR.value or None
    with tqdm(total=source.num_images, desc="real images", unit="image", disable=None, leave=False) as bar:
        reference = reference_statistics(
            source,
            extractor,
            cache,
            batch_size=_BATCH_SIZE.value,
            strategy=strategy,
            progress=bar.update,
            classes=wanted,
        )
    if wanted is None and not reference.class_moments:
        raise ValueError(f"--metrics: intra_fid of all {len(names)} classes takes too much memory; name --classes.")
    total = num_to_score(images, options, len(reference.class_moments))
    unfinished = output / ".images-unfinished"
    try:
        with tqdm(total=total, desc="images", unit="image", disable=None, leave=False) as bar:
            evaluation = evaluate_gan(
                images,
                extractor,
                reference,
                options,
                subject=subject.facts,
                strategy=strategy,
                progress=bar.update,
                save_to=unfinished if _SAVE_IMAGES.value else None,
            )
        files = evaluation.write(output)
        if _SAVE_IMAGES.value:
            os.replace(unfinished, output / "images")
            files.append(output / "images")
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    print(evaluation.table())
    for path in files:
        print(f"  {path}")
    return 0


def _check_flags() -> None:
    if (_CHECKPOINT.value is None) == (_FAKE_DIR.value is None):
        raise UsageError("--checkpoint or --fake_dir: one of them, and not both, says what to score.")
    if _DATA.value is not None and _REAL_DIR.value is not None:
        raise UsageError("--data and --real_dir exclude each other; leave one out.")
    if _FAKE_DIR.value is not None and _DATA.value is None and _REAL_DIR.value is None:
        raise UsageError("--fake_dir: needs --real_dir or --data, the real images.")
    given, others = ("fake_dir", _OF_CHECKPOINTS) if _CHECKPOINT.value is None else ("checkpoint", _OF_FOLDERS)
    for name in others:
        if _FLAGS[name].present:
            raise UsageError(f"--{name} and --{given} exclude each other; leave one out.")
    if _REAL_DIR.value is not None:
        for name in ("data_root", "split"):
            if _FLAGS[name].present:
                raise UsageError(f"--{name} goes with --data, not with --real_dir.")
    if _FLAGS["standing_batches"].present and _BN_MODE.value != "standing":
        raise UsageError(f"--standing_batches goes with --bn_mode=standing, got --bn_mode={_BN_MODE.value}.")
    metrics = _METRICS.value or list(DEFAULT_METRICS)
    EvaluationOptions(metrics, samples_per_class=_SAMPLES_PER_CLASS.value)
    if _CLASSES.value and "intra_fid" not in metrics:
        raise UsageError("--classes: for the metric intra_fid, which is not asked for.")


def _output() -> Path:
    """The folder of the results."""
    if _OUTPUT.value is not None:
        return Path(_OUTPUT.value)
    if _CHECKPOINT.value is None:
        return Path("evaluation")
    checkpoint = find_checkpoint(_CHECKPOINT.value)
    folder = checkpoint.parent
    return (folder.parent if folder.name == "checkpoints" else folder) / "evaluation"


def _subject() -> Subject:
    """The checkpoint or the folder."""
    if _FAKE_DIR.value is not None:
        return folder_subject(
            _FAKE_DIR.value, _NAME.value, _RESOLUTION.value, _CLASS_FOLDERS.value, _SKIP_CORRUPT.value
        )
    loaded = load_generator(str(_CHECKPOINT.value), average=_AVERAGE.value)
    images = GeneratedImages(
        loaded.generator,
        _NUM_SAMPLES.value,
        seed=_SEED.value,
        truncation=_TRUNCATION.value,
        bn_mode=_BN_MODE.value,
        standing_batches=_STANDING_BATCHES.value,
        average=loaded.average,
        class_names=loaded.class_names,
    )
    facts = {"name": _NAME.value or loaded.config.name, "step": loaded.step, "checkpoint": str(loaded.path)}
    return Subject(images.resolution, images.channels, facts, lambda source, extractor: images, loaded)


def main() -> None:
    """Entry point of the console command."""
    show_in_help(__doc__, _FLAGS)
    # What the metrics warn of stands under the table.
    logging.getLogger("attennorm_tf.metrics.streaming_metric").setLevel(logging.ERROR)
    logging.getLogger("attennorm_tf.metrics.feature_moments").setLevel(logging.ERROR)
    run_command(run, (CheckpointError,))


if __name__ == "__main__":
    main()
