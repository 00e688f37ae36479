"""The admin port's page in a real browser: what it shows is what `/stats` says, and what it does is seen."""

from datetime import UTC, datetime

import pytest
from tests.kit.browser import browsing
from tests.kit.busy import SCRIPT, TOOLS, busy, told
from tests.kit.sidecars import Start
from tests.kit.upstream import Scripted
from tests.kit.waiting import until


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
