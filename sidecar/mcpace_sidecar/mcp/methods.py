"""MCP's methods, as far as any is treated otherwise than the rest.

Source: MCP 2026-07-28, and the versions before.
"""

from __future__ import annotations

from typing import Final

MODERN: Final = b"2026-07-28"
COUNTED: Final = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
"""The methods that limits count, and the parameter that names what is called."""
SAFE: Final = frozenset(
    {
        "initialize",
        "ping",
        "server/discover",
        "tools/list",
        "prompts/list",
        "prompts/get",
        "resources/list",
        "resources/templates/list",
        "resources/read",
        "completion/complete",
    }
)
"""The methods that may be sent twice."""
