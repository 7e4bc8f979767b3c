"""The text of a command's --help for the width of a terminal."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

_INDENT = 4  # of examples and of lists


def help_text(text: str, width: int = 80) -> str:
    r"""A command's docstring without lines longer than `width`, where its words allow it.

    Paragraphs are filled anew. Examples, which begin with four spaces and the command, go on in the next line after a
    backslash; entries of a list, four spaces, a name, two spaces or more and a text, go on below their text.

    Args:
        text: the docstring, its lines of any length.
        width: of the terminal.

    Returns:
        The same words.

    Example:
        >>> print(help_text("A text that is too long for this.\n\n    cmd --first=value --second=value", 28))
        A text that is too long for
        this.
        <BLANKLINE>
            cmd --first=value \
                --second=value
    """
    blocks = re.split(r"\n[ \t]*\n", text.strip("\n"))
    return "\n\n".join("\n".join(_block(block, width)) for block in blocks)


def _block(block: str, width: int) -> Iterator[str]:
    if not block.startswith(" " * _INDENT):
        yield from textwrap.wrap(" ".join(block.split()), width, break_long_words=False, break_on_hyphens=False)
        return
    entries: list[tuple[str, str]] = []  # what stands before the text, and the text
    for line in block.splitlines():
        entry = re.match(r" {4}(\S.*? {2,})(\S.*)", line)
        if entry:
            entries.append((entry.group(1), entry.group(2)))
        elif line.startswith(" " * (_INDENT + 1)) and entries:
            entries[-1] = (entries[-1][0], f"{entries[-1][1]} {line.strip()}")
        else:
            entries.append(("", line.strip()))
    for name, content in entries:
        column = _INDENT + len(name)
        if name:
            lines = textwrap.wrap(content, width - column, break_long_words=False, break_on_hyphens=False)
            yield " " * _INDENT + name + lines[0]
            yield from (" " * column + line for line in lines[1:])
        else:
            yield from _command(content, width)


def _command(content: str, width: int) -> Iterator[str]:
    """A line for a shell, continued where it is too long."""
    line = " " * _INDENT
    for word in content.split(" "):
        if line.strip() and len(line) + len(word) + 2 > width and word.startswith("-"):
            yield f"{line}\\"
            line = " " * 2 * _INDENT
        line += f"{word} "
    yield line.rstrip()
