"""Request heads that were read before, found again though some of their lines differ each time.

A head is known by its lines. Those whose values differ from request to request, and which decide
nothing here (a gateway's request id, a client's trace), are learned to vary and taken out; so is the
body's length, and what differs from client to client. What remains repeats itself, and is parsed
once. A head that is odd in any way is parsed whole. Either way it means the same.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from mcpace_sidecar.http.head import LONGEST_KNOWN, MAX_LINES, NAME, NOTHING, VISIBLE, Names, RequestHead
from mcpace_sidecar.remembered import make_room

VARIES_AFTER: Final = 8
"""Different lines of one name, after which it is taken to vary."""
_MANY_HEADS: Final = 2048
_MANY_BYTES: Final = 2 * 1024 * 1024
_MANY_NAMES: Final = 512
_MANY_LINES: Final = 4096
_LONG_NAME: Final = 64
_LONG_LINE: Final = 1024

_TRACE: Final = b"\r\ntraceparent: "
_TRACE_LINE: Final = len(b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n")
_ALONE: Final = 4
"""Of so many heads that differ in their trace alone, one is remembered without it."""

STABLE: Final = 0
VARYING: Final = 1
LENGTH: Final = 2
TRACE: Final = 3
APART: Final = 4
"""What is done about a name's lines."""

Read = tuple[RequestHead, bytes, bytes, tuple[bytes, ...]]
"""(the head, the line of its trace, its lines that vary, the values that are handed over apart)."""


class _Name:
    """What is known of one field's lines."""

    __slots__ = ("kind", "learns", "lines", "place", "seen")

    def __init__(self, kind: int, place: int = 0, *, learns: bool = False) -> None:
        self.kind = kind
        self.place = place
        """Of an APART name: which it is."""
        self.learns = learns
        """Whether it may turn out to vary."""
        self.seen = 0
        self.lines: list[bytes] = []


class RequestHeads:
    """Reads request heads for one application."""

    __slots__ = ("_alone", "_bytes", "_heads", "_lines", "_lower", "_written", "names")

    def __init__(self, names: Names = NOTHING) -> None:
        self.names = names
        self._alone = 0
        self._forget()

    def adopt(self, names: Names) -> None:
        """From the next head on these are the names that the application reads."""
        if not names.same(self.names):
            self.names = names
            self._forget()

    def _forget(self) -> None:
        self._heads: dict[bytes, RequestHead] = {}
        self._bytes = 0
        self._forget_names()

    def _forget_names(self) -> None:
        self._lines: dict[bytes, None] = {}
        self._written: dict[bytes, _Name] = {}
        self._lower: dict[bytes, _Name] = {}

    def read(self, raw: bytes) -> Read:
        """Read a head, which ends with the empty line; ProtocolError for what is no head."""
        head = self._heads.get(raw)
        if head is not None:
            return head, b"", b"", head.apart
        start = raw.find(_TRACE) + 2
        if start > 1:  # a trace alone is the common case: look whether that is all that differs
            end = start + _TRACE_LINE
            line = raw[start:end]
            if line.endswith(b"\r\n") and _is_trace(line[12:-2]):
                head = self._heads.get(raw[:start] + raw[end:])
                if head is not None and not head.traced:
                    return head, line, b"", head.apart
        return self._read_lines(raw)

    def _read_lines(self, raw: bytes) -> Read:
        lines = raw.split(b"\r\n")
        if len(lines) - 3 > MAX_LINES:
            return self._read_whole(raw)  # which refuses it
        if len(self._written) > _MANY_NAMES:
            self._forget_names()
        known, written = self._lines, self._written
        stable = [lines[0]]
        trace = b""
        varying: list[bytes] = []
        apart: list[bytes] | None = None
        length = -1
        for index in range(1, len(lines) - 2):
            line = lines[index]
            if line in known:
                stable.append(line)
                continue
            spelled, colon, value = line.partition(b":")
            name = written.get(spelled)
            if name is None:
                name = self._meet(spelled, colon)
                if name is None:
                    return self._read_whole(raw)
            kind = name.kind
            if kind == STABLE:
                self._learn(name, line)
                stable.append(line)
                continue
            if line.translate(None, VISIBLE):
                return self._read_whole(raw)
            if kind == VARYING:
                varying.append(line)
            elif kind == LENGTH:
                digits = value.strip(b" \t")
                if length >= 0 or not digits.isdigit() or len(digits) > 15:
                    return self._read_whole(raw)
                length = int(digits)
            elif kind == TRACE:
                if trace or not _is_trace(value):
                    return self._read_whole(raw)
                trace = line + b"\r\n"
            else:
                if apart is None:
                    apart = [b""] * len(self.names.apart)
                elif apart[name.place]:
                    return self._read_whole(raw)
                apart[name.place] = value.strip(b" \t")
        head = self._parse(b"\r\n".join(stable) + b"\r\n\r\n")
        if varying and head.options:
            return self._read_whole(raw)  # for they may name what varies
        if length >= 0:
            head = head.with_length(length)
        if varying or apart is not None:
            values = tuple(apart) if apart is not None and any(apart) else ()
            return head, trace, b"\r\n".join([*varying, b""]), values
        self._remember_alone(raw, trace, head)
        return head, trace, b"", ()

    def _read_whole(self, raw: bytes) -> Read:
        head = self._parse(raw)
        return head, b"", b"", head.apart

    def _parse(self, raw: bytes) -> RequestHead:
        head = self._heads.get(raw)
        if head is None:
            head = RequestHead(raw, self.names)
            self._remember(raw, head)
        return head

    def _remember_alone(self, raw: bytes, trace: bytes, head: RequestHead) -> None:
        """Remember a head of which at most the trace was taken out, to find it at the first look."""
        if not trace:
            self._remember(raw, head)
            return
        self._alone += 1
        if self._alone == _ALONE:
            self._alone = 0
            self._remember(raw.replace(b"\r\n" + trace, b"\r\n", 1), head)

    def _remember(self, raw: bytes, head: RequestHead) -> None:
        heads = self._heads
        if len(raw) > LONGEST_KNOWN or raw in heads:
            return
        while heads and (len(heads) >= _MANY_HEADS or self._bytes + len(raw) > _MANY_BYTES):
            for old in list(islice(heads, max(1, len(heads) // 16))):
                del heads[old]
                self._bytes -= len(old)
        heads[raw] = head
        self._bytes += len(raw)

    def _meet(self, spelled: bytes, colon: bytes) -> _Name | None:
        """Meet a name as it is spelled here; None: it is no name."""
        if not colon or NAME.fullmatch(spelled) is None:
            return None
        if len(spelled) > _LONG_NAME:
            return _ODD
        lower = spelled.lower()
        name = self._lower.get(lower)
        if name is None:
            name = self._lower[lower] = self._judge(lower)
        self._written[spelled] = name
        return name

    def _judge(self, lower: bytes) -> _Name:
        names = self.names
        if lower in names.apart:
            return _Name(APART, names.apart.index(lower))
        if lower == b"content-length":
            return _Name(LENGTH)
        if lower == b"traceparent":
            return _Name(TRACE)
        return _Name(STABLE, learns=not names.reads(lower) and names.taken_for(lower) is None)

    def _learn(self, name: _Name, line: bytes) -> None:
        """Remember a line that was not known, or that its name varies."""
        if name.learns:
            name.seen += 1
            if name.seen > VARIES_AFTER:
                name.kind = VARYING
                for old in name.lines:
                    self._lines.pop(old, None)
                name.lines = []
                return
        if name is not _ODD and len(line) <= _LONG_LINE:
            make_room(self._lines, _MANY_LINES)
            self._lines[line] = None
            if name.learns:
                name.lines.append(line)

    def __len__(self) -> int:
        return len(self._heads)


_ODD: Final = _Name(STABLE)
"""A name too long to be remembered."""


def _is_trace(value: bytes) -> bool:
    """Whether this is a usual `traceparent`, behind one blank (W3C Trace Context, section 3.2)."""
    return len(value) == 56 and value.translate(None, b"0123456789abcdef") == b" ---"
