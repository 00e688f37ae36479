"""Messages as lines, one each, both ways (MCP 2025-11-25, basic/transports, stdio). Pure."""

from __future__ import annotations

from typing import Final

from mcpace_sidecar.http.ledger import Holding, Ledger
from mcpace_sidecar.mcp import ids

MAX_LINE: Final = 64 << 20
"""Bytes of a line at most: a longer one is passed over."""
LIGHT: Final = 64 << 10
"""Bytes of an unfinished line that nobody counts."""
_ENDS: Final = 4 << 10
"""Bytes kept of each end of a line that is passed over, in which its id is looked for."""
_BLANKS: Final = bytes.maketrans(b"\r\n", b"  ")


def line_of(body: bytes) -> bytes:
    """A message without what any reader takes for the end of a line.

    Within strings JSON holds no CR or LF, so those are blanks; U+2028 and U+2029 it may hold, where
    Node.js's `readline` ends a line: they are escaped, which means the same.
    """
    if b"\n" in body or b"\r" in body:
        body = body.translate(_BLANKS)
    if b"\xe2\x80\xa8" in body or b"\xe2\x80\xa9" in body:
        body = body.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    return body


def utf8(line: bytes) -> bytes:
    """A line that is UTF-8, which some clients would hang without: what is none is replaced (U+FFFD)."""
    if line.isascii():
        return line
    try:
        line.decode()
    except UnicodeDecodeError:
        return line.decode(errors="replace").encode()
    return line


class Cutter:
    """Cuts what a process writes into lines, in whatever pieces it comes."""

    __slots__ = ("_head", "_held", "_holding", "_overlong", "_parts", "_tail", "dropped")

    def __init__(self, gathered: Ledger) -> None:
        """`gathered`: what bounds unfinished lines, of all processes together."""
        self._holding = Holding(gathered)
        self._parts: list[bytes] = []
        self._held = 0
        self._overlong = False
        self._head = self._tail = b""
        self.dropped: list[bytes] = []
        """The ids of messages that were too long, empty where a line bore none; the reader takes them."""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that this completes, without their ends."""
        if not self._held and data.endswith(b"\n"):
            lines = data.split(b"\n")
            lines.pop()
            return lines
        end = data.find(b"\n")
        if end < 0:
            self._hold(data)
            return []
        self._hold(data[:end])
        lines = self._whole()
        if end + 1 < len(data):
            more = data[end + 1 :].split(b"\n")
            rest = more.pop()
            lines += more
            if rest:
                self._hold(rest)
        return lines

    def release(self) -> None:
        """Hold nothing."""
        self._parts = []
        self._held = 0
        self._overlong = False
        self._head = self._tail = b""
        self._holding.resize(0)

    def _hold(self, part: bytes) -> None:
        self._held += len(part)
        if self._overlong:
            self._tail = (self._tail + part)[-_ENDS:]
            return
        self._parts.append(part)
        if self._held <= LIGHT or (self._held <= MAX_LINE and self._holding.resize(self._held)):
            return
        whole = b"".join(self._parts)
        self._head, self._tail = whole[:_ENDS], whole[-_ENDS:]
        self._parts = []
        self._overlong = True
        self._holding.resize(0)

    def _whole(self) -> list[bytes]:
        """The line that has come to its end; none where it was too long."""
        lines = [] if self._overlong else [b"".join(self._parts)]
        if self._overlong:
            self.dropped.append(ids.first_id(self._head) or ids.last_id(self._tail.rstrip()))
        self.release()
        return lines
