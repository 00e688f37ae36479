"""The admin port's page in a real browser: what it shows is what `/stats` says, and nothing in it runs."""

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.kit.browser import Browsed, browsing
from tests.kit.named import named
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import Scripted
from tests.kit.waiting import until

SCRIPT = "<script>window.ran=1</script>"
IMAGE = '"><img src=x onerror="window.ran=1">'
TURNED = "safe\u202egnp.exe"
TOOLS = ("get", "list", SCRIPT, IMAGE, TURNED, "long" * 200)
CONFIG: dict[str, Any] = {
    "cache": {"tools": [{"name": "get", "ttl": "1h", "scope": "shared"}]},
    "concurrency": {"maxInFlight": 8, "maxQueued": 16},
    "rateLimits": {
        "tiers": [{"name": "free", "requestsPerMinute": 1000, "requestsPerDay": 5000}],
        "tools": [
            {"name": "list", "requestsPerMinute": 3},
            {"name": "<b>gone</b>", "requestsPerMinute": 1},
        ],
    },
}


async def told(sidecar: Running, tool: str, **arguments: Any) -> None:
    await sidecar.call(tool, arguments, MCP_Protocol_Version="2025-11-25")


async def busy(scripted: Scripted, start: Start, **options: Any) -> Running:
    """A sidecar that has answered calls of each kind: hits, errors, refusals, and of hostile names."""
    scripted.answer = named(f"{IMAGE}{SCRIPT}", TOOLS, error=IMAGE)
    sidecar = await start(scripted.port, CONFIG, **options)
    await sidecar.ready()
    for _ in range(5):
        await told(sidecar, "get", city="Oslo")
        await told(sidecar, "list")
    for tool in TOOLS[2:]:
        await told(sidecar, tool)
    await told(sidecar, SCRIPT, fail=1)
    return sidecar


def number(text: str) -> float:
    """What a person reads as a number: `1,234`, `≈ 12`, `4.5 ms`, `2 KiB`, `60 %`."""
    units = {"µs": 1e-6, "ms": 1e-3, "s": 1, "%": 0.01, "B": 1, "KiB": 1024, "MiB": 1 << 20}
    value, _, unit = text.removeprefix("≈ ").replace(",", "").partition(" ")
    return float(value) * units.get(unit, 1)


async def test_every_number_of_the_table_is_the_one_that_statistics_tell(
    scripted: Scripted, start: Start
) -> None:
    sidecar = await busy(scripted, start)
    async with browsing() as seen:
        await seen.open(sidecar.admin)
        await seen.shown()

        async def agrees() -> bool:
            report = seen.reports[-1] if seen.reports else None
            if report is None:
                return False
            for tool in ("get", "list"):
                counted = report["calls"][tool]
                wanted = {
                    "rate": counted["callsPerSecond"], "p50": counted["p50"], "p95": counted["p95"], "p99": counted["p99"],
                    "hits": counted["hits"], "limited": counted["limited"], "errors": counted["errors"], "flying": 0,
                    "bytes": counted["sentBytes"], "tokens": counted["sentBytes"] / 4,
                }  # fmt: skip
                for column, value in wanted.items():
                    shown = number(await seen.cell(tool, column))
                    exact = column in ("hits", "limited", "errors", "flying")
                    if shown != pytest.approx(
                        value, rel=0 if exact else 0.006, abs=0.5 if column == "tokens" else 1e-9
                    ):
                        return False
            return True

        await until(agrees, "the table to show what was told last")
        _, stats = await sidecar.admin_get("/stats")
        for tool in TOOLS[:2]:
            assert seen.reports[-1]["calls"][tool]["histogram"] == stats["calls"][tool]["histogram"]
        assert (stats["calls"]["get"]["hits"], stats["calls"]["list"]["limited"]) == (4, 2), (
            "there was traffic of each kind"
        )
        assert stats["calls"][SCRIPT]["errors"] == 1
        await seen.quiet()


async def test_tiles_limits_and_room_are_those_that_statistics_tell(
    scripted: Scripted, start: Start
) -> None:
    sidecar = await busy(scripted, start, lines=lambda: {"concurrency.maxInFlight": 7})
    async with browsing() as seen:
        await seen.open(sidecar.admin)
        await seen.shown()
        _, stats = await sidecar.admin_get("/stats?recent")
        together = stats["recent"]["together"]
        tiles = await seen.tiles()
        assert tiles["Calls a second"][1] == f"{together['count']} calls"
        assert number(tiles["95 % answered within"][0]) == pytest.approx(together["p95"], rel=0.006)
        answered = sum(together["histogram"].values())
        assert number(tiles["From the cache"][0]) == pytest.approx(together["hits"] / answered, rel=0.006)
        assert tiles["From the cache"][1] == "4 calls"
        assert number(tiles["Errors"][0]) == pytest.approx(
            together["errors"] / together["count"], rel=0.006
        )
        assert tiles["Limited"][1] == f"{together['limited']} calls"
        room = await seen.page.locator("#room").inner_text()
        assert "0 of 8 taken" in room
        assert "1 result" in room
        limits = await seen.page.locator("#limits").inner_text()
        assert "1,000" in limits
        assert "5,000" in limits
        assert "tool 2" in limits, "what refused whom since the start"
        config = seen.page.locator("#config")
        await seen.page.locator("summary").click()
        line = config.locator("div").filter(has_text="maxInFlight: 8")
        assert await line.locator("i").inner_text() == "7", "where it stands in the manifest"
        assert "maxInFlight: 8" in (await config.inner_text()).replace("\u00a0", " ")


async def test_names_of_a_hostile_server_are_shown_as_text_and_run_nothing(
    scripted: Scripted, start: Start
) -> None:
    sidecar = await busy(scripted, start)
    async with browsing() as seen:
        await seen.open(sidecar.admin)
        await seen.shown()
        assert await seen.page.locator("#name").inner_text() == f"{IMAGE}{SCRIPT}"
        names = await seen.page.locator("#rows bdi").all_inner_texts()
        assert {SCRIPT, IMAGE} <= set(names)
        assert r"safe\u{202e}gnp.exe" in names, "what would turn the text around is written out"
        assert "<b>gone</b>" in await seen.page.locator("#notes").inner_text()
        found = "[document.scripts.length, document.images.length, document.querySelectorAll('b, i, iframe, object').length]"
        scripts, images, _ = await seen.page.evaluate(found)
        assert (scripts, images) == (1, 0), "but our own"
        assert await seen.page.evaluate("window.ran") is None
        await seen.quiet()


async def test_whoever_found_a_way_in_could_run_nothing_there(scripted: Scripted, start: Start) -> None:
    sidecar = await busy(scripted, start)
    async with browsing() as seen:
        await seen.open(sidecar.admin)
        await seen.shown()
        for way in (
            "document.body.innerHTML = '<img src=x onerror=\"window.ran=1\">'",
            "const s = document.createElement('script'); s.text = 'window.ran=1'; document.body.append(s)",
            "document.write('<script>window.ran=1</script>')",
        ):
            assert (
                await seen.page.evaluate(
                    f"() => {{ try {{ {way}; return '' }} catch (e) {{ return e.name }} }}"
                )
                == "TypeError"
            ), way
        tried = "fetch('http://localhost:1/').then(() => 'sent', (e) => e.name)"
        assert await seen.page.evaluate(tried) == "TypeError"
        assert "connect-src" in await seen.page.evaluate("window.violations")
        assert await seen.page.evaluate("window.ran") is None


async def test_the_token_is_asked_for_and_kept_nowhere(scripted: Scripted, start: Start) -> None:
    sidecar = await busy(scripted, start, admin_token="t0ken")
    async with browsing() as seen:
        page = seen.page
        await seen.open(sidecar.admin)
        for wrong, why in (("wrong", "refused"), ("t0ken\u00e9", "ASCII")):
            await page.get_by_label("Token", exact=True).fill(wrong)
            await page.keyboard.press("Enter")
            await page.get_by_role("alert").filter(has_text=why).wait_for()
            assert await page.locator("#shown").is_hidden()
            assert await page.locator("#rows tr").count() == 0
        await page.get_by_label("Token", exact=True).fill("t0ken")
        await page.keyboard.press("Enter")
        await seen.shown()
        assert await page.locator("#rows tr").count() == len(TOOLS)
        assert await page.evaluate("[document.cookie, localStorage.length, sessionStorage.length, location.href]") == [
            "", 0, 0, f"http://127.0.0.1:{sidecar.admin}/",
        ]  # fmt: skip
        assert "t0ken" not in await page.content()
        assert not [url for url in seen.asked if "t0ken" in url]
        await page.get_by_role("button", name="Forget token").click()
        await page.get_by_label("Token", exact=True).wait_for()
        assert await page.locator("#shown").is_hidden()
        await page.get_by_label("Token", exact=True).fill("t0ken")
        await page.keyboard.press("Enter")
        await seen.shown()
        await page.reload()
        await page.get_by_label("Token", exact=True).wait_for()


async def test_nothing_is_asked_of_another_host(scripted: Scripted, start: Start) -> None:
    sidecar = await busy(scripted, start)
    async with browsing() as seen:
        await seen.open(sidecar.admin)
        await seen.shown()
        await until(lambda: len(seen.reports) >= 2, "the page to ask again")
        assert {url.split("/", 3)[2] for url in seen.asked if not url.startswith("data:")} == {
            f"127.0.0.1:{sidecar.admin}"
        }


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
        assert names[-1].startswith("safe")
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


WAITS = """() => { window.waits = [];
  new MutationObserver(() => window.waits.push(...document.querySelector("#when").textContent.match(/every .*/) ?? []))
    .observe(document.querySelector("#when"), { childList: true, characterData: true, subtree: true }); }"""


async def test_who_is_lost_is_asked_ever_more_seldom_and_found_again(
    scripted: Scripted, start: Start
) -> None:
    sidecar = await busy(scripted, start)
    async with browsing() as seen:
        page = seen.page
        await page.clock.install()
        await seen.open(sidecar.admin)
        await seen.shown()
        now: float = await page.evaluate("Date.now()")
        await page.clock.pause_at(datetime.fromtimestamp(now / 1000 + 1, UTC))  # time goes as the test says
        await page.evaluate(WAITS)
        lost: list[str] = []
        page.on("requestfailed", lambda request: lost.append(request.url))
        await page.route("**/stats?recent", lambda route: route.abort())

        async def came_back(so_far: int) -> bool:
            await page.clock.fast_forward(31_000)
            return len(lost) >= so_far

        await until(lambda: came_back(6), "the page to ask six times")
        assert (await page.evaluate("window.waits"))[:4] == [
            "every 4 s",
            "every 8 s",
            "every 16 s",
            "every 30 s",
        ]
        assert "Disconnected since" in await page.locator("#trouble").inner_text()
        assert await page.locator("#word").inner_text() == "Disconnected"
        await page.unroute("**/stats?recent")

        async def found() -> bool:
            await page.clock.fast_forward(31_000)
            return await page.locator("#word").inner_text() == "Live"

        await until(found, "the page to be connected again")
        assert await page.locator("#trouble").is_hidden()


async def test_a_page_that_nobody_sees_asks_nothing(scripted: Scripted, start: Start) -> None:
    sidecar = await busy(scripted, start)
    async with browsing() as seen:
        page = seen.page
        await page.clock.install()
        await page.add_init_script(
            "Object.defineProperty(document, 'hidden', { get: () => window.away === true })"
        )
        await seen.open(sidecar.admin)
        await seen.shown()
        turn = "(away) => { window.away = away; document.dispatchEvent(new Event('visibilitychange')); }"
        await page.evaluate(turn, True)
        await page.clock.run_for(10_000)  # what it had asked before is answered
        asked = len(seen.asked)
        await page.clock.run_for(120_000)
        assert len(seen.asked) == asked
        await page.evaluate(turn, False)
        await until(lambda: len(seen.asked) > asked, "the page to ask as soon as it is seen")
        await page.get_by_role("button", name="Pause").click()
        await page.locator("#word").filter(has_text="Paused").wait_for()
        await page.clock.run_for(10_000)
        asked = len(seen.asked)
        await page.clock.run_for(60_000)
        assert len(seen.asked) == asked


async def test_results_are_purged_from_the_page(scripted: Scripted, start: Start) -> None:
    sidecar = await busy(scripted, start, admin_token="t0ken")

    async def fetched() -> int:
        before = len(scripted.calls)
        await told(sidecar, "get", city="Oslo")
        return len(scripted.calls) - before

    async with browsing() as seen:
        await seen.open(sidecar.admin)
        await seen.page.locator("#token").fill("t0ken")
        await seen.page.keyboard.press("Enter")
        await seen.shown()
        assert await fetched() == 0, "it is known"
        for name in ("Purge the results of get", "Purge everything"):
            button = seen.page.get_by_role("button", name=name)
            await button.focus()
            await seen.page.keyboard.press("Enter")
            assert await fetched() == 0, "once is not enough"
            await seen.page.keyboard.press("Enter")
            await seen.page.get_by_role("button", name=f"{name}: done").wait_for()
            assert await fetched() == 1
            assert await fetched() == 0
        assert [said for said in seen.said if "401" not in said] == []


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
