"""docs/ says what is true: its Python runs, its commands parse, its settings exist, what it shows is in the source.

Links are checked by `make docs`, whose hook this file tests as far as it needs no MkDocs.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import textwrap
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from attennorm_tf.config import GanConfig, InpaintingConfig, field_names
from attennorm_tf.models import build_gan
from attennorm_tf.training import CheckpointStore
from attennorm_tf.visualization import save_png
from tests.inference.gan_runs import tiny_config as gan_config
from tests.inference.inpainters import tiny_config, write_checkpoint
from tests.processes import run_module

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
FENCE = re.compile(r"^( *)(`{3,})(?: \{ \.)?(\w*)[^\n]*\n(.*?)^\1\2$", re.M | re.S)
LANGUAGES = {"", "python", "sh", "json", "bibtex", "text"}
# Programs of other people that the pages name.
FOREIGN = {"base64", "curl", "docker", "export", "python3", "printf", "srun", "tensorboard", "TPU_NAME", "pip", "cd"}
SETTING = re.compile(
    r"(?<!`)`(?:--config\.)?((?:data|masks|model|training|logging|evaluation)\.(?!keras\b|tflite\b)\w+)(?:=[^`]*)?`"
)


def load_hook(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / "hooks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


expansion = load_hook("expansion")


def shown(page: str) -> str:
    """A page as readers see it, with all that it includes."""
    return expansion.expand((DOCS / page).read_text(encoding="utf-8"), page)[0]


def blocks(text: str) -> Iterator[tuple[str, int, str]]:
    """(language, first line, code) of every fenced block."""
    for match in FENCE.finditer(text):
        yield match[3], text.count("\n", 0, match.start(4)) + 1, textwrap.dedent(match[4])


def with_python() -> list[str]:
    texts = {page: (DOCS / page).read_text(encoding="utf-8") for page in PAGES}
    return [page for page, text in texts.items() if any(kind == "python" for kind, _, _ in blocks(text))]


@pytest.mark.parametrize("page", with_python())
def test_python_runs(page, tmp_path, monkeypatch):
    """The blocks of a page one after the other, as somebody who follows it would run them."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for kind, line, code in blocks((DOCS / page).read_text(encoding="utf-8")):
        if kind == "python":
            exec(compile("\n" * (line - 1) + code, str(DOCS / page), "exec"), names)


def test_there_is_python_to_run():
    assert {"quickstart.md", "howto/own-normaliser.md", "howto/own-metric.md", "howto/export.md"} <= set(with_python())


@pytest.mark.parametrize("page", PAGES)
def test_blocks_have_a_language_that_is_checked(page):
    assert {kind for kind, _, _ in blocks(shown(page))} <= LANGUAGES


def command_lines(text: str) -> Iterator[list[str]]:
    """The words of every command in the shell blocks of a text, and in blocks without a language or indented ones."""
    fenced = [(kind, code) for kind, _, code in blocks(text)]
    indented = re.findall(r"(?:^    .*\n)+", FENCE.sub("", text), flags=re.M)
    for kind, code in [*fenced, *(("", textwrap.dedent(block)) for block in indented)]:
        if kind not in ("sh", ""):
            continue
        for line in code.replace("\\\n", " ").splitlines():
            started = re.match(r"\s*(attennorm-|python -m|\.venv\S*/bin/python -m|make |bash |pip )", line)
            if kind == "" and not started:
                continue
            yield from simple_commands(line)


def simple_commands(line: str) -> Iterator[list[str]]:
    """The commands of a line that are joined by pipes and the like, each without variables set before it."""
    line = re.sub(r"\s\[-[^]]*\]", "", line)  # [--what may be left out]
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.commenters = "#"
    lexer.whitespace_split = True
    words: list[str] = []
    redirected = False  # the next word is a file
    for word in [*lexer, ";"]:
        if redirected or (word and set(word) <= set("<>")):
            redirected = not redirected
        elif set(word) <= set("|&;()"):
            while words and re.fullmatch(r"\w+=.*", words[0]):
                words.pop(0)
            if words:
                yield words
            words = []
        else:
            words.append(word)


def documented_commands() -> list[tuple[str, list[str]]]:
    """(page, words), README.md and serving/README.md among them by what the pages include."""
    texts = {page: shown(page) for page in PAGES}
    texts["README.md"] = (ROOT / "README.md").read_text(encoding="utf-8")
    texts["CONTRIBUTING.md"] = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    lines: dict[str, tuple[str, list[str]]] = {}  # each once, by its words
    for page, text in texts.items():
        for words in command_lines(text):
            lines.setdefault(shlex.join(words), (page, words))
    return list(lines.values())


def settings() -> ConfigParser:
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def entry_points() -> dict[str, str]:
    lines = settings()["options.entry_points"]["console_scripts"].split("\n")
    return {name.strip(): target.split(":")[0].strip() for name, target in (line.split("=") for line in lines if line)}


def job_of(words: list[str]) -> tuple[str, list[str]] | None:
    """(module, arguments) of a command line of this project, None of others.

    Raises:
        ValueError: it names a command, target, extra or file that does not exist.
    """
    program, *arguments = words
    if program in entry_points():
        return entry_points()[program], arguments
    if program.endswith("python") and arguments[0] == "-m":
        if arguments[1].startswith(("train.", "benchmarks.")):
            return arguments[1], arguments[2:]
        known = arguments[1] in ("benchmarks", "http.server", "mypy", "pytest", "ruff")
    elif program == "bash":
        if (ROOT / arguments[0]).is_file():
            return "train.gan", ["--config=train/configs/digits_attennorm.py", *arguments[1:]]
        known = False
    elif program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
        known = {word for word in arguments if "=" not in word} <= set(targets)
    elif program == "pip":
        extras = re.findall(r"\[(.*)\]", arguments[-1])
        known = not extras or set(extras[0].split(",")) <= set(settings()["options.extras_require"])
    else:
        known = program in FOREIGN
    if not known:
        raise ValueError(shlex.join(words))
    return None


def test_commands_parse(tmp_path):
    """Every command line is one that its command takes: flags, values, configs and their fields."""
    found = [(page, job_of(words)) for page, words in documented_commands()]
    where, jobs = zip(*((page, job) for page, job in found if job is not None))
    assert len(jobs) > 50
    (tmp_path / "lines.json").write_text(json.dumps(jobs), encoding="utf-8")
    done = run_module("tests.parse_commands", tmp_path / "lines.json", timeout=200)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert [wrong for wrong in zip(where, jobs, found) if wrong[-1] is not None] == []


def test_a_wrong_command_is_found(tmp_path):
    wrong = [
        ("attennorm_tf.cli.sample", ["--checkpoint=runs/digits", "--ouput=samples"]),
        ("attennorm_tf.cli.sample", ["--checkpoint=runs/digits"]),
        ("train.gan", ["--config=train/configs/digits_attennorm.py", "--workdir=x", "--config.training.stepps=3"]),
        ("train.gan", ["--config=train/configs/digits_attennorm.py", "--workdir=x", "--config.training.steps=0"]),
        ("attennorm_tf.cli.doctor", ["now"]),
    ]
    (tmp_path / "lines.json").write_text(json.dumps(wrong), encoding="utf-8")
    done = run_module("tests.parse_commands", tmp_path / "lines.json", timeout=100)
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == len(wrong)
    for index, expected in enumerate(("ouput", "--output", "stepps", "training.steps must be", "unexpected")):
        assert expected in found[index]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """A folder in which somebody has trained what the pages speak of, with photographs and holes."""
    folder = tmp_path_factory.mktemp("workspace")
    config = gan_config()
    config.data.name = "digits"
    generator, discriminator = build_gan(config.model, 10, 1)
    facts = {"config": config.to_json(), "class_names": [str(number) for number in range(10)], "channels": 1}
    networks = {"generator": generator, "average": generator, "discriminator": discriminator}
    CheckpointStore(folder / "runs/digits/checkpoints").save(7, networks, facts)
    (folder / "runs/demo").symlink_to("digits")
    write_checkpoint(folder / "runs/facades", tiny_config())
    random = np.random.default_rng(0)
    hole = np.zeros((40, 48), np.uint8)
    hole[10:20, 15:30] = 255
    for name in ("mask.png", "logo.png", "holes/a.png", "holes/b.png"):
        save_png(folder / name, hole)
    for name in ("photos/a.png", "photos/b.png"):
        save_png(folder / name, random.integers(0, 256, (40, 48, 3), np.uint8))
    Image.fromarray(random.integers(0, 256, (40, 48, 3), np.uint8)).save(folder / "photo.jpg")
    return folder


def cheap_commands() -> list[str]:
    """The documented lines that take seconds with small networks, each once."""
    cheap = ("attennorm-sample", "attennorm-inpaint", "attennorm-inspect")
    return [shlex.join(words) for _, words in documented_commands() if words[0] in cheap or "--kind=" in str(words)]


@pytest.mark.slow
@pytest.mark.parametrize("line", cheap_commands())
def test_commands_run(line, workspace):
    """As they stand on the page, from start to end; what they say they write is there."""
    name, *arguments = shlex.split(line)
    source = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = run_module(entry_points()[name], *arguments, cwd=workspace, env={"PYTHONPATH": source})
    assert done.returncode == 0, done.stderr
    for output in re.findall(r"--output=(\S+)", line):
        (workspace / output).rename(workspace / f"written-{abs(hash(line))}")


def test_there_are_commands_to_run():
    assert len(cheap_commands()) > 5


def test_settings_exist():
    known = set(field_names(GanConfig)) | set(field_names(InpaintingConfig))
    named = {(page, name) for page in PAGES for name in SETTING.findall(shown(page))}
    assert len(named) > 15
    assert sorted((page, name) for page, name in named if name not in known) == []


def test_files_named_on_the_pages_exist():
    """What stands in code and looks like a file of the repository is one."""
    name = re.compile(r"`((?:attennorm_tf|train|tests|benchmarks|serving|docs)/[\w/.]+\.(?:py|md|sh|yaml|config))`")
    named = {(page, path) for page in PAGES for path in name.findall(shown(page))}
    assert len(named) > 10
    assert sorted((page, path) for page, path in named if not (ROOT / path).is_file()) == []


def make_repository(root: Path) -> None:
    (root / "docs/howto").mkdir(parents=True)
    (root / "docs/other.md").write_text("# Other\n", encoding="utf-8")
    (root / "notes").mkdir()
    (root / "notes/a.md").write_text(
        "# A\n<!-- here -->\nsee [the code](../code.py) and `[not](a link)`\n<!-- end -->\nlast\n", encoding="utf-8"
    )
    (root / "code.py").write_text(
        'KNOWN = {\n    "a": 1,\n}\n\n\n'
        'class C:\n    def f(self):\n        """Says."""\n        x = 1\n        return x\n',
        encoding="utf-8",
    )


def expand(root: Path, text: str, page: str = "howto/page.md") -> tuple[str, set[str]]:
    make_repository(root)
    return expansion.expand(text, page, root)


def test_source_is_the_object_without_its_docstring(tmp_path):
    text, _ = expand(tmp_path, "```source\ncode.py C.f\n```\n")
    assert text == '```python title="code.py, line 7"\ndef f(self):\n    x = 1\n    return x\n```\n'


def test_source_from_line_to_line_and_constants(tmp_path):
    text, _ = expand(
        tmp_path,
        "    ```source\n    code.py C.f\n    from: x =\n    to: x =\n    ```\n\n```source\ncode.py KNOWN\n```\n",
    )
    assert text == (
        '    ```python title="code.py, line 9"\n    x = 1\n    ```\n\n'
        '```python title="code.py, line 1"\nKNOWN = {\n    "a": 1,\n}\n```\n'
    )


def test_included_links_keep_their_meaning(tmp_path):
    text, wanted = expand(
        tmp_path, "```include\nnotes/a.md\nafter: <!-- here -->\nbefore: <!-- end -->\n```\n[o](../other.md)\n"
    )
    assert text == "see [the code](../repository/code.py) and `[not](a link)`\n[o](../other.md)\n"
    assert wanted == {"code.py"}


def test_included_headings_go_deeper_and_what_is_optional_may_be_missing(tmp_path):
    text, _ = expand(tmp_path, "```include\nnotes/a.md\nbefore: <!-- here -->\ndeeper: 2\n```\n")
    assert text == "### A\n"
    assert expansion.expand("a\n\n```include\ngone.md\noptional: yes\n```\n", "x.md", tmp_path) == ("a\n\n\n", set())


def test_notebooks_are_shown_with_their_outputs(tmp_path):
    (tmp_path / "notebooks").mkdir()
    cells = [
        {"cell_type": "markdown", "source": ["# One\n", "then [two](2_b.ipynb), [code](../code.py)"]},
        {"cell_type": "code", "source": ["1 + 1"], "outputs": [{"data": {"text/plain": ["2"]}}]},
        {"cell_type": "code", "source": ["show()"], "outputs": [{"data": {"image/png": "aW1n\n", "text/plain": "x"}}]},
        {"cell_type": "code", "source": ["print(3)"], "outputs": [{"name": "stdout", "text": ["3\n"]}]},
    ]
    (tmp_path / "notebooks/1_a.ipynb").write_text(json.dumps({"cells": cells}), encoding="utf-8")
    (tmp_path / "notebooks/2_b.ipynb").write_text(json.dumps({"cells": []}), encoding="utf-8")
    text, wanted = expand(tmp_path, "```notebook\nnotebooks/1_a.ipynb\n```\n", "notebooks/1_a.md")
    assert text.split("\n\n") == [
        "# One\nthen [two](2_b.md), [code](../repository/code.py)",
        "The notebook itself: [`notebooks/1_a.ipynb`](../repository/notebooks/1_a.ipynb).",
        "````python\n1 + 1\n````",
        "```` { .text .output }\n2\n````",
        "````python\nshow()\n````",
        '<img alt="output" src="data:image/png;base64,aW1n">',
        "````python\nprint(3)\n````",
        "```` { .text .output }\n3\n````\n",
    ]
    assert wanted == {"code.py", "notebooks/1_a.ipynb"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```source\ncode.py C.g\n```", "docs/howto/page.md: code.py has no C.g"),
        ("```source\ncode.py C.f\nfrom: y\n```", "docs/howto/page.md: code.py C.f has no line that begins with 'y'"),
        ("```source\nnone.py f\n```", "docs/howto/page.md: none.py is not a file of the repository"),
        ("```include\nnotes/a.md\nafter: <!-- gone -->\n```", "docs/howto/page.md: notes/a.md has no '<!-- gone -->'"),
        ("```include\nnotes/*.txt\n```", "docs/howto/page.md: no file is called notes/*.txt"),
        ("[x](../../gone.py)", "docs/howto/page.md: ../../gone.py leads to gone.py, which is not there"),
        ("[x](../../notes)", "docs/howto/page.md: ../../notes leads to a folder; link to a file or a page"),
        ("[x](../../../out)", "docs/howto/page.md: ../../../out leads to ../out, which is not there"),
    ],
)
def test_what_is_not_there_is_named(tmp_path, text, message):
    with pytest.raises(expansion.ExpansionError) as error:
        expand(tmp_path, text)
    assert str(error.value) == message
