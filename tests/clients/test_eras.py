"""Official clients of both eras through a sidecar, before a real MCP server."""

import httpx2
import pytest
from mcp import Client, MCPError
from tests.kit.sidecars import Start

LIMITED = {
    "rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 3}]},
    "cache": {"tools": [{"name": "get-weather", "ttl": "1m", "scope": "shared"}]},
}


@pytest.mark.parametrize("mode", ["auto", "legacy", "2026-07-28"])
async def test_a_client_lists_calls_hits_the_cache_and_meets_the_limit(
    weather: int, start: Start, mode: str
) -> None:
    sidecar = await start(weather, LIMITED)
    await sidecar.ready()
    async with Client(sidecar.url, mode=mode) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} >= {"get-weather", "forecast"}
        for _ in range(3):
            result = await client.call_tool("get-weather", {"city": "Oslo"})
            assert result.structured_content == {"city": "Oslo", "degrees": -3, "sky": "snow"}
        with pytest.raises(MCPError) as refused:
            await client.call_tool("get-weather", {"city": "Oslo"})
        assert refused.value.error.code == 42900
        assert refused.value.error.data["retryAfterMs"] > 0
        assert (await client.list_tools()).tools, "the session lives on after a refusal"
    samples = await sidecar.metrics()
    assert samples['mcp_tool_calls_total{status="success",tool="get-weather"}'] == 3
    assert samples['mcpace_cache_requests_total{result="memory",tool="get-weather"}'] == 2
    assert samples['mcp_tool_calls_total{status="limited",tool="get-weather"}'] == 1
    assert samples['mcp_tool_duration_seconds_count{tool="get-weather"}'] == 3


async def test_a_legacy_session_is_begun_kept_and_ended_through_the_sidecar(
    weather: int, start: Start
) -> None:
    sidecar = await start(weather)
    headers = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    begin = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    }
    async with httpx2.AsyncClient(headers=headers) as client:
        answer = await client.post(sidecar.url, json=begin)
        session = answer.headers["mcp-session-id"]
        client.headers["Mcp-Session-Id"] = session
        answer = await client.post(
            sidecar.url, json={"jsonrpc": "2.0", "method": "notifications/initialized"}
        )
        assert answer.status_code == 202
        answer = await client.post(sidecar.url, json={"jsonrpc": "2.0", "id": 2, "method": "tools/list"})
        assert "get-weather" in answer.text
        assert (await client.delete(sidecar.url)).status_code == 200
        answer = await client.post(sidecar.url, json={"jsonrpc": "2.0", "id": 3, "method": "tools/list"})
        assert answer.status_code == 404
