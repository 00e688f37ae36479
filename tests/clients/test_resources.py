"""Limits of resources, in front of servers that read URIs as their SDK does."""

from typing import Any

from tests.kit.programs import ROOT, serving
from tests.kit.sidecars import Start
from tools.packages.install import python_v1
from tools.ports import free_port

LIMITS = {
    "rateLimits": {
        "tiers": [{"name": "free", "requestsPerMinute": 1000}],
        "resources": [{"name": "file:///a/*", "requestsPerMinute": 1}],
    }
}
WAYS = (
    "file:////a/b", "file://///a/b", "file:///..//a/b", "file:////%2e%2e//a/b", "FILE:///a/b", "file:/a/b",
    "file://localhost//a/b", " file:////a/b", "fi\tle:////a/b", "file:\\\\\\\\a\\b", "file:////./a/b",
)  # fmt: skip


async def test_version_1_of_the_python_sdk_gives_no_resource_past_its_limit(start: Start) -> None:
    port = free_port()
    async with serving(port, python_v1(), ROOT / "tests/clients/python_v1_server.py"):
        sidecar = await start(port, LIMITS)
        await sidecar.ready()

        async def read(uri: str) -> Any:
            request = {"jsonrpc": "2.0", "id": 7, "method": "resources/read", "params": {"uri": uri}}
            _, _, body = await sidecar.post(request, Accept="application/json, text/event-stream")
            return body

        first = await read("file:///a/b")
        assert first["result"]["contents"][0]["text"] == "what it holds", first
        for uri in WAYS:
            body = await read(uri)
            assert "what it holds" not in str(body), (uri, body)
            assert "error" in body, (uri, body)
