"""Code and text that the pages show are taken from the repository when the site is built, not copied.

A page holds a fence that names a file; what stands there is put in its place:

    ```source                                       ```include
    attennorm_tf/layers/x.py Layer.call             README.md
    from: first line that begins so                 after: <!-- demo table -->
    to: last line that begins so                    before: <!-- end -->
    ```                                             ```

A `source` without `from` and `to` is the whole function, class or constant, without its docstring. An `include` may
name many files with a `*`: each gets a heading, and the picture of its name. `experiments` lists experiment files by
their docstrings, `notebook` shows a notebook with its outputs. An included file's links keep their meaning. A link from
a page to a file outside of docs/ becomes one to its page (`PAGES`), or to a copy of the file.

No MkDocs here: the tests use it where MkDocs is not installed. `site_files` is the hook.
"""

from __future__ import annotations

import ast
import json
import os
import re
import textwrap
from pathlib import Path, PurePosixPath
from typing import Any, Callable

ROOT = Path(__file__).parents[2]
COPIES = "repository"  # where the site keeps files from outside of docs/
# Files of the repository that have a page of their own.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "serving/README.md": "howto/serve.md",
    "serving/": "howto/serve.md",
    "train/configs/": "experiments.md",
    "train/configs/paper/": "experiments.md",
    "docs/": "index.md",
    "benchmarks/": "benchmarks.md",
    "benchmarks/NOTES.md": "benchmarks.md",
}
_KINDS = "source|include|experiments|notebook"
_FENCE = re.compile(rf"^(?P<indent> *)```(?P<kind>{_KINDS})\n(?P<body>.*?)^(?P=indent)```$", re.M | re.S)
_LINK = re.compile(r"(\]\(|src=\"|href=\")([^)\s\"#]*)")
_CODE = re.compile(r"^( *)(`{3,}).*?^\1\2$|`[^`\n]+`", re.M | re.S)


class ExpansionError(Exception):
    """A page asks for something that the repository does not have."""


def expand(text: str, page: str, root: Path = ROOT) -> tuple[str, set[str]]:
    """A page's Markdown with its fences filled and its links led into the site.

    Args:
        text: of the page.
        page: its path below docs/, "howto/serve.md".
        root: of the repository.

    Returns:
        (text, the files outside of docs/ that links want, relative to the root).

    Raises:
        ExpansionError: a file, object, line or link target that is not there; the message names page and target.
    """

    def fill(match: re.Match) -> str:
        indent = match["indent"]
        lines = textwrap.dedent(match["body"]).strip().splitlines()
        options = dict(re.split(r":\s*", line, maxsplit=1) for line in lines[1:])
        make = _MAKERS[match["kind"]]
        try:
            filled = make(lines[0], options, page, root)
        except ExpansionError as error:
            raise ExpansionError(f"docs/{page}: {error}") from None
        return textwrap.indent(filled, indent).rstrip() if indent else filled.rstrip()

    filled = _FENCE.sub(fill, text)
    wanted: set[str] = set()
    return _outside_code(filled, lambda part: _led_into_site(part, page, root, wanted)), wanted


def _source(head: str, options: dict[str, str], page: str, root: Path) -> str:
    """The fence of a function, a class, or some of its lines."""
    path, _, name = head.partition(" ")
    text = _read(path, root)
    node = _find(ast.parse(text), name.strip().split("."), path)
    lines = text.splitlines()
    first, last = node.lineno, node.end_lineno or node.lineno
    if getattr(node, "decorator_list", []):
        first = node.decorator_list[0].lineno
    shown = [(number, lines[number - 1]) for number in range(first, last + 1)]
    if "from" not in options and not isinstance(node, ast.Assign) and ast.get_docstring(node) is not None:
        docstring = node.body[0]
        dropped = range(docstring.lineno, (docstring.end_lineno or 0) + 1)
        shown = [line for line in shown if line[0] not in dropped]
    if "from" in options:
        shown = shown[_starting_with(shown, options["from"], head) :]
    if "to" in options:
        shown = shown[: _starting_with(shown, options["to"], head) + 1]
    code = textwrap.dedent("\n".join(line for _, line in shown))
    return f'```python title="{path}, line {shown[0][0]}"\n{code}\n```\n'


def _find(tree: ast.Module, names: list[str], path: str) -> Any:
    """The statement that defines `names`, each inside the one before."""
    node: Any = tree
    for name in names:
        found = [child for child in ast.walk(node) if child is not node and name in _defined_by(child)]
        if not found:
            raise ExpansionError(f"{path} has no {'.'.join(names)}")
        node = found[0]
    return node


def _defined_by(node: ast.AST) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


def _starting_with(lines: list[tuple[int, str]], start: str, head: str) -> int:
    for index, (_, line) in enumerate(lines):
        if line.strip().startswith(start):
            return index
    raise ExpansionError(f"{head} has no line that begins with {start!r}")


def _include(head: str, options: dict[str, str], page: str, root: Path) -> str:
    if "*" in head:
        return _include_all(head, options, page, root)
    if "optional" in options and not (root / head).exists():
        return ""
    text = _read(head, root)
    for key, side in (("after", 1), ("before", 0)):
        if key in options:
            parts = text.split(options[key], 1)
            if len(parts) < 2:
                raise ExpansionError(f"{head} has no {options[key]!r}")
            text = parts[side]
    text = re.sub(r"^<!--.*?-->\n", "", text, flags=re.M | re.S)
    if "deeper" in options:  # headings by so many levels
        text = _outside_code(text, lambda part: re.sub(r"^#", "#" * int(options["deeper"]) + "#", part, flags=re.M))
    return _moved(text, head, page).strip() + "\n"


def _moved(text: str, head: str, page: str) -> str:
    """Text of the file `head`, its links as they must be on the page."""
    here, there = PurePosixPath("docs", page).parent, PurePosixPath(head).parent

    def moved(match: re.Match) -> str:
        if not match[2] or "://" in match[2]:
            return match[0]
        return match[1] + os.path.relpath(there / match[2], here) + ("/" if match[2].endswith("/") else "")

    return _outside_code(text, lambda part: _LINK.sub(moved, part))


def _include_all(pattern: str, options: dict[str, str], page: str, root: Path) -> str:
    parts = []
    for path in sorted(root.glob(pattern)):
        name = path.relative_to(root).as_posix()
        parts.append(f"## {path.stem.replace('_', ' ').capitalize()}\n\n{_include(name, options, page, root)}")
        picture = path.with_suffix(".png").relative_to(root)
        if (root / picture).exists():
            parts.append(f"![{path.stem}]({os.path.relpath(picture, PurePosixPath('docs', page).parent)})\n")
    if not parts:
        raise ExpansionError(f"no file is called {pattern}")
    return "\n".join(parts)


def _experiments(pattern: str, options: dict[str, str], page: str, root: Path) -> str:
    """A heading for each experiment file, with what its docstring says: what it is, its command, its result."""
    parts = []
    for path in sorted(root.glob(pattern)):
        if path.stem == "__init__":
            continue
        name = path.relative_to(root).as_posix()
        what, command, *rest = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")
        link = os.path.relpath(name, PurePosixPath("docs", page).parent)
        text = re.sub(r"^Result:", "\n**Result:**", "\n\n".join(rest), flags=re.M)
        parts.append(f"### {path.stem}\n\n[`{name}`]({link}): {what}\n\n```sh\n{command}\n```\n\n{text}\n")
    return "\n".join(parts)


def _notebook(head: str, options: dict[str, str], page: str, root: Path) -> str:
    """Texts, code and outputs of a notebook; pictures within the page."""
    cells = json.loads(_read(head, root))["cells"]
    parts = [f"The notebook itself: [`{head}`]({os.path.relpath(head, PurePosixPath('docs', page).parent)}).\n"]
    for cell in cells:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(_moved(text, head, page) + "\n")
        elif cell["cell_type"] == "code":
            parts += [f"````python\n{text}\n````\n", *map(_output, cell["outputs"])]
    # The title comes first.
    return "\n".join([parts[1], parts[0], *parts[2:]])


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {"text/plain": output.get("text", "")})
    if "image/png" in data:
        encoded = "".join(data["image/png"]).replace("\n", "")
        return f'<img alt="output" src="data:image/png;base64,{encoded}">\n'
    text = "".join(data.get("text/plain", "")).rstrip()
    return f"```` {{ .text .output }}\n{text}\n````\n" if text else ""


def _led_into_site(text: str, page: str, root: Path, wanted: set[str]) -> str:
    here = PurePosixPath("docs", page).parent

    def led(match: re.Match) -> str:
        target = match[2]
        if not target or "://" in target or target.startswith(("mailto:", "data:")):
            return match[0]
        path = os.path.normpath(here / target) + ("/" if target.endswith("/") else "")
        inside = path.startswith("docs/") and path not in PAGES
        if path.startswith("../") or not (inside or (root / path).exists()):
            raise ExpansionError(f"docs/{page}: {target} leads to {path}, which is not there")
        if inside:  # MkDocs looks after these
            return match[0]
        to = _page_of(path)
        if to in (None, page):
            if not (root / path).is_file():
                raise ExpansionError(f"docs/{page}: {target} leads to a folder; link to a file or a page")
            wanted.add(path)
            to = f"{COPIES}/{path}"
        return match[1] + os.path.relpath(PurePosixPath("docs", to), here)

    return _LINK.sub(led, text)


_MAKERS = {"source": _source, "include": _include, "experiments": _experiments, "notebook": _notebook}


def _page_of(path: str) -> str | None:
    if path.startswith("notebooks/") and path.endswith(".ipynb"):
        return path[: -len("ipynb")] + "md"
    return PAGES.get(path) or PAGES.get(path + "/")


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    """Applies `change` to all but code, fenced or in a line."""
    parts: list[str] = []
    end = 0
    for match in _CODE.finditer(text):
        parts += [change(text[end : match.start()]), match[0]]
        end = match.end()
    return "".join([*parts, change(text[end:])])


def _read(path: str, root: Path) -> str:
    try:
        return (root / path).read_text(encoding="utf-8")
    except OSError:
        raise ExpansionError(f"{path} is not a file of the repository") from None
