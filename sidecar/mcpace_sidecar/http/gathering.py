"""Requests out of a client's bytes, in whatever cut they come. Decides, and does no I/O."""

from __future__ import annotations

from typing import Final

from mcpace_sidecar.errors import ProtocolError
from mcpace_sidecar.http.connections import Guest
from mcpace_sidecar.http.framing import BodyReader, ChunkedBody, LengthBody
from mcpace_sidecar.http.head import MAX_HEAD, RequestHead
from mcpace_sidecar.http.known import RequestHeads
from mcpace_sidecar.http.template import Template

HEAD_TIMEOUT: Final = 30.0
"""Seconds a client may take for a request's head, and again for its body."""
BODY_RATE: Final = 16 * 1024
"""Bytes of a body that give it a second more."""
LIGHT: Final = 16 * 1024
"""Bytes of a body that has arrived at once, and that nobody counts."""
_SMALL: Final = 4 * 1024
"""Bytes below which a piece of a body is held together with others: each alone takes some more."""
LIGHT_HEAD: Final = 4 * 1024
"""Bytes of a head that nobody counts, and that are remembered of an idle client."""
HEAD_COST: Final = 4
"""Bytes that a byte of a head takes once it is read."""

PART: Final = 0
"""Not even the head is whole."""
STARTED: Final = 1
"""The head is whole, and what comes of the body is to be taken."""
WHOLE: Final = 2
"""Nothing is missing."""


def allowed(held: int) -> float:
    """The seconds that a client may take for what is due, of which so many bytes have come."""
    return HEAD_TIMEOUT + held / BODY_RATE


def no_room() -> ProtocolError:
    """What a request is refused with that others' leave no room for."""
    return ProtocolError(503, "bodies", "There is no room for a request of this length.")


class Gathering:
    """One connection's requests, one after the other."""

    __slots__ = (
        "_pieces",
        "_raw",
        "_reader",
        "_size",
        "_small",
        "_template",
        "apart",
        "head",
        "heads",
        "lines",
        "trace",
    )

    def __init__(self, heads: RequestHeads) -> None:
        self.heads = heads
        self.head: RequestHead | None = None
        """Of the request being gathered or answered; None between two."""
        self.trace = self.lines = b""
        """The line of its `traceparent`, and those that vary: its head is held without them."""
        self.apart: tuple[bytes, ...] = ()
        """The values that its head is held without, by the places of `Names.apart`; () of none."""
        self._raw = b""
        """Of a head whose request is not whole yet."""
        self._template: Template | None = None
        """The last head: a client repeats itself."""
        self._reader: BodyReader | None = None
        self._pieces: list[bytes] = []
        self._small = bytearray()
        """What has come behind the pieces in ones too small to be held alone."""
        self._size = 0

    def take_head(self, data: bytes, guest: Guest, limit: int) -> tuple[int, bytes]:
        """Take a request from where these bytes begin: what is there of it, and what is behind its head.

        `guest` holds what counts of it. `limit`: the bytes that a body may have. ProtocolError.
        """
        template = self._template
        if template is not None and template.head.names is not self.heads.names:
            template = None
        end = template.fits(data) if template is not None else 0
        if template is not None and 0 < end <= LIGHT_HEAD:
            self.head = template.head
            self.trace, self.lines, self.apart = template.trace, template.lines, template.apart
        else:
            end = data.find(b"\r\n\r\n") + 4
            if end < 4:
                _check_part(data)
                if len(data) > LIGHT_HEAD and not guest.count(len(data)):
                    raise no_room()
                return PART, b""
            if end > MAX_HEAD:
                raise ProtocolError(431, "head_size", "The head is too large.")
            self._read(data[:end])
            if end > LIGHT_HEAD and not guest.count(HEAD_COST * end):
                raise no_room()
        assert self.head is not None
        length = self.head.length
        if length is None or len(data) != end + length:
            self._raw = data[:end]
        if length is None:
            self._reader = ChunkedBody(strict=True)
            return STARTED, data[end:]
        if length > limit:
            raise _too_long(limit)
        if len(data) != end + length:
            self._reader = LengthBody(length)
            return STARTED, data[end:]
        if length > LIGHT and not guest.hold(length):
            raise no_room()
        return WHOLE, data[end:] if length else b""

    def _read(self, raw: bytes) -> None:
        read = self.heads.read(raw)
        self.head, self.trace, self.lines, self.apart = read
        self._template = self.heads.template(raw, read, self._template) if len(raw) <= LIGHT_HEAD else None

    def take_body(self, data: bytes, guest: Guest, limit: int) -> tuple[bool, bytes]:
        """Take more of the body: whether it is whole, and what is of the next request. ProtocolError."""
        assert self._reader is not None
        piece, rest, done = self._reader.feed(data)
        size = len(piece)
        if self._size + size > limit:
            raise _too_long(limit)
        if not guest.hold(size):
            raise no_room()
        self._size += size
        if size < _SMALL:
            self._small += piece
        else:  # a body that grows by so much at a time would be moved each time
            if self._small:
                self._pieces.append(bytes(self._small))
                self._small = bytearray()
            self._pieces.append(piece)
        return done, rest

    def body(self) -> bytes:
        """The whole body, which is held no more."""
        body = b"".join((*self._pieces, self._small))
        self.forget_body()
        return body

    def whole(self) -> RequestHead:
        """The head of a request that is whole, as the settings of now read it. ProtocolError."""
        assert self.head is not None
        if self.head.names is not self.heads.names:  # other settings came while the body did
            self._read(self._raw)
        self._raw = b""
        return self.head

    def forget_body(self) -> None:
        """Nothing of the body is held or waited for any more."""
        self._reader = None
        self._pieces = []
        self._small = bytearray()
        self._size = 0


def _check_part(data: bytes) -> None:
    """Refuse the beginning of a head that will be none."""
    if len(data) > MAX_HEAD:
        raise ProtocolError(431, "head_size", "The head is too large.")
    if data.find(b"\n\n") >= 0 or data[:1] in (b"\r", b"\n"):
        raise ProtocolError(400, "head", "Lines must end with CRLF.")


def _too_long(limit: int) -> ProtocolError:
    return ProtocolError(413, "body_size", f"The body must not exceed {limit} bytes.")
