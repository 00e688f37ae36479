"""Every official client, through the sidecar, in front of servers that nobody here wrote."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.kit.programs import ROOT, serving
from tests.kit.sidecars import Start
from tools.packages.install import modules, node, python_v1, servers
from tools.ports import free_port

CLIENTS = {
    "python v1": ("python_v1.py", "legacy"),
    "python v2, modern": ("python_v2.py", "auto"),
    "python v2, legacy": ("python_v2.py", "legacy"),
    "typescript v1": ("typescript_v1.mjs", "legacy"),
    "typescript v2, modern": ("typescript_v2.mjs", "auto"),
    "typescript v2, legacy": ("typescript_v2.mjs", "legacy"),
}

# The server's command, a call that it answers, and what the answer says.
SERVERS: dict[str, tuple[list[str], dict[str, Any], str]] = {
    "everything": (
        ["node", "@modelcontextprotocol/server-everything/dist/index.js", "streamableHttp"],
        {"tool": "echo", "arguments": {"message": "hello"}},
        "Echo: hello",
    ),
    "motherduck": (
        ["mcp-server-motherduck", "--transport", "http", "--host", "127.0.0.1", "--port", "PORT", "--db-path", ":memory:", "--read-write"],
        {"tool": "execute_query", "arguments": {"sql": "SELECT 6 * 7 AS answer"}},
        "42",
    ),
    "excel": (
        ["excel-mcp-server", "streamable-http", "--host", "127.0.0.1", "--port", "PORT"],
        {"tool": "list_workbooks", "arguments": {}},
        "{}",
    ),
}  # fmt: skip


async def scenario(client: str, url: str, calls: list[Any]) -> Any:
    """Run a client's program: the tools it sees, and what each call gave."""
    script, mode = CLIENTS[client]
    program = {"python_v1.py": python_v1(), "python_v2.py": sys.executable}.get(script, node())
    process = await asyncio.create_subprocess_exec(
        program, ROOT / "tests/clients" / script, url, mode, json.dumps(calls),
        env=os.environ | {"NODE_MODULES": str(modules())},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return json.loads(output.splitlines()[-1])


@pytest.fixture
async def real(request: pytest.FixtureRequest, tmp_path_factory: Any) -> AsyncIterator[tuple[int, str]]:
    """A real server's port and path."""
    command, _, _ = SERVERS[request.param]
    port = free_port()
    words = [str(port) if word == "PORT" else word for word in command]
    if words[0] == "node":
        words = [str(node()), str(modules() / words[1]), *words[2:]]
    else:
        words[0] = str(servers() / words[0])
    folder = tmp_path_factory.mktemp("server")
    async with serving(port, *words, cwd=folder, EXCEL_FILES_PATH=str(folder)):
        yield port, request.param


@pytest.mark.parametrize("real", SERVERS, indirect=True)
async def test_every_official_client_lists_calls_hits_and_runs_in_parallel(
    real: tuple[int, str], start: Start
) -> None:
    port, name = real
    _, call, words = SERVERS[name]
    config = {
        "rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 1000}]},
        "cache": {"tools": [{"name": call["tool"], "ttl": "10m", "scope": "shared"}]},
        # One at a time: motherduck's one connection mixes up the rows of queries that run at once.
        "concurrency": {"parallelTool": True, "maxInFlight": 1},
    }
    sidecar = await start(port, config)
    await sidecar.ready()
    vetoed = sidecar.catalog.forbids_caching(call["tool"])
    parallel = {
        "tool": "parallel",
        "arguments": {"calls": [call, call, {"tool": "no-such-tool", "arguments": {}}]},
    }
    seen = await asyncio.gather(
        *(scenario(client, sidecar.url, [call, call, parallel]) for client in CLIENTS)
    )
    for client, got in zip(CLIENTS, seen, strict=True):
        assert call["tool"] in got["tools"], client
        assert "parallel" in got["tools"], client
        first, second, several = got["results"]
        assert words in first["text"], (client, first)
        assert words in second["text"], (client, second)
        summary = json.loads(several["text"])
        assert (summary["total"], summary["succeeded"]) == (3, 2), (client, summary)
    samples = await sidecar.metrics()
    hits = sum(
        value
        for sample, value in samples.items()
        if sample.startswith("mcpace_cache_requests_total") and "miss" not in sample
    )
    assert (hits > 0) != vetoed


@pytest.mark.parametrize("real", SERVERS, indirect=True)
async def test_a_bare_manifest_changes_no_answer(real: tuple[int, str], start: Start) -> None:
    port, name = real
    _, call, _ = SERVERS[name]
    sidecar = await start(port, {})
    await sidecar.ready()
    unknown = {"tool": "no-such-tool", "arguments": {}}
    calls = [call, unknown, {"tool": call["tool"], "arguments": {"no-such-argument": 1}}]
    for client in CLIENTS:
        direct, through = [
            await scenario(client, f"http://127.0.0.1:{to}/mcp", calls) for to in (port, sidecar.data)
        ]
        assert through == direct, client


REFUSED = {
    "jsonrpc": lambda r: r.get("code") == 42900 and r["data"]["retryAfterMs"] > 0,
    "toolError": lambda r: r.get("isError") is True and "Rate limit exceeded" in r["text"],
}


@pytest.mark.parametrize("reply", REFUSED)
async def test_every_official_client_survives_a_refusal(weather: int, start: Start, reply: str) -> None:
    """Its session goes on: what is called next, and is not limited, is answered."""
    limits = {
        "tiers": [{"name": "free", "requestsPerMinute": 1000}],
        "tools": [{"name": "get-weather", "requestsPerMinute": 1, "per": "server"}],
        "reply": reply,
    }
    sidecar = await start(weather, {"rateLimits": limits})
    await sidecar.ready()
    oslo = {"tool": "get-weather", "arguments": {"city": "Oslo"}}
    await sidecar.call("get-weather", {"city": "Oslo"}, MCP_Protocol_Version="2025-11-25")
    other = {"tool": "forecast", "arguments": {"city": "Oslo", "days": 1}}
    seen = await asyncio.gather(*(scenario(client, sidecar.url, [oslo, other]) for client in CLIENTS))
    for client, got in zip(CLIENTS, seen, strict=True):
        refused, answered = got["results"]
        assert REFUSED[reply](refused), (client, refused)
        assert answered.get("isError") is False, (client, answered)


@pytest.mark.parametrize("client", [name for name in CLIENTS if name != "python v1"])
async def test_an_http_429_is_an_error_to_every_client_that_survives_one(
    weather: int, start: Start, client: str
) -> None:
    """Version 1 of the Python SDK does not: its session dies, which is why this form is not the default."""
    limits = {"tiers": [{"name": "free", "requestsPerMinute": 1}], "reply": "http429"}
    sidecar = await start(weather, {"rateLimits": limits})
    await sidecar.ready()
    oslo = {"tool": "get-weather", "arguments": {"city": "Oslo"}}
    got = await scenario(client, sidecar.url, [oslo, oslo])
    answered, refused = got["results"]
    assert answered["isError"] is False
    assert refused["code"]
