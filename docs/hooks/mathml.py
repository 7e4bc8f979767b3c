"""MkDocs hook: TeX between dollars becomes MathML when the site is built, so that no script runs in the browser."""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

_MATHS = re.compile(r'<(span|div) class="arithmatex">(?:\\\((.*?)\\\)|\\\[(.*?)\\\])</\1>', re.S)
# What the converter does not know it passes on as text.
_NOT_UNDERSTOOD = re.compile(r"\\[A-Za-z]+|<mi>&amp;</mi>|<mi>&</mi>")


def on_page_content(content, page, config, files):
    """The page's HTML with MathML in place of TeX."""

    def mathml(match: re.Match) -> str:
        block = match[1] == "div"
        tex = html.unescape(match[3] if block else match[2])
        made = convert(tex.strip(), display="block" if block else "inline")
        if unknown := _NOT_UNDERSTOOD.search(made):
            raise PluginError(f"docs/{page.file.src_uri}: {unknown[0]} in {tex!r} is not understood")
        return made

    return _MATHS.sub(mathml, content)
