"""Configurations under which answers are shared."""

from __future__ import annotations

from typing import Any

CONFIG: dict[str, Any] = {
    "cache": {
        "varyOn": ["X-User"],
        "tools": [
            {"name": "t", "ttl": "1m"},
            {"name": "tolerant", "ttl": "1m", "staleIfError": "1m"},
            {"name": "quick", "ttl": "1m", "staleWhileRevalidate": "1m"},
            {"name": "shared", "ttl": "1m", "scope": "shared"},
            {"name": "keyed", "ttl": "1m", "key": {"arguments": ["city"], "ignoreCase": True}},
        ],
    },
    "concurrency": {"parallelTool": True},
    "responses": {"page": {"tools": [{"name": "long", "items": 2}]}},
}
GATEWAY = {"clients": {"trustedProxies": ["127.0.0.1/32"], "trustedHeaders": {
    "client": "X-Gateway-Client", "tier": "X-Gateway-Plan"}}}  # fmt: skip
