"""The admin port's page for everyone: small windows, the keyboard, what is read aloud, and contrast."""

import pytest
from tests.kit.browser import Browsed, browsing
from tests.kit.busy import busy
from tests.kit.sidecars import Start
from tests.kit.upstream import Scripted
from tests.kit.waiting import until


@pytest.mark.parametrize("width", [360, 800, 1280])
async def test_the_page_is_never_wider_than_its_window(
    scripted: Scripted, start: Start, width: int
) -> None:
    sidecar = await busy(scripted, start)
    async with browsing(width=width) as seen:
        await seen.open(sidecar.admin)
        await seen.shown()
        await seen.page.locator("summary").click()
        wide = """() => [...document.querySelectorAll("body *")].filter((e) => !e.closest("#config, .skip"))
          .filter((e) => { const box = e.getBoundingClientRect(); return box.width && box.right > innerWidth + 0.5; })
          .map((e) => `${e.tagName} ${e.id} ${e.textContent.slice(0, 40)}`)"""
        assert await seen.page.evaluate(wide) == []
        assert await seen.page.evaluate("document.scrollingElement.scrollWidth") <= width


async def test_everything_is_reached_and_done_by_keyboard(scripted: Scripted, start: Start) -> None:
    sidecar = await busy(scripted, start)
    async with browsing() as seen:
        page = seen.page
        await seen.open(sidecar.admin)
        await seen.shown()
        wanted = await page.evaluate(
            "[...document.querySelectorAll('a, button, input, summary')].filter((e) => e.checkVisibility()).length"
        )
        reached = set()
        who = "(() => { const e = document.activeElement; e.dataset.at ??= String(Math.random()); return e === document.body ? '' : e.dataset.at; })()"
        for _ in range(wanted + 5):
            await page.keyboard.press("Tab")
            at = await page.evaluate(who)
            if not at or at in reached:
                break
            reached.add(at)
            ring = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert ring != "none", "who is on it must be seen"
        assert len(reached) == wanted

        head = page.locator("#head-p95")
        await head.get_by_role("button").focus()
        await page.keyboard.press("Enter")
        assert await head.get_attribute("aria-sort") == "descending"
        await page.keyboard.press("Enter")
        assert await head.get_attribute("aria-sort") == "ascending"
        await page.locator("#head-name").get_by_role("button").focus()
        await page.keyboard.press("Space")
        names = await page.locator("#rows bdi").all_inner_texts()
        assert names == sorted(names)
        await page.get_by_label("Find").fill("LIST")
        assert await page.locator("#rows bdi").all_inner_texts() == ["list"]


CONTRASTS = """() => {
  const parse = (text) => { const c = text.match(/[\\d.]+/g).map(Number); return c.length < 4 ? [...c, 1] : c; };
  const over = (top, low) => top.slice(0, 3).map((c, i) => c * top[3] + low[i] * (1 - top[3]));
  const light = (c) => { const [r, g, b] = c.map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = (e) => { const layers = []; for (; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor)); return layers.reverse().reduce((low, top) => over(top, low), [255, 255, 255]); };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  for (let node = walk.nextNode(); node; node = walk.nextNode()) {
    const e = node.parentElement;
    if (!node.data.trim() || !e.checkVisibility() || e.closest("script, style, noscript, .skip")) continue;
    const low = ground(e), ink = over(parse(getComputedStyle(e).color), low);
    const [a, b] = [light(ink), light(low)].sort((x, y) => y - x);
    found.push([Math.round(100 * (a + 0.05) / (b + 0.05)) / 100, node.data.trim().slice(0, 40)]);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_word_stands_out_from_what_is_behind_it(
    scripted: Scripted, start: Start, scheme: str
) -> None:
    sidecar = await busy(scripted, start, admin_token="t0ken")
    async with browsing(color_scheme=scheme) as seen:
        await seen.open(sidecar.admin)
        await seen.page.locator("#token").fill("wrong")
        await seen.page.keyboard.press("Enter")
        await seen.page.get_by_role("alert").filter(has_text="refused").wait_for()
        asked = await seen.page.evaluate(CONTRASTS)
        await seen.page.locator("#token").fill("t0ken")
        await seen.page.keyboard.press("Enter")
        await seen.shown()
        await seen.page.locator("summary").click()
        shown = await seen.page.evaluate(CONTRASTS)
        behind = await seen.page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
        )
    assert (sum(behind) < 200) == (scheme == "dark")
    assert len(shown) > 100
    assert [each for each in [*asked, *shown] if each[0] < 4.5] == [], "WCAG 2.2, 1.4.3"


async def test_landmarks_headings_and_tables_are_named(scripted: Scripted, start: Start) -> None:
    sidecar = await busy(scripted, start)
    async with browsing() as seen:
        await seen.open(sidecar.admin)
        await seen.shown()
        for role in ("banner", "main", "contentinfo"):
            assert await seen.page.get_by_role(role).count() == 1, role
        for table in ("Tools", "Limits by tier"):
            named_table = seen.page.get_by_role("table", name=table)
            assert await named_table.count() == 1, table
            assert await named_table.get_by_role("columnheader").count() >= 4
        assert await seen.page.get_by_role("heading", level=1).count() == 1
        assert await seen.page.locator("[aria-live], [role=status], [role=alert]").count() == 2, (
            "the state, and refusals"
        )
        await _follows(seen)


async def _follows(seen: Browsed) -> None:
    """What is read aloud does not change with every look."""
    said = await seen.page.locator("#state").inner_text()
    reports = len(seen.reports)
    await until(lambda: len(seen.reports) > reports + 1, "two more looks")
    assert await seen.page.locator("#state").inner_text() == said
