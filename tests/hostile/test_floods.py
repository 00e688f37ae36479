"""Floods: of connections, of bodies that never end, of answers that nobody reads. Honest calls go on beside them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.kit.connection import CALL, POST, Client
from tests.kit.sidecars import Start
from tests.kit.upstream import RESULT, Answer, Heard, Scripted, json_answer
from tests.kit.waiting import DEADLINE, until
from tools.ports import free_port

MIB = 1 << 20
LARGE = b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"%b"}]}}' % (b"x" * 900_000)


REQUEST = POST + b"Content-Length: %d\r\n\r\n%b" % (len(CALL), CALL)
LITTLE = {"memory": 1}
"""What is left to divide then is 16 MiB: 4 of bodies, 2 of answers, 2 of what is gathered."""


def once(released: asyncio.Event) -> Answer:
    """A server that answers calls once it is released, and all else at once."""

    async def answer(heard: Heard) -> AsyncIterator[bytes]:
        if b"tools/call" in heard.body:
            await released.wait()
        yield json_answer(RESULT)

    return answer


def padded(size: int) -> bytes:
    """A call with an argument of this length."""
    return CALL.replace(b'"t"', b'"t","arguments":{"pad":"%b"}' % (b"x" * size))


async def test_idle_connections_make_room_for_those_who_call(scripted: Scripted, start: Start) -> None:
    scripted.answer = lambda _: json_answer(RESULT)
    sidecar = await start(scripted.port, files=192)
    crowd = [await Client.to(sidecar) for _ in range(100)]
    for _ in range(5):
        assert (await sidecar.call("t"))[2]["result"]["isError"] is False
    samples = await sidecar.metrics()
    assert samples['mcpace_bound{what="connections"}'] == 32
    assert samples["mcp_active_connections"] <= 32
    assert samples['mcpace_shed_connections_total{reason="connections"}'] >= 68
    for client in crowd:
        client.leave()


async def test_slow_heads_make_room_for_those_who_call(scripted: Scripted, start: Start) -> None:
    scripted.answer = lambda _: json_answer(RESULT)
    sidecar = await start(scripted.port, files=192)
    crowd = [await Client.to(sidecar, POST) for _ in range(100)]
    await until(lambda: len(sidecar.connections.open) == 32, "the bound to be reached")
    for _ in range(5):
        assert (await sidecar.call("t"))[2]["result"]["isError"] is False
    for client in crowd:
        client.leave()


async def test_where_every_connection_is_at_work_a_new_one_is_told_so(
    scripted: Scripted, start: Start
) -> None:
    release = asyncio.Event()
    scripted.answer = once(release)
    sidecar = await start(scripted.port, files=192)
    crowd = [await Client.to(sidecar, REQUEST) for _ in range(32)]
    await sidecar.busy(32)
    late = await Client.to(sidecar)
    answer = await late.reads(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 1\r\n" in answer
    assert b"Connection: close\r\n" in answer
    assert b'"code":50300' in await late.reads(b"}}"), "it is no invalid request"
    release.set()
    for client in crowd:
        assert b" 200 " in await client.reads(b"\r\n\r\n")
        client.leave()
    late.leave()


async def test_unfinished_bodies_together_are_bounded_and_the_oldest_makes_room(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = lambda _: json_answer(RESULT)
    sidecar = await start(scripted.port, **LITTLE)
    connections = sidecar.connections
    head = POST + b"Content-Length: %d\r\n\r\n" % (4 * MIB)
    crowd = []
    for _ in range(8):
        crowd.append(await Client.to(sidecar, head + b" " * 2 * MIB))
        await crowd[-1].writer.drain()
        assert connections.held <= 4 * MIB
    assert b"503" in await crowd[0].reads(b"\r\n\r\n"), "the first, which never ends, makes room"
    body = padded(MIB)
    assert (await sidecar.post(body))[2]["result"]["isError"] is False, "an honest body finds room"
    assert (await sidecar.metrics())['mcpace_shed_connections_total{reason="bodies"}'] >= 5
    for client in crowd:
        client.leave()
    await until(lambda: connections.held == 0, "what they held to be released")


DENIED = {
    "an unknown path": (b"/elsewhere", b"", b"404"),
    "another Host": (b"/mcp", b"Origin: https://evil.example\r\n", b"403"),
    "another type": (b"/mcp", b"Content-Type: text/plain\r\n", b"415"),
    "a wrong key": (b"/mcp", b"X-API-Key: wrong\r\n", b"401"),
    "no key": (b"/mcp", b"", b"401"),
}


@pytest.mark.parametrize(("path", "lines", "status"), DENIED.values(), ids=DENIED)
@pytest.mark.parametrize("framing", [b"Content-Length: 4100000\r\n", b"Transfer-Encoding: chunked\r\n"])
async def test_what_the_head_alone_refuses_costs_no_body(
    scripted: Scripted,
    start: Start,
    tmp_path: Path,
    path: bytes,
    lines: bytes,
    status: bytes,
    framing: bytes,
) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s/ann").write_text("right")
    keys = [{"tier": "pro", "secretRef": {"name": "s"}}]
    sidecar = await start(scripted.port, {"clients": {"apiKeys": keys, "anonymous": "deny"}}, keys=tmp_path)
    lines = lines if b"Content-Type" in lines else lines + b"Content-Type: application/json\r\n"
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\n%b%b" % (path, lines, framing)
    for expect in (b"", b"Expect: 100-continue\r\n"):
        client = await Client.to(sidecar, head + expect + b"\r\n")
        answer = await client.reads(b"\r\n\r\n")
        assert answer.split()[1] == status, answer
        assert b"Connection: close\r\n" in answer
        client.writer.write(b" " * MIB)  # it is read into nothing
        async with asyncio.timeout(DEADLINE):
            await client.reader.read(-1)
        assert sidecar.connections.held == 0
        client.leave()
    good = POST + b"X-API-Key: right\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(CALL)
    client = await Client.to(sidecar, good)
    assert await client.reads(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    scripted.answer = lambda _: json_answer(RESULT)
    client.writer.write(CALL)
    assert (await client.reads(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    client.leave()


async def test_long_heads_together_are_bounded(scripted: Scripted, start: Start) -> None:
    scripted.answer = lambda _: json_answer(RESULT)
    sidecar = await start(scripted.port, **LITTLE)
    connections = sidecar.connections
    crowd = [await Client.to(sidecar, POST + b"X-Long: " + b"x" * 30_000) for _ in range(200)]
    await until(lambda: len(scripted.calls) == 0 and len(connections.open) > 100, "the crowd to be there")
    assert connections.held <= 4 * MIB
    assert (await sidecar.call("t"))[2]["result"]["isError"] is False
    for client in crowd:
        client.leave()
    await until(lambda: connections.held == 0, "what they held to be released")


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 5000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"]
)
async def test_a_body_that_never_finds_room_is_told_what_would(
    scripted: Scripted, start: Start, framing: bytes
) -> None:
    sidecar = await start(scripted.port, {"maxRequestBytes": "64Mi"}, **LITTLE)
    client = await Client.to(sidecar, POST + framing)
    if b"chunked" in framing:
        client.writer.write(b"%x\r\n" % 5_000_000 + b" " * 5_000_000)
    head = await client.reads(b"\r\n\r\n")
    assert head.split()[1] == b"413"
    assert b"4194304 bytes" in await client.reads(b"}}")
    client.leave()


async def test_bodies_at_work_count_too(scripted: Scripted, start: Start) -> None:
    release = asyncio.Event()
    scripted.answer = once(release)
    sidecar = await start(scripted.port, **LITTLE)
    body = padded(3 * MIB // 2)
    calls = [asyncio.ensure_future(sidecar.post(body)) for _ in range(2)]
    await sidecar.busy(2)
    status, headers, answer = await sidecar.post(body)
    assert (status, headers["retry-after"], answer["error"]["code"]) == (503, "1", 50300)
    release.set()
    assert [status for status, _, _ in await asyncio.gather(*calls)] == [200, 200]
    assert sidecar.connections.held == 0


async def test_answers_that_nobody_reads_are_bounded(scripted: Scripted, start: Start) -> None:
    scripted.answer = lambda _: json_answer(LARGE)
    sidecar = await start(scripted.port, {"responses": {"compressOver": "1Gi"}}, **LITTLE)
    connections = sidecar.connections
    crowd = []
    for _ in range(40):
        crowd.append(await Client.to(sidecar, REQUEST, limit=1024))
        assert connections.owed <= 2 * MIB
    await until(lambda: connections.owed > 0, "answers to wait")
    status, _, body = await sidecar.call("t")
    assert (status, len(body["result"]["content"][0]["text"])) == (200, 900_000)
    for client in crowd:
        client.leave()
    await until(lambda: connections.owed == 0, "what waited for them to be dropped")


async def test_answers_that_never_become_whole_are_bounded(scripted: Scripted, start: Start) -> None:
    """What finds no room to be gathered passes as it comes."""
    go_on = asyncio.Event()
    half = json_answer(LARGE)[: -MIB // 2]

    async def halves(heard: Heard) -> AsyncIterator[bytes]:
        if b"tools/call" in heard.body:
            yield half
            await go_on.wait()
            yield json_answer(LARGE)[len(half) :]
        else:
            yield json_answer(RESULT)

    scripted.answer = halves
    sidecar = await start(scripted.port, {"responses": {"compressOver": "1Gi"}}, **LITTLE)
    gathered = sidecar.plane.pool.gathered
    calls = [asyncio.ensure_future(sidecar.call("t")) for _ in range(20)]
    await until(lambda: len(scripted.calls) >= 20 and gathered.held > MIB, "the halves to have come")
    assert gathered.held <= gathered.most == 2 * MIB
    go_on.set()
    for status, _, body in await asyncio.gather(*calls):
        assert (status, len(body["result"]["content"][0]["text"])) == (200, 900_000)
    assert gathered.held == 0


async def test_events_that_never_become_whole_are_bounded(scripted: Scripted, start: Start) -> None:
    async def endless(heard: Heard) -> AsyncIterator[bytes]:
        if b"tools/call" in heard.body:
            yield b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: " + b"x" * 900_000
            await asyncio.Event().wait()
        yield json_answer(RESULT)

    scripted.answer = endless
    sidecar = await start(scripted.port, **LITTLE)
    gathered = sidecar.plane.pool.gathered
    crowd = [await Client.to(sidecar, REQUEST) for _ in range(10)]
    await until(lambda: gathered.held > MIB, "the beginnings to have come")
    assert gathered.held <= gathered.most == 2 * MIB
    for client in crowd:
        client.leave()
    await until(lambda: gathered.held == 0, "what was held to be released")


async def test_whoever_does_not_read_an_answer_is_given_no_second(scripted: Scripted, start: Start) -> None:
    scripted.answer = lambda _: json_answer(LARGE)
    sidecar = await start(scripted.port, {"responses": {"compressOver": "1Gi"}})
    client = await Client.to(sidecar, REQUEST * 20, limit=1 << 14)
    await until(lambda: sidecar.connections.owed > 0, "the client to be known as slow")
    asked = len(scripted.calls)
    for _ in range(3):
        await sidecar.call("t")
    assert len(scripted.calls) == asked + 3, "nothing is asked for a client that does not read"
    for _ in range(20):
        head = await client.reads(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        async with asyncio.timeout(DEADLINE):
            await client.reader.readexactly(len(LARGE))
    client.leave()


async def test_what_comes_before_its_turn_is_counted(scripted: Scripted, start: Start) -> None:
    async def stream(heard: Heard) -> AsyncIterator[bytes]:
        if heard.line.startswith(b"GET"):
            yield b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: hello\n\n"
            await asyncio.Event().wait()
        yield json_answer(RESULT)

    scripted.answer = stream
    sidecar = await start(scripted.port, memory=1, files=192)
    await sidecar.ready()
    connections = sidecar.connections
    crowd = []
    for _ in range(14):
        crowd.append(await Client.to(sidecar, b"GET /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        await crowd[-1].reads(b"hello")
    before = connections.held
    for client in crowd:
        client.writer.write(padded(60_000))
    await until(lambda: connections.held > before + 14 * 60_000, "what comes early to be counted")
    assert (await sidecar.call("t"))[0] == 200
    assert connections.held <= connections.body_bytes
    for client in crowd:
        client.leave()
    await until(lambda: not connections.open, "everybody to have left")
    assert connections.held == 0
    assert not connections._gathering


async def test_early_bytes_that_find_no_room_end_their_own_connection(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = lambda _: json_answer(RESULT)
    sidecar = await start(scripted.port, **LITTLE)
    await sidecar.ready()
    go = asyncio.Event()
    scripted.answer = once(go)
    connections = sidecar.connections
    early = await Client.to(sidecar, REQUEST)
    await sidecar.busy(1)
    early.writer.write(REQUEST * 100)
    await until(lambda: connections.held > 0, "the rest to be counted")
    connections.body_bytes = 30_000
    honest = asyncio.ensure_future(sidecar.post(padded(20_000)))
    async with asyncio.timeout(DEADLINE):
        assert b"HTTP/1.1 " not in await early.reader.read(-1), "nothing is said in the midst of an answer"
    go.set()
    assert (await honest)[0] == 200
    early.leave()
    assert (await sidecar.metrics())['mcpace_shed_connections_total{reason="bodies"}'] == 1
    await until(lambda: not connections.open, "everybody to have left")
    assert connections.held == 0


async def test_bodies_and_unread_answers_at_the_doors_are_bounded_together(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = lambda _: json_answer(LARGE)
    url = f"http://127.0.0.1:{scripted.port}"
    doors = [{"name": name, "port": free_port(), "url": url} for name in ("one", "other")]
    sidecar = await start(scripted.port, {"egress": doors}, **LITTLE)
    connections = sidecar.door_connections
    head = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    halves = []
    for number in range(6):
        port = doors[number % 2]["port"]
        halves.append(await Client.to(sidecar, head % MIB + b" " * (MIB // 2), port=port))
        await halves[-1].writer.drain()
        assert connections.held <= MIB
    assert b"503" in await halves[0].reads(b"\r\n\r\n"), "the first, which never ends, makes room"
    large = await Client.to(sidecar, head % (3 * MIB), port=doors[0]["port"])
    assert b"413" in await large.reads(b"\r\n\r\n"), "no room is ever enough for it"
    readers = []
    for number in range(20):
        port = doors[number % 2]["port"]
        readers.append(await Client.to(sidecar, head % 2 + b"{}", limit=1024, port=port))
        assert connections.owed <= MIB
    await until(lambda: connections.owed > 0, "answers to wait")
    honest = await Client.to(sidecar, head % 2 + b"{}", port=doors[1]["port"])
    assert b" 200 " in await honest.reads(b"\r\n\r\n")
    samples = await sidecar.metrics()
    assert samples['mcpace_shed_connections_total{reason="bodies"}'] >= 4
    refused = [
        samples[f'mcpace_egress_requests_total{{door="{name}",result="refused"}}']
        for name in ("one", "other")
    ]
    assert sum(refused) >= 5, "each is counted at its door"
    for client in (*halves, large, *readers, honest):
        client.leave()
    await until(lambda: connections.held == connections.owed == 0, "what they held to be released")


async def test_who_does_not_read_at_a_door_stops_nobody_else(scripted: Scripted, start: Start) -> None:
    """Its connection to the other side is another's as soon as its answer has come."""
    go_on = asyncio.Event()

    async def large(_: Heard) -> AsyncIterator[bytes]:
        await go_on.wait()
        yield json_answer(LARGE)

    scripted.answer = large
    door = {"name": "one", "port": free_port(), "url": f"http://127.0.0.1:{scripted.port}"}
    sidecar = await start(scripted.port, {"egress": [{**door, "maxConnections": 1}]})
    request = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
    stuck = await Client.to(sidecar, request, limit=1024, port=door["port"])
    await until(lambda: len(scripted.calls) == 1, "the first to be asked")
    other = await Client.to(sidecar, request, port=door["port"])
    await until(lambda: len(sidecar.door_connections.open) == 2, "both to be there")
    go_on.set()
    assert b" 200 " in await other.reads(b"\r\n\r\n")
    for client in (stuck, other):
        client.leave()


async def test_requests_that_come_together_are_answered_one_after_another(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = lambda _: json_answer(RESULT)
    sidecar = await start(scripted.port, **LITTLE)
    body = padded(20_000)
    request = POST + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    client = await Client.to(sidecar, request * 30)
    for _ in range(30):
        assert (await client.reads(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        await client.reads(RESULT)
    assert sidecar.connections.held == 0
    client.leave()
