"""An MCP server written the slow way, as they often are at first: four mistakes, a tool for each.

Serves streamable HTTP on $HOST:$PORT. Its sources are at $API, which `far.py` beside this file plays; it is
started where nothing listens there yet.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
from mcp.server.mcpserver import MCPServer
from mcp.types import ToolAnnotations

API = os.environ.get("API", "http://127.0.0.1:8100")
FAR_PORT = int(os.environ.get("FAR_PORT", "8100"))
READS = ToolAnnotations(read_only_hint=True)

server = MCPServer("slow", version="1.0.0", log_level="WARNING")
calls = {"city-report": 0, "quote": 0, "sensor": 0, "orders": 0}


async def ask(path: str) -> Any:
    """Ask a source, with a new client, and so a new connection, for this question alone."""
    async with httpx2.AsyncClient(verify=not API.startswith("http:")) as client:
        answer = await client.get(f"{API}/{path}")
        return answer.json()


@server.tool(name="city-report", annotations=READS)
async def city_report(city: str) -> dict[str, Any]:
    """Report on a city: weather, air, traffic, events. Asks one source after the other, each time anew."""
    calls["city-report"] += 1
    kinds = ("weather", "air", "traffic", "events")
    return {"city": city, **{kind: (await ask(f"{kind}/{city.lower()}"))["value"] for kind in kinds}}


@server.tool(name="quote", annotations=READS)
async def quote(symbol: str) -> dict[str, Any]:
    """Quote a share, as it stands now: must not be cached."""
    calls["quote"] += 1
    return {"symbol": symbol, "price": (await ask(f"quotes/{symbol}"))["value"]}


@server.tool(name="sensor", annotations=READS)
async def sensor(number: int) -> dict[str, Any]:
    """Read one sensor, which takes a while; whoever wants eight calls eight times."""
    calls["sensor"] += 1
    await asyncio.sleep(0.06)
    return {"sensor": number, "celsius": 18 + number % 7}


@server.tool(name="orders", annotations=READS)
async def orders(year: int) -> str:
    """List the orders of a year: all of them, at once."""
    calls["orders"] += 1
    rows = [
        {
            "order": f"{year}-{number:05}",
            "customer": f"customer {number % 97}",
            "cents": number * 37 % 90_000,
        }
        for number in range(2_000)
    ]
    return json.dumps(rows)


@server.tool(name="calls-so-far", annotations=ToolAnnotations(read_only_hint=False))
async def calls_so_far() -> dict[str, int]:
    """Say how often each tool was called here."""
    return calls


def start_sources() -> None:
    """Start what plays the sources, unless it runs already; it ends with whoever started it."""
    if "API" in os.environ and urlsplit(API).hostname not in ("127.0.0.1", "localhost"):
        return
    try:
        socket.create_connection(("127.0.0.1", FAR_PORT), 1).close()
    except OSError:
        subprocess.Popen([sys.executable, Path(__file__).with_name("far.py")], stdin=subprocess.DEVNULL)  # noqa: S603 - because it is our own file


if __name__ == "__main__":
    start_sources()
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000"))
    server.run("streamable-http", host=host, port=port)
