"""Heads that were read before, found again though some of their lines differ each time.

What differs from head to head and decides nothing here (a gateway's request id, a client's trace, a
server's date) is taken out, and so are the body's length and what differs from client to client. What
remains repeats itself, and is parsed once. A head that is odd in any way is parsed whole. Either way
it means the same. What is remembered holds credentials: it is bounded, and never printed.
"""

from __future__ import annotations

from itertools import islice
from typing import Final, Generic, TypeVar

from mcpace_sidecar.http.head import ANSWERED, MAX_LINES, NOTHING, Names, RequestHead, ResponseHead
from mcpace_sidecar.http.lines import MANY_CUTS, Lines, names_one
from mcpace_sidecar.http.template import Read, Template

_MANY_HEADS: Final = 2048
_MANY_BYTES: Final = 1024 * 1024
_LONG: Final = 4096
"""The longest head that is remembered, in bytes."""
_FINAL: Final = 200
"""Where the statuses of answers begin: those below are interim (RFC 9110, section 15.2)."""

_ALONE: Final = 4
"""Of so many heads of which something was cut out, one is remembered without it."""
_APART: Final = 8
"""Of so many heads with values that are handed over apart, one is remembered: clients come again, unless
there are very many of them, and remembering them all would be in vain."""


Head = TypeVar("Head")


class _Memory(Generic[Head]):
    """Heads by their bytes, bounded in number and bytes; the oldest are forgotten first."""

    __slots__ = ("_bytes", "_heads")

    def __init__(self) -> None:
        self._heads: dict[bytes, Head] = {}
        self._bytes = 0

    def get(self, raw: bytes) -> Head | None:
        return self._heads.get(raw)

    def keep(self, raw: bytes, head: Head) -> None:
        heads = self._heads
        if len(raw) > _LONG or raw in heads:
            return
        while heads and (len(heads) >= _MANY_HEADS or self._bytes + len(raw) > _MANY_BYTES):
            for old in list(islice(heads, max(1, len(heads) // 16))):
                del heads[old]
                self._bytes -= len(old)
        heads[raw] = head
        self._bytes += len(raw)

    def __len__(self) -> int:
        return len(self._heads)


class RequestHeads:
    """Reads request heads for one application."""

    __slots__ = ("_alone", "_apart", "_cut", "_heads", "_lines", "_reads", "_varying", "names")

    def __init__(self, names: Names = NOTHING) -> None:
        self.names = names
        self._alone = 0
        self._apart = 0
        self._forget()

    def adopt(self, names: Names) -> None:
        """From the next head on these are the names that the application reads.

        What is remembered is forgotten, whatever they are: heads bear what they meant under other settings.
        """
        self.names = names
        self._forget()

    def _forget(self) -> None:
        self._reads: _Memory[Read] = _Memory()
        self._cut: _Memory[Read] = _Memory()
        """Heads without what varies in them."""
        self._varying = 0
        self._heads: _Memory[RequestHead] = _Memory()
        self._lines = Lines(self.names)

    def read(self, raw: bytes) -> Read:
        """Read a head, which ends with the empty line; ProtocolError for what is no head."""
        read = self._reads.get(raw)
        if read is not None:
            return read
        cut = self._lines.cut(raw)
        if cut is not None:  # what varies is nearly always all that differs
            rest, trace, varying = cut
            read = self._cut.get(rest)
            if read is not None:
                options = read[0].options
                if not options or not names_one(varying, options):
                    return read[0], trace, varying, read[3]
        parted = self._lines.part(raw)
        if self._varying != self._lines.varying:  # what was cut before may hold lines that vary now
            self._varying = self._lines.varying
            self._cut = _Memory()
        if parted is None:
            return self._read_whole(raw)
        rest, trace, varying, apart, length = parted
        head = self._heads.get(rest)
        if head is None:
            head = RequestHead(rest, self.names)
            self._heads.keep(rest, head)
        if head.options and names_one(varying, head.options):
            return self._read_whole(raw)
        if length >= 0:
            head = head.with_length(length)
        if not trace and not varying:
            if self._is_turn(apart):
                self._reads.keep(raw, (head, b"", b"", apart))
        elif cut is not None and len(cut[0]) == len(raw) - len(trace) - len(varying):
            self._remember(cut[0], (head, b"", b"", apart))
        return head, trace, varying, apart

    def template(self, raw: bytes, read: Read, before: Template | None) -> Template:
        """What the next head of a connection may be like. `before`: what this one was not like."""
        if before is not None and before.is_like(read[0]):
            pieces, gaps = self._lines.gaps(raw)
            template = Template(read, pieces, gaps)
            if template.fits(raw) and template.has(read):
                return template
        return Template(read, [raw], [])

    def _read_whole(self, raw: bytes) -> Read:
        head = RequestHead(raw, self.names)
        read = (head, b"", b"", head.apart)
        self._reads.keep(raw, read)
        return read

    def _is_turn(self, apart: tuple[bytes, ...]) -> bool:
        """Whether a head with these values apart is to be remembered."""
        if not apart:
            return True
        self._apart = (self._apart + 1) % _APART
        return self._apart == 0

    def _remember(self, rest: bytes, read: Read) -> None:
        """Remember a head without all that varies in it, to find it at the second look."""
        if rest.count(b"\r\n") + MANY_CUTS > MAX_LINES:
            return  # with what is cut out it may have too many lines
        if self._is_turn(read[3]):
            self._alone = (self._alone + 1) % _ALONE
            if self._alone == 0:
                self._cut.keep(rest, read)

    def __len__(self) -> int:
        return len(self._reads) + len(self._cut) + len(self._heads)


class ResponseHeads:
    """Reads the heads of one server."""

    __slots__ = ("_heads", "_lines", "last", "raw")

    def __init__(self) -> None:
        self._heads: _Memory[ResponseHead] = _Memory()
        self._lines = Lines(ANSWERED)
        self.raw = b""
        """The bytes of the last answer's head: a server repeats itself, the time of day for a second."""
        self.last: ResponseHead | None = None

    def read(self, raw: bytes) -> ResponseHead:
        """Read a head, which ends with the empty line; ProtocolError for what is no head."""
        head = self._read(raw)
        if head.status >= _FINAL and len(raw) <= _LONG:
            self.raw, self.last = raw, head
        return head

    def _read(self, raw: bytes) -> ResponseHead:
        head = self._heads.get(raw)
        if head is not None:
            return head
        parted = self._lines.part(raw)
        if parted is None:
            return self._parse(raw)
        rest, trace, varying, _, length = parted
        head, lines = self._parse(rest), varying + trace
        if head.options and names_one(lines, head.options):
            return self._parse(raw)
        if lines or length >= 0:
            head = head.with_lines(lines, length)
            if not lines:
                self._heads.keep(raw, head)
        return head

    def _parse(self, raw: bytes) -> ResponseHead:
        head = self._heads.get(raw)
        if head is None:
            head = ResponseHead(raw)
            self._heads.keep(raw, head)
        return head

    def __len__(self) -> int:
        return len(self._heads)
