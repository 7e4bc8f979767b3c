"""Features of the real images, computed once and kept in a file that knows what it was made from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

import numpy as np
import tensorflow as tf

from attennorm_tf.data import ImageSource
from attennorm_tf.metrics.feature_extraction import extract_features
from attennorm_tf.metrics.feature_extractor import FeatureExtractor
from attennorm_tf.metrics.feature_moments import FeatureMoments

FORMAT = 1
DEFAULT_FEATURE_LIMIT = 50_000
CLASS_MOMENTS_BYTES = 512 * 2**20  # class moments are kept by themselves while they take at most this
_SAMPLE_SEED = 0
_QUESTION = ("resolution", "channels", "classes", "preparation")  # files that differ in these are not stale

_logger = logging.getLogger(__name__)


class DamagedStatisticsError(ValueError):
    """A file that holds no reference statistics, or not those it was written with."""


@dataclasses.dataclass(frozen=True)
class ReferenceStatistics:
    """What generated images are held against.

    Memory: 4 d bytes a kept feature (d = 2048: 0.4 GB for 50,000), and 8 d^2 bytes each (34 MB) for the moments of all
    images and of every class of 1024 images and more; 4 d bytes an image in smaller classes. Measured for 50,000 images
    in 10 classes at d = 2048: 0.91 GiB at most while they are computed, 0.84 GiB while they are loaded.

    Attributes:
        extractor: its `protocol()`.
        source: `facts()` of the images.
        options: what was asked for: "feature_limit" and "classes".
        count: how many images there were.
        moments: of all features.
        class_moments: of the features of each class asked for that has images; {} without labels.
        features: float32 (min(count, limit), d), drawn without replacement by a fixed seed, in order of the source.
    """

    extractor: dict[str, Any]
    source: dict[str, Any]
    options: dict[str, Any]
    count: int
    moments: FeatureMoments
    class_moments: dict[int, FeatureMoments]
    features: np.ndarray

    def check(self, extractor: FeatureExtractor) -> None:
        """Raises ValueError unless these are features of this very extractor."""
        difference = _difference(self.extractor, _plain(extractor.protocol()))
        if difference:
            raise ValueError(f"reference statistics were made by another feature extractor: {difference}.")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes one .npz file, whole or not at all, with a SHA-256 of what is in it."""
        arrays: dict[str, Any] = {"features": self.features}
        for prefix, moments in (("all", self.moments), *((f"class_{k}", m) for k, m in self.class_moments.items())):
            arrays.update({f"{prefix}.{name}": values for name, values in moments.state().items()})
        header = {
            "format": FORMAT,
            "extractor": self.extractor,
            "source": self.source,
            "options": self.options,
            "count": self.count,
            "classes": sorted(self.class_moments),
            "sha256": _digest(arrays),
        }
        arrays["header"] = np.frombuffer(json.dumps(header, sort_keys=True).encode(), np.uint8)
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder: a rename is atomic only within one file system.
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}.", suffix=".tmp")
        try:
            with os.fdopen(descriptor, "wb") as file:
                np.savez(file, **arrays)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)  # mkstemp makes a private file
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ReferenceStatistics:
        """Reads a file of `save`; nothing in it is run.

        Raises:
            DamagedStatisticsError: it is no such file, cut off, or changed since; a ValueError.
            OSError: it cannot be opened.
        """
        header = read_header(path)
        arrays = _read(path, lambda name: name != "header")
        if _digest(arrays) != header["sha256"]:
            raise DamagedStatisticsError(
                f"reference statistics {os.fspath(path)!r} are damaged: their SHA-256 is not the one they were "
                "written with."
            )
        return cls(
            extractor=header["extractor"],
            source=header["source"],
            options=header["options"],
            count=header["count"],
            moments=_moments(arrays, "all"),
            class_moments={label: _moments(arrays, f"class_{label}") for label in header["classes"]},
            features=arrays["features"],
        )


def reference_statistics(
    source: ImageSource,
    extractor: FeatureExtractor,
    cache_dir: str | os.PathLike[str] | None,
    *,
    batch_size: int,
    strategy: tf.distribute.Strategy | None = None,
    progress: Callable[[int], object] = lambda count: None,
    feature_limit: int = DEFAULT_FEATURE_LIMIT,
    classes: Sequence[int] | None = None,
) -> ReferenceStatistics:
    """The statistics of a source by an extractor: from the cache, or computed and put there.

    The file's name holds a hash of what decides the numbers: the content of the images, their preparation, the
    extractor's protocol, `feature_limit` and `classes`. A file that is missing is looked for under what it was called
    before: where the images or the extractor have changed since, the log says which. A file that is damaged, or made
    from something else than its name says, is logged, computed anew and replaced.

    Args:
        source: real images.
        extractor: whose features.
        cache_dir: folder of the cache, made if it is not there; None: no cache.
        batch_size: images at a time, over all replicas; changes the numbers by rounding only.
        strategy: see `extract_features`.
        progress: told how many images were finished since it was last told.
        feature_limit: features kept beside the moments, for the measures that need them; 0 or more.
        classes: ids of the classes whose moments are kept; (): none; None: every class, if their moments take at most
            512 MiB (at d = 2048, 16 large classes, or 65,536 images in small ones), else none, which is logged.

    Returns:
        The statistics.

    Raises:
        ValueError: a class that is not in the source or classes of one without labels, fewer than 2 images, an image
            that cannot be read, or a feature that is not finite.
    """
    if feature_limit < 0:
        raise ValueError(f"feature_limit must be 0 or more, got {feature_limit}.")
    if source.num_images < 2:
        raise ValueError(f"reference statistics need at least 2 images, {source.name!r} holds {source.num_images}.")
    wanted = _wanted_classes(source, extractor, classes)
    if cache_dir is None:
        return _computed(source, extractor, batch_size, strategy, progress, feature_limit, wanted)
    facts, protocol = _plain(source.facts()), _plain(extractor.protocol())
    decisive = {
        "format": FORMAT,
        "source": _content(facts),
        "extractor": protocol,
        "options": {"feature_limit": feature_limit, "classes": wanted},
    }
    key = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    stem = _slug(f"{source.name}-{source.split or 'folder'}-{extractor.name}")
    path = Path(cache_dir) / f"{stem}-{key[:24]}.npz"
    if path.exists():
        kept = _kept(path, decisive)
        if kept is not None:
            _logger.info("reference statistics: %s.", path)
            return kept
    else:
        _log_stale(Path(cache_dir), stem, facts, protocol)
    made = _computed(source, extractor, batch_size, strategy, progress, feature_limit, wanted)
    made.save(path)
    return made


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The facts in a file of `ReferenceStatistics.save`, without its arrays.

    Raises:
        DamagedStatisticsError: it is no such file, or of another format.
        OSError: it cannot be opened.
    """
    where = f"reference statistics {os.fspath(path)!r}"
    try:
        header = json.loads(bytes(_read(path, lambda name: name == "header")["header"]).decode())
        version = header["format"]
    except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DamagedStatisticsError(f"{where} are damaged: they lack a header ({error!r}).") from error
    if version != FORMAT:
        raise DamagedStatisticsError(f"{where} are of format {version}, expected {FORMAT}.")
    return header


def _read(path: str | os.PathLike[str], wanted: Callable[[str], bool]) -> dict[str, np.ndarray]:
    """The arrays of these names."""
    with open(path, "rb") as opened:
        try:
            with np.load(opened, allow_pickle=False) as file:
                return {name: file[name] for name in file.files if wanted(name)}
        # zipfile, zlib and NumPy meet damaged bytes with many kinds of exception.
        except Exception as error:
            raise DamagedStatisticsError(f"reference statistics {os.fspath(path)!r} are damaged: {error}") from error


def _computed(
    source: ImageSource,
    extractor: FeatureExtractor,
    batch_size: int,
    strategy: tf.distribute.Strategy | None,
    progress: Callable[[int], object],
    feature_limit: int,
    classes: Sequence[int],
) -> ReferenceStatistics:
    # RandomState: its stream is frozen across NumPy versions.
    chosen = np.sort(np.random.RandomState(_SAMPLE_SEED).permutation(source.num_images)[:feature_limit])
    features = np.empty((len(chosen), extractor.feature_size), np.float32)
    moments = FeatureMoments()
    of_class = {label: FeatureMoments() for label in classes}
    seen = 0
    for batch in extract_features(
        extractor, source.batches(batch_size), batch_size, strategy=strategy, progress=progress
    ):
        moments.update(batch.features)
        for label in () if batch.labels is None else np.unique(batch.labels).tolist():
            if label in of_class:
                of_class[label].update(batch.features[batch.labels == label])
        first, last = np.searchsorted(chosen, (seen, seen + len(batch.features)))
        features[first:last] = batch.features[chosen[first:last] - seen]
        seen += len(batch.features)
    if seen != source.num_images:
        raise ValueError(f"{source.name!r} was to hold {source.num_images} images, but gave {seen}.")
    return ReferenceStatistics(
        extractor=_plain(extractor.protocol()),
        source=_plain(source.facts()),
        options={"feature_limit": feature_limit, "classes": list(classes)},
        count=seen,
        moments=moments,
        class_moments={label: part for label, part in of_class.items() if part.count},
        features=features,
    )


def _moments(arrays: dict[str, np.ndarray], prefix: str) -> FeatureMoments:
    """Takes the arrays of one prefix out of `arrays`, which is large: none of it should be there twice."""
    start = len(prefix) + 1
    return FeatureMoments.from_state(
        {name[start:]: arrays.pop(name) for name in list(arrays) if name.startswith(f"{prefix}.")}
    )


def _wanted_classes(source: ImageSource, extractor: FeatureExtractor, classes: Sequence[int] | None) -> list[int]:
    known = 0 if source.class_names is None else len(source.class_names)
    if classes is None:
        # A class of fewer examples than this is kept as its examples.
        each = source.num_images // max(1, known)
        size = extractor.feature_size
        if known * (8 * size * size if each >= 1024 else 4 * size * each) > CLASS_MOMENTS_BYTES:
            _logger.warning(
                "reference statistics of %r: moments of %d classes with %d features would take more than %d MiB and "
                "are left out; name the classes that are needed.",
                source.name,
                known,
                size,
                CLASS_MOMENTS_BYTES // 2**20,
            )
            return []
        return list(range(known))
    wanted = sorted({int(label) for label in classes})
    if wanted and not known:
        raise ValueError(f"classes: {source.name!r} has no labels, got classes {wanted}.")
    outside = [label for label in wanted if not 0 <= label < known]
    if outside:
        raise ValueError(f"classes must be in [0, {known}), got {outside[0]}.")
    return wanted


def _kept(path: Path, decisive: dict[str, Any]) -> ReferenceStatistics | None:
    """The file's statistics, if they are what its name says; otherwise None, and the reason is logged."""
    try:
        kept = ReferenceStatistics.load(path)
    except (DamagedStatisticsError, OSError) as error:
        _logger.warning("%s Computing them anew.", error)
        return None
    facts = {"extractor": kept.extractor, "source": _content(kept.source), "options": kept.options}
    reason = next(filter(None, (_difference(facts[name], decisive[name]) for name in facts)), "")
    if reason:
        _logger.warning("reference statistics %s are foreign (%s). Computing them anew.", path, reason)
        return None
    return kept


def _log_stale(folder: Path, stem: str, facts: dict[str, Any], protocol: dict[str, Any]) -> None:
    """Says why files of this source and extractor that are there do not serve."""
    for path in sorted(folder.glob(f"{stem}-*.npz")):
        if not re.fullmatch(r"[0-9a-f]{24}", path.stem[len(stem) + 1 :]):
            continue
        try:
            header = read_header(path)
        except (DamagedStatisticsError, OSError) as error:
            _logger.warning("%s", error)
            continue
        if any(header["source"].get(name) != facts[name] for name in _QUESTION):
            continue
        reason = _difference(header["source"], facts) or _difference(header["extractor"], protocol)
        if reason:
            _logger.warning("reference statistics %s are stale (%s). Computing new ones.", path, reason)


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """In words, the first facts that differ; "" if none."""
    changed = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    return ", ".join(f"{name} is {now.get(name)!r}, was {before.get(name)!r}" for name in changed[:3])


def _content(source: dict[str, Any]) -> dict[str, Any]:
    """The facts of images that do not depend on what they are called."""
    return {name: value for name, value in source.items() if name not in ("name", "split")}


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    """As it comes back from a file."""
    return json.loads(json.dumps(facts))


def _digest(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {values.dtype.str} {values.shape} ".encode())
        digest.update(values.data)
    return digest.hexdigest()


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text)[:120]
