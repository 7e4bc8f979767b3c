"""Griffe extension: this package's docstrings in the form that mkdocstrings shows best."""

from __future__ import annotations

import re
from typing import Any

import griffe

_SECTIONS = {
    "Example": "Examples",
    "Call arguments": "Other Parameters: Arguments of a call",
}
_HEAD = re.compile(rf"^({'|'.join(_SECTIONS)}):$", re.M)
# Markdown would make a quotation of ">= 1".
_BEGINS_A_QUOTATION = re.compile(r"^( +(?:\*{0,2}\w+: )?)>(?!>>)", re.M)
# Keras' business, not a reader's.
_HIDDEN = ("compute_output_shape", "compute_output_spec", "compute_mask")


class Sections(griffe.Extension):
    """Renames sections, hides what Keras calls by itself, and makes a table of what settings say in comments."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every module, class, function and attribute found."""
        if obj.name in _HIDDEN:
            obj.public = False
        if obj.docstring is None:
            return
        text = _HEAD.sub(lambda match: f"{_SECTIONS[match[1]]}:", obj.docstring.value)
        obj.docstring.value = _BEGINS_A_QUOTATION.sub(r"\1\\>", text)
        if isinstance(obj, griffe.Class) and obj.filepath.parent.name == "config":
            fields = [member for member in obj.members.values() if isinstance(member, griffe.Attribute)]
            if fields:
                rows = "\n".join(f"    {field.name}: {self._meaning(field)}" for field in fields)
                obj.docstring.value += f"\n\nAttributes:\n{rows}\n"

    @staticmethod
    def _meaning(field: griffe.Attribute) -> str:
        """A setting's default and the comment behind it."""
        line = field.lines[0] if field.lines else ""
        comment = line.partition("  # ")[2].strip()
        section = "default_factory" in str(field.value)
        default = f"a `{field.annotation}`" if section else f"`{field.value}`"
        return f"{default}; {comment}" if comment else f"{default}"
