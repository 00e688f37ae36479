"""Request and response heads: parsed by llhttp, strictly, once for each sequence of bytes.

Clients repeat their heads to the letter, so a parsed head is remembered by its exact
bytes. Remembered heads hold credentials: the memory is bounded and never printed.
Source: RFC 9112 (message syntax), RFC 9110 section 7.6.1 (hop-by-hop fields).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import httptools

from mcpace_sidecar.errors import ProtocolError
from mcpace_sidecar.remembered import make_room

MAX_HEAD: Final = 32 * 1024
"""The longest head accepted, in bytes."""
MAX_LINES: Final = 200
"""The most header lines accepted."""

HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

# What llhttp is lenient about: bare CR or LF, folded lines, control bytes, odd names.
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VISIBLE: Final = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])
_REQUEST_LINE: Final = re.compile(rb"[A-Z]{1,20} [\x21-\x7e]+ HTTP/1\.[01]\r\n")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] [1-5][0-9]{2}(?: [\t\x20-\x7e\x80-\xff]*)?\r\n")

# As clients write them; whoever writes them otherwise has his heads parsed each time.
_LENGTHS: Final = (b"\r\nContent-Length: ", b"\r\ncontent-length: ")
_TRACES: Final = (b"\r\ntraceparent: ", b"\r\nTraceparent: ")
_TRACE_LINE: Final = len(b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n")

_KEPT: Final = re.compile(rb"(?:^|[,;\s])timeout=([0-9]{1,9})(?![0-9])", re.IGNORECASE)

Fields = list[tuple[bytes, bytes]]
"""Header fields in order: lower-case name, value."""


class RequestHead:
    """One request head. `notes` belongs to the layer above: what it learned from these bytes."""

    __slots__ = (
        "_base",
        "chunked",
        "expects",
        "fields",
        "keep_alive",
        "length",
        "method",
        "notes",
        "onward",
        "path",
        "sized",
        "target",
        "version",
    )

    def __init__(self, raw: bytes, base: RequestHead | None = None, length: int = 0) -> None:
        """`base`: the same head without the line that gives this length, parsed before."""
        self._base = base
        if base is not None:
            self._vary(base, length)
            return
        line = _REQUEST_LINE.match(raw)
        if line is None:
            raise ProtocolError(400, "request_line", "The request line is not valid HTTP/1.1.")
        fields, lines = _parse(raw, line.end(), httptools.HttpRequestParser)
        method, target, version = line[0].split()
        self.method: bytes = method
        self.target: bytes = target
        self.version: bytes = version
        self.path: bytes = target.partition(b"?")[0]
        self.fields: Fields = fields
        self.notes: Any = None
        if method == b"CONNECT" or not target.startswith(b"/"):
            raise ProtocolError(400, "target", "The request target must be a path.")
        hosts = self.values(b"host")
        if len(hosts) > 1 or (not hosts and version == b"HTTP/1.1"):
            raise ProtocolError(400, "host", "Exactly one Host header is required.")
        self.length, self.chunked = _framing(fields)
        if self.chunked and version == b"HTTP/1.0":
            raise ProtocolError(400, "framing", "HTTP/1.0 has no Transfer-Encoding.")
        self.sized: bool = self.length is not None
        """Whether it gives a length itself."""
        if self.length is None and not self.chunked:
            self.length = 0
        self.keep_alive: bool = _keep_alive(fields, version)
        self.expects: bool = b"100-continue" in [v.lower() for v in self.values(b"expect")]
        self.onward: tuple[tuple[bytes, bytes], ...] = tuple(
            (name, text)
            for name, text in _end_to_end(fields, lines)
            if name not in (b"host", b"content-length", b"expect")
        )

    def _vary(self, base: RequestHead, length: int) -> None:
        if base.chunked or base.sized:
            raise ProtocolError(400, "framing", "The message is ambiguous about its length.")
        self.method, self.target, self.version, self.path = (
            base.method,
            base.target,
            base.version,
            base.path,
        )
        self.fields, self.onward, self.notes = base.fields, base.onward, None
        self.chunked, self.keep_alive, self.expects = base.chunked, base.keep_alive, base.expects
        self.length = length
        self.sized = True

    @property
    def base(self) -> RequestHead:
        """The head that this one differs from in its length alone, or itself."""
        return self if self._base is None else self._base

    def get(self, name: bytes) -> bytes | None:
        """The value of the first field of that (lower-case) name."""
        for field, value in self.fields:
            if field == name:
                return value
        return None

    def values(self, name: bytes) -> list[bytes]:
        """The values of all fields of that (lower-case) name."""
        return [value for field, value in self.fields if field == name]

    def __repr__(self) -> str:
        return f"<RequestHead {self.method.decode()} {self.path.decode()}>"


class ResponseHead:
    """One response head. `onward` is what goes to the client, before the framing fields."""

    __slots__ = (
        "chunked",
        "content_type",
        "fields",
        "keep_alive",
        "keep_for",
        "length",
        "onward",
        "plain",
        "status",
    )

    def __init__(self, raw: bytes) -> None:
        line = _STATUS_LINE.match(raw)
        if line is None:
            raise ProtocolError(502, "status_line", "The server's status line is not HTTP/1.1.")
        fields, lines = _parse(raw, line.end(), httptools.HttpResponseParser)
        self.fields: Fields = fields
        self.status: int = int(line[0][9:12])
        self.length, self.chunked = _framing(fields)
        self.keep_alive: bool = _keep_alive(fields, line[0][:8])
        if self.status < 200 or self.status in (204, 304):
            self.length, self.chunked = 0, False
        if self.length is None and not self.chunked:
            self.keep_alive = False  # the body ends with the connection
        self.keep_for: float = _keep_for(fields) if self.keep_alive else 0.0
        """Seconds for which the connection may be kept idle, as far as this head says."""
        self.content_type: bytes = (self.get(b"content-type") or b"").partition(b";")[0].strip().lower()
        self.plain: bool = self.get(b"content-encoding") is None
        """Whether the body is readable as it is."""
        self.onward: bytes = (
            b"HTTP/1.1"
            + line[0][8:]
            + b"".join(text for name, text in _end_to_end(fields, lines) if name != b"content-length")
        )

    def get(self, name: bytes) -> bytes | None:
        """The value of the first field of that (lower-case) name."""
        for field, value in self.fields:
            if field == name:
                return value
        return None


Head = TypeVar("Head", RequestHead, ResponseHead)


class Heads(Generic[Head]):
    """Heads by their exact bytes, the oldest forgotten first."""

    __slots__ = ("_known", "_limit", "_parse")

    def __init__(self, parse: Callable[[bytes], Head], limit: int = 2048) -> None:
        self._parse: Callable[[bytes], Head] = parse
        self._limit = limit
        self._known: dict[bytes, Head] = {}

    def read(self, raw: bytes) -> Head:
        """Return the parsed head of `raw`, which ends with the empty line; ProtocolError."""
        head = self._known.get(raw)
        if head is None:
            head = self._parse(raw)
            self.remember(raw, head)
        return head

    def known(self, raw: bytes) -> Head | None:
        """Return the head of these bytes, if it is remembered."""
        return self._known.get(raw)

    def remember(self, raw: bytes, head: Head) -> None:
        """Remember a head, unless it is very long."""
        if len(raw) <= 4096:
            make_room(self._known, self._limit)
            self._known[raw] = head

    def __len__(self) -> int:
        return len(self._known)


class RequestHeads:
    """Request heads, remembered without the lines that differ from request to request.

    The length of its body and a trace's `traceparent` make most heads unique; without them they
    repeat. What is taken out is matched whole and strictly, and at most once each: anything else
    is left where it is, and judged with the rest.
    """

    __slots__ = ("_heads",)

    def __init__(self) -> None:
        self._heads: Heads[RequestHead] = Heads(RequestHead)

    def read(self, raw: bytes) -> tuple[RequestHead, bytes]:
        """Return the parsed head of `raw`, which ends with the empty line, and the line of its trace.

        ProtocolError for what is no head.
        """
        head = self._heads.known(raw)
        if head is not None:
            return head, b""
        raw, trace = _part(raw)
        if trace:
            head = self._heads.known(raw)
        return head or self._read_sized(raw), trace

    def _read_sized(self, raw: bytes) -> RequestHead:
        for name in _LENGTHS:
            start = raw.find(name) + 2
            if start > 1:
                end = raw.find(b"\r\n", start) + 2
                digits = raw[start + len(name) - 2 : end - 2]
                # A line of its own, no line folded into it.
                if digits.isdigit() and len(digits) < 16 and raw[end : end + 1] not in (b" ", b"\t"):
                    head = RequestHead(raw, self._heads.read(raw[:start] + raw[end:]), int(digits))
                    self._heads.remember(raw, head)
                    return head
        return self._heads.read(raw)

    def __len__(self) -> int:
        return len(self._heads)


def _part(raw: bytes) -> tuple[bytes, bytes]:
    """Return a head without its `traceparent`, and that line (W3C Trace Context, section 3.2)."""
    for name in _TRACES:
        start = raw.find(name) + 2
        if start > 1:
            end = start + _TRACE_LINE
            line = raw[start:end]
            digits = line[len(name) - 2 : -2].translate(None, b"0123456789abcdef")
            if digits == b"---" and line.endswith(b"\r\n") and raw[end : end + 1] not in (b" ", b"\t"):
                return raw[:start] + raw[end:], line
    return raw, b""


class _Collector:
    """What httptools calls back; it only gathers fields."""

    __slots__ = ("fields",)

    def __init__(self) -> None:
        self.fields: Fields = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value.strip(b" \t")))


def _parse(raw: bytes, start: int, parser: Callable[[Any], Any]) -> tuple[Fields, list[bytes]]:
    """Return the fields and, beside each, its line as it was sent. Line by line, without backtracking."""
    lines = raw[start:-2].splitlines(keepends=True)
    if len(lines) > MAX_LINES:
        raise ProtocolError(431, "head_lines", f"A head may have {MAX_LINES} lines at most.")
    for line in lines:
        name, colon, value = line.partition(b":")
        if (
            not colon
            or _NAME.fullmatch(name) is None
            or not line.endswith(b"\r\n")
            or value[:-2].translate(None, _VISIBLE)
        ):
            raise ProtocolError(400, "head", "A header line is malformed.")
    collector = _Collector()
    try:
        parser(collector).feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # the head is whole by then; Upgrade is a hop-by-hop field and goes no further
    except httptools.HttpParserError as error:
        raise ProtocolError(400, "head", f"The head is not valid HTTP/1.1: {error}") from None
    if len(lines) != len(collector.fields):
        raise ProtocolError(400, "head", "A header line is malformed.")
    return collector.fields, lines


def _framing(fields: Fields) -> tuple[int | None, bool]:
    """Return (Content-Length, chunked); refuse everything two parties could read differently."""
    lengths = [value for name, value in fields if name == b"content-length"]
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    if len(lengths) > 1 or len(codings) > 1 or (lengths and codings):
        raise ProtocolError(400, "framing", "The message is ambiguous about its length.")
    if codings:
        if codings[0].lower() != b"chunked":
            raise ProtocolError(400, "framing", "The only Transfer-Encoding accepted is chunked.")
        return None, True
    if lengths:
        if not re.fullmatch(rb"[0-9]{1,15}", lengths[0]):
            raise ProtocolError(400, "framing", "Content-Length must be a number.")
        return int(lengths[0]), False
    return None, False


def _keep_alive(fields: Fields, version: bytes) -> bool:
    options = {
        option.strip().lower()
        for name, value in fields
        if name == b"connection"
        for option in value.split(b",")
    }
    return b"close" not in options if version == b"HTTP/1.1" else b"keep-alive" in options


def _keep_for(fields: Fields) -> float:
    """What `Keep-Alive: timeout=` promises, less a second for what is on its way (RFC 2068, 19.7.1.1)."""
    for name, value in fields:
        if name == b"keep-alive":
            promised = _KEPT.search(value)
            if promised is not None:
                return max(0.0, int(promised[1]) - 1.0)
    return math.inf


def _end_to_end(fields: Fields, lines: list[bytes]) -> Fields:
    """The fields a proxy passes on, each with its line as it was sent."""
    dropped = HOP_BY_HOP | {
        option.strip().lower()
        for name, value in fields
        if name == b"connection"
        for option in value.split(b",")
    }
    return [(f[0], line) for f, line in zip(fields, lines, strict=True) if f[0] not in dropped]
