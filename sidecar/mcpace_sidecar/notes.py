"""What a request head says of a call before its body is read: where to, from where, by whom. Pure."""

from __future__ import annotations

from typing import Final

from mcpace_sidecar.http.head import RequestHead
from mcpace_sidecar.identity import API_KEY, AUTHORIZATION, Caller
from mcpace_sidecar.settings import Settings
from mcpace_sidecar.upstream import Address

_LOOPBACK: Final = frozenset({b"localhost", b"127.0.0.1", b"[::1]"})
_METHODS: Final = frozenset({b"POST", b"GET", b"DELETE", b"OPTIONS"})


class Notes:
    """What one request head says under one configuration: kept with the head, so worked out once."""

    __slots__ = (
        "caller",
        "credentials",
        "is_json",
        "onward",
        "refusal",
        "route",
        "session",
        "settings",
        "version",
    )

    def __init__(self, settings: Settings, upstream: Address, head: RequestHead, *, loopback: bool) -> None:
        self.settings = settings
        self.route: str = _route(settings, head)
        self.refusal: tuple[int, str, str] | None = None
        if self.route == "unknown":
            self.refusal = (
                404,
                "path",
                "Not found. The MCP endpoint is " + settings.config.path + ".",
            )
        elif head.method not in _METHODS and self.route == "mcp":
            self.refusal = (405, "method", "The MCP endpoint takes POST, GET, DELETE and OPTIONS.")
        elif head.method in (b"HEAD", b"TRACE"):
            self.refusal = (405, "method", f"{head.method.decode()} is not passed on.")
        elif not _may_call(settings, head, loopback=loopback):
            self.refusal = (403, "origin", "This Host or Origin may not call.")
        content_type = (head.get(b"content-type") or b"").partition(b";")[0].strip().lower()
        self.is_json: bool = content_type == b"application/json"
        self.version: bytes = head.get(b"mcp-protocol-version") or b""
        self.session: bytes = head.get(b"mcp-session-id") or b""
        authorization = head.get(AUTHORIZATION)
        self.caller: Caller | None = settings.identities.by_credential(head.get(API_KEY), authorization)
        hidden = None
        if self.caller is not None and not settings.forward_credential:
            hidden = self.caller.key_header
        self.onward: bytes = b"%b %b HTTP/1.1\r\nHost: %b\r\n%b" % (
            head.method,
            head.target,
            str(upstream).encode(),
            b"".join(line for name, line in head.onward if name != hidden),
        )
        names = (AUTHORIZATION, b"cookie", *(settings.cache.vary_on if settings.cache else ()))
        self.credentials: tuple[bytes, ...] = tuple(
            b"%b:%b" % (name, b",".join(values)) for name in names if (values := head.values(name))
        )


def _route(settings: Settings, head: RequestHead) -> str:
    """`mcp` is judged; `open` is forwarded unjudged; `passed` needs only an identity."""
    if head.path == settings.path:
        return "open" if head.method == b"OPTIONS" else "mcp"
    if head.path.startswith(b"/.well-known/") and b".." not in head.path and b"%" not in head.path:
        return "open"
    return "passed" if head.path in settings.pass_paths else "unknown"


def _may_call(settings: Settings, head: RequestHead, *, loopback: bool) -> bool:
    """Whether the Host and Origin may call: a guard against DNS rebinding and foreign pages.

    On loopback only local names may; elsewhere any Host, and the origins that are allowed.
    """
    origin = head.get(b"origin")
    if loopback:
        if not _is_local(head.get(b"host") or b""):
            return False
        if origin is not None and _is_local(origin.partition(b"://")[2]):
            return True
    return origin is None or origin.lower() in settings.allowed_origins


def _is_local(host: bytes) -> bool:
    host = host.lower()
    return host in _LOOPBACK or host.rpartition(b":")[0] in _LOOPBACK
