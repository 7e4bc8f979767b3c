"""The table of one GAN evaluation, for the terminal and for Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

# The only networks by which a Frechet distance goes by the name of FID.
INCEPTION_EXTRACTORS = ("tfgan_inception", "keras_inception_v3")
_WIDTH = 80
_CLASSES_SHOWN = 20
_DIGITS = {"inception_score": 3, "kid": 5}


def score_names(extractor: str) -> dict[str, str]:
    """What the scores are called beside the extractor's name: only Inception's Frechet distance is "FID"."""
    frechet = "FID" if extractor in INCEPTION_EXTRACTORS else "FD"
    return {
        "fid": frechet,
        "intra_fid_mean": f"intra {frechet}",
        "inception_score": "IS",
        "kid": "KID",
        "precision": "precision",
        "recall": "recall",
        "density": "density",
        "coverage": "coverage",
    }


def score_text(scores: dict[str, Any], key: str, error: bool = True) -> str:
    """A score as tables show it, with its spread where there is one; "" where it was not measured."""
    value = scores.get(key)
    if value is None:
        return ""
    digits = _DIGITS.get(key, 3 if key in ("precision", "recall", "density", "coverage") else 2)
    text = f"{value:.{digits}f}"
    spread = scores.get({"inception_score": "inception_score_std", "kid": "kid_std_error"}.get(key, ""))
    return text if spread is None or not error else f"{text} ±{spread:.{digits}f}"


def evaluation_table(result: dict[str, Any]) -> str:
    """At most 80 columns: who and how, the scores, every warning."""
    lines = [line for text in _heading(result) for line in textwrap.wrap(text, _WIDTH)]
    rows = list(_rows(result))
    left = min(max(len(name) for name, _ in rows), _WIDTH - 2 - max(len(value) for _, value in rows))
    lines += ["", *(f"{_cut(name, left):<{left}}  {value}" for name, value in rows)]
    if result["warnings"]:
        lines += ["", "warnings"]
        for warning in result["warnings"]:
            lines += textwrap.wrap(warning, _WIDTH, initial_indent="- ", subsequent_indent="  ")
    return "\n".join(lines) + "\n"


def evaluation_markdown(result: dict[str, Any]) -> str:
    """The same in Markdown."""
    lines = [*_heading(result), "", "| measure | value |", "|---|--:|"]
    lines += [f"| {_escaped(name.strip())} | {value} |" for name, value in _rows(result)]
    if result["warnings"]:
        lines += ["", "Warnings:", "", *(f"- {_escaped(warning)}" for warning in result["warnings"])]
    return "\n".join(lines) + "\n"


def _heading(result: dict[str, Any]) -> list[str]:
    protocol, subject = result["protocol"], result["subject"]
    samples, reference, extractor = protocol["samples"], protocol["reference"], protocol["extractor"]
    step = f", step {subject['step']}" if "step" in subject else ""
    count = f"{samples['count']} images" if "count" in samples else "images of chosen classes"
    split = f"/{reference['split']}" if reference.get("split") else ""
    side = protocol["resolution"]
    real = f"{reference['count']} of {reference['name']}{split}"
    lines = [f"{subject['name']}{step}: {count} against {real} at {side} x {side}"]
    accuracy = extractor.get("test_accuracy")
    right = f", which is right on {accuracy:.1%} of its test images" if accuracy is not None else ""
    lines.append(f"features of {extractor['name']} ({extractor['content_hash'][:12]}){right}")
    if "bn_mode" in samples:
        modes = {
            "moving": "moving averages",
            "batch": f"statistics of each batch of {samples.get('bn_batch_size')}",
            "standing": f"statistics of {samples.get('standing_batches')} batches of {samples.get('bn_batch_size')}",
        }
        lines.append(
            f"weights: {samples['weights']}; batch normalization: {modes[samples['bn_mode']]}; seed {samples['seed']}"
            + (f"; truncation {samples['truncation']}" if samples["truncation"] is not None else "")
        )
    sides = (("images to score", subject.get("images", {})), ("reference", reference))
    resized = [f"{facts['resized']} of {facts['count']} {name}" for name, facts in sides if facts.get("resized")]
    if resized:
        lines.append(f"resized to {side} x {side}: " + ", ".join(resized))
    return lines


def _rows(result: dict[str, Any]) -> Iterator[tuple[str, str]]:
    scores, extractor = result["scores"], result["protocol"]["extractor"]["name"]
    for key, name in score_names(extractor).items():
        if key not in scores:
            continue
        title = name if name.endswith("FID") and extractor == "tfgan_inception" else f"{name} ({extractor})"
        if key != "intra_fid_mean":
            yield title, score_text(scores, key)
            continue
        per_class = scores["intra_fid"]
        yield f"{title}, mean of {len(per_class)} classes", score_text(scores, key)
        names = result["subject"].get("class_names", {})
        for label, value in list(per_class.items())[:_CLASSES_SHOWN]:
            called = f" {names[label]}" if names.get(label, label) != label else ""
            yield f"  class {label}{called}", f"{value:.2f}"
        if len(per_class) > _CLASSES_SHOWN:
            yield f"  {len(per_class) - _CLASSES_SHOWN} more are in results.json", ""


def _cut(name: str, length: int) -> str:
    return name if len(name) <= length else f"{name[: length - 3]}..."


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
