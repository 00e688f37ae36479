"""Where a message's body ends: by length, by chunks, or with the connection.

Each reader takes bytes as they come, in any cut, and returns `(piece, rest, done)`:
the body's next bytes, what belongs to the next message, and whether the body ended.
Source: RFC 9112 section 6 and 7.1. Chunk extensions and trailers are refused in
requests, where they serve only smuggling, and dropped from responses.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from mcpace_sidecar.errors import ProtocolError

_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})(;[^\r\n]*)?")
_MAX_LINE: Final = 4096
_SIZES: Final = {b"%x" % size: size for size in range(256)} | {b"%X" % size: size for size in range(256)}
"""The size lines of small chunks, of which there may be very many."""
_END: Final = b"0\r\n\r\n"
"""How nearly every chunked body ends: without trailers."""


class BodyReader(Protocol):
    """One body's end."""

    def feed(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """Return (piece, rest, done)."""


class LengthBody:
    """A body of a known number of bytes."""

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        self._left = length

    def feed(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """Return (piece, rest, done)."""
        if len(data) < self._left:
            self._left -= len(data)
            return data, b"", False
        piece, rest = data[: self._left], data[self._left :]
        self._left = 0
        return piece, rest, True


class UntilClose:
    """A response body that ends with its connection."""

    __slots__ = ()

    def feed(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """Return (piece, rest, done)."""
        return data, b"", False


class ChunkedBody:
    """A chunked body."""

    __slots__ = ("_left", "_line", "_state", "_strict")

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._state = "size"  # size -> data -> data-end -> size ... -> trailer -> done
        self._line = b""
        self._left = 0

    def feed(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """Return (piece, rest, done). Each byte is looked at once, however small the chunks are."""
        pieces: list[bytes] = []
        at, size = 0, len(data)
        while at < size:
            if self._state == "size" and not self._line:
                at = self._take_whole(data, at, pieces)
                if data.startswith(_END, at):
                    return b"".join(pieces), data[at + len(_END) :], True
                if at == size:
                    break
            if self._state == "data":
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left == 0:
                    self._state = "data-end"
                continue
            end = data.find(b"\n", at, at + _MAX_LINE)
            line = self._line + data[at : end + 1 if end >= 0 else at + _MAX_LINE + 1]
            if len(line) > _MAX_LINE:
                raise ProtocolError(400, "framing", "A line of a chunked body is too long.")
            if end < 0:
                self._line = line
                break
            self._line = b""
            at = end + 1
            if line.find(b"\r") != len(line) - 2:
                raise ProtocolError(400, "framing", "A line of a chunked body must end with CRLF.")
            if self._take_line(line[:-2]):
                return b"".join(pieces), data[at:], True
        return b"".join(pieces), b"", False

    def _take_whole(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        """Take the chunks that have come whole, but for the last one; return where the next begins."""
        end = data.find(b"\r\n", at, at + _MAX_LINE)
        while end >= 0:
            size = self._size_of(data[at:end])
            after = end + 2 + size
            if size == 0 or not data.startswith(b"\r\n", after):
                break
            pieces.append(data[end + 2 : after])
            at = after + 2
            end = data.find(b"\r\n", at, at + _MAX_LINE)
        return at

    def _take_line(self, line: bytes) -> bool:
        """Take a line without its CRLF; return whether the body ends with it."""
        if self._state == "data-end":
            if line:
                raise ProtocolError(400, "framing", "A chunk is longer than it says.")
            self._state = "size"
        elif self._state == "size":
            self._left = self._read_size(line)
            self._state = "data" if self._left else "trailer"
        elif not line:
            return True
        elif self._strict:
            raise ProtocolError(400, "framing", "Trailers are not accepted.")
        return False

    def _size_of(self, line: bytes) -> int:
        size = _SIZES.get(line)
        return size if size is not None else self._read_size(line)

    def _read_size(self, line: bytes) -> int:
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise ProtocolError(400, "framing", "A chunk's size is malformed.")
        if match[2] is not None and self._strict:
            raise ProtocolError(400, "framing", "Chunk extensions are not accepted.")
        return int(match[1], 16)


LAST_CHUNK: Final = b"0\r\n\r\n"
"""What ends an answer in chunks."""


class AnswerFraming:
    """How a streamed answer is framed: by its length, by chunks, or by the end of the connection."""

    __slots__ = ("chunked", "closes", "left", "line")

    def __init__(self, length: int | None, version: bytes) -> None:
        """`version` is what the request was made in: HTTP/1.0 knows no chunks."""
        self.left = length or 0
        """Bytes of a known length that are still to be sent."""
        self.chunked = length is None and version != b"HTTP/1.0"
        self.closes = length is None and not self.chunked
        """Whether the body ends with the connection."""
        self.line = b"Content-Length: %d\r\n" % length if length is not None else b""
        """The header line that says so."""
        if self.chunked:
            self.line = b"Transfer-Encoding: chunked\r\n"

    def piece(self, piece: bytes) -> bytes:
        """The next bytes, as they are sent."""
        if self.chunked:
            return b"%x\r\n%b\r\n" % (len(piece), piece)
        self.left -= len(piece)
        return piece
