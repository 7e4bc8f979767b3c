"""Statistics of real images against NumPy, and a cache that is never believed for its name alone."""

from __future__ import annotations

import json
import re
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from attennorm_tf.data import dataset_source, folder_source, load_dataset
from attennorm_tf.metrics import DamagedStatisticsError, ReferenceStatistics, reference_statistics
from tests.metrics.extractors import FEATURES, LinearExtractor

# The function hides the module of its name.
module = sys.modules[ReferenceStatistics.__module__]

_COUNTS = {"cat": 9, "dog": 4, "owl": 1}


@pytest.fixture
def folder(tmp_path):
    random = np.random.RandomState(3)
    for name, count in _COUNTS.items():
        (tmp_path / "real" / name).mkdir(parents=True)
        for index in range(count):
            pixels = random.randint(0, 256, (3, 3, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "real" / name / f"{index}.png")
    return tmp_path / "real"


def _source(folder, **options):
    return folder_source(folder, 3, class_folders=True, **options)


def _features(source, extractor):
    batches = list(source.batches(100))
    return extractor.expected(batches[0].images)[0], batches[0].labels


def _same(one, other):
    """Whether two statistics are equal to the last bit."""
    assert (one.extractor, one.source, one.count) == (other.extractor, other.source, other.count)
    np.testing.assert_array_equal(one.features, other.features)
    assert sorted(one.class_moments) == sorted(other.class_moments)
    pairs = [(one.moments, other.moments)]
    pairs += [(moments, other.class_moments[label]) for label, moments in one.class_moments.items()]
    for first, second in pairs:
        assert first.count == second.count
        np.testing.assert_array_equal(first.mean, second.mean)
        if first.count > 1:
            np.testing.assert_array_equal(first.covariance, second.covariance)


def test_against_numpy(folder, two_cpus):
    source, extractor = _source(folder), LinearExtractor()
    features, labels = _features(source, extractor)
    told = []
    for strategy in (None, two_cpus):
        made = reference_statistics(source, extractor, None, batch_size=4, strategy=strategy, progress=told.append)
        assert made.count == made.moments.count == 14
        np.testing.assert_allclose(made.features, features, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(made.moments.mean, features.mean(axis=0), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(made.moments.covariance, np.cov(features.T), rtol=1e-4, atol=1e-4)
        assert sorted(made.class_moments) == [0, 1, 2]
        for label in (0, 1):
            own = features[labels == label]
            assert made.class_moments[label].count == len(own)
            np.testing.assert_allclose(made.class_moments[label].covariance, np.cov(own.T), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(made.class_moments[2].mean, features[-1], rtol=1e-5, atol=1e-5)
    assert sum(told) == 28
    assert made.extractor == extractor.protocol()
    assert made.source == source.facts()


def test_kept_features_are_a_sample_in_order(folder):
    source, extractor = _source(folder), LinearExtractor()
    everything = reference_statistics(source, extractor, None, batch_size=5)
    some = reference_statistics(source, extractor, None, batch_size=3, feature_limit=6)
    chosen = np.sort(np.random.RandomState(0).permutation(14)[:6])
    np.testing.assert_allclose(some.features, everything.features[chosen], rtol=1e-6)
    np.testing.assert_allclose(some.moments.mean, everything.moments.mean, rtol=1e-6)
    assert reference_statistics(source, extractor, None, batch_size=3, feature_limit=0).features.shape == (0, FEATURES)


def test_classes_that_are_asked_for(folder, monkeypatch, caplog):
    source, extractor = _source(folder), LinearExtractor()
    assert sorted(reference_statistics(source, extractor, None, batch_size=9, classes=[2, 0]).class_moments) == [0, 2]
    assert reference_statistics(source, extractor, None, batch_size=9, classes=()).class_moments == {}
    assert reference_statistics(folder_source(folder, 3), extractor, None, batch_size=9).class_moments == {}
    with pytest.raises(ValueError, match=r"classes must be in \[0, 3\), got 3"):
        reference_statistics(source, extractor, None, batch_size=9, classes=[0, 3])
    with pytest.raises(ValueError, match="classes: 'real' has no labels, got classes \\[1\\]"):
        reference_statistics(folder_source(folder, 3), extractor, None, batch_size=9, classes=[1])
    # 14 images in 3 classes are at most 4 each: 3 classes x 4 images x 4 bytes x 6 features.
    monkeypatch.setattr(module, "CLASS_MOMENTS_BYTES", 3 * 4 * 4 * FEATURES)
    assert len(reference_statistics(source, extractor, None, batch_size=9).class_moments) == 3
    monkeypatch.setattr(module, "CLASS_MOMENTS_BYTES", 3 * 4 * 4 * FEATURES - 1)
    assert reference_statistics(source, extractor, None, batch_size=9).class_moments == {}
    assert "moments of 3 classes with 6 features would take more than" in caplog.text


@pytest.fixture
def cached(folder, tmp_path, monkeypatch):
    """Calls `reference_statistics`; returns it with whether anything was computed."""
    extracted = []
    extract = module.extract_features
    monkeypatch.setattr(
        module, "extract_features", lambda *given, **named: extracted.append(1) or extract(*given, **named)
    )

    def call(source=None, extractor=None, **options):
        before = len(extracted)
        options.setdefault("batch_size", 5)
        made = reference_statistics(
            source or _source(folder), extractor or LinearExtractor(), tmp_path / "c", **options
        )
        return made, len(extracted) > before

    return call


def _files(tmp_path):
    return sorted((tmp_path / "c").glob("*"))


def test_computed_once(cached, tmp_path, folder, caplog):
    first, computed = cached()
    assert computed
    second, computed = cached(batch_size=3)
    assert not computed
    _same(first, second)
    (path,) = _files(tmp_path)
    assert re.fullmatch(r"real-folder-linear_3-[0-9a-f]{24}\.npz", path.name)
    _same(ReferenceStatistics.load(path), first)
    # By content: the same images elsewhere are the same images.
    assert not cached(_source(shutil.copytree(folder, tmp_path / "elsewhere" / "real")))[1]
    assert [record for record in caplog.records if record.name == module.__name__] == []


def test_other_questions_have_other_files(cached, tmp_path, folder, caplog):
    for options in (
        {},
        {"feature_limit": 3},
        {"classes": [1]},
        {"source": folder_source(folder, 3)},
        {"source": folder_source(folder, 2, class_folders=True)},
        {"extractor": LinearExtractor(resolution=2)},
        {"source": _source(folder, class_names=["owl", "cat", "dog"])},
    ):
        assert cached(**options)[1]
        assert not cached(**options)[1]
    assert len(_files(tmp_path)) == 7
    # Other classes of the same images are another content: of the three files of labelled 3x3 images by linear_3.
    told = [record.getMessage() for record in caplog.records if record.name == module.__name__]
    assert ["stale" in message for message in told] == [True] * 3


def test_stale_data_is_noticed(cached, folder, tmp_path, caplog):
    cached()
    Image.new("RGB", (3, 3)).save(folder / "cat" / "0.png")
    made, computed = cached()
    assert computed
    assert re.search(r"linear_3-\w+\.npz are stale \(content_hash is '\w{64}', was '\w{64}'\)", caplog.text)
    np.testing.assert_allclose(made.features[0], -LinearExtractor().weights.sum(axis=0), rtol=1e-5)
    caplog.clear()
    (folder / "cat" / "1.png").unlink()
    assert cached()[1]
    assert "count is 13, was 14" in caplog.text
    assert len(_files(tmp_path)) == 3


def test_a_changed_extractor_is_noticed(cached, caplog):
    cached()
    assert cached(extractor=LinearExtractor(seed=1))[1]
    assert f"are stale (content_hash is '{1:064d}', was '{0:064d}')" in caplog.text


def test_foreign_files_are_noticed(cached, folder, tmp_path, caplog):
    first, _ = cached()
    (own,) = _files(tmp_path)
    for foreign in (
        {"extractor": LinearExtractor(seed=1)},
        {"source": folder_source(folder, 2, class_folders=True)},
        {"feature_limit": 3},
        {"classes": [1]},
    ):
        caplog.clear()
        given = {"source": _source(folder), "extractor": LinearExtractor(), **foreign}
        reference_statistics(**given, cache_dir=None, batch_size=5).save(own)
        again, computed = cached()
        assert computed
        assert f"reference statistics {own} are foreign (" in caplog.text
        _same(again, first)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text", "no header", "format", "pickle"])
def test_damaged_files_are_noticed(cached, tmp_path, caplog, damage):
    first, _ = cached()
    (path,) = _files(tmp_path)
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        with np.load(path) as file:
            arrays = dict(file)
        arrays["features"][3, 2] += 1
        np.savez(path, **arrays)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("statistics")
    elif damage == "no header":
        np.savez(path, features=np.zeros(3))
    elif damage == "format":
        with np.load(path) as file:
            arrays = dict(file)
        header = {**json.loads(bytes(arrays["header"])), "format": 99}
        np.savez(path, **{**arrays, "header": np.frombuffer(json.dumps(header).encode(), np.uint8)})
    else:
        np.savez(path, header=np.array([{"format": 1}], dtype=object))
    with pytest.raises(DamagedStatisticsError, match=re.escape(str(path))):
        ReferenceStatistics.load(path)
    caplog.clear()
    again, computed = cached()
    assert computed
    assert "Computing them anew" in caplog.text
    _same(again, first)
    assert not cached()[1]
    assert _files(tmp_path) == [path]


def test_an_interrupted_write_leaves_nothing(cached, tmp_path, monkeypatch):
    def fail(*given, **named):
        raise OSError("disk full")

    monkeypatch.setattr(module.np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        cached()
    assert _files(tmp_path) == []


def test_check_refuses_another_extractor(folder):
    made = reference_statistics(_source(folder), LinearExtractor(), None, batch_size=5)
    made.check(LinearExtractor())
    with pytest.raises(ValueError, match=r"made by another feature extractor: content_hash is '0*1', was '0*'"):
        made.check(LinearExtractor(seed=1))


def test_bad_arguments(folder):
    with pytest.raises(ValueError, match="feature_limit must be 0 or more, got -1"):
        reference_statistics(_source(folder), LinearExtractor(), None, batch_size=5, feature_limit=-1)
    with pytest.raises(ValueError, match="need at least 2 images, 'owl' holds 1"):
        reference_statistics(folder_source(folder / "owl", 3), LinearExtractor(), None, batch_size=5)
    with pytest.raises(FileNotFoundError):
        ReferenceStatistics.load(folder / "gone.npz")


def test_of_a_data_set(tmp_path):
    source = dataset_source(load_dataset("digits", split="test"), 3)
    extractor = LinearExtractor(channels=1)
    made = reference_statistics(source, extractor, tmp_path, batch_size=64)
    features, labels = [], []
    for images, classes in source.batches(359):
        features.append(extractor.expected(images)[0])
        labels.append(classes)
    np.testing.assert_allclose(made.moments.covariance, np.cov(np.concatenate(features).T), rtol=1e-4)
    assert {label: moments.count for label, moments in made.class_moments.items()} == dict(
        enumerate(np.bincount(np.concatenate(labels)))
    )
    assert [path.name.rsplit("-", 1)[0] for path in tmp_path.iterdir()] == ["digits-test-linear_3"]
