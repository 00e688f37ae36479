"""Servers of stdio that need no handshake, and what asking for that does to those that do."""

import asyncio
import json
from typing import Any

import pytest
from tests.kit.processes import ACCEPT, BOTH, INITIALIZE, Serve, said, session
from tests.kit.sidecars import Running
from tests.kit.waiting import DEADLINE, until

VERSION = "2026-07-28"
CAPABLE = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientCapabilities": {},
}


async def ask(
    sidecar: Running, method: str, params: dict[str, Any] | None = None, number: Any = 1, **headers: str
) -> tuple[int, Any]:
    """Ask as a client of that version does: the status, and the answer."""
    given = params or {}
    meta = CAPABLE | given.get("_meta", {})
    message = {"jsonrpc": "2.0", "id": number, "method": method, "params": given | {"_meta": meta}}
    lines = {"Accept": ACCEPT, "MCP-Protocol-Version": VERSION, "Mcp-Method": method}
    if "name" in given:
        lines["Mcp-Name"] = given["name"]
    status, _, answer = await sidecar.post(message, **(lines | headers))
    return status, answer


async def call(sidecar: Running, name: str, number: Any = 1, **meta: Any) -> tuple[int, Any]:
    return await ask(sidecar, "tools/call", {"name": name, "arguments": {}, "_meta": meta}, number)


def events(raw: bytes) -> list[Any]:
    return [json.loads(line[6:]) for line in raw.split(b"\n") if line.startswith(b"data: ")]


class Listening:
    """A subscription to changes of the tools, under a client's own id."""

    async def open(self, sidecar: Running, number: int) -> None:
        params = {"notifications": {"toolsListChanged": True}, "_meta": CAPABLE}
        message = {"jsonrpc": "2.0", "id": number, "method": "subscriptions/listen", "params": params}
        body = json.dumps(message).encode()
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", sidecar.data)
        head = (
            f"POST /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: {ACCEPT}\r\nContent-Type: application/json\r\n"
            f"MCP-Protocol-Version: {VERSION}\r\nMcp-Method: subscriptions/listen\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self.writer.write(head.encode() + body)

    async def hears(self) -> tuple[str, Any]:
        """The next method, and the subscription that it is of."""
        raw = await self.reader.readuntil(b"}\n\n")
        (message,) = events(raw)
        return message["method"], message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"]


@BOTH
async def test_clients_without_a_handshake_share_a_process_under_their_own_ids_and_tokens(
    serve_lines: Serve, processes: str
):
    sidecar = await serve_lines("modern", processes)
    assert sidecar.catalog.server.protocol_version == VERSION
    pids = set()

    async def client(number: int) -> None:
        for mine in (1, "1", number):
            pids.add(said((await call(sidecar, "pid", mine))[1]))
            status, raw = await call(sidecar, "progress", mine, progressToken=mine)
            told, answer = events(raw)
            assert (status, told["params"]["progressToken"], answer["id"]) == (200, mine, mine)
            assert type(answer["id"]) is type(mine)

    await asyncio.gather(*(client(number) for number in range(2, 8)))
    assert len(pids) == 1
    assert len(sidecar.launch.groups) <= 1 + (processes == "perSession"), "none but what is started ahead"


@BOTH
async def test_what_headers_say_must_be_what_the_body_says(serve_lines: Serve, processes: str):
    sidecar = await serve_lines("modern", processes)
    wrong: list[dict[str, str]] = [
        {"Mcp-Method": "tools/list"},
        {"Mcp-Method": ""},
        {"Mcp-Name": "other"},
        {"Mcp-Name": ""},
        {"Mcp-Name": "=?base64?!?="},
        {"MCP-Protocol-Version": "2027-01-01"},
    ]
    for headers in wrong:
        status, answer = await ask(sidecar, "tools/call", {"name": "pid"}, **headers)
        assert (status, answer["error"]["code"]) == (400, -32020), headers
    status, answer = await ask(sidecar, "tools/call", {"name": "pid"}, **{"Mcp-Name": "=?base64?cGlk?="})
    assert (status, said(answer).isdigit()) == (200, True)
    later = {"io.modelcontextprotocol/protocolVersion": "2027-01-01"}
    status, answer = await ask(sidecar, "tools/list", {"_meta": later}, **{"MCP-Protocol-Version": "2027-01-01"})  # fmt: skip
    assert (status, answer["error"]["code"]) == (400, -32022)
    assert answer["error"]["data"] == {"supported": [VERSION], "requested": "2027-01-01"}
    assert (await ask(sidecar, "no/method"))[0] == 404


async def test_a_server_that_knows_no_handshake_says_so_to_who_shakes_hands_and_keeps_no_process_for_it(
    serve_lines: Serve,
):
    sidecar = await serve_lines("modern", warm=0)
    for _ in range(20):
        _, _, answer = await sidecar.post(INITIALIZE, Accept=ACCEPT)
        assert answer["error"]["code"] == -32022
    assert said((await call(sidecar, "pid"))[1]).isdigit()
    assert sidecar.handshake.ready
    await until(lambda: len(sidecar.launch.groups) == 1, "their processes to end", 30)


async def test_clients_of_both_eras_use_one_process_where_it_is_shared(serve_lines: Serve):
    sidecar = await serve_lines("modern", "shared")
    client = await session(sidecar)
    pid = said((await sidecar.call("pid", **client))[2])
    assert said((await call(sidecar, "pid"))[1]) == pid
    seen = json.loads(said((await sidecar.call("meta", **client))[2]))
    assert seen["io.modelcontextprotocol/protocolVersion"] == VERSION
    assert seen["io.modelcontextprotocol/clientCapabilities"] == {}
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.data)
    writer.write(b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
    assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    await call(sidecar, "changed")
    assert await reader.readuntil(b"notifications/tools/list_changed")
    writer.close()


@BOTH
async def test_subscriptions_of_two_clients_are_told_of_under_their_own_ids(
    serve_lines: Serve, processes: str
):
    sidecar = await serve_lines("modern", processes)
    listening = [Listening(), Listening()]
    for each in listening:
        await each.open(sidecar, 7)
        assert await each.hears() == ("notifications/subscriptions/acknowledged", 7)
    assert said((await call(sidecar, "changed"))[1]) == "changed"
    for each in listening:
        assert await each.hears() == ("notifications/tools/list_changed", 7)
    listening[0].writer.close()

    async def cancelled() -> list[Any]:
        found: list[Any] = (await ask(sidecar, "test/cancelled"))[1]["result"]["cancelled"]
        return found

    async with asyncio.timeout(DEADLINE):
        while not await cancelled():
            await asyncio.sleep(0.02)
    assert said((await call(sidecar, "changed"))[1]) == "changed"
    assert await listening[1].hears() == ("notifications/tools/list_changed", 7)
    await call(sidecar, "die")
    assert await listening[1].reader.readuntil(b"0\r\n\r\n"), "it ends, and its client listens anew"
    listening[1].writer.close()


async def test_what_a_server_logs_reaches_the_one_call_that_wants_it(serve_lines: Serve):
    sidecar = await serve_lines("modern")
    _, plain = await call(sidecar, "log")
    assert said(plain) == "logged"
    _, raw = await call(sidecar, "log", **{"io.modelcontextprotocol/logLevel": "info"})
    told, answer = events(raw)
    assert told["params"] == {"level": "info", "data": "here"}
    assert said(answer) == "logged"


@BOTH
@pytest.mark.parametrize("how", ["", "strict", "mute"])
async def test_a_server_that_shakes_hands_is_shaken_hands_with_whatever_it_makes_of_the_question(
    serve_lines: Serve, processes: str, how: str
):
    sidecar = await serve_lines(how, processes)
    assert sidecar.catalog.server.protocol_version == "2025-11-25"
    status, answer = await ask(sidecar, "server/discover")
    assert (status, answer["error"]["code"]) == (400, -32601), "upon which clients shake hands"
    status, answer = await ask(sidecar, "tools/list")
    assert (status, answer["error"]["code"]) == (400, -32022)
    assert "2025-11-25" in answer["error"]["data"]["supported"]
    assert said((await sidecar.call("pid", **await session(sidecar)))[2]).isdigit()
    counted = sidecar.sidecar.processes
    assert (dict(counted.failed), counted.crashes, counted.in_a_row) == ({}, 0, 0)


async def test_a_server_that_ends_is_asked_again_and_its_clients_wait(serve_lines: Serve):
    sidecar = await serve_lines("modern", "shared")
    pid = said((await call(sidecar, "pid"))[1])
    status, answer = await call(sidecar, "die")
    assert (status, answer["error"]["code"]) == (200, 50200)
    assert "effect is unknown" in answer["error"]["message"]
    assert said((await call(sidecar, "pid"))[1]) != pid
    await until(lambda: sidecar.handshake.ready, "the handshake")
