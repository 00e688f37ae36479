"""Whether the server is there: what is asked, in which era, and what is made of its answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from tests.kit.upstream import Heard, Scripted, json_answer
from tests.kit.waiting import until

from mcpace_sidecar.call.settings import Settings
from mcpace_sidecar.contract.config import SidecarConfig, parse
from mcpace_sidecar.http.address import Address
from mcpace_sidecar.http.pool import Pool
from mcpace_sidecar.mcp.catalog import Catalog
from mcpace_sidecar.server.handshake import Handshake

INFO = {"name": "shop", "version": "1"}
MODERN = {"supportedVersions": ["2026-07-28"], "_meta": {"io.modelcontextprotocol/serverInfo": INFO}}
LEGACY = {"protocolVersion": "2025-11-25", "serverInfo": INFO}


class Kept:
    """A handshake that is kept up, and what it told."""

    def __init__(self, port: int, config: dict[str, Any]) -> None:
        settings = Settings(parse(SidecarConfig, config)[0])
        self.catalog = Catalog()
        self.changed: list[str] = []
        self.calls = Pool(Address("127.0.0.1", port))
        self.handshake = Handshake(
            Pool(Address("127.0.0.1", port)), self.calls, lambda: settings, self.catalog, self.changed.append,
            frozenset(),
        )  # fmt: skip

    async def ready(self) -> None:
        await until(lambda: self.handshake.ready, "the handshake")

    async def says(self, words: str) -> None:
        await until(lambda: words in self.handshake.problem, f"{words!r}, not {self.handshake.problem!r}")


@contextlib.asynccontextmanager
async def keeping(port: int, **config: Any) -> AsyncIterator[Kept]:
    kept = Kept(port, config)
    tasks = [asyncio.ensure_future(work) for work in (kept.handshake.keep(), kept.handshake.subscribe())]
    try:
        yield kept
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def speaks(server: Scripted, results: dict[str, Any], status: bytes = b"404 Not Found") -> None:
    """The server knows these methods alone."""

    def answer(heard: Heard) -> bytes:
        if heard.line.startswith(b"DELETE"):
            return json_answer(b"")
        message = heard.message
        result = results.get(message["method"])
        if "id" not in message:
            return json_answer(b"", b"202 Accepted")
        if result is None:
            return json_answer(b"{}", status)
        body = {"jsonrpc": "2.0", "id": message["id"], "result": result}
        return json_answer(msgspec.json.encode(body), extra=b"Mcp-Session-Id: s1\r\n")

    server.answer = answer


def methods(server: Scripted) -> list[str]:
    return [h.message["method"] for h in server.heard if h.body]


async def test_a_modern_server_is_asked_by_discover_and_learned_with_its_tools(scripted: Scripted) -> None:
    tools = {"tools": [{"name": "buy", "inputSchema": {"type": "object"}}]}
    speaks(scripted, {"server/discover": MODERN | {"capabilities": {"tools": {}}}, "tools/list": tools})
    async with keeping(scripted.port) as kept:
        await kept.ready()
        assert methods(scripted) == ["server/discover", "tools/list"]
        assert list(kept.catalog.tools) == ["buy"]
        assert kept.catalog.server is not None
        assert (kept.catalog.server.name, kept.catalog.server.version) == ("shop", "1")
        assert kept.handshake.was_ready.is_set()
        assert kept.handshake.alive


async def test_a_legacy_server_is_asked_by_initialize_and_the_session_is_deleted(
    scripted: Scripted,
) -> None:
    speaks(scripted, {"initialize": LEGACY | {"capabilities": {}}})
    async with keeping(scripted.port) as kept:
        await kept.ready()
        assert methods(scripted)[:3] == ["server/discover", "initialize", "notifications/initialized"]
        await until(lambda: scripted.heard[-1].line.startswith(b"DELETE"), "the session to be deleted")
        assert scripted.heard[-1].headers[b"mcp-session-id"] == b"s1"


@pytest.mark.parametrize("status", [b"401 Unauthorized", b"403 Forbidden", b"421 Misdirected Request"])
async def test_a_server_that_speaks_to_its_own_clients_alone_is_there(
    scripted: Scripted, status: bytes
) -> None:
    speaks(scripted, {}, status)
    async with keeping(scripted.port) as kept:
        await kept.ready()
        assert kept.catalog.locked


async def test_a_server_that_answers_as_none_of_mcp_lives_and_is_not_ready(scripted: Scripted) -> None:
    scripted.answer = lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    async with keeping(scripted.port) as kept:
        await until(lambda: kept.handshake.alive, "an answer")
        assert not kept.handshake.ready
        assert not kept.handshake.was_ready.is_set()


async def test_a_server_that_is_not_there_is_found_once_it_is_and_missed_once_it_goes(
    scripted: Scripted,
) -> None:
    speaks(scripted, {"server/discover": MODERN | {"capabilities": {}}})
    await scripted.stop()
    async with keeping(scripted.port) as kept:
        await kept.says("does not accept connections")
        assert not kept.handshake.alive
        await scripted.start()
        await kept.ready()
        assert kept.handshake.problem == ""
        await scripted.stop()
        kept.handshake.doubt()
        await kept.says("does not accept connections")
        assert not kept.handshake.ready


async def test_prompts_are_asked_for_only_where_they_have_limits(scripted: Scripted) -> None:
    capable = MODERN | {"capabilities": {"prompts": {}}}
    speaks(scripted, {"server/discover": capable, "prompts/list": {"prompts": [{"name": "p"}]}})
    async with keeping(scripted.port) as kept:
        await kept.ready()
        assert kept.catalog.prompts is None
    async with keeping(scripted.port, rateLimits={"prompts": [{"name": "p", "cost": 2}]}) as kept:
        await kept.ready()
        assert kept.catalog.prompts == {"p"}


async def test_a_list_in_pages_is_read_whole_and_one_without_end_is_not(scripted: Scripted) -> None:
    def page(cursor: int) -> Any:
        tools = [{"name": f"t{cursor}", "inputSchema": {"type": "object"}}]
        return {"tools": tools, "nextCursor": str(cursor + 1)}

    def answer(heard: Heard) -> bytes:
        message = heard.message
        if message["method"] == "server/discover":
            result: Any = MODERN | {"capabilities": {"tools": {}}}
        else:
            result = page(int(message["params"].get("cursor", 0)))
        return json_answer(msgspec.json.encode({"jsonrpc": "2.0", "id": message["id"], "result": result}))

    scripted.answer = answer
    async with keeping(scripted.port) as kept:
        await kept.ready()
        assert len(kept.catalog.tools) == methods(scripted).count("tools/list") == 100
