"""Open event streams: bounded, kept open through silence, and not taken for calls that hang."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from tests.kit.sidecars import Running, Start, relaying
from tests.kit.upstream import RESULT, SSE, Heard, Scripted, chunk, json_answer
from tests.kit.waiting import DEADLINE, until

from mcpace_sidecar.call.audience import Audience

GET = b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
FEW = {"memory": 1, "files": 192}
"""Options that leave room for 32 connections, 16 of them streams."""


async def hello(heard: Heard) -> AsyncIterator[bytes]:
    """A server whose streams say one thing, and then nothing."""
    if heard.line.startswith(b"GET"):
        yield SSE + chunk(b"data: hello\n\n")
        await asyncio.Event().wait()
    yield json_answer(RESULT)


class Listening:
    """A client with an open stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, sidecar: Running, request: bytes = GET) -> "Listening":
        reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.data)
        writer.write(request)
        return cls(reader, writer)

    async def reads(self, what: bytes) -> bytes:
        async with asyncio.timeout(DEADLINE):
            return await self.reader.readuntil(what)

    @property
    def over(self) -> bool:
        return self.reader.at_eof() or b"\r\n0\r\n\r\n" in self.reader._buffer

    def leave(self) -> None:
        self.writer.transport.abort()


async def test_five_hundred_clients_behind_one_address_live_with_a_stream_each(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = hello
    sidecar = await start(scripted.port, memory=192 << 20, files=1 << 16)
    await sidecar.ready()
    clients = [await Listening.to(sidecar) for _ in range(500)]
    for client in clients:
        await client.reads(b"hello")
    assert (await sidecar.call("t"))[2]["result"]["isError"] is False
    assert (await sidecar.admin_get("/readyz"))[0] == 200
    samples = await sidecar.metrics()
    assert samples["mcpace_open_streams"] == 500
    assert not any(client.over for client in clients)
    for client in clients:
        client.leave()


async def test_beyond_the_bound_the_longest_silent_streams_end_in_order_and_calls_go_on(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = hello
    sidecar = await start(scripted.port, **FEW)
    await sidecar.ready()
    clients = []
    for _ in range(20):
        clients.append(await Listening.to(sidecar))
        await clients[-1].reads(b"hello")
    for client in clients[:4]:
        await client.reads(b"0\r\n\r\n")
    assert not any(client.over for client in clients[4:])
    assert (await sidecar.call("t"))[2]["result"]["isError"] is False
    samples = await sidecar.metrics()
    assert samples['mcpace_shed_connections_total{reason="streams"}'] == 4
    assert samples["mcpace_open_streams"] == samples['mcpace_bound{what="streams"}'] == 16
    for client in clients:
        client.leave()
    await until(lambda: not len(sidecar.plane.audience), "the streams to be forgotten")


class Stream:
    def close_stream(self) -> None:
        """Nothing is open."""


def test_the_client_with_the_most_streams_makes_room() -> None:
    audience = Audience(10)
    honest = [Stream() for _ in range(4)]
    hoarded = [Stream() for _ in range(20)]
    for number, stream in enumerate(honest):
        assert not audience.enter(stream, f"honest-{number}")
    gone = [left for stream in hoarded for left in audience.enter(stream, "hoarder")]
    assert gone == hoarded[:14], "the hoarder's own, the oldest first"
    audience.heard(hoarded[14])
    assert audience.enter(Stream(), "honest-5") == [hoarded[15]], "the one that has just spoken stays"
    for stream in [*honest, *hoarded]:
        audience.leave(stream)
    assert len(audience) == 1


async def test_a_stream_whose_head_does_not_come_is_answered_when_the_sidecar_ends(
    scripted: Scripted, start: Start
) -> None:
    async def silent(heard: Heard) -> AsyncIterator[bytes]:
        if heard.line.startswith(b"GET"):
            await asyncio.Event().wait()
        yield json_answer(RESULT)

    scripted.answer = silent
    sidecar = await start(scripted.port)
    client = await Listening.to(sidecar)
    await until(lambda: len(sidecar.plane.audience), "the stream to be asked for")
    sidecar.drain()
    assert b" 503 " in await client.reads(b"\r\n\r\n")
    client.leave()


async def test_a_stream_that_is_asked_for_once_the_sidecar_ends_does_not_keep_it(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = hello
    sidecar = await start(scripted.port)
    await sidecar.ready()
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.data)
    late = Listening(reader, writer)
    await until(lambda: len(sidecar.connections.open) == 1, "the connection to be taken")
    sidecar.end()
    await until(lambda: sidecar.plane.draining, "the end to begin")
    writer.write(GET)
    head = await late.reads(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 "), head
    assert b"Retry-After: " in head
    async with asyncio.timeout(DEADLINE):
        await sidecar.waiting
    assert not any(heard.line.startswith(b"GET /mcp") for heard in scripted.calls)
    late.leave()


async def test_where_other_replicas_are_streams_stay_until_services_send_their_clients_there(
    scripted: Scripted, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted.answer = hello
    sidecar = await start(scripted.port, **relaying())
    await sidecar.ready()
    early = await Listening.to(sidecar)
    assert b"hello" in await early.reads(b"hello\n\n")
    sidecar.drain()
    late = await Listening.to(sidecar)
    assert b"hello" in await late.reads(b"hello\n\n"), "it may come here once more"
    monkeypatch.setattr("mcpace_sidecar.call.plane.FORGETTING", 0.0)
    for client in (early, late):
        assert (await client.reads(b"0\r\n\r\n")).endswith(b"0\r\n\r\n"), "it ends in order"
        client.leave()


async def test_a_silent_stream_says_that_it_is_open_and_never_in_the_midst_of_an_event(
    scripted: Scripted, start: Start
) -> None:
    go_on = asyncio.Event()

    async def halves(heard: Heard) -> AsyncIterator[bytes]:
        if b"half" in heard.line:
            yield SSE + chunk(b"data: first ")
            await go_on.wait()
            yield chunk(b"half\n\n")
            await asyncio.Event().wait()
        async for piece in hello(heard):
            yield piece

    scripted.answer = halves
    sidecar = await start(scripted.port, {"responses": {"heartbeat": "100ms"}})
    silent = await Listening.to(sidecar)
    half = await Listening.to(sidecar, GET.replace(b"/mcp", b"/mcp?half"))
    for _ in range(3):
        await silent.reads(b": ping\n\n")
    go_on.set()
    text = await half.reads(b": ping\n\n")
    assert text.index(b"data: first ") < text.index(b"half\n\n") < text.index(b": ping")
    for client in (silent, half):
        client.leave()


async def test_streams_are_silent_where_the_manifest_says_so(scripted: Scripted, start: Start) -> None:
    sidecar = await start(scripted.port, {"responses": {"heartbeat": "0s"}})
    assert sidecar.plane.settings.heartbeat == 0


@pytest.mark.parametrize("event", [b":\n\n", b"a\n\n", b"data:\n\n", b"data: {}\r\r"])
@pytest.mark.parametrize("transport", ["http", "sse"])
async def test_events_that_come_at_once_leave_at_once(
    scripted: Scripted, start: Start, event: bytes, transport: str
) -> None:
    count = 40_000

    async def bursts(heard: Heard) -> AsyncIterator[bytes]:
        if heard.line.startswith(b"GET"):
            yield SSE + chunk(event * count + b"data: last\n\n")
            await asyncio.Event().wait()
        yield json_answer(RESULT)

    scripted.answer = bursts
    sidecar = await start(scripted.port, {"transport": "sse"} if transport == "sse" else {})
    client = await Listening.to(sidecar, GET if transport == "http" else GET.replace(b"/mcp", b"/sse"))
    said = b""
    async with asyncio.timeout(DEADLINE):
        while not said.endswith(b"last\n\n\r\n"):
            said += await client.reader.read(1 << 20)
    said = said.partition(b"\r\n\r\n")[2]
    writes = 0
    while size := int(said.partition(b"\r\n")[0] or b"0", 16):
        said = said.partition(b"\r\n")[2][size + 2 :]
        writes += 1
    assert writes < 200, f"{writes} writes for some {len(event) * count >> 10} KiB"
    client.leave()


ASKED = msgspec.json.encode(
    {"jsonrpc": "2.0", "id": "q1", "method": "elicitation/create", "params": {"message": "Sure?"}}
)
ANSWERED = {"jsonrpc": "2.0", "id": "q1", "result": {"action": "accept", "content": {}}}


class Asking:
    """A server that asks its client something in the midst of a call, and then answers, or does not."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.told = asyncio.Event()
        self.hangs = hangs

    async def answer(self, heard: Heard) -> AsyncIterator[bytes]:
        if b'"accept"' in heard.body:
            self.told.set()
            yield b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
        elif b"tools/call" in heard.body:
            yield SSE + chunk(b"data: " + ASKED + b"\n\n")
            await self.told.wait()
            if self.hangs:
                await asyncio.Event().wait()
            yield chunk(b"data: " + RESULT + b"\n\n") + b"0\r\n\r\n"
        else:
            yield json_answer(RESULT)


def call(session: str) -> bytes:
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}'
    lines = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    if session:
        lines += f"Mcp-Session-Id: {session}\r\n"
    return f"{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def ask(sidecar: Running, session: str) -> Listening:
    """Call, read the question, and think for longer than the server may be silent."""
    client = await Listening.to(sidecar, call(session))
    await client.reads(ASKED)
    await asyncio.sleep(1.2)  # what is shown is that time passes
    return client


async def test_a_person_may_take_longer_than_the_server(scripted: Scripted, start: Start) -> None:
    for session in ("", "s-1"):
        scripted.answer = Asking().answer
        sidecar = await start(scripted.port, {"upstream": {"timeout": "500ms"}})
        client = await ask(sidecar, session)
        headers: dict[str, Any] = {"Mcp_Session_Id": session} if session else {}
        assert (await sidecar.post(ANSWERED, **headers))[0] == 202
        assert b"50400" not in await client.reads(RESULT)
        assert not len(sidecar.plane.questions)
        client.leave()


async def test_a_server_that_hangs_after_the_answer_is_given_up(scripted: Scripted, start: Start) -> None:
    scripted.answer = Asking(hangs=True).answer
    sidecar = await start(scripted.port, {"upstream": {"timeout": "500ms"}})
    client = await ask(sidecar, "s-1")
    await sidecar.post(ANSWERED, Mcp_Session_Id="s-1")
    await client.reads(b"50400")
    client.leave()
