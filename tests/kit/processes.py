"""A sidecar in front of `lineserver`, a server of stdio that misbehaves as it is told."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.kit.programs import ROOT
from tests.kit.sidecars import Running, Start

from mcpace_sidecar.stdio.pipes import Pipes

SERVER = str(ROOT / "tests/kit/lineserver.py")
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    },
}
BOTH = pytest.mark.parametrize("processes", ["perSession", "shared"])
ACCEPT = "application/json, text/event-stream"

Serve = Callable[..., Awaitable[Running]]


def serving_lines(start: Start) -> Serve:
    """Starts them: how the server misbehaves, who has which process, further fields of `stdio`."""

    async def begin(
        how: str = "", processes: str = "perSession", ready: bool = True, **more: Any
    ) -> Running:
        config = more.pop("config", {}) | {"transport": "stdio", "stdio": {"processes": processes} | more}
        launch = Pipes((sys.executable, "-I", SERVER, how), os.environ, "lines")
        sidecar = await start(1, config, launch=launch)
        sidecar.launch = launch
        if ready:
            await sidecar.ready()
        return sidecar

    return begin


async def session(sidecar: Running) -> dict[str, str]:
    """Begin one: the headers of its requests. Shared processes have none."""
    status, headers, _ = await sidecar.post(INITIALIZE, Accept=ACCEPT)
    assert status == 200
    lines = {"Accept": ACCEPT}
    if "mcp-session-id" in headers:
        lines["Mcp-Session-Id"] = headers["mcp-session-id"]
    note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert (await sidecar.post(note, **lines))[0] == 202
    return lines


def said(answer: Any) -> str:
    """The text of a tool's result."""
    return str(answer["result"]["content"][0]["text"])


def lives(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def delete(client: dict[str, str]) -> bytes:
    """The request that ends a client's session."""
    session = client["Mcp-Session-Id"]
    return f"DELETE /mcp HTTP/1.1\r\nHost: localhost\r\nMcp-Session-Id: {session}\r\n\r\n".encode()
