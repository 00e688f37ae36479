"""The one record of a call; metrics and statistics listen to it."""

from __future__ import annotations

from typing import Literal

import msgspec

Status = Literal["success", "error", "limited", "failed", "cancelled"]
"""error: the tool or JSON-RPC said so; failed: the server did not answer as it should."""

CacheUse = Literal["", "memory", "redis", "miss"]


class CallEnded(msgspec.Struct, frozen=True):
    """One tools/call, ended."""

    tool: str
    status: Status
    seconds: float
    cache: CacheUse = ""
