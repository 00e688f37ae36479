"""The page of `mcpace bench` in a real browser: it runs nothing, loads nothing, and fits."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.kit.browser import browsing
from tests.unit.cli.bench.test_report import EVIL, evil

from mcpace_cli.bench.report import page
from mcpace_cli.bench.result import MEASURES
from mcpace_cli.show import plain


@pytest.mark.parametrize(
    ("width", "scheme"), [(360, "dark"), (360, "light"), (1280, "dark"), (1280, "light")]
)
async def test_a_report_of_hostile_names_runs_nothing_and_breaks_no_rule_of_its_policy(
    tmp_path: Path, width: int, scheme: str
) -> None:
    (tmp_path / "report.html").write_text(page(evil(), evil()))
    url = (tmp_path / "report.html").as_uri()
    async with browsing(width=width, color_scheme=scheme) as seen:
        await seen.page.goto(url)
        assert await seen.page.locator("h1").inner_text() == f"mcpace beside {plain(EVIL)[:80]}".rstrip()
        assert await seen.page.locator("svg path.area").count() >= 2
        wide = await seen.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, "the page is wider than the window"
        painted = await seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (painted == "rgb(255, 255, 255)") == (scheme == "light"), "its style is not taken"
        await seen.quiet()
    assert seen.asked == [url]


async def test_every_figure_of_the_table_is_the_one_that_was_measured(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(page(evil()))
    async with browsing() as seen:
        await seen.page.goto((tmp_path / "report.html").as_uri())
        rows = seen.page.locator("table").first.locator("tbody tr")
        for number, contender in enumerate(evil().contenders):
            cells = await rows.nth(number).locator("td").all_inner_texts()
            for text, measure in zip(cells[1:], MEASURES.values(), strict=True):
                figure = measure.of(contender)
                assert text.split("\n")[0] == ("-" if figure is None else measure.said(figure.median))
