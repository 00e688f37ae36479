"""Ids of events on a session's streams, by which a client whose connection broke asks for the rest. Pure.

`KIND.HOLDER.STREAM.PROCESS.REQUEST.NUMBER` and, where the server gives ids, `.THEIRS`: which replica holds
what was said, on which stream of its, in which process of the server, in answer to which request, how many
events had been said; and the last id of the server's own. So the server too can be asked for the rest.
Source: MCP 2025-11-25, basic/transports (resumability and redelivery); WHATWG HTML, section 9.2.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from typing import Final, NamedTuple

import msgspec

from mcpace_sidecar.mcp.ids import is_id

MESSAGE: Final = b"m"
"""An event of the stream that answers a request."""
END: Final = b"e"
"""The last one: the response."""
LISTENING: Final = b"g"
"""An event of the stream on which the server speaks on its own."""
_FORM: Final = re.compile(
    rb"([meg])\.([A-Za-z0-9_-]{1,128})\.([0-9]{1,15})\.([0-9a-f]{8})\.([A-Za-z0-9_-]{0,128})\.([0-9]{1,15})"
    rb"(?:\.([A-Za-z0-9_-]{1,700}))?"
)
_LONGEST: Final = 2048
_VISIBLE: Final = re.compile(rb"[!-~](?:[ -~]{0,510}[!-~])?")
"""An id of the server's that can be sent as a header."""
_MOST_REQUEST: Final = 96
"""Bytes of a request's id that is told; whose is longer cannot be told that its answer is lost."""


class Place(NamedTuple):
    """Up to where a client has heard a stream."""

    kind: bytes
    holder: bytes
    """The name of the replica that holds what was said."""
    stream: int
    """Which of its streams."""
    process: bytes
    """What tells the server's process that spoke from those after it."""
    request: bytes
    """The id of the request that it answers, as JSON; empty where that is not known."""
    number: int
    """How many events had been said."""
    theirs: bytes
    """The last id of the server's own; empty where it gave none."""


def stem(holder: bytes, stream: int, process: bytes, request: bytes) -> bytes:
    """What is the same in all ids of a stream: all between the kind and the number."""
    told = _encode(request) if len(request) <= _MOST_REQUEST else b""
    return b".%b.%d.%b.%b." % (holder, stream, process, told)


def tail(theirs: bytes) -> bytes:
    """What stands behind the number."""
    return b"." + _encode(theirs) if _VISIBLE.fullmatch(theirs) else b""


def process_of(inner: bytes) -> bytes:
    """What tells the process that knows a session by this id from others."""
    return b"%08x" % zlib.crc32(inner)


def read(text: bytes) -> Place | None:
    """What an id says; None: it is none of ours. Nothing in it is more than a client's word."""
    found = _FORM.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        return None
    try:
        request, theirs = _decode(found[5]), _decode(found[7] or b"")
        if request and (not is_id(request) or msgspec.json.decode(request) is None):
            return None
    except (binascii.Error, ValueError):  # a msgspec.DecodeError, too
        return None
    if theirs and not _VISIBLE.fullmatch(theirs):
        return None
    return Place(found[1], found[2], int(found[3]), found[4], request, int(found[6]), theirs)


def _encode(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def _decode(text: bytes) -> bytes:
    return base64.b64decode(text + b"=" * (-len(text) % 4), b"-_", validate=True)
