"""Which images of a data set are held out for validation: decided by their names, one by one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

PARTS = ("train", "validation", "all")


def select_part(names: Sequence[str], part: str, fraction: float, where: str) -> list[int]:
    """Indices of the names in a part, ascending.

    A name is for validation where its hash, as a number in [0, 1), is below `fraction`: images that come or go move no
    other image. Only where that leaves one of the two parts empty does the nearest image change sides.

    Args:
        names: distinct, independent of where the data set is stored.
        part: "train", "validation" or "all".
        fraction: share of the images that is for validation, on average.
        where: what to call the data set in errors.

    Raises:
        ValueError: an argument out of range, or too few images to split.
    """
    if part not in PARTS:
        raise ValueError(f"part must be one of {', '.join(map(repr, PARTS))}, got {part!r}.")
    if not 0 < fraction < 1:
        raise ValueError(f"validation_fraction must be in (0, 1), got {fraction}.")
    if part == "all":
        return list(range(len(names)))
    if len(names) < 2:
        raise ValueError(f"{where} holds {len(names)} image: too few to hold one out; use part='all'.")
    places = [_place(name) for name in names]
    order = sorted(range(len(names)), key=places.__getitem__)
    held_out = sum(place < fraction for place in places)
    held_out = min(max(held_out, 1), len(names) - 1)
    return sorted(order[:held_out] if part == "validation" else order[held_out:])


def _place(name: str) -> float:
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:6], "big") / 2**48
