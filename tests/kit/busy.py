"""What stands behind a page that is looked at: a sidecar that has answered calls of each kind."""

from __future__ import annotations

from typing import Any

from tests.kit.named import named
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import Scripted

SCRIPT = "<script>window.ran=1</script>"
IMAGE = '"><img src=x onerror="window.ran=1">'
TURNED = "safe\u202egnp.exe"
INHERITED = "toString"
"""What every object of JavaScript has; it is never called."""
TOOLS = ("get", "list", SCRIPT, IMAGE, TURNED, "__proto__", "long" * 200, INHERITED)
CONFIG: dict[str, Any] = {
    "cache": {"tools": [{"name": "get", "ttl": "1h", "scope": "shared"}]},
    "concurrency": {"maxInFlight": 8, "maxQueued": 16},
    "rateLimits": {
        "tiers": [{"name": "free", "requestsPerMinute": 1000, "requestsPerDay": 5000}],
        "tools": [
            {"name": "list", "requestsPerMinute": 3},
            {"name": "<b>gone</b>", "requestsPerMinute": 1},
        ],
    },
}


async def told(sidecar: Running, tool: str, **arguments: Any) -> None:
    await sidecar.call(tool, arguments, MCP_Protocol_Version="2025-11-25")


async def busy(scripted: Scripted, start: Start, **options: Any) -> Running:
    """A sidecar that has answered calls of each kind: hits, errors, refusals, and of hostile names."""
    scripted.answer = named(f"{IMAGE}{SCRIPT}", TOOLS, error=IMAGE)
    sidecar = await start(scripted.port, CONFIG, **options)
    await sidecar.ready()
    for _ in range(5):
        await told(sidecar, "get", city="Oslo")
        await told(sidecar, "list")
    for tool in TOOLS[2:-1]:
        await told(sidecar, tool)
    await told(sidecar, SCRIPT, fail=1)
    return sidecar
