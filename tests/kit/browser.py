"""A real browser: Debian's Chromium, and what its page asked for and said."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator
from typing import Any

from playwright.async_api import Page, Response, async_playwright
from tests.kit.waiting import DEADLINE, STARTING

_SPY = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""


class Browsed:
    """One page, and what became of it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.asked: list[str] = []
        """The URL of every request, in order."""
        self.said: list[str] = []
        """What scripts wrote to the console or raised, and dialogs."""
        self.reports: list[dict[str, Any]] = []
        """The answers to `/stats?recent`."""
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("dialog", lambda dialog: self.said.append(f"dialog {dialog.message}"))
        page.on("response", self._hear)

    async def _hear(self, response: Response) -> None:
        if response.url.endswith("/stats?recent") and response.ok:
            with contextlib.suppress(Exception):  # the page has gone on
                self.reports.append(await response.json())

    async def open(self, port: int) -> None:
        await self.page.goto(f"http://127.0.0.1:{port}/")

    async def shown(self) -> None:
        """Wait until it shows numbers."""
        await self.page.locator("#shown").wait_for(state="visible")

    async def cell(self, tool: str, column: str) -> str:
        """The number of a tool, without the small one below it."""
        row = self.page.locator("#rows tr").filter(has=self.page.get_by_role("rowheader", name=tool))
        return await row.locator(f"[data-column={column}] > span").inner_text()

    async def tiles(self) -> dict[str, list[str]]:
        """What the tiles say: title -> the number, and what stands below it."""
        tiles = self.page.locator("#tiles > div")
        return {
            await tile.locator("dt").inner_text(): await tile.locator("dd").all_inner_texts()
            for tile in await tiles.all()
        }

    async def quiet(self) -> None:
        """Nothing was said and nothing forbidden was tried."""
        assert not self.said, self.said
        assert await self.page.evaluate("window.violations") == []


@contextlib.asynccontextmanager
async def browsing(*, width: int = 1280, height: int = 900, **context: Any) -> AsyncIterator[Browsed]:
    """A page of a browser of its own, which ends with the test. `context`: as playwright's `new_context`."""
    program = shutil.which("chromium")
    assert program is not None, (
        "Debian's package chromium is needed: python -m tools.cluster.requirements test"
    )
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program, timeout=STARTING * 1000, args=["--disable-dev-shm-usage"]
        )
        made = await browser.new_context(viewport={"width": width, "height": height}, **context)
        made.set_default_timeout(DEADLINE * 1000)
        await made.add_init_script(_SPY)
        try:
            yield Browsed(await made.new_page())
        finally:
            await browser.close()
