"""Servers that list without end, and that tell of changes without end."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator

import msgspec
import pytest
from tests.kit.sidecars import Start
from tests.kit.upstream import Heard, Scripted, json_answer
from tests.kit.waiting import until

from mcpace_sidecar.mcp.catalog import MAX_TOOLS
from mcpace_sidecar.server import handshake

MIB = 1 << 20
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


def answer(result: object) -> bytes:
    return json_answer(msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "result": result}))


def introduced(**tools: bool) -> bytes:
    return answer({"supportedVersions": ["2026-07-28"], "capabilities": {"tools": tools}})


def method_of(heard: Heard) -> str:
    return str(heard.message.get("method")) if heard.body else ""


SCHEMA = {"type": "object", "properties": {f"argument_{n}": {"type": "string"} for n in range(10)}}
LISTS = {
    "many tools": lambda page: [{"name": f"t{page}_{n}"} for n in range(5000)],
    "large schemas": lambda page: [{"name": f"t{page}_{n}", "inputSchema": SCHEMA} for n in range(1000)],
    "large annotations": lambda page: [
        {"name": f"t{page}_{n}", "annotations": {"title": "x" * 10_000}} for n in range(100)
    ],
    "long names": lambda page: [{"name": f"t{page}_{n}" + "x" * 10_000} for n in range(100)],
    "no tools": lambda page: [f"{page}" * 10_000 for _ in range(100)],
}


@pytest.mark.parametrize("kind", LISTS)
async def test_a_list_without_end_is_read_up_to_a_bound_and_little_of_it_is_held(
    scripted: Scripted, start: Start, kind: str
) -> None:
    pages = 0

    def listing(heard: Heard) -> bytes:
        nonlocal pages
        if method_of(heard) == "tools/list":
            pages += 1
            return answer({"tools": LISTS[kind](pages), "nextCursor": "more"})
        return introduced()

    scripted.answer = listing
    tracemalloc.start()
    try:
        sidecar = await start(scripted.port)
        await sidecar.ready()
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    tools = sidecar.catalog.tools
    assert len(tools) <= MAX_TOOLS
    assert pages <= 10
    assert held < 16 * MIB, f"{held / MIB:.1f} MiB"
    assert most < 48 * MIB, f"{most / MIB:.1f} MiB"
    assert all(len(name) <= 1000 and not hints for name, hints in tools.items())


async def test_what_a_tool_says_of_itself_is_heeded_however_much_it_says(
    scripted: Scripted, start: Start
) -> None:
    odd = {"readOnlyHint": "false", "title": "x" * 5000}
    tools = [
        {"name": "writes", "annotations": {"readOnlyHint": False, "title": "x" * 5000}},
        {"name": "destroys", "annotations": {"destructiveHint": True}},
        {"name": "odd", "annotations": odd},
        {"name": "odder", "annotations": [False]},
        {"name": 5},
    ]
    scripted.answer = lambda heard: (
        answer({"tools": tools}) if method_of(heard) == "tools/list" else introduced()
    )
    sidecar = await start(scripted.port)
    await sidecar.ready()
    catalog = sidecar.catalog
    assert list(catalog.tools) == ["writes", "destroys", "odd", "odder"]
    assert [catalog.forbids_caching(name) for name in catalog.tools] == [True, True, False, False]


async def test_a_server_that_tells_of_a_change_at_each_look_is_not_looked_at_without_end(
    scripted: Scripted, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changes that come soon after one another are heeded together, and the last is heeded too."""
    monkeypatch.setattr(handshake, "CHANGES_APART", 3600.0)
    told: asyncio.Queue[None] = asyncio.Queue()
    looks = 0

    async def listing(heard: Heard) -> AsyncIterator[bytes]:
        nonlocal looks
        method = method_of(heard)
        if method == "subscriptions/listen":
            yield EVENTS
            while True:
                await told.get()
                yield b'data: {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}\n\n'
        elif method == "tools/list":
            looks += 1
            told.put_nowait(None)
            yield answer({"tools": [{"name": f"t{looks}"}]})
        else:
            yield introduced(listChanged=True)

    scripted.answer = listing
    sidecar = await start(scripted.port)
    hand = sidecar.handshake
    await until(lambda: looks == 2, "the change to be looked at")
    for _ in range(100):
        told.put_nowait(None)
    await until(lambda: hand._told.get("tools") is True, "further changes to be heard")
    assert looks == 2
    hand._heed_more("tools")
    await until(lambda: looks == 3, "the last change to be looked at")


async def test_what_a_server_says_makes_no_lines_in_the_log(
    scripted: Scripted, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    error = {"code": 1, "message": "no\nERROR forged\x1b[31m" + "x" * 5000}
    caplog.set_level("INFO")
    scripted.answer = lambda _: json_answer(
        msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "error": error})
    )
    sidecar = await start(scripted.port)
    await until(lambda: "forged" in sidecar.handshake.problem, "the server's words")
    said = [record.getMessage() for record in caplog.records if "forged" in record.getMessage()]
    assert said
    assert all(words.isprintable() and len(words) < 1000 for words in said)
