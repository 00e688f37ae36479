"""The top level of a JSON object that comes in pieces and is never whole: what it is, and whose. Pure.

Each byte is looked at once, and what lies deeper, or is longer than any id, is not held.
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import Final

import msgspec

from mcpace_sidecar.mcp.strictness import QUOTE, STEPS

MAX_TOKENS: Final = 1024
"""Tokens of the top level that are read: a response has some twenty."""
MAX_TOKEN: Final = 8 * 1024
"""Bytes of a name, a number or a text that is read: every id that a request may have is shorter."""
# No group is possessive: before Python 3.11.5, `re` goes on at the wrong byte where its alternative fails.
_INSIDE: Final = re.compile(rb'(?:[^"\\]++|\\.)*', re.DOTALL)
"""What is within a text, up to its quote, or to half an escape."""
_TEXT: Final = rb'"(?:[^"\\]++|\\.)*"'
_TOKEN: Final = re.compile(rb'[^\s"{}\[\],:]++|%b|[{}\[\],:]' % _TEXT, re.DOTALL)
_BLANKS: Final = re.compile(rb"\s*+")
_DEEP: Final = re.compile(rb'(?:[^"\[\]{}]++|%b)*' % _TEXT, re.DOTALL)
"""What does not leave its level."""
_LEAST: Final = 64
_MOST: Final = 4096
_PLAIN: Final = bytes(byte for byte in range(256) if byte not in b'"[{}]')
_str: Final = msgspec.json.Decoder(str)


class Outline:
    """What of a JSON-RPC response its top level says."""

    __slots__ = (
        "_depth",
        "_fed",
        "_held",
        "_in_text",
        "_last",
        "_name",
        "_stride",
        "_tokens",
        "_waits",
        "done",
        "id",
        "is_error",
        "is_response",
    )

    def __init__(self) -> None:
        self.id = b""
        """Its id as it was written, cut if it is longer than any; empty as long as there is none."""
        self.is_response = False
        """Whether it has a result or an error."""
        self.is_error = False
        """Whether it has an error, and no result."""
        self.done = False
        """Whether more of it would tell nothing more, or it is no object."""
        self._fed: list[bytes] = []
        self._waits = 0
        """Bytes that were fed and are still to be read."""
        self._tokens = 0
        self._depth = 0
        self._in_text = False
        """Whether it is within a text that is not read."""
        self._stride = _LEAST
        """Bytes that are passed at once where they lie deeper: the more, the longer it stays there."""
        self._held = b""
        """What a token, or an escape, has begun with."""
        self._last = b""
        """The last token of the top level."""
        self._name = b""
        """The name whose value is still to come."""

    def feed(self, piece: bytes) -> None:
        """Take its next bytes; small pieces are read together."""
        if self.done:
            return
        self._fed.append(piece)
        self._waits += len(piece)
        if self._waits >= _MOST:
            self.flush()

    def flush(self) -> None:
        """Read all that was fed."""
        data, self._fed, self._waits = b"".join([self._held, *self._fed]), [], 0
        self._held = b""
        at, size = 0, len(data)
        while at < size and not self.done:
            if self._depth > 1:
                at = self._pass(data, at)
            elif self._in_text:
                at = self._leave_text(data, at)
            else:
                at = self._take(data, at)

    def _pass(self, data: bytes, at: int) -> int:
        """Pass what lies deeper: a block of it at once, or as far as it comes back to the top level."""
        block = data[at : at + self._stride]
        plain, half = block, 0
        if b"\\" in block:
            plain = block.replace(b"\\\\", b"")
            half = 1 if plain.endswith(b"\\") else 0  # an escape that is cut
            plain = plain.replace(b'\\"', b"")
        texts = plain.translate(None, _PLAIN).replace(b'""', b"").split(b'"')
        marks = b"".join(texts[1 if self._in_text else 0 :: 2])
        closing = marks.count(b"]") + marks.count(b"}")
        if closing > self._depth - 2 and closing:
            steps = memoryview(marks.translate(STEPS)).cast("b")
            if self._depth + min(accumulate(steps)) < 2:
                while self._depth > 1:
                    at = self._leave_text(data, at) if self._in_text else self._step(data, at)
                self._stride = _LEAST
                return at
        self._stride = min(self._stride * 2, _MOST)
        self._depth += len(marks) - 2 * closing
        self._in_text = self._in_text != (len(texts) % 2 == 0)
        at += len(block) - half
        if half and at == len(data) - 1:
            self._held = b"\\"
            at += 1
        return at

    def _leave_text(self, data: bytes, at: int) -> int:
        found = _INSIDE.match(data, at)
        end = found.end() if found is not None else at
        if end < len(data) and data[end] == QUOTE:
            self._in_text = False
            return end + 1
        self._held = data[end:]  # half an escape
        return len(data)

    def _step(self, data: bytes, at: int) -> int:
        found = _DEEP.match(data, at)
        at = found.end() if found is not None else at
        if at < len(data):
            byte = data[at]
            at += 1
            if byte == QUOTE:
                self._in_text = True
            elif byte in _OPENING:
                self._depth += 1
            else:
                self._depth -= 1
        return at

    def _take(self, data: bytes, at: int) -> int:
        """Take one token of the top level."""
        blanks = _BLANKS.match(data, at)
        at = blanks.end() if blanks is not None else at
        found = _TOKEN.match(data, at)
        end = found.end() if found is not None else len(data)
        if at == len(data):
            return at
        first = data[at]
        whole = found is not None and (end < len(data) or first == QUOTE or first in _MARKS)
        if not whole and len(data) - at <= MAX_TOKEN:
            self._held = data[at:]
            return len(data)
        self._tokens += 1
        if self._tokens > MAX_TOKENS:  # whatever it is, it is nobody's
            self.is_response = self.done = True
        elif first in _MARKS:
            self._mark(first)
        elif self._depth == 0:
            self.done = True
        elif first == QUOTE and not whole:
            self._value(data[at : at + MAX_TOKEN])
            self._in_text = True
            return at + 1
        elif not whole:  # a number that is longer than any: what it goes on with is another token
            self._value(data[at : at + MAX_TOKEN])
        else:
            self._value(data[at : min(end, at + MAX_TOKEN)])
        return end

    def _mark(self, mark: int) -> None:
        if mark in _OPENING:
            if self._depth == 0:
                self.done = mark != _OBJECT
            else:
                self._value(_NESTED)
            self._depth += 1
        elif mark in _CLOSING:
            self._depth -= 1
            self.done = self._depth <= 0
        elif mark == _COLON:
            self._name = _name_of(self._last)
        else:
            self._name = b""

    def _value(self, token: bytes) -> None:
        """A name, or the value of the last one."""
        self._last = token
        name, self._name = self._name, b""
        if name == b"id":
            self.id = self.id or token
        elif name == b"error" and token != b"null":
            self.is_error = not self.is_response
            self.is_response = True
        elif name == b"result" and (token != b"null" or not self.is_error):
            self.is_response, self.is_error = True, False
        elif name == b"method":
            self.done = True  # it is no response
        if self.id and self.is_response and not self.is_error:
            self.done = True


def _name_of(token: bytes) -> bytes:
    if b"\\" in token:
        try:
            return _str.decode(token).encode()
        except (msgspec.DecodeError, UnicodeDecodeError):
            return b""
    return token[1:-1]


_COLON: Final = ord(":")
_OBJECT: Final = ord("{")
_OPENING: Final = b"{["
_CLOSING: Final = b"}]"
_MARKS: Final = b"{}[],:"
_NESTED: Final = b"{"
