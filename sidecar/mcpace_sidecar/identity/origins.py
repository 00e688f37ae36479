"""Which Hosts and Origins may call: a guard against DNS rebinding and foreign pages. Pure.

A page in a browser may reach a port on the loopback that no other machine can, under a name that its
author points there; so on loopback only local names may call, and those that the manifest adds.
Source: MCP 2025-11-25, basic/transports, security warning.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from mcpace_sidecar.contract.config.clients import Clients
from mcpace_sidecar.http.head import RequestHead

WORDS: Final = (
    "This Host or Origin may not call: name it in clients.allowedHosts or clients.allowedOrigins."
)

_LOOPBACK: Final = frozenset({b"localhost", b"127.0.0.1", b"[::1]"})
_ANY: Final = b"://*"


class Origins:
    """The origins that a manifest allows: each as it is, or all of a scheme (`vscode-webview://*`)."""

    __slots__ = ("_known", "_schemes")

    def __init__(self, written: Iterable[str] = ()) -> None:
        lower = [origin.lower().encode("latin-1") for origin in written]
        self._known = frozenset(lower)
        self._schemes = frozenset(origin[:-1] for origin in lower if origin.endswith(_ANY))

    def __contains__(self, origin: object) -> bool:
        if not isinstance(origin, bytes):
            return False
        lower = origin.lower()
        scheme, mark, _ = lower.partition(b"://")
        return lower in self._known or scheme + mark in self._schemes


class Guard:
    """Judges Host and Origin, under one manifest."""

    __slots__ = ("_beneath", "_hosts", "origins")

    def __init__(self, clients: Clients, public_url: str | None = None) -> None:
        """`public_url`: its host is one of ours, too."""
        self.origins = Origins(clients.allowed_origins)
        written = [host.lower().encode() for host in clients.allowed_hosts]
        self._beneath = tuple(host[1:] for host in written if host.startswith(b"*."))
        self._hosts = frozenset(written)
        if self._hosts and public_url:
            self._hosts |= {urlsplit(public_url).netloc.lower().encode()}

    def admits(self, head: RequestHead, *, loopback: bool) -> bool:
        """Whether a request may be answered. `loopback`: we listen there alone."""
        host, origin = head.get(b"host") or b"", head.get(b"origin")
        if (loopback or self._hosts) and not (is_local(host) or self._knows(host)):
            return False
        if loopback and origin is not None and is_local(origin.partition(b"://")[2]):
            return True
        return origin is None or origin in self.origins

    def _knows(self, host: bytes) -> bool:
        host = host.lower()
        name = _name(host)
        return host in self._hosts or name in self._hosts or name.endswith(self._beneath)


def is_local(host: bytes) -> bool:
    """Whether a Host names the loopback, whatever the port."""
    return _name(host.lower()) in _LOOPBACK


def _name(host: bytes) -> bytes:
    """A Host without its port."""
    name, colon, port = host.rpartition(b":")
    return name if colon and port.isdigit() else host
