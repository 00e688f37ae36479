"""How each site of a call's way is broken: in a call that fails there, while others go on."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import msgspec
from tests.kit.breaking import (
    SECRET,
    VICTIM,
    Broken,
    Odd,
    answered,
    call_of,
    honest,
)
from tests.kit.upstream import SSE, Heard, json_answer
from tests.kit.waiting import DEADLINE, until

from mcpace_sidecar.cache.lookup import Lookup
from mcpace_sidecar.cache.memory import MemoryResults
from mcpace_sidecar.call import stages
from mcpace_sidecar.call.answer import Answer
from mcpace_sidecar.call.asking import Asking
from mcpace_sidecar.call.event_relay import EventRelay
from mcpace_sidecar.call.exchange import Exchange
from mcpace_sidecar.call.fanout import Part
from mcpace_sidecar.egress.doors import Passage
from mcpace_sidecar.http.client import UpstreamConnection
from mcpace_sidecar.http.server import ClientConnection
from mcpace_sidecar.limits.memory import MemoryLimits
from mcpace_sidecar.sessions.revival import Revival
from mcpace_sidecar.sessions.sealing import UNBOUND


async def in_request(broken: Broken) -> None:
    broken.breaks(Exchange, "route")
    await broken.fails()


async def in_token(broken: Broken) -> None:
    broken.breaks(Exchange, "_identified")
    claims = base64.urlsafe_b64encode(msgspec.json.encode({"iss": "https://issuer.example"})).strip(b"=")
    head = base64.urlsafe_b64encode(b'{"alg":"RS256"}').strip(b"=")
    await broken.fails(Authorization=f"Bearer {head.decode()}.{claims.decode()}.c2ln")


class Later(MemoryLimits):
    """Says its verdicts later, as Redis does."""

    def take(self, charges: Any) -> Any:
        del charges
        return None

    def ask(self, charges: Any, done: Any) -> None:
        asyncio.get_running_loop().call_soon(done, super().take(charges))


async def in_limits(broken: Broken) -> None:
    broken.plane.limits = Later()
    broken.breaks(Exchange, "_heed_verdict")
    await broken.fails()


class Asked:
    """Says later that the server has asked nothing, as Redis does."""

    def continues(self, key: bytes, done: Any) -> None:
        del key
        asyncio.get_running_loop().call_soon(done, 0)


async def in_conversation(broken: Broken) -> None:
    broken.plane.conversations = Asked()
    broken.breaks(Exchange, "_go_on")
    await broken.fails(state="more", MCP_Protocol_Version="2026-07-28")


async def in_look_up(broken: Broken) -> None:
    broken.breaks(Lookup, "_take")
    await broken.fails("cached")


def alike(broken: Broken) -> int:
    """How many of the identical calls are in flight."""
    return sum(b'"secret":"waits"' in each.call.body for each in broken.plane.in_flight)


async def in_flight(broken: Broken) -> None:
    broken.breaks(Lookup, "_landed")
    broken.go.clear()
    same = {"name": "cached", "arguments": {"secret": "waits"}}
    messages = [
        {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": same}
        for number in (0, 1, "broken", 2, 3)
    ]
    calls = []
    for number, message in enumerate(messages):
        calls.append(asyncio.ensure_future(broken.sidecar.post(message)))
        await until(lambda: alike(broken) > number, "the call to be in flight")  # noqa: B023
    broken.go.set()
    bodies = [(await call)[2] for call in calls]
    assert ["result" in body for body in bodies] == [True, True, False, True, True], bodies
    assert bodies[2]["error"]["code"] == -32603


async def queued(broken: Broken) -> asyncio.Task[None]:
    broken.go.clear()
    held = [asyncio.ensure_future(honest(broken.sidecar, number, "waits")) for number in range(100, 108)]
    await until(lambda: broken.plane.bulkhead.in_flight == 8, "all slots to be taken")
    failing = asyncio.ensure_future(broken.fails())
    await until(lambda: any(VICTIM in each.call.body for each in broken.plane.bulkhead.queue), "it to wait")

    async def all_of() -> None:
        await asyncio.gather(failing, *held)

    return asyncio.ensure_future(all_of())


async def in_seat(broken: Broken) -> None:
    broken.breaks(Exchange, "forward")
    waiting = await queued(broken)
    broken.go.set()
    await waiting


async def in_overdue(broken: Broken) -> None:
    broken.breaks(Answer, "note")
    waiting = await queued(broken)
    for each in broken.plane.bulkhead.queue:
        if VICTIM in each.call.body:
            each.deadline = 0.0
    await until(
        lambda: not any(VICTIM in each.call.body for each in broken.plane.bulkhead.queue), "a sweep"
    )
    broken.go.set()
    await waiting


async def in_answer(broken: Broken) -> None:
    broken.breaks(Asking, "take_answer")
    await broken.fails()


async def in_head(broken: Broken) -> None:
    broken.breaks(Asking, "_take_head")
    await broken.fails("streams")


async def in_piece(broken: Broken) -> None:
    broken.breaks(EventRelay, "piece")
    await broken.fails("streams")


async def in_end(broken: Broken) -> None:
    broken.breaks(EventRelay, "end")
    _, _, body = await broken.call("streams")
    assert body.count(b'"result"') == 1, "it had its answer by then"
    assert b'"error"' not in body


async def in_failure(broken: Broken) -> None:
    broken.breaks(Asking, "_take_failure")
    await broken.fails("closes")


async def in_parts(broken: Broken) -> None:
    broken.breaks(Exchange, "classify", when=lambda each: isinstance(each.answer.downstream, Part))
    _, _, body = await broken.sidecar.post([call_of("t", 1), call_of("t", "broken"), call_of("t", 2)])
    codes = [each.get("error", {}).get("code") for each in body]
    assert codes == [None, -32603, None]


async def in_pages(broken: Broken) -> None:
    broken.breaks(Answer, "settle", when=lambda _, status, *__: status == "error", once=True)
    message = call_of("next_page", "broken", {"handle": "none", "page": 2})
    _, _, body = await broken.sidecar.post(message)
    assert body["error"]["code"] == -32603


async def in_refresh(broken: Broken) -> None:
    broken.breaks(Exchange, "_refresh")
    assert "result" in (await broken.call("cached"))[2]
    for entry in broken.sidecar.kept():
        entry.fresh_until = time.monotonic() - 0.001
    assert "result" in (await broken.call("cached"))[2], "the old one is answered meanwhile"


class Slow(MemoryResults):
    """Purges later, as Redis does."""

    def purge(self, tags: Sequence[bytes], done: Any = lambda: None) -> None:
        super().purge(tags)
        asyncio.get_running_loop().call_soon(done)


async def in_purge(broken: Broken) -> None:
    broken.plane.results = Slow(1_000_000)
    broken.breaks(Answer, "end", when=lambda each, *_: each.call.stage == stages.PURGE, once=True)
    await broken.fails("writes")


async def in_client(broken: Broken) -> None:
    broken.breaks(Answer, "settle", when=lambda _, status, *__: status == "cancelled", once=True)
    broken.go.clear()
    reader, writer = await asyncio.open_connection("127.0.0.1", broken.sidecar.data)
    body = msgspec.json.encode(call_of("waits", "broken"))
    writer.write(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
    writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    await until(
        lambda: any(VICTIM in e.call.body for e in broken.plane.in_flight), "the call to be in flight"
    )
    writer.transport.abort()
    await until(lambda: not any(VICTIM in e.call.body for e in broken.plane.in_flight), "it to end")
    broken.go.set()
    del reader


async def in_drain(broken: Broken) -> None:
    stream = asyncio.ensure_future(broken.is_cut(b"GET /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    await until(lambda: any(e.begun for e in broken.plane.in_flight), "the stream to open")
    answer = next(e for e in broken.plane.in_flight if e.begun)
    answer.call.body = VICTIM
    broken.breaks(Answer, "settle", once=True)
    broken.sidecar.drain()
    del answer
    await stream


async def in_record(broken: Broken) -> None:
    def listener(call: Any) -> None:
        if call.received > 1000:
            raise KeyError(SECRET)

    broken.plane.listeners = (listener,)
    _, _, body = await broken.sidecar.post(call_of("t", "broken", {"long": "x" * 1000}))
    assert "result" in body


async def in_settle(broken: Broken) -> None:
    broken.breaks(Answer, "end")
    await broken.is_cut()


async def in_sweep(broken: Broken) -> None:
    broken.breaks(Answer, "lost")
    broken.go.clear()
    await broken.fails("waits")
    broken.go.set()


async def in_session(broken: Broken) -> None:
    session = broken.plane.table.mint(b"inner", b"2025-11-25", b"{}", UNBOUND).decode()
    lost, others = json_answer(b"{}", b"404 Not Found"), broken.scripted.answer
    broken.scripted.answer = lambda heard: (
        lost if heard.headers.get(b"mcp-session-id") == b"inner" else others(heard)
    )
    broken.breaks(Revival, "_attempt")
    await broken.fails(Mcp_Session_Id=session)


async def in_store(broken: Broken) -> None:
    def unable(_: Any) -> None:
        raise KeyError(SECRET)

    link = broken.sidecar.links[0]
    await until(lambda: link.up, "Redis")
    link.send(unable, b"PING")
    link.defer(lambda: unable(None))
    await broken.call()


async def in_connection(broken: Broken) -> None:
    broken.breaks(ClientConnection, "_take_head", when=lambda _, data: VICTIM in data)
    await broken.fails()


async def in_upstream(broken: Broken) -> None:
    broken.breaks(UpstreamConnection, "_take_head", when=lambda _, data: VICTIM in data)
    await broken.fails()


async def in_egress(broken: Broken) -> None:
    broken.breaks(Passage, "on_answer")
    port = broken.sidecar.config["egress"][0]["port"]
    answer = await broken.sidecar.raw(
        b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", port=port
    )
    assert answer.startswith(b"HTTP/1.1 502 ")


async def in_reload(broken: Broken) -> None:
    def unable(*_: Any) -> None:
        raise KeyError(SECRET)

    before = broken.plane.settings
    broken._monkeypatch.setattr("mcpace_sidecar.process.configuration.Settings", unable)
    broken.sidecar.configuration._seen = ()
    await until(lambda: broken.sidecar.configuration._seen, "a look at the configuration")
    assert broken.plane.settings is before
    assert not broken.sidecar.waiting.done()


async def in_lost(broken: Broken) -> None:
    broken.plane.results = Odd("never answers")
    await broken.fails("cached")


async def in_pair(broken: Broken) -> None:
    """On a stream of 2024-11-05, where the answer of another call comes as it should."""
    said: asyncio.Queue[bytes] = asyncio.Queue()

    async def pair(heard: Heard) -> AsyncIterator[bytes]:
        if heard.line.startswith(b"GET"):
            yield SSE
            said.put_nowait(b"event: endpoint\ndata: /messages?s=1\n\n")
            while True:
                event = await said.get()
                yield b"%x\r\n%b\r\n" % (len(event), event)
        else:
            answer = answered(heard).partition(b"\r\n\r\n")[2]
            said.put_nowait(b"event: message\ndata: " + answer + b"\n\n")
            yield json_answer(b"Accepted", b"202 Accepted")

    broken.breaks(Asking, "_take_event")
    await until(lambda: broken.sidecar.handshake.problem, "the first handshake to fail")
    broken.scripted.answer = pair
    reader, writer = await asyncio.open_connection("127.0.0.1", broken.sidecar.data)
    writer.write(b"GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(DEADLINE):
        await reader.readuntil(b"/messages?s=1\n\n")
        for message_id, end in (("broken", b"-32603"), (7, b'"done"')):
            body = msgspec.json.encode(call_of("t", message_id))
            head = b"POST /messages?s=1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            accepted = await broken.sidecar.raw(head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
            assert accepted.startswith(b"HTTP/1.1 202 ")
            await reader.readuntil(end)
    writer.transport.abort()


BREAKING: dict[str, Callable[[Broken], Awaitable[None]]] = {
    name[3:]: value for name, value in list(globals().items()) if name.startswith("in_")
}
