"""Runs in a pod: calls MCP servers with the official client, and prints what came of it as JSON.

python - '{"urls": [...], "calls": 30, "tool": ..., "arguments": {...}, "key": ..., "host": ..., "seconds": ...,
           "until": FILE, "pause": 0.02, "halfway": FILE, "connections": "each call"}'

NUMBER in an argument is another number at each call. With `seconds`, so many lie between two calls of a client
as `pause` says. With `halfway`, all clients wait after half of their calls until that file is there; FILE.reached
is there when they do.
"""

import asyncio
import itertools
import json
import sys
import time
from pathlib import Path

import httpx2
from mcp import Client, MCPError
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

numbers = itertools.count()
halfway = itertools.count(1)


async def call(client, ask):
    began = time.time()
    arguments = json.loads(json.dumps(ask.get("arguments", {})).replace("NUMBER", str(next(numbers))))
    try:
        result = await client.call_tool(ask["tool"], arguments)
        outcome = {"ok": not result.is_error, "result": result.structured_content}
    except MCPError as error:
        outcome = {"ok": False, "code": error.error.code, "data": error.error.data, "words": str(error)}
    except Exception as error:
        outcome = {"ok": False, "code": 0, "words": repr(error)}
    return outcome | {"at": began, "ms": round((time.time() - began) * 1000, 1)}


async def reached(url):
    """Wait until the name and the Service's rules lead to a pod: both follow its readiness by a moment."""
    target = httpx2.URL(url)
    deadline = time.time() + 15
    while True:
        try:
            _, writer = await asyncio.open_connection(target.host, target.port or 80)
        except OSError:
            if time.time() > deadline:
                raise
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return


async def met(ask, clients):
    """Wait halfway, until the test has done its part."""
    file = Path(ask["halfway"])
    if next(halfway) == clients:
        file.with_suffix(".reached").touch()
    while not file.exists():
        await asyncio.sleep(0.05)


async def paused(seconds, stop):
    """Wait for so long, or until the test has seen enough."""
    end = time.time() + seconds
    while (left := end - time.time()) > 0 and not stop.exists():
        await asyncio.sleep(min(left, 0.5))


async def converse(url, ask, outcomes, number, client_number):
    headers = {"X-API-Key": ask["key"]} if ask.get("key") else {}
    if ask.get("host"):
        headers["Host"] = ask["host"]
    kept = 0 if ask.get("connections") == "each call" else 20
    limits = httpx2.Limits(max_keepalive_connections=kept)
    async with httpx2.AsyncClient(headers=headers, timeout=30, limits=limits) as http:
        transport = (
            sse_client(url, headers)
            if url.endswith("/sse")
            else streamable_http_client(url, http_client=http)
        )
        async with Client(transport, mode=ask.get("mode", "auto")) as client:
            end = time.time() + ask.get("seconds", 0)
            stop = Path(ask.get("until", "/never"))
            half = number // 2 if ask.get("halfway") else None
            while number > 0 or (time.time() < end and not stop.exists()):
                number -= 1
                outcomes.append(await call(client, ask) | {"client": client_number})
                if ask.get("seconds"):
                    await paused(ask.get("pause", 0.02), stop)
                if number == half:
                    await met(ask, len(ask["urls"]) * ask.get("clients", 1))


async def main():
    ask = json.loads(sys.argv[1])
    urls, outcomes = ask["urls"], []
    for url in urls:
        await reached(url)
    share = [ask.get("calls", 0) // len(urls)] * len(urls)
    await asyncio.gather(
        *(
            converse(url, ask, outcomes, n, client)
            for client, (url, n) in enumerate(
                zip(urls * ask.get("clients", 1), share * ask.get("clients", 1))
            )
        )
    )
    print(json.dumps(outcomes))


asyncio.run(main())
