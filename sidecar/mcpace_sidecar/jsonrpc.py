"""The parts of JSON-RPC messages that are decoded.

msgspec reads their annotations at run time, so this module is never compiled.
"""

from __future__ import annotations

import msgspec


class Envelope(msgspec.Struct):
    """A request, notification or response, as far as it is judged."""

    jsonrpc: str
    method: str | None = None
    id: msgspec.Raw = msgspec.Raw(b"")
    params: msgspec.Raw = msgspec.Raw(b"")


class Params(msgspec.Struct):
    """What names the target of a counted method."""

    name: str | None = None
    uri: str | None = None


class ResultFlags(msgspec.Struct, rename="camel"):
    """What a result says of itself."""

    is_error: bool = False
    result_type: str = "complete"


class Answer(msgspec.Struct):
    """A response, or a message of the server's own."""

    id: msgspec.Raw = msgspec.Raw(b"")
    method: str | None = None
    result: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")


class CacheHints(msgspec.Struct, rename="camel"):
    """How long a result may be kept, and for whom (MCP 2026-07-28, caching)."""

    ttl_ms: float | None = None
    cache_scope: str | None = None
