"""The page: nothing on it is markup but ours, it loads nothing, and its figures are those that were measured."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from html.parser import HTMLParser

import pytest
from tests.unit.cli.bench.test_result import measured, window

from mcpace_cli.bench import plot, result, told
from mcpace_cli.bench.report import page
from mcpace_cli.bench.result import Contender, Lever, Result
from mcpace_cli.bench.units import amount, duration

EVIL = '<script>alert(1)</script>"><img src=x onerror=alert(1)>\x1b[2J\u202e</style>'


class Page(HTMLParser):
    """What a browser makes of a page: its elements, their attributes, and its texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.style = ""
        self._in = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._in = tag

    def handle_endtag(self, _tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "style":
            self.style += data
        else:
            self.texts.append(data)


def evil() -> Result:
    tools = {EVIL: result.ToolWindow(2, 0, 10, {200: 2}), "other": result.ToolWindow(2, 0, 10, {100: 2})}
    slow = window(0.2, 0.3, tools=tools, bins=(1, 1), failed={EVIL: 1})
    quick = window(0.002, 0.003, tools=tools, bins=(1, 1), at=2.0, looked=2, hits=1, reached=1)
    one, other = Contender(EVIL, EVIL, (slow, slow)), Contender("mcpace", "m", (quick, quick))
    lever = Lever("cache", f"cache: {EVIL}", 8, (EVIL,), one, other)
    known = measured(one, other, levers=(lever,), manifest=f"a: {EVIL}", notes=(EVIL,), when=EVIL)
    settings = result.msgspec.structs.replace(known.settings, tools=(EVIL,))
    return result.msgspec.structs.replace(known, settings=settings)


def test_no_name_of_a_hostile_server_is_markup():
    seen = Page(page(evil(), evil()))
    assert not {"script", "img", "iframe", "link", "object", "base", "form", "a"} & set(seen.tags)
    assert not [
        name for name, _ in seen.attributes if name.startswith("on") or name in ("src", "href", "style")
    ]
    assert any("<script>alert(1)</script>" in text for text in seen.texts), "it is shown as it is"
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", page(evil()))


def test_the_policy_lets_the_page_load_nothing_and_be_styled_by_its_own_style_alone():
    text = page(evil())
    seen = Page(text)
    (policy,) = [
        value for name, value in seen.attributes if name == "content" and "default-src" in (value or "")
    ]
    seal = base64.b64encode(hashlib.sha256(seen.style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{seal}'; base-uri 'none'; form-action 'none'"
    assert "http://" not in text
    assert "https://" not in text
    assert "url(" not in text
    assert "@import" not in text


def test_the_page_says_the_figures_that_were_measured():
    seen = " ".join(Page(page(evil())).texts)
    for name, contender in (("p50", evil().contenders[0]), ("p95", evil().contenders[1])):
        figure = result.MEASURES[name].of(contender)
        assert figure is not None
        assert f" {duration(figure.median)} " in seen
    assert "Of 4 calls through mcpace 2 came to the server." in seen
    assert "33.3 %" in seen


def test_a_result_of_one_alone_and_of_none_that_answered_is_shown_too():
    assert "measured" in page(measured(Contender("url", "u", (window(0.1),))))
    nothing = page(measured(Contender("url", "u", (window(failed={"connect": 3}),))))
    assert "nothing was answered well" in nothing


@pytest.mark.parametrize("seconds", [(1e-6,), (3600.0,), (1e-5, 100.0), (0.05, 0.0501)])
def test_a_distribution_of_any_width_is_drawn_with_ticks(seconds: tuple[float, ...]):
    histogram = window(*seconds).histogram
    svg = plot.distributions([plot.Distribution("a", histogram, {"p50": seconds[0]})], result.duration)
    ticks = [each.text for each in svg.iter("text") if each.get("class") == "tick middle"]
    assert 1 <= len(ticks) <= 14, ticks
    assert "nan" not in "".join(each.get("d", "") for each in svg.iter("path"))


@pytest.mark.parametrize("most", [0.003, 1.0, 7.0, 9.99, 10.0, 123.0, 99_999.0])
def test_a_line_over_time_has_a_few_round_ticks_whatever_its_height(most: float):
    svg = plot.lines(
        [plot.Series("a", [(0.5, most / 2), (1.0, most), (math.nan, math.nan)])], "s", "calls", amount
    )
    beside = [each.text for each in svg.iter("text") if each.get("class") == "tick end"]
    assert 3 <= len(beside) <= 7, beside
    assert len(set(beside)) == len(beside)


def test_bars_are_as_long_as_their_values():
    svg = plot.bars(
        [plot.Bar("a", 10.0, "ten"), plot.Bar("b", 2.5, "two and a half"), plot.Bar("c", 0.0, "none")]
    )
    long, short, none = [float(each.get("width", "0")) for each in svg.iter("rect")]
    assert long == pytest.approx(4 * short, rel=0.01)
    assert 0 < none < 2


def test_a_gain_is_said_where_the_rounds_lie_apart_alone():
    slow = Contender("direct", "", (window(0.2), window(0.22)))
    quick = Contender(
        "mcpace", "", (window(0.02, looked=1, hits=1, reached=0), window(0.02, looked=1, hits=1, reached=0))
    )
    first, second = told.gains(measured(slow, quick))
    assert "p50 2" in first
    assert "times quicker" in first
    assert second == "Of 2 calls through mcpace 0 came to the server."
    (same,) = told.gains(measured(slow, Contender("mcpace", "", slow.windows)))
    assert "no measure differs" in same
