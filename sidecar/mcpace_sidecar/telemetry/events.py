"""The record of an ended call, made where somebody listens: the log and traces do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

Status = Literal["success", "error", "limited", "shed", "failed", "cancelled"]
"""error: the tool or JSON-RPC said so; shed: no room for it; failed: no answer of the server's."""

CacheUse = Literal["", "memory", "redis", "joined", "stale", "miss"]
"""Where the result came from; joined: from an identical call in flight."""


class CallEnded:
    """One tools/call, ended."""

    __slots__ = (
        "cache",
        "client",
        "received",
        "seconds",
        "sent",
        "span",
        "status",
        "tier",
        "tool",
        "trace",
    )

    def __init__(
        self,
        tool: str,
        status: Status,
        seconds: float,
        cache: CacheUse = "",
        received: int = 0,
        sent: int = 0,
        client: str = "",
        tier: str | None = None,
        trace: bytes = b"",
        span: bytes = b"",
    ) -> None:
        self.tool = tool
        self.status: Status = status
        self.seconds = seconds
        self.cache: CacheUse = cache
        self.received = received
        """Bytes of the request's body."""
        self.sent = sent
        """Bytes of the answer's body, before compression."""
        self.client = client
        """The caller's name, which is no secret."""
        self.tier = tier
        self.trace = trace
        """The W3C `traceparent` the call came with."""
        self.span = span
        """The `traceparent` of its own span, where traces are made."""


Listener = Callable[[CallEnded], None]
