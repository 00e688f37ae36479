"""Where a request goes by its path, and what is refused by its head alone. Pure."""

from __future__ import annotations

import re
from typing import Final

from mcpace_sidecar.call import refusals
from mcpace_sidecar.call.refusals import Refusal
from mcpace_sidecar.call.settings import Settings
from mcpace_sidecar.http.head import RequestHead
from mcpace_sidecar.identity import origins
from mcpace_sidecar.identity.callers import AUTHORIZATION

_ONCE: Final = (AUTHORIZATION, b"content-type", b"mcp-protocol-version", b"mcp-session-id", b"origin")
_JSON_TYPE: Final = re.compile(
    rb'application/json(?:[ \t]*;[ \t]*charset=(?:utf-8|"utf-8"))?[ \t]*;?', re.IGNORECASE
)
_METHODS: Final = frozenset({b"POST", b"GET", b"DELETE", b"OPTIONS"})


def route(settings: Settings, head: RequestHead) -> str:
    """`mcp` and `pair` are judged; `open` is forwarded unjudged; `passed` needs only an identity."""
    if head.path == settings.path:
        return "open" if head.method == b"OPTIONS" else "mcp"
    if head.path == settings.health_path:
        return "open"
    if head.path.startswith(b"/.well-known/") and b".." not in head.path and b"%" not in head.path:
        return "open"
    if head.path in settings.pass_paths:
        return "passed"
    return "pair" if settings.pair and head.method == b"POST" else "unknown"


def refusal(settings: Settings, head: RequestHead, route: str, *, loopback: bool) -> Refusal | None:
    """Why a request is refused by its head alone, on this route; None: it is not."""
    if route == "unknown":
        words = f"The MCP endpoint is {settings.config.endpoint}; other paths must be in passPaths."
        return Refusal(refusals.PATH, f"Not found. {words}")
    if head.method not in _METHODS and route == "mcp":
        return Refusal(refusals.METHOD, "The MCP endpoint takes POST, GET, DELETE and OPTIONS.")
    if route == "open" and head.path == settings.health_path:
        asks = head.method in (b"GET", b"HEAD")
        return None if asks else Refusal(refusals.METHOD, "The health path takes GET and HEAD.")
    if head.method in (b"HEAD", b"TRACE"):
        return Refusal(refusals.METHOD, f"{head.method.decode()} is not passed on.")
    if not settings.guard.admits(head, loopback=loopback):
        return Refusal(refusals.ORIGIN, origins.WORDS)
    if route == "open":
        return None
    posted = head.method == b"POST" and route != "passed"
    return _misread(settings, head) or (_unreadable(head) if posted else None)


def _misread(settings: Settings, head: RequestHead) -> Refusal | None:
    """A header that decides and stands there twice: of two readers each may take another."""
    once = {name for name in (*_ONCE, settings.identities.key_header) if len(head.values(name)) > 1}
    if once:
        return Refusal(refusals.HEADER, f"The header {min(once).decode()} stands there more than once.")
    return None


def _unreadable(head: RequestHead) -> Refusal | None:
    """A body that the server could read otherwise than it is read here (RFC 9110, section 8)."""
    if any(coding.lower() not in (b"", b"identity") for coding in head.values(b"content-encoding")):
        words = "Send the body as it is: a Content-Encoding is not accepted."
        return Refusal(refusals.CODING, words)
    if _JSON_TYPE.fullmatch(head.get(b"content-type") or b"") is None:
        words = "Send Content-Type: application/json, in UTF-8 and without another charset."
        return Refusal(refusals.TYPE, words)
    return None
