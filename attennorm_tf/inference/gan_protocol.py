"""Result files of GAN evaluations: what is in them, whether one can be used, and where two differ in their protocol."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

KIND = "gan_evaluation"
FORMAT = 1
SCORES = (
    "fid",
    "intra_fid_mean",
    "inception_score",
    "inception_score_std",
    "kid",
    "kid_std_error",
    "precision",
    "recall",
    "density",
    "coverage",
)
_SHOWN_DIGITS = 12  # of hashes


class ResultError(ValueError):
    """A file that is no result of a GAN evaluation; the message names it and says why."""


def load_result(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads and checks a result.

    Args:
        path: a `results.json`, or the folder that holds one.

    Returns:
        Its values: kind, format, subject, protocol, scores, warnings.

    Raises:
        ResultError: no such file, not JSON, another kind or format, or a key or number that is missing or wrong.
    """
    file = Path(path)
    if file.is_dir():
        file /= "results.json"
    try:
        result = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse)
    except OSError as error:
        raise ResultError(f"{file} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # also text that is not UTF-8
        raise ResultError(f"{file} is not valid JSON: {error}.") from error
    problem = _problem(result)
    if problem:
        raise ResultError(f"{file} {problem}.")
    return result


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _problem(result: Any) -> str | None:
    """What is wrong with a parsed file, or None."""
    if not isinstance(result, dict) or result.get("kind") != KIND:
        kind = result.get("kind") if isinstance(result, dict) else None
        return f"is no GAN evaluation (kind {KIND!r}), but of kind {kind!r}"
    if result.get("format") != FORMAT:
        return f"has format {result.get('format')!r}, expected {FORMAT}"
    for name, kind in (("subject", dict), ("protocol", dict), ("scores", dict), ("warnings", list)):
        if not isinstance(result.get(name), kind):
            return f"lacks {name!r}"
    if not isinstance(result["subject"].get("name"), str):
        return "lacks 'subject.name'"
    extractor = result["protocol"].get("extractor")
    if not isinstance(extractor, dict) or not {"name", "content_hash"} <= set(extractor):
        return "lacks the name or the content_hash of 'protocol.extractor'"
    if not result["scores"]:
        return "has no scores"
    for name, value in result["scores"].items():
        if name == "intra_fid_skipped":  # why classes have none
            continue
        numbers = value.values() if isinstance(value, dict) else [value]
        if name not in (*SCORES, "intra_fid"):
            return f"has an unknown score, {name!r}"
        if not all(_is_number(number) for number in numbers if number is not None):
            return f"has a score {name!r} that is not a number: {value!r}"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def protocol_differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """One line per fact in which two protocols differ, "samples.seed: 0 / 1"; empty where scores compare."""
    before, after = _flat(first), _flat(second)
    names = [*before, *(name for name in after if name not in before)]
    return [
        f"{name}: {_shown(before.get(name, '-'))} / {_shown(after.get(name, '-'))}"
        for name in names
        if before.get(name, "-") != after.get(name, "-")
    ]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _shown(value: Any) -> str:
    text = "none" if value is None else str(value)
    is_hash = len(text) == 64 and set(text) <= set("0123456789abcdef")
    return text[:_SHOWN_DIGITS] + "..." if is_hash else text
