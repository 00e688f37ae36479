"""Clients that share a process of stdio, and know nothing of each other."""

import asyncio
import json

from tests.kit.processes import ACCEPT, INITIALIZE, Serve, said, session

from mcpace_sidecar.contract.config import SidecarConfig


async def test_what_a_server_asks_of_shared_clients_is_refused_at_once(serve_lines: Serve):
    sidecar = await serve_lines(processes="shared")
    client = await session(sidecar)
    _, _, answer = await sidecar.call("ask", **client)
    assert json.loads(said(answer))["code"] == -32601


async def test_clients_that_share_a_process_keep_their_own_ids_and_tokens(serve_lines: Serve):
    sidecar = await serve_lines(processes="shared", callsPerProcess=8)

    async def client(number: int) -> None:
        for mine in (1, "1", number):
            params = {"name": "progress", "arguments": {}, "_meta": {"progressToken": mine}}
            message = {"jsonrpc": "2.0", "id": mine, "method": "tools/call", "params": params}
            _, _, raw = await sidecar.post(message, Accept=ACCEPT)
            events = [json.loads(line[6:]) for line in raw.split(b"\n") if line.startswith(b"data: ")]
            told, answer = [json.loads(event) if isinstance(event, str) else event for event in events]
            assert told["params"] == {"progressToken": mine, "progress": 1, "total": 2}
            assert answer["id"] == mine
            assert type(answer["id"]) is type(mine)
            used, token = json.loads(answer["result"]["content"][0]["text"])
            assert used == token

    await asyncio.gather(*(client(number) for number in range(2, 10)))


async def test_shared_processes_offer_nothing_that_nobody_would_hear(serve_lines: Serve):
    sidecar = await serve_lines(processes="shared")
    _, headers, answer = await sidecar.post(INITIALIZE, Accept=ACCEPT)
    assert "mcp-session-id" not in headers
    assert answer["result"]["capabilities"] == {"tools": {"listChanged": True}, "resources": {}}
    older = INITIALIZE | {"params": INITIALIZE["params"] | {"protocolVersion": "2025-03-26"}}
    _, _, answer = await sidecar.post(older, Accept=ACCEPT)
    assert answer["result"]["protocolVersion"] == "2025-03-26"
    level = {"jsonrpc": "2.0", "id": 2, "method": "logging/setLevel", "params": {"level": "info"}}
    assert (await sidecar.post(level, Accept=ACCEPT))[2]["result"] == {}
    subscribe = {"jsonrpc": "2.0", "id": 2, "method": "resources/subscribe", "params": {"uri": "a:b"}}
    assert (await sidecar.post(subscribe, Accept=ACCEPT))[2]["error"]["code"] == -32601


async def test_a_call_that_its_client_gives_up_frees_its_process(serve_lines: Serve):
    sidecar = await serve_lines(processes="shared")
    client = await session(sidecar)
    _, writer = await sidecar.begin("hang")
    await sidecar.busy(1)
    writer.close()
    await sidecar.idle()
    assert said((await sidecar.call("echo", {"a": 1}, **client))[2]) == '{"a": 1}'
    question = {"jsonrpc": "2.0", "id": 1, "method": "test/cancelled"}
    _, _, answer = await sidecar.post(question, **client)
    assert len(answer["result"]["cancelled"]) == 1


async def test_a_process_that_hangs_in_a_call_that_was_given_up_is_replaced(serve_lines: Serve):
    sidecar = await serve_lines(processes="shared")
    client = await session(sidecar)
    first = said((await sidecar.call("pid", **client))[2])
    _, _, answer = await sidecar.call("deaf", **client)
    assert said(answer) == "deaf"
    _, writer = await sidecar.begin("echo")
    await sidecar.busy(1)
    writer.close()
    await sidecar.idle()
    assert said((await sidecar.call("pid", **client))[2]) != first


async def test_limits_and_the_cache_know_no_difference(serve_lines: Serve):
    config = {
        "rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 3}]},
        "cache": {"tools": [{"name": "count", "ttl": "1m", "scope": "shared"}]},
    }
    sidecar = await serve_lines(processes="shared", config=config)
    client = await session(sidecar)
    assert [said((await sidecar.call("count", **client))[2]) for _ in range(3)] == ["1", "1", "1"]
    assert (await sidecar.call("count", **client))[2]["error"]["code"] == 42900


def test_the_bound_of_shared_processes_is_one_until_it_is_written():
    assert SidecarConfig(transport="stdio", stdio={"processes": "shared"}).stdio.most == 1
    assert SidecarConfig(transport="stdio").stdio.most == 16
