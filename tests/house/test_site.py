"""The documentation as a site: it builds, fails on what leads nowhere, and loads nothing from elsewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from tests.kit.programs import ROOT

LOADED = {
    "audio": "src", "embed": "src", "iframe": "src", "image": "href", "img": "src", "input": "src", "link": "href",
    "object": "data", "script": "src", "source": "src", "track": "src", "use": "href", "video": "src",
}  # fmt: skip
"""Elements that a browser loads by themselves -> the attribute that says from where."""
FOREIGN = re.compile(r"(?:https?:)?//", re.IGNORECASE)


def build(pages: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """As `make docs` does."""
    (made,) = re.findall(r"sphinx-build (.*) docs site$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return subprocess.run(
        [sys.executable, "-m", "sphinx", *made.split(), pages, site], capture_output=True, text=True
    )


class Loads(HTMLParser):
    """What a page has a browser load from another host."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.foreign: list[str] = []
        self._in_style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._in_style = tag == "style"
        places = [given.get(LOADED.get(tag, "")), *(given.get("srcset") or "").split(",")]
        if tag == "link" and set((given.get("rel") or "").split()) <= {
            "next",
            "prev",
            "search",
            "index",
            "canonical",
        }:
            places = []
        styles = given.get("style") or ""
        self.foreign += [
            each for each in (*filter(None, places), *in_style(styles)) if FOREIGN.match(each.strip())
        ]

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.foreign += [each for each in in_style(data) if FOREIGN.match(each)]


def in_style(text: str) -> Iterator[str]:
    """What a style sheet loads."""
    for quoted in re.findall(r"url\(\s*([^)]+?)\s*\)|@import\s+([^;]+)", text):
        yield "".join(quoted).strip("\"'")


def foreign(site: Path) -> dict[str, list[str]]:
    found = {}
    for path in site.rglob("*"):
        if path.suffix == ".html":
            found[path.name] = Loads(path.read_text()).foreign
        elif path.suffix == ".css":
            found[path.name] = [each for each in in_style(path.read_text()) if FOREIGN.match(each)]
        elif path.suffix == ".js":
            words = r"(?:fetch|importScripts|import|open|\.src\s*=)\s*\(?\s*[\"'`]((?:https?:)?//[^\"'`]+)"
            found[path.name] = re.findall(words, path.read_text())
    return {name: places for name, places in found.items() if places}


def test_the_site_builds_with_every_page_in_its_navigation_and_loads_nothing_from_elsewhere(
    tmp_path: Path,
) -> None:
    done = build(ROOT / "docs", tmp_path)
    assert done.returncode == 0, done.stderr
    assert foreign(tmp_path) == {}
    pages = {str(path.relative_to(ROOT / "docs").with_suffix("")) for path in (ROOT / "docs").rglob("*.md")}
    built = {str(path.relative_to(tmp_path).with_suffix("")) for path in tmp_path.rglob("*.html")}
    inside = {page for page in pages if not page.startswith("decisions/")}
    assert built == inside | {"genindex", "search"}
    first = (tmp_path / "index.html").read_text()
    assert {page for page in inside - {"index"} if f'href="{page}.html"' not in first} == set()
    assert (tmp_path / "searchindex.js").stat().st_size > 10_000


def test_what_leads_nowhere_and_what_nothing_leads_to_fails_the_build(tmp_path: Path) -> None:
    pages = tmp_path / "docs"
    pages.mkdir()
    shutil.copy(ROOT / "docs/conf.py", pages)
    (pages / "index.md").write_text("# One\n\n[a](gone.md) [b](#gone) [c](two.md#gone)\n")
    (pages / "two.md").write_text("# Two\n")
    done = build(pages, tmp_path / "site")
    assert done.returncode != 0
    for words in ("gone.md", "'gone'", "two.md: WARNING: document isn't included in any toctree"):
        assert words in done.stderr, done.stderr
    assert len(re.findall("WARNING", done.stderr)) == 4, done.stderr


def test_a_page_that_would_load_from_elsewhere_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<link rel="stylesheet" href="//fonts.example/a.css"><img src=b.png srcset="https://c.example/d.png 2x">'
        '<a href="https://well.example">a link loads nothing</a><style>@import "https://e.example";</style>'
    )
    (tmp_path / "b.css").write_text(
        "a { background: url('https://f.example/g.png') } b { background: url(h.png) }"
    )
    (tmp_path / "c.js").write_text(
        "fetch('https://i.example/j'); const namespace = 'http://www.w3.org/2000/svg';"
    )
    assert {name: len(places) for name, places in foreign(tmp_path).items()} == {
        "a.html": 3,
        "b.css": 1,
        "c.js": 1,
    }
