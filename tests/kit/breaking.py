"""A sidecar that is broken at one site of one call, and what must hold of it afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import msgspec
import pytest
from tests.kit.sidecars import Running
from tests.kit.upstream import SSE, Heard, Scripted, json_answer
from tests.kit.waiting import DEADLINE, until

from mcpace_sidecar.cache.entry import Entry, Place
from mcpace_sidecar.cache.memory import MemoryResults
from mcpace_sidecar.call.answer import Answer
from mcpace_sidecar.call.asking import Asking
from mcpace_sidecar.call.call import Call
from mcpace_sidecar.call.event_relay import EventRelay
from mcpace_sidecar.call.exchange import Exchange

CONFIG: dict[str, Any] = {
    "rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 100_000}]},
    "cache": {
        "tools": [
            {"name": "cached", "ttl": "1m", "scope": "shared", "staleWhileRevalidate": "1h"},
            {"name": "writes", "invalidates": ["cached"]},
        ]
    },
    "responses": {"page": {"tools": [{"name": "paged", "items": 2}]}},
    "concurrency": {"maxInFlight": 8, "maxQueued": 100, "parallelTool": True},
}
SECRET = "a-secret-of-somebodys"
VICTIM = b'"id":"broken"'


def call_at(each: Any) -> Call | None:
    """The call that an object is of, if it is of one."""
    if isinstance(each, EventRelay):
        each = each._flow.answer
    each = getattr(each, "_asker", each)
    found = getattr(each, "call", getattr(each, "_call", None))
    return found if isinstance(found, Call) else None


def is_the_victim(call: Call) -> bool:
    """By its body, or by its id where the body is let go of."""
    return VICTIM in call.body or call.message_id == b'"broken"'


def answered(heard: Heard) -> bytes:
    message = heard.message
    if not isinstance(message, dict) or message.get("method") != "tools/call":
        return json_answer(b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}')
    result = {"content": [{"type": "text", "text": "done"}]}
    return json_answer(msgspec.json.encode({"jsonrpc": "2.0", "id": message["id"], "result": result}))


def call_of(tool: str, message_id: Any, arguments: Any = None) -> dict[str, Any]:
    params = {"name": tool, "arguments": arguments or {"secret": SECRET}}
    return {"jsonrpc": "2.0", "id": message_id, "method": "tools/call", "params": params}


async def honest(sidecar: Running, number: int, tool: str = "t") -> None:
    """Calls of somebody else's, which get what they asked for."""
    _, _, body = await sidecar.post(call_of(tool, number, {"n": number}))
    assert body["id"] == number, body
    assert "result" in body, body


async def at_rest(sidecar: Running) -> None:
    """Nothing is held that a call held."""
    plane = sidecar.plane
    pool: Any = plane.pool

    def held() -> dict[str, Any]:
        connections = [c for c in pool._all if c._receiver is not None and c.patience is not None]
        return {
            "in flight": len(plane.in_flight),
            "refreshing": len(plane.refreshing),
            "slots": plane.bulkhead.in_flight,
            "queued": len(plane.bulkhead.queue),
            "flights": len(plane.flights),
            "pairs": len(plane.pairs),
            "connections": len(connections),
        }

    try:
        await until(lambda: not any(held().values()), "everything to be let go of")
    except AssertionError as error:
        raise AssertionError(f"still held: {held()}") from error
    gc.collect()
    left = [each for each in gc.get_objects() if isinstance(each, Exchange | Answer | Asking)]
    assert not left, f"{len(left)} exchanges are still in memory"


async def errors(sidecar: Running) -> dict[str, float]:
    """Internal errors by their site."""
    name = "mcpace_internal_errors_total"
    samples = await sidecar.metrics()
    return {key[len(name) + 8 : -2]: value for key, value in samples.items() if key.startswith(name)}


class Odd:
    """A store that does what a test says. It holds one: compiled classes have no interpreted heirs."""

    def __init__(self, does: str) -> None:
        self.does = does
        self._store = MemoryResults(1_000_000)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def far(self, places: Sequence[Place], life: float, done: Any) -> None:
        if self.does == "raises":
            raise RecursionError(SECRET)
        if self.does == "never answers":
            return
        self._store.far(places, life, done)

    def near(self, key: bytes) -> Entry | None:
        if self.does == "raises at last" and len(self._store):
            raise KeyError(SECRET)
        return self._store.near(key)


class Broken:
    """Breaks one site of the call with the id `broken`, and of no other."""

    def __init__(self, sidecar: Running, scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sidecar = sidecar
        self.plane: Any = sidecar.plane
        """Whose parts a test replaces by odd ones."""
        self.scripted = scripted
        self.go = asyncio.Event()
        self.go.set()
        self._monkeypatch = monkeypatch
        scripted.answer = self._answer

    async def _answer(self, heard: Heard) -> AsyncIterator[bytes]:
        """Streams, closes and waits where the tool's name asks for it."""
        if heard.line.startswith(b"GET") or b'"streams"' in heard.body:
            yield SSE + b"9\r\n: hello\n\n\r\n"
            if heard.line.startswith(b"GET"):
                await asyncio.Event().wait()
            await until(self._has_begun, "the answer to begin, or to break")
        if b'"closes"' in heard.body:
            heard.writer.close()
            return
        if b'"waits"' in heard.body:
            await self.go.wait()
        answer = answered(heard)
        if b'"streams"' in heard.body:
            event = b"data: " + answer.partition(b"\r\n\r\n")[2] + b"\n\n"
            answer = b"%x\r\n%b\r\n0\r\n\r\n" % (len(event), event)
        yield answer

    def _has_begun(self) -> bool:
        in_flight: Iterable[Any] = self.plane.in_flight
        return not any(VICTIM in each.call.body and not each.begun for each in in_flight)

    def breaks(
        self, owner: type, method: str, *, when: Callable[..., bool] = lambda *_: True, once: bool = False
    ) -> None:
        """Let a method raise for the one call; `when` is asked with what the method is given."""
        original = getattr(owner, method)
        raised = 0

        def broken(each: Any, *given: Any, **named: Any) -> Any:
            nonlocal raised
            call = call_at(each)
            is_victim = call is None or is_the_victim(call)
            if is_victim and when(each, *given) and not (once and raised):
                raised += 1
                raise KeyError(SECRET)
            return original(each, *given, **named)

        self._monkeypatch.setattr(owner, method, broken)

    async def call(self, tool: str = "t", **headers: str) -> Any:
        return await self.sidecar.post(call_of(tool, "broken"), **headers)

    async def fails(self, tool: str = "t", state: str | None = None, **headers: str) -> None:
        """The one call gets an error, in whatever form it can have."""
        message = call_of(tool, "broken")
        if state is not None:
            message["params"]["requestState"] = state
        status, _, body = await self.sidecar.post(message, **headers)
        if isinstance(body, bytes):
            assert body.count(b'"error"') == 1, body
            assert b'"id":"broken","error":{"code":-32603' in body
        elif status == 500:
            assert (body["id"], body["error"]["code"]) == (None, -32603), "its message was not read yet"
        else:
            assert (status, body["id"], body["error"]["code"]) == (200, "broken", -32603)

    async def is_cut(self, request: bytes = b"") -> None:
        """The one call gets no whole answer, and no connection that stays."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.sidecar.data)
        body = msgspec.json.encode(call_of("t", "broken"))
        head = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(request or head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(DEADLINE):
                assert b"result" not in await reader.read(-1)
        writer.close()
