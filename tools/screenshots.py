"""The pictures in `docs/`: the admin port's page after minutes of calls, and a report of `mcpace bench`.

python -m tools.screenshots [--seconds 170]
python -m tools.screenshots --report RESULT, which `mcpace bench --save RESULT` has kept
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import httpx2
import yaml
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from playwright.async_api import Browser, async_playwright
from tools.ports import free_port

from mcpace_cli.bench import report, result

ROOT: Final = Path(__file__).parents[1]
PICTURES: Final[dict[str, dict[str, Any]]] = {
    "page": {"viewport": {"width": 1240, "height": 900}, "color_scheme": "light"},
    "page-dark": {"viewport": {"width": 1240, "height": 900}, "color_scheme": "dark"},
    "page-narrow": {"viewport": {"width": 360, "height": 780}, "color_scheme": "light"},
}
"""File in `docs/`, without `.png` -> what the browser is like."""
_CLIENTS: Final = 6
_HIGHEST: Final = 1560
"""Pixels: of a narrow page the top is enough."""
_KEY: Final = "a-key-of-these-pictures-alone"
_CITIES: Final = ("Paris", "Lima", "Oslo", "Cairo", "Quito", "Hanoi", "Turin", "Davos")


def _manifest(folder: Path, port: int) -> Path:
    spec = {
        "port": port,
        "rateLimits": {
            "tiers": [
                {"name": "free", "requestsPerMinute": 60, "requestsPerDay": 5000},
                {"name": "pro", "requestsPerMinute": 6000},
            ],
            "tools": [{"name": "report-storm", "requestsPerMinute": 20}],
        },
        "clients": {"apiKeys": [{"tier": "pro", "secretRef": {"name": "weather-pro"}}]},
        "cache": {"tools": [{"name": "get-weather", "ttl": "30s", "scope": "shared"}]},
        "concurrency": {"maxInFlight": 16, "circuitBreaker": {}},
    }
    documents = [
        {
            "apiVersion": "mcpace.dev/v1alpha1",
            "kind": "McpServer",
            "metadata": {"name": "weather"},
            "spec": spec,
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "weather-pro"},
            "stringData": {"anna": _KEY},
        },
    ]
    path = folder / "weather.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    return path


async def _client(number: int, url: str) -> None:
    """Calls now more, now fewer, until it is cancelled: most with a key, the last one without."""
    chance = random.Random(number)  # noqa: S311 - because it decides nothing but who calls what
    key = {"X-API-Key": _KEY} if number < _CLIENTS - 1 else {}
    async with (
        httpx2.AsyncClient(headers=key, timeout=30) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        while True:
            wave = 1.2 + math.sin(time.monotonic() / 25)
            await asyncio.sleep(chance.expovariate(1.0) * 0.35 / wave)
            tool = chance.choices(("get-weather", "forecast", "report-storm"), (6, 3, 1))[0]
            city = {"city": chance.choice(_CITIES)} if chance.random() > 0.01 else {}
            days = {"days": chance.randint(1, 40)} if tool == "forecast" else {}
            with contextlib.suppress(MCPError):  # that is what the page shall show
                await client.call_tool(tool, city | days)


async def _picture(browser: Browser, url: str, name: str, looks: dict[str, Any]) -> Path:
    context = await browser.new_context(**looks)
    page = await context.new_page()
    await page.goto(url)
    await page.locator("#shown").wait_for()
    await page.wait_for_timeout(2500)  # a second look, which fills what the first one did not know
    path = ROOT / "docs" / f"{name}.png"
    until = "h-checks" if name == "page" else "h-limits"
    place = f"document.getElementById('{until}').getBoundingClientRect().top + scrollY - 12"
    wide = looks["viewport"]["width"]
    high = min(_HIGHEST, await page.evaluate(place))
    await page.screenshot(path=path, full_page=True, clip={"x": 0, "y": 0, "width": wide, "height": high})
    await context.close()
    return path


async def _report(program: str, kept: Path, folder: Path) -> None:
    """The first part of a report: up to what it says tool by tool."""
    written = folder / "report.html"
    written.write_text(report.page(result.load(kept)), encoding="utf-8")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program)
        page = await browser.new_page(viewport={"width": 1040, "height": 900}, color_scheme="light")
        await page.goto(written.as_uri())
        place = "document.querySelectorAll('h2')[1].getBoundingClientRect().top + scrollY - 12"
        high = await page.evaluate(place)
        await page.screenshot(
            path=ROOT / "docs/bench.png",
            full_page=True,
            clip={"x": 0, "y": 0, "width": 1040, "height": high},
        )
        await browser.close()


async def _pictures(seconds: float, program: str, calls: str, page: str) -> None:
    clients = [asyncio.create_task(_client(number, calls)) for number in range(_CLIENTS)]
    await asyncio.wait(clients, timeout=seconds)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program)
        for name, looks in PICTURES.items():
            path = await _picture(browser, page, name, looks)
            print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1024} KiB")
        await browser.close()
    for client in clients:
        client.cancel()
    ended = await asyncio.gather(*clients, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended


def main() -> int:
    """Take them all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=170.0, help="how long calls are made before")
    parser.add_argument("--report", type=Path, help="a kept result, whose picture alone is taken")
    options = parser.parse_args()
    seconds: float = options.seconds
    program = shutil.which("chromium")
    if program is None:
        print("Chromium is needed: python -m tools.cluster.requirements test", file=sys.stderr)
        return 1
    if options.report is not None:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(_report(program, options.report, Path(folder)))
        return 0
    server, data, admin = free_port(), free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "mcpace_cli", "run", str(_manifest(Path(folder), server)),
            "--listen", f"127.0.0.1:{data}", "--admin-listen", f"127.0.0.1:{admin}",
            "--", sys.executable, str(ROOT / "examples/weather/server.py"),
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:  # noqa: S603 - because it is our own
            try:
                assert run.stdout is not None
                url = run.stdout.readline().decode().strip()  # it is ready
                asyncio.run(_pictures(seconds, program, url, f"http://127.0.0.1:{admin}/"))
            finally:
                run.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    run.wait(10)
                run.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main())
