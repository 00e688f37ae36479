"""A pod that bears a server's label and is no sidecar: what it can make of the operator's questions."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kit.waiting import DEADLINE, until

from mcpace_operator.polling.pods import MOST_DOORS, Heard
from mcpace_operator.polling.sidecars import LONGEST, Sidecars
from mcpace_operator.status.performance import MOST_TOOLS, Sum
from mcpace_operator.status.seen import ServerFacts
from mcpace_sidecar.contract.report import Readiness, Report

Say = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
CALLS: dict[str, Any] = {
    "count": 2, "callsPerSecond": 0.5, "errors": 0, "limited": 0, "hits": 0, "sentBytes": 9, "histogram": {"7": 2},
}  # fmt: skip
MIB = 1 << 20


@contextlib.asynccontextmanager
async def pod(say: Say) -> AsyncIterator[int]:
    """An HTTP server of anybody's: `say` gets the head of a request and writes what it likes."""
    serving: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            while True:
                await say(await reader.readuntil(b"\r\n\r\n"), writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


@contextlib.asynccontextmanager
async def asking() -> AsyncIterator[Sidecars]:
    sidecars = Sidecars()
    yield sidecars
    await sidecars.close()


def answering(body: bytes, *lines: bytes, status: bytes = b"200 OK") -> Say:
    """Says this, whatever it is asked."""
    head = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *lines]

    async def say(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\r\n".join(head) + b"\r\n\r\n" + body)
        await writer.drain()

    return say


async def stats(say: Say) -> Report | None:
    """What the operator takes from such a pod."""
    async with pod(say) as port, asking() as sidecars:
        return await sidecars.ask("127.0.0.1", port, "/stats", Report, token="secret")


async def test_what_a_sidecar_says_is_taken():
    report = await stats(answering(json.dumps({"calls": {"get": CALLS}, "unknown": [[1]]}).encode()))
    assert report is not None
    assert report.calls["get"].histogram == {7: 2}


async def test_nothing_is_inflated_and_none_is_asked_to_compress():
    heard: list[bytes] = []
    bomb = gzip.compress(bytes(64 * MIB), 1)
    assert len(bomb) < LONGEST
    say = answering(bomb, b"Content-Encoding: gzip", b"Content-Type: application/json")

    async def listening(head: bytes, writer: asyncio.StreamWriter) -> None:
        heard.append(head)
        await say(head, writer)

    tracemalloc.start()
    try:
        assert await stats(listening) is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * MIB, f"{peak / MIB:.0f} MiB"
    assert b"accept-encoding: identity\r\n" in heard[0].lower()


async def test_a_redirect_is_not_followed():
    elsewhere: list[bytes] = []

    async def hear(head: bytes, writer: asyncio.StreamWriter) -> None:
        elsewhere.append(head)
        await answering(b'{"calls": {}}')(head, writer)

    async with pod(hear) as port:
        for status in (b"301 Moved", b"302 Found", b"307 Temporary", b"308 Permanent"):
            line = b"Location: http://127.0.0.1:%d/stats" % port
            assert await stats(answering(b"", line, status=status)) is None
    assert elsewhere == []


async def test_an_endless_answer_is_cut_off_at_its_bound():
    written, ended = 0, asyncio.Event()

    async def flood(_: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
                await writer.drain()
                written += 0x10000
        finally:
            ended.set()

    assert await stats(flood) is None
    await until(ended.is_set, "the connection to be closed")
    assert written < LONGEST + 16 * MIB, "what the sockets' own buffers held, and no more"


async def test_an_endless_drip_ends_in_time_and_others_are_asked_meanwhile():
    async def drip(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)

    async def silent(_: bytes, __: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    good = answering(b'{"calls": {}}')
    async with pod(drip) as slow, pod(silent) as mute, pod(good) as port, asking() as sidecars:
        asked = [sidecars.ask("127.0.0.1", which, "/stats", Report) for which in (slow, mute, port)]
        late, none, told = await asyncio.wait_for(asyncio.gather(*asked), DEADLINE)
    assert (late, none) == (None, None)
    assert told is not None


def report(**changes: Any) -> bytes:
    return json.dumps({"calls": {"get": CALLS | changes}}).encode()


@pytest.mark.parametrize(
    "body",
    [
        report().replace(b'"callsPerSecond": 0.5', b'"callsPerSecond": 1e999'),
        report().replace(b'"callsPerSecond": 0.5', b'"callsPerSecond": NaN'),
        report().replace(b'"callsPerSecond": 0.5', b'"callsPerSecond": Infinity'),
        report(callsPerSecond=-1),
        report(count=-1),
        report(count="2"),
        report().replace(b'"count": 2', b'"count": ' + b"9" * 5000),
        report(histogram={"100000000": 1}),
        report(histogram={"-1": 1}),
        report(histogram={"1": 1 << 60}),
        json.dumps({"calls": {"n" * MIB: CALLS}}).encode(),
        json.dumps({"calls": {"n" * 2000: CALLS}}).encode(),
        json.dumps({"calls": {}, "server": {"name": "x" * 5000, "version": "1", "protocolVersion": "1"}}).encode(),
        json.dumps({"calls": {}, "tools": ["t"] * 20_000}).encode(),
        b'{"calls":{},"x":' + b"[" * 400_000 + b"]" * 400_000 + b"}",
        b'{"calls":' * 100_000 + b"{}" + b"}" * 100_000,
        b'{"calls":{}',
        b'{"calls":{},"tools":["\\ud800',
        '{"calls":{},"tools":["naïve"]}'.encode("latin-1"),
        '{"calls":{}}'.encode("utf-16"),
        b"[]",
        b"",
    ],
    ids=lambda body: body[:40].decode("latin-1"),
)  # fmt: skip
async def test_an_answer_that_no_sidecar_gives_is_refused(body: bytes):
    assert await stats(answering(body)) is None


@pytest.mark.parametrize("status", [b"204 No Content", b"206 Partial", b"404 Not Found", b"500 Oops"])
async def test_only_a_sidecars_own_status_is_an_answer(status: bytes):
    assert await stats(answering(b'{"calls": {}}', status=status)) is None


async def test_the_token_goes_to_the_question_that_needs_it_alone():
    heard: list[bytes] = []

    async def listen(head: bytes, writer: asyncio.StreamWriter) -> None:
        heard.append(head)
        await answering(b'{"ready": false, "reason": "x"}', b"Set-Cookie: a=b")(head, writer)

    async with pod(listen) as port, asking() as sidecars:
        for _ in range(2):
            told = await sidecars.ask("127.0.0.1", port, "/readyz", Readiness)
            assert told == Readiness(ready=False, reason="x")
    assert b"authorization" not in heard[0].lower()
    assert b"cookie" not in heard[1].lower()


@pytest.mark.parametrize("address", ["evil.example", "127.0.0.1@evil", "127.0.0.1/x?", ""])
async def test_only_addresses_are_asked(address: str):
    async with asking() as sidecars:
        assert await sidecars.ask(address, 80, "/stats", Report) is None


def test_what_many_pods_make_up_takes_bounded_memory():
    hostile = [
        {
            "calls": {f"tool-{pod}-{n}": CALLS | {"histogram": {str(b): 1 for b in range(0, 600, 20)}} for n in range(300)},
            "tools": [f"tool-{pod}-{n}" for n in range(300)],
            "readOnlyTools": [f"tool-{pod}-{n}" for n in range(300)],
            "doors": {f"{pod}-{n}": {"requests": 1, "connections": 1} for n in range(200)},
            "server": {"name": "n" * 1000, "version": "v" * 1000, "protocolVersion": "p" * 1000},
        }
        for pod in range(8)
    ]  # fmt: skip
    texts = [json.dumps(each).encode() for each in hostile]
    assert all(len(text) < LONGEST for text in texts)
    heard = Heard()
    tracemalloc.start()
    try:
        for text in texts:
            heard.add("", msgspec.json.decode(text, type=Report))
        performance = heard.sum.performance()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert performance.calls == 8 * 300 * 2, "none is lost"
    assert len(performance.tools) <= MOST_TOOLS + 1
    assert len(heard.doors) == MOST_DOORS
    assert heard.facts is not None
    assert len(heard.facts.tools) == 300
    assert len(json.dumps(heard.facts.info)) < 1000
    assert kept < 6 * MIB, f"{kept / MIB:.1f} MiB are kept"


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9), lambda v: st.lists(v, max_size=3) | st.dictionaries(st.sampled_from(["calls", "get", "histogram", "count", "tools", "server", "doors"]), v, max_size=4), max_leaves=12))  # fmt: skip
def test_no_json_at_all_ends_in_another_way_than_a_report_or_a_refusal(value: Any):
    try:
        told = msgspec.json.decode(json.dumps(value).encode(), type=Report)
    except ValueError:
        return
    total = Sum()
    total.add(told)
    assert total.performance().document(()) is not None
    assert told.server is None or ServerFacts.told(told.server, told.tools)
