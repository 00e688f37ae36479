"""What pages of other origins may read: CORS, for the origins that the manifest allows. Pure.

Where none is allowed, OPTIONS and the headers of answers are the server's own. Where some are, the
sidecar's word takes the place of the server's: its own answers (hits, refusals, errors) bear the same
headers as the server's, and a preflight costs the server nothing.
Source: WHATWG Fetch, section 3.3, the CORS protocol.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Final

from mcpace_sidecar.http.downstream import status_line
from mcpace_sidecar.http.head import RequestHead

EXPOSED: Final = (
    "Mcp-Session-Id", "Mcp-Protocol-Version", "RateLimit", "RateLimit-Policy", "Retry-After",
    "WWW-Authenticate",
)  # fmt: skip
"""What a page may read of an answer's head, beside what any page may."""
MAX_AGE: Final = 7200
"""Seconds that a browser may remember a preflight; the most that Chromium does."""

_METHODS: Final = b"GET, POST, DELETE"
_NAMES: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z, -]{1,1024}")
_THEIRS: Final = re.compile(rb"(?im)^Access-Control-Allow-Origin:[^\r\n]*\r\n")


class Grant:
    """What the answers to one allowed origin bear."""

    __slots__ = ("_lines",)

    def __init__(self, origin: bytes) -> None:
        """`origin`: as the request wrote it."""
        self._lines: bytes = (
            b"Access-Control-Allow-Origin: %b\r\nAccess-Control-Expose-Headers: %b\r\nVary: Origin\r\n"
            % (origin, ", ".join(EXPOSED).encode())
        )

    def rewrite(self, head: bytes) -> bytes:
        """An answer's status line and header lines, with our word on who may read it."""
        return _THEIRS.sub(b"", head) + self._lines


def granted(allowed: Container[bytes], head: RequestHead) -> Grant | None:
    """What is granted to a request's origin. `allowed`: the origins, in any case."""
    origin = head.get(b"origin")
    return Grant(origin) if origin is not None and origin in allowed else None


def preflight(head: RequestHead) -> bytes | None:
    """The answer to a preflight, without the origin's own lines; None: it is none."""
    if head.method != b"OPTIONS" or head.get(b"access-control-request-method") is None:
        return None
    wanted = b", ".join(head.values(b"access-control-request-headers"))
    allowed = b"Access-Control-Allow-Headers: %b\r\n" % wanted if _NAMES.fullmatch(wanted) else b""
    return (
        status_line(204)
        + b"Access-Control-Allow-Methods: %b\r\n%bAccess-Control-Max-Age: %d\r\n"
        % (_METHODS, allowed, MAX_AGE)
        + b"Vary: Access-Control-Request-Headers, Access-Control-Request-Method\r\n"
    )
