"""Streams of 2024-11-05 whose messages reach other replicas than the one that has the stream."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.kit.pairs import Client, Pairs
from tests.kit.sidecars import Running, Start, relaying
from tests.kit.upstream import Scripted
from tests.kit.waiting import until

from mcpace_sidecar.identity.client import Client as Known
from mcpace_sidecar.relay import peer

CONFIG: dict[str, Any] = {
    "transport": "sse",
    "clients": {"trustedProxies": ["127.0.0.0/8"], "trustedHeaders": {"client": "X-Consumer"}},
    "rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 2}]},
}
ANN, BERT = b"X-Consumer: ann\r\n", b"X-Consumer: bert\r\n"
FORGED = b"Mcpace-Client: %b\r\n" % peer.told(Known("header:ann", anonymous=False))
RESULT = b'{"jsonrpc":"2.0","id":%d,"result":{"content":[]}}'


@pytest.fixture
async def pairs(scripted: Scripted) -> Pairs:
    return Pairs(scripted)


async def two(scripted: Scripted, start: Start, config: dict[str, Any] = CONFIG) -> tuple[Running, Running]:
    """The replica at which a client opens its stream, and another."""
    owner, other = [await start(scripted.port, config, **relaying()) for _ in range(2)]
    return owner, other


async def test_what_is_posted_to_another_replica_is_judged_and_answered_where_the_stream_is(
    scripted: Scripted, pairs: Pairs, start: Start
) -> None:
    owner, other = await two(scripted, start)
    client = await Client.open(owner)
    for number, through in ((7, other), (8, owner)):
        client.through = through
        assert (await client.call(b"%d" % number)).startswith(b"HTTP/1.1 202")
        pairs.say(client.number, RESULT % number)
        await client.hear((RESULT % number) + b"\n\n")
    client.through = other
    assert (await client.call(b"9")).startswith(b"HTTP/1.1 202")
    assert b"42900" in await client.hear(b"\n\n"), "both counted, as if they had come to one"
    posted = [each for each in scripted.calls if each.line.startswith(b"POST")]
    assert {each.line for each in posted} == {b"POST /messages?s=%d HTTP/1.1" % client.number}
    assert not any(name.startswith(b"mcpace") for each in posted for name in each.headers)
    called = 'mcp_tool_calls_total{status="success",tool="other"}'
    assert (await owner.metrics())[called] == 2
    assert called not in await other.metrics()
    assert (await other.metrics())["mcpace_relayed_calls_total"] == 2
    client.leave()
    await until(lambda: not owner.plane.pairs, "the stream to be forgotten")


async def test_an_answer_that_is_no_acceptance_comes_back_to_who_posted(
    scripted: Scripted, pairs: Pairs, start: Start
) -> None:
    owner, other = await two(scripted, start)
    client = await Client.open(owner)
    client.through = other
    answer = await client.post(b"no JSON")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"-32700" in answer
    assert pairs.streams
    client.leave()


async def test_an_endpoint_that_is_forged_moved_or_of_a_stream_that_has_ended_reaches_no_server(
    scripted: Scripted, pairs: Pairs, start: Start
) -> None:
    owner, other = await two(scripted, start)
    assert pairs
    client, second = await Client.open(owner), await Client.open(owner)
    place, _, name = client.target.partition(b"mcpace=")
    foreign = await start(scripted.port, CONFIG, **(relaying() | {"session_keys": (b"f" * 32,)}))
    stranger = await Client.open(foreign)
    forged = [
        place + b"mcpace=",
        place + b"mcpace=" + name[:-1] + (b"A" if name[-1:] != b"A" else b"B"),
        place + b"mcpace=" + name[:40],
        place + b"mcpace=" + b"A" * 5000,
        place + b"mcpace=" + second.target.partition(b"mcpace=")[2],
        place + b"mcpace=" + stranger.target.partition(b"mcpace=")[2],
        b"/messages?s=999&mcpace=" + name,
        b"/sse?mcpace=" + name,
        place.rstrip(b"&?"),
    ]
    whole = client.target
    for through in (owner, other):
        client.through = through
        for client.target in forged:
            answer = await client.call(b"1")
            assert answer.startswith(b"HTTP/1.1 404 "), (client.target, answer)
    client.leave()
    await until(lambda: len({id(each) for each in owner.plane.pairs.values()}) == 1, "the stream to end")
    client.target = whole
    for client.through in (owner, other):
        assert (await client.call(b"1")).startswith(b"HTTP/1.1 404 ")
    assert not any(each.line.startswith(b"POST") for each in scripted.calls)
    for each in (second, stranger):
        each.leave()


async def test_to_a_known_clients_stream_nobody_else_posts(
    scripted: Scripted, pairs: Pairs, start: Start
) -> None:
    owner, other = await two(scripted, start)
    client = await Client.open(owner, lines=ANN)
    for client.through in (owner, other):
        for client.lines in (BERT, b"", FORGED, BERT + FORGED):
            assert (await client.call(b"1")).startswith(b"HTTP/1.1 404 ")
    assert not any(each.line.startswith(b"POST") for each in scripted.calls)
    client.lines, client.through = ANN, other
    assert (await client.call(b"7")).startswith(b"HTTP/1.1 202")
    pairs.say(client.number, RESULT % 7)
    await client.hear(RESULT % 7)
    client.leave()


async def test_a_replica_that_is_gone_has_no_stream_any_more(
    scripted: Scripted, pairs: Pairs, start: Start
) -> None:
    owner, other = await two(scripted, start)
    assert pairs
    client = await Client.open(owner)
    client.through = other
    owner.end()
    await owner.waiting
    for _ in range(2):
        assert (await client.call(b"1")).startswith(b"HTTP/1.1 404 ")
    client.leave()


async def test_a_stream_on_which_a_call_is_to_be_answered_stays_until_it_was_though_its_replica_ends(
    scripted: Scripted, pairs: Pairs, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcpace_sidecar.call.plane.FORGETTING", 0.0)
    owner, other = await two(scripted, start)
    client, idle = await Client.open(owner), await Client.open(owner)
    client.through = other
    assert (await client.call(b"7")).startswith(b"HTTP/1.1 202")
    owner.drain()
    await idle.hear(b"0\r\n\r\n")
    pairs.say(client.number, RESULT % 7)
    await client.hear(RESULT % 7)
    await client.hear(b"0\r\n\r\n")
    for each in (client, idle):
        each.leave()


@pytest.mark.parametrize("alone", ["one replica", "without continuity"])
async def test_where_nobody_passes_on_the_endpoint_is_the_servers(
    scripted: Scripted, pairs: Pairs, start: Start, alone: str
) -> None:
    assert pairs
    config = CONFIG | ({} if alone == "one replica" else {"sessions": {"continuity": False}})
    sidecar = await start(scripted.port, config, **({} if alone == "one replica" else relaying()))
    client = await Client.open(sidecar)
    assert client.target == b"/messages?s=%d" % client.number
    client.leave()


async def test_the_pages_of_a_result_are_read_through_every_replica(
    scripted: Scripted, pairs: Pairs, start: Start
) -> None:
    page = {"page": {"tools": [{"name": "t", "items": 100, "bytes": "64Ki"}]}}
    owner, other = await two(scripted, start, {"transport": "sse", "responses": page})
    client = await Client.open(owner)
    client.through = other
    assert (await client.call(b"7")).startswith(b"HTTP/1.1 202")
    result = {"content": [], "structuredContent": {"items": [{"id": number} for number in range(250)]}}
    pairs.say(client.number, msgspec.json.encode({"jsonrpc": "2.0", "id": 7, "result": result}))
    first = msgspec.json.decode((await client.hear(b"\n\n")).partition(b"data: ")[2])
    handle = first["result"]["structuredContent"]["handle"]
    for number, client.through in ((2, owner), (3, other)):
        params = {"name": "next_page", "arguments": {"handle": handle, "page": number}}
        message = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
        assert (await client.post(msgspec.json.encode(message))).startswith(b"HTTP/1.1 202")
        told = msgspec.json.decode((await client.hear(b"\n\n")).partition(b"data: ")[2])
        assert told["result"]["structuredContent"]["page"] == number, told
    client.leave()
