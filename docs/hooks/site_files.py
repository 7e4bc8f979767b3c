"""MkDocs hook: fills the pages' fences (`expansion`) and checks the built site's links.

MkDocs itself checks the links between pages. Left for here: those that it does not see (HTML, generated pages), that
no style, script, font or picture comes from another place, and the form of links to elsewhere.
"""

from __future__ import annotations

import logging
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

sys.path.insert(0, str(Path(__file__).parent))

from expansion import COPIES, ROOT, ExpansionError, expand

log = logging.getLogger("mkdocs.hooks.site_files")
LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}


def on_page_markdown(markdown, page, config, files):
    """The page's text as it is shown; the files it wants are added to the site."""
    try:
        text, wanted = expand(markdown, page.file.src_uri)
    except ExpansionError as error:
        raise PluginError(str(error)) from None
    for path in sorted(wanted):
        if files.get_file_from_path(f"{COPIES}/{path}") is None:
            files.append(File.generated(config, f"{COPIES}/{path}", abs_src_path=str(ROOT / path)))
    return text


def on_post_build(config):
    """Warns, and so fails a strict build, of every link that leads nowhere."""
    site = Path(config["site_dir"])
    # 404.html is shown for any address, so its links begin at the server's root.
    pages = {
        path: Page(path)
        for path in sorted(site.rglob("*.html"))
        if path.name != "404.html" and COPIES not in path.parts
    }
    links = [(path, tag, target) for path, page in pages.items() for tag, target in page.links]
    wrong = 0
    for path, tag, target in links:
        if text := problem(tag, target, path, pages, site):
            wrong += 1
            log.warning("%s: %s: %s", path.relative_to(site), target, text)
    elsewhere = sum(urlsplit(target).scheme in ("http", "https") for _, _, target in links)
    log.info("%d pages, %d links, %d of them to elsewhere; wrong: %d", len(pages), len(links), elsewhere, wrong)


class Page(HTMLParser):
    """The anchors and links of a built page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = {""}
        self.links: list[tuple[str, str]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors |= {values[name] for name in ("id", "name") if values.get(name)}
        for name in ("href", "src"):
            if values.get(name) is not None:
                self.links.append((tag, values[name]))


def problem(tag: str, target: str, path: Path, pages: dict[Path, Page], site: Path) -> str | None:
    """What is wrong with a link, or None."""
    parts = urlsplit(target)
    if parts.scheme == "data":
        return None
    if parts.scheme or parts.netloc:
        if tag in LOADED and target != "https://squidfunk.github.io/mkdocs-material/":
            return "loaded from elsewhere; the site must work without a network"
        if parts.scheme == "mailto" or target == "javascript:void(0)":
            return None
        right = parts.scheme == "https" and "." in parts.netloc and " " not in target
        return None if right else "not the form of a link to elsewhere, https://host/..."
    leads_to = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
    if leads_to.is_dir():
        leads_to /= "index.html"
    if not leads_to.is_file() or not leads_to.is_relative_to(site.resolve()):
        return "no such file in the site"
    anchors = pages[leads_to].anchors if leads_to in pages else None
    if anchors is not None and unquote(parts.fragment) not in anchors and parts.fragment != "__top":
        return "no such place on that page"
    return None
