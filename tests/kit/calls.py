"""A call's answer, and a tier that limits it, as many tests of the wire want them."""

from __future__ import annotations

PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
ANSWER = (
    b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"n\xc3\xb8"}],"isError":false}}'
)


def tier(limit: int, **more: object) -> dict[str, object]:
    return {"rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": limit}], **more}}
