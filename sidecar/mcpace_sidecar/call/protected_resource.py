"""Where a client gets a token for this server: metadata of the protected resource. Pure.

A 401 names the document, the document names the issuer. The resource is what the manifest calls
`publicURL`; without it, what a trusted proxy says it was asked for, or, listening on loopback, the
Host, which is a local one there. An untrusted Host is never believed: it would send a client's user
to a place of a stranger's choosing. Source: RFC 9728, sections 3 and 5; MCP 2025-11-25, authorization.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

import msgspec

from mcpace_sidecar.call.settings import Settings
from mcpace_sidecar.http.head import RequestHead

WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"
_HOST: Final = re.compile(rb"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")


class Resource:
    """The server as a resource that tokens are for."""

    __slots__ = ("document", "metadata_url", "paths", "url")

    def __init__(self, url: str, issuer: str, endpoint: str) -> None:
        """`endpoint`: the path of the MCP endpoint as it reaches the sidecar."""
        self.url = url
        parts = urlsplit(url)
        path = parts.path.rstrip("/")
        self.metadata_url: str = f"{parts.scheme}://{parts.netloc}{WELL_KNOWN}{path}"
        """Where clients find the document (RFC 9728, section 3.1)."""
        self.paths: frozenset[bytes] = frozenset(
            (WELL_KNOWN + tail).encode() for tail in ("", path, endpoint.rstrip("/"))
        )
        """Under which paths it is asked for here: a gateway may have taken a prefix away."""
        self.document: bytes = msgspec.json.encode(
            {"resource": url, "authorization_servers": [issuer], "bearer_methods_supported": ["header"]}
        )

    def challenge(self) -> bytes:
        """The parameter of `WWW-Authenticate` that names the document (RFC 9728, section 5.1)."""
        return b', resource_metadata="%b"' % self.metadata_url.encode()


def of(settings: Settings, head: RequestHead, *, trusted: bool, loopback: bool) -> Resource | None:
    """What a request asks for, as a resource; None: no tokens are verified, or nobody says where it is."""
    config = settings.config
    if config.clients.jwt is None or not config.clients.jwt.issuer.startswith(("https://", "http://")):
        return None
    url = config.public_url or url_of(head, config.endpoint, trusted=trusted, loopback=loopback)
    return Resource(url, config.clients.jwt.issuer, config.endpoint) if url else None


def url_of(head: RequestHead, endpoint: str, *, trusted: bool, loopback: bool) -> str:
    """Under which URL a request has reached the server; empty where nobody believable says so."""
    if trusted:
        scheme = _last(head, b"x-forwarded-proto").lower() or b"https"
        host = _last(head, b"x-forwarded-host")
    elif loopback:
        scheme, host = b"http", head.get(b"host") or b""
    else:
        return ""
    if scheme not in (b"http", b"https") or _HOST.fullmatch(host) is None:
        return ""
    return f"{scheme.decode()}://{host.decode()}{endpoint}"


def _last(head: RequestHead, name: bytes) -> bytes:
    """What the nearest proxy has added."""
    return b",".join(head.values(name)).rpartition(b",")[2].strip()
