"""Griffe extension: the sections of this package's docstrings by the names that griffe has for them."""

from __future__ import annotations

import re
from typing import Any

import griffe

_SECTIONS = {
    "Example": "Examples",
    "Call arguments": "Other Parameters: Arguments of a call",
}
_HEAD = re.compile(rf"^({'|'.join(_SECTIONS)}):$", re.M)


class Sections(griffe.Extension):
    """Renames the sections of every docstring."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every module, class, function and attribute found."""
        if obj.docstring is not None:
            obj.docstring.value = _HEAD.sub(lambda match: f"{_SECTIONS[match[1]]}:", obj.docstring.value)
