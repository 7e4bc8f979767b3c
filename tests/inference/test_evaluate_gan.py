"""Scores of checkpoints and of folders: what they are, what they may depend on, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from attennorm_tf.data import folder_source
from attennorm_tf.inference import EvaluationOptions, GeneratedImages, evaluate_gan, load_generator, sample
from attennorm_tf.inference.evaluate_gan import METRICS, num_to_score
from attennorm_tf.inference.gan_protocol import load_result
from attennorm_tf.inference.generated_images import draw_labels
from attennorm_tf.inference.sample import draw_latents
from attennorm_tf.metrics import (
    InceptionScore,
    KernelDistance,
    PrecisionRecall,
    extract_features,
    frechet_distance,
    reference_statistics,
)
from tests.inference.gan_runs import TinyExtractor, real_source, tiny_generator, write_images, write_run

ALL = EvaluationOptions(metrics=METRICS, batch_size=8, splits=2)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`real`, images in class folders; `run`, a checkpoint. Read only."""
    root = tmp_path_factory.mktemp("place")
    write_images(root / "real")
    write_run(root / "run")
    return root


@pytest.fixture(scope="module")
def reference(place: Path) -> Any:
    return reference_statistics(real_source(place / "real"), TinyExtractor(), None, batch_size=8)


def generated(count: int = 20, **options: Any) -> GeneratedImages:
    return GeneratedImages(tiny_generator(), count, **options)


def features_of(images: np.ndarray, extractor: TinyExtractor) -> tuple[np.ndarray, np.ndarray]:
    pixels = np.clip(np.rint((images.astype(np.float64) + 1) * 127.5), 0, 255).astype(np.uint8)
    batch = next(extract_features(extractor, [(pixels, None)], len(pixels)))
    return batch.features.astype(np.float64), batch.logits


def moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return features.mean(axis=0), np.cov(features, rowvar=False)


def test_scores_are_those_of_the_samples(reference: Any) -> None:
    extractor, count = TinyExtractor(), 20
    scores = evaluate_gan(generated(count), extractor, reference, ALL).result["scores"]
    labels = draw_labels(0, count, range(3), 0)
    images = sample(tiny_generator(), draw_latents(count, 8, 0), labels).images
    features, logits = features_of(images, extractor)
    real = reference.features.astype(np.float64)
    assert scores["fid"] == pytest.approx(frechet_distance(*moments(features), *moments(real)), rel=1e-4)
    real_labels = np.repeat(np.arange(3), 10)  # in the folders' order
    for label in range(3):
        expected = frechet_distance(*moments(features[labels == label]), *moments(real[real_labels == label]))
        assert scores["intra_fid"][str(label)] == pytest.approx(expected, rel=1e-4)
    assert scores["intra_fid_mean"] == pytest.approx(np.mean(list(scores["intra_fid"].values())))
    for metric, given, keys in (
        (InceptionScore(2, shuffle_seed=0), logits, ["inception_score"]),
        (KernelDistance(real, shuffle_seed=0), features, ["kid"]),
        (PrecisionRecall(real), features, ["precision", "recall", "density", "coverage"]),
    ):
        metric.update_state(given)
        result = metric.result()
        for key, value in zip(keys, result):
            assert scores[key] == pytest.approx(value, rel=1e-4)


def test_a_checkpoint_and_its_samples_as_png_score_alike_and_twice_the_same(
    place: Path, reference: Any, tmp_path: Path
) -> None:
    loaded = load_generator(place / "run")
    extractor = TinyExtractor()
    options = EvaluationOptions(batch_size=8)
    images = GeneratedImages(loaded.generator, 20, average=loaded.average)
    first = evaluate_gan(images, extractor, reference, options, save_to=tmp_path / "images")
    saved = folder_source(tmp_path / "images", 16, channels=1)
    assert (saved.num_images, saved.resized) == (20, 0)
    assert evaluate_gan(saved, extractor, reference, options).result["scores"] == first.result["scores"]
    again = GeneratedImages(load_generator(place / "run").generator, 20, average=True)
    assert evaluate_gan(again, extractor, reference, options).result == first.result


def test_batch_size_and_replicas_do_not_matter(reference: Any, two_cpus: tf.distribute.Strategy) -> None:
    found = []
    for batch_size, strategy in ((8, None), (6, None), (8, two_cpus)):
        options = EvaluationOptions(metrics=METRICS, batch_size=batch_size, splits=2)
        found.append(evaluate_gan(generated(), TinyExtractor(), reference, options, strategy=strategy).result)
    for other in found[1:]:
        assert other["protocol"] == found[0]["protocol"]
        for name, value in other["scores"].items():
            expected = found[0]["scores"][name]
            assert value == (expected and pytest.approx(expected, rel=1e-6, abs=1e-6)), name


@pytest.mark.parametrize("average", [True, False])
def test_weights_and_modes_are_recorded_and_matter(place: Path, reference: Any, average: bool) -> None:
    loaded = load_generator(place / "run", average=average)
    assert loaded.average == average
    other = load_generator(place / "run", average=not average).generator
    assert not np.array_equal(loaded.generator.get_weights()[0], other.get_weights()[0])
    scores = set()
    for mode in ("moving", "batch" if average else "standing"):
        images = GeneratedImages(loaded.generator, 20, average=average, bn_mode=mode, standing_batches=3)
        result = evaluate_gan(images, TinyExtractor(), reference, EvaluationOptions(("fid",), batch_size=8)).result
        samples = result["protocol"]["samples"]
        assert samples["weights"] == ("moving average" if average else "as trained")
        assert samples["bn_mode"] == mode
        assert samples.get("bn_batch_size") == (None if mode == "moving" else 8)
        assert samples.get("standing_batches") == (3 if mode == "standing" else None)
        scores.add(result["scores"]["fid"])
    assert len(scores) == 2


def test_chosen_classes_have_samples_of_their_own(reference: Any) -> None:
    options = EvaluationOptions(("intra_fid",), batch_size=8, classes=(2, 0), samples_per_class=6)
    images = generated(class_names=["a", "b", "c"])
    seen = []
    result = evaluate_gan(images, TinyExtractor(), reference, options, progress=seen.append).result
    assert sum(seen) == 12 == num_to_score(images, options, 3)
    assert list(result["scores"]["intra_fid"]) == ["0", "2"]
    assert result["subject"]["class_names"] == {"0": "a", "2": "c"}
    assert result["protocol"]["metrics"]["intra_fid"]["samples_per_class"] == 6
    shared = EvaluationOptions(("fid", "intra_fid"), batch_size=8, classes=(1,))
    assert num_to_score(images, shared) == 40  # 20 of all classes, and 20 of one
    assert list(evaluate_gan(images, TinyExtractor(), reference, shared).result["scores"]["intra_fid"]) == ["1"]


def test_labels_come_in_rounds_by_row() -> None:
    labels = draw_labels(0, 50, [4, 7, 9], seed=3)
    for start in range(0, 48, 3):
        assert sorted(labels[start : start + 3]) == [4, 7, 9]
    assert len({tuple(labels[start : start + 3]) for start in range(0, 48, 3)}) > 2
    np.testing.assert_array_equal(draw_labels(17, 20, [4, 7, 9], seed=3), labels[17:37])
    assert not np.array_equal(draw_labels(0, 50, [4, 7, 9], seed=4), labels)


def test_files_hold_the_whole_protocol(reference: Any, tmp_path: Path) -> None:
    evaluation = evaluate_gan(generated(), TinyExtractor(), reference, ALL, subject={"name": "tiny", "step": 7})
    files = evaluation.write(tmp_path / "a" / "b")
    assert [path.name for path in files] == ["samples.png", "table.txt", "table.md", "results.json"]
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == sorted(path.name for path in files)
    result = load_result(tmp_path / "a" / "b")
    assert result == json.loads(files[-1].read_text()) == evaluation.result
    protocol = result["protocol"]
    assert protocol["extractor"]["content_hash"] == f"{0:064d}"
    assert protocol["reference"]["count"] == 30
    assert len(protocol["reference"]["content_hash"]) == 64
    assert protocol["metrics"]["is"]["splits"] == 2
    assert protocol["metrics"]["pr"]["neighbours"] == 3
    assert protocol["samples"]["seed"] == 0
    assert protocol["software"]["stack"] in ("current", "classic")
    assert protocol["software"]["tensorflow"] == tf.__version__
    table = files[1].read_text()
    assert max(map(len, table.splitlines())) <= 80
    assert "FD (tiny0)" in table
    assert "FID" not in table
    assert result["warnings"]
    flat = " ".join(table.split())
    for warning in result["warnings"]:
        assert warning in flat
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file, expected a folder"):
        evaluation.write(tmp_path / "file")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ("fid", "ssim")}, "metrics must be of fid, is, kid, pr, intra_fid; got 'ssim'"),
        ({"metrics": ()}, "metrics must name one or more"),
        ({"classes": (1,)}, "are for the metric intra_fid, which is not asked for"),
        ({"metrics": ("intra_fid",), "classes": (1, 1)}, "classes must be different, got 1, 1"),
        ({"metrics": ("intra_fid",), "samples_per_class": 1}, "samples_per_class must be at least 2, got 1"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EvaluationOptions(**options)


def test_what_does_not_fit_is_refused_before_anything_is_generated(
    reference: Any, place: Path, two_cpus: tf.distribute.Strategy
) -> None:
    def refused(message: str, images: Any = None, extractor: Any = None, strategy: Any = None, **options: Any) -> None:
        with pytest.raises(ValueError, match=message):
            evaluate_gan(
                images or generated(), extractor or TinyExtractor(), reference, EvaluationOptions(**options),
                strategy=strategy, progress=lambda count: pytest.fail("something was scored"),
            )  # fmt: skip

    refused("made by another feature extractor", extractor=TinyExtractor(1))
    refused("batch_size must be a positive multiple of the 2 replicas, got 7", strategy=two_cpus, batch_size=7)
    refused("'pr' needs at least 6 images, got 5", images=generated(5))
    refused("needs 2 of each of 2 classes, got 2", images=generated(2), metrics=("intra_fid",), classes=(0, 1))
    refused("classes: 3 is not among the 3 classes of the reference, 0 to 2", metrics=("intra_fid",), classes=(3,))
    refused("8 pixels wide|must be of one resolution", images=real_source(place / "real", resolution=8))
    unlabelled = folder_source(place / "real", 16, channels=1)
    refused("'intra_fid' needs images with labels; these have none", images=unlabelled, metrics=("intra_fid",))
    refused("takes grey images, those to score have 3 channels", images=folder_source(place / "real", 16, channels=3))


def test_a_reference_without_labels_or_logits(place: Path) -> None:
    extractor = TinyExtractor(with_logits=False)
    bare = reference_statistics(folder_source(place / "real", 16, channels=1), extractor, None, batch_size=8)
    with pytest.raises(ValueError, match="needs real images with labels; the reference has none"):
        evaluate_gan(generated(), extractor, bare, EvaluationOptions(("intra_fid",)))
    with pytest.raises(ValueError, match="'is' needs logits, which the extractor 'tiny0' does not have"):
        evaluate_gan(generated(), extractor, bare, EvaluationOptions(("is",)))


def test_samples_that_are_not_finite_are_named(reference: Any) -> None:
    generator = tiny_generator()
    table = generator.block1.norm1.gamma
    table.assign(tf.where(tf.range(3)[:, tf.newaxis] == 1, np.nan, tf.convert_to_tensor(table)))
    labels = draw_labels(0, 20, range(3), 0)
    first = int(np.flatnonzero(labels == 1)[0])
    with pytest.raises(ValueError, match=rf"sample {first} \(class 1\) of the generator is not finite"):
        evaluate_gan(GeneratedImages(generator, 20), TinyExtractor(), reference, EvaluationOptions(("fid",)))
    with pytest.raises(ValueError, match=r"classes must be in \[0, 3\), got 5"):
        next(generated().batches(4, classes=[5]))
