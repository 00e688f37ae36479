"""The transport of 2024-11-05, in front of a real server and with an official client."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mcp.client.session import ClientSession
from mcp.client.sse import sse_client
from mcp.shared.exceptions import MCPError
from tests.kit.laptop import mcpace
from tests.kit.pairs import Client, Pairs
from tests.kit.replicas import PAIRS, client, converse, replicas
from tests.kit.sidecars import Start
from tests.kit.upstream import Heard, Scripted, json_answer
from tests.kit.waiting import DEADLINE, until

CONFIG = {
    "transport": "sse",
    "rateLimits": {
        "tiers": [{"name": "free", "requestsPerMinute": 1000}],
        "tools": [{"name": "get-sum", "requestsPerMinute": 2, "per": "server"}],
    },
    "cache": {"tools": [{"name": "echo", "ttl": "10m", "scope": "shared"}]},
    "concurrency": {"parallelTool": True},
}


async def test_an_official_client_lists_calls_hits_and_meets_the_limit(
    everything: int, start: Start
) -> None:
    sidecar = await start(everything, CONFIG)
    await sidecar.ready()
    async with (
        asyncio.timeout(DEADLINE),
        sse_client(f"http://127.0.0.1:{sidecar.data}/sse") as (reading, writing),
        ClientSession(reading, writing) as client,
    ):
        await client.initialize()
        tools = [tool.name for tool in (await client.list_tools()).tools]
        assert {"echo", "get-sum", "parallel"} <= set(tools)
        for _ in range(3):
            result = await client.call_tool("echo", {"message": "hi"})
            assert result.content[0].text == "Echo: hi"
        for _ in range(2):
            await client.call_tool("get-sum", {"a": 1, "b": 2})
        with pytest.raises(MCPError) as refused:
            await client.call_tool("get-sum", {"a": 1, "b": 2})
        assert refused.value.error.code == 42900
        several = await client.call_tool(
            "parallel", {"calls": [{"tool": "echo", "arguments": {"message": "x"}}] * 3}
        )
        assert several.structured_content["succeeded"] == 3
    samples = await sidecar.metrics()
    assert samples['mcpace_cache_requests_total{result="memory",tool="echo"}'] >= 2
    assert samples['mcp_tool_calls_total{status="limited",tool="get-sum"}'] == 1
    assert samples['mcp_tool_calls_total{status="success",tool="get-sum"}'] == 2
    await until(lambda: not sidecar.plane.pairs, "the stream to be forgotten")


async def test_a_call_that_the_server_never_answers_is_given_up_on_the_stream(
    scripted: Scripted, start: Start
) -> None:
    Pairs(scripted)
    sidecar = await start(scripted.port, {"transport": "sse", "upstream": {"timeout": "300ms"}})
    client = await Client.open(sidecar)
    assert (await client.call(b'"x"')).startswith(b"HTTP/1.1 202")
    assert b"50400" in await client.hear(b"}}")
    client.target = b"/messages?s=999"
    assert (await client.call(b'"x"')).startswith(b"HTTP/1.1 404"), "an endpoint that no stream has named"
    client.leave()


async def test_a_response_may_come_before_its_post_is_accepted(scripted: Scripted, start: Start) -> None:
    pairs = Pairs(scripted)
    sidecar = await start(scripted.port, {"transport": "sse"})
    client = await Client.open(sidecar)
    pairs.accepting.clear()
    posting = asyncio.ensure_future(client.call(b"7"))
    await until(lambda: b"tools/call" in scripted.heard[-1].body, "the call to reach the server")
    pairs.say(client.number, b'{"jsonrpc":"2.0","id":7,"result":{"content":[]}}')
    await client.hear(b'"result":{"content":[]}')
    pairs.accepting.set()
    assert (await posting).startswith(b"HTTP/1.1 202")
    assert (await sidecar.metrics())['mcp_tool_calls_total{status="success",tool="other"}'] == 1
    client.leave()


@pytest.mark.parametrize(
    ("said", "shown", "posted"),
    [
        (b"/messages?s=1", b"/messages?s=1", b"/messages?s=1"),
        (
            b"/weather/messages?s=1",
            b"/weather/messages?s=1",
            b"/messages?s=1",
        ),  # a gateway took /weather away
        (b"/weather/messages?s=1", b"/weather/messages?s=1", b"/weather/messages?s=1"),
        (b"messages/?s=1", b"messages/?s=1", b"/messages/?s=1"),
        (b"?s=1", b"?s=1", b"/sse?s=1"),
        (b"http://127.0.0.1:1/messages?s=1", b"/messages?s=1", b"/messages?s=1"),
    ],
)
async def test_messages_are_posted_where_the_server_says_also_behind_a_prefix(
    scripted: Scripted, start: Start, said: bytes, shown: bytes, posted: bytes
) -> None:
    Pairs(scripted).place = lambda _: said
    sidecar = await start(scripted.port, {"transport": "sse"})
    client = await Client.open(sidecar)
    assert client.target == shown
    client.target = posted
    answer = await client.post(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
    assert answer.startswith(b"HTTP/1.1 202"), answer
    assert scripted.calls[-1].line.startswith(b"POST %b " % posted)
    client.leave()
    await until(lambda: not sidecar.plane.pairs, "the stream to be forgotten under every spelling")


@pytest.mark.parametrize("path", [b"/sse", b"/weather/sse"])
@pytest.mark.parametrize(
    ("said", "posted"),
    [
        (b"?s=1", b"PATH?s=1"),
        (b"PATH?s=1", b"PATH?s=1"),
        (b"PATH", b"PATH"),
        (b"/passed?s=1", b"/passed?s=1"),
        (b"/health?s=1", b"/health?s=1"),
        (b"/messages?s=1", b"/messages?s=1"),
    ],
)
async def test_a_call_is_judged_and_answered_on_the_stream_whatever_path_it_is_posted_to(
    scripted: Scripted, start: Start, path: bytes, said: bytes, posted: bytes
) -> None:
    said, posted = said.replace(b"PATH", path), posted.replace(b"PATH", path)
    pairs = Pairs(scripted)
    pairs.place = lambda _: said

    async def accept(heard: Heard) -> AsyncIterator[bytes]:
        if heard.message.get("method") == "tools/call":
            answer = b'{"jsonrpc":"2.0","id":%d,"result":{"content":[]}}' % heard.message["id"]
            for number, _ in enumerate(pairs.streams, 1):  # the sidecar's own handshake opens one too
                pairs.say(number, answer)
        yield json_answer(b"Accepted", b"202 Accepted")

    pairs.accept = accept
    config = {
        "transport": "sse",
        "path": path.decode(),
        "passPaths": ["/passed"],
        "healthPath": "/health",
        "rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 1}]},
    }
    sidecar = await start(scripted.port, config)
    client = await Client.open(sidecar, path)
    assert client.target == said
    client.target = posted
    assert (await client.call(b"7")).startswith(b"HTTP/1.1 202")
    await client.hear(b'"id":7,"result":{"content":[]}}\n\n')
    assert (await client.call(b"8")).startswith(b"HTTP/1.1 202")
    assert b"42900" in await client.hear(b"\n\n")
    client.leave()
    await until(lambda: not sidecar.plane.pairs, "the stream to be forgotten")
    if posted.startswith(path):  # what is posted there now is the server's to answer
        await client.call(b"9")
        assert scripted.calls[-1].line.startswith(b"POST %b " % posted)


@pytest.mark.parametrize("sidecars", [False, True], ids=["direct", "behind a sidecar"])
async def test_mcpace_call_speaks_to_it_too(everything: int, start: Start, sidecars: bool) -> None:
    port = everything
    if sidecars:
        sidecar = await start(everything, CONFIG)
        await sidecar.ready()
        port = sidecar.data
    done = await asyncio.to_thread(mcpace, "call", f"http://127.0.0.1:{port}/sse")
    assert done.returncode == 0, done.stderr
    assert "get-sum" in done.stdout


@pytest.mark.parametrize("name", PAIRS)
async def test_any_replica_takes_what_an_official_client_posts(name: str, tmp_path: Path) -> None:
    async with replicas(tmp_path, 3, {"transport": "sse"}, TRANSPORT="sse") as server:
        async with client(name, server.url.replace("/mcp", "/sse")) as session:
            assert [await session.call("count") for _ in range(7)] == [*"1234567"]
            await converse(session)
        assert all(server.turns)
        relayed = [await each.metric("mcpace_relayed_calls_total") for each in server.all]
        assert sum(relayed) >= 8, relayed
        counted = [await each.metric("mcp_tool_calls_total") for each in server.all]
        assert sorted(counted)[:2] == [0, 0], "calls are counted where their stream is, and nowhere else"
