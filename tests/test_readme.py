"""README.md says what is true: its Python runs, its commands exist, its links and pictures are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def blocks(language: str) -> list[tuple[int, str]]:
    """(first line, text) of every fenced block of one language."""
    text = README.read_text(encoding="utf-8")
    found = re.finditer(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    return [(text.count("\n", 0, match.start(1)) + 1, match.group(1)) for match in found]


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: f"line {block[0]}")
def test_python_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line, code = block
    exec(compile("\n" * (line - 1) + code, str(README), "exec"), {"__name__": "__main__"})


def test_there_is_python_to_run():
    assert any("AttentiveNormalization" in code for _, code in blocks("python"))


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = set(
        re.findall(
            r"(?<![\w-])make ([a-z-]+)(?=[`\s])",
            "\n".join(code for _, code in blocks("(?:sh|bash|console)?")),
        )
    )
    assert {"demo", "test"} <= named <= targets


def test_links_and_files_exist():
    text = README.read_text(encoding="utf-8")
    links = {link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link}
    links |= set(re.findall(r'src="([^"]+)"', text))
    links |= set(re.findall(r"--config=(\S+\.py)", text))
    assert links
    assert [link for link in sorted(links) if not (ROOT / link).exists()] == []
