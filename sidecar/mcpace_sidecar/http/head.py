"""Request and response heads: parsed line by line and by llhttp, strictly.

`known.py` remembers them. Source: RFC 9112 (message syntax), RFC 9110 section 7.6.1 (hop-by-hop fields).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

import httptools

from mcpace_sidecar.errors import ProtocolError

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
NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A field's name."""
VISIBLE: Final = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])
"""The bytes of which a field's value is made."""
_HOST: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+;=:%\[\]-]*")
_REQUEST_LINE: Final = re.compile(rb"[A-Z]{1,20} [\x21-\x7e]+ HTTP/1\.[01]\r\n")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] [1-5][0-9]{2}(?: [\t\x20-\x7e\x80-\xff]*)?\r\n")

_KEPT: Final = re.compile(rb"(?:^|[,;\s])timeout=([0-9]{1,9})(?![0-9])", re.IGNORECASE)

Fields = list[tuple[bytes, bytes]]
"""Header fields in order: lower-case name, value."""


_FRAMING: Final = HOP_BY_HOP | {b"content-length", b"host", b"expect"}
_PLAIN: Final = b"abcdefghijklmnopqrstuvwxyz0123456789-"
_FOLD: Final = bytes(c if c in _PLAIN else ord("-") for c in range(256))


class Names:
    """The fields that an application reads; no other decides anything here.

    `read` are its names, lower-case; `prefix` is what further ones begin with. `apart` are read
    too, but differ from client to client: they are handed over beside the head.
    """

    __slots__ = ("_alike", "_prefixes", "_read", "apart")

    def __init__(
        self, read: Iterable[bytes] = (), apart: tuple[bytes, ...] = (), prefixes: tuple[bytes, ...] = ()
    ) -> None:
        self.apart = apart
        self._read = _FRAMING | {b"traceparent", *read}
        self._prefixes = prefixes
        self._alike = {name.translate(_FOLD): name for name in (*self._read, *apart)}

    def reads(self, name: bytes) -> bool:
        """Whether a field decides something here, and is held in the head."""
        return name in self._read or name.startswith(self._prefixes)

    def taken_for(self, name: bytes) -> bytes | None:
        """The field that others may take this one for: to CGI and WSGI, `X_A` and `X-A` are one name."""
        if not name.translate(None, _PLAIN) or name in self._read or name in self.apart:
            return None
        folded = name.translate(_FOLD)
        return self._alike.get(folded) or (folded if folded.startswith(self._prefixes) else None)


NOTHING: Final = Names()
"""Of an application that only passes on."""


class RequestHead:
    """One request head. `notes` belongs to the layer above: what it learned from these bytes."""

    __slots__ = (
        "_base",
        "apart",
        "chunked",
        "expects",
        "fields",
        "keep_alive",
        "length",
        "method",
        "names",
        "notes",
        "onward",
        "options",
        "path",
        "sized",
        "target",
        "traced",
        "version",
    )

    def __init__(
        self, raw: bytes, names: Names = NOTHING, base: RequestHead | None = None, length: int = 0
    ) -> None:
        """`base`: the same head without the line that gives this length, parsed before."""
        self._base = base
        self.names = names
        self.notes: Any = None
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
        if method == b"CONNECT" or not target.startswith(b"/"):
            raise ProtocolError(400, "target", "The request target must be a path.")
        hosts = [value for name, value in fields if name == b"host"]
        if len(hosts) > 1 or (not hosts and version == b"HTTP/1.1"):
            raise ProtocolError(400, "host", "Exactly one Host header is required.")
        if hosts and _HOST.fullmatch(hosts[0]) is None:
            raise ProtocolError(400, "host", "The Host header is no host.")
        self.length, self.chunked = _framing(fields)
        if self.chunked and version == b"HTTP/1.0":
            raise ProtocolError(400, "framing", "HTTP/1.0 has no Transfer-Encoding.")
        self.sized: bool = self.length is not None
        """Whether it gives a length itself."""
        if self.length is None and not self.chunked:
            self.length = 0
        self.keep_alive: bool = _keep_alive(fields, version)
        # An HTTP/1.0 client would take the interim answer for the answer (RFC 9110, section 10.1.1).
        self.expects: bool = version == b"HTTP/1.1" and (b"expect", b"100-continue") in [
            (n, v.lower()) for n, v in fields
        ]
        self.options: frozenset[bytes] = _options(fields) - _OF_THE_CONNECTION
        """The fields that are for the next hop alone, as this head says."""
        _refuse_misread(fields, self.options, names)
        self.traced: bool = any(name == b"traceparent" for name, _ in fields)
        self.apart: tuple[bytes, ...] = _apart(fields, names.apart)
        """The values of the fields that are handed over apart, where the head was parsed with them."""
        self.onward: tuple[tuple[bytes, bytes], ...] = tuple(
            (name, text)
            for name, text in _end_to_end(fields, lines)
            if name not in (b"host", b"content-length", b"expect") and name not in names.apart
        )

    def _vary(self, base: RequestHead, length: int) -> None:
        if base.chunked or base.sized:
            raise ProtocolError(400, "framing", "The message is ambiguous about its length.")
        self.method, self.target = base.method, base.target
        self.version, self.path = base.version, base.path
        self.fields, self.onward, self.apart = base.fields, base.onward, base.apart
        self.chunked, self.keep_alive, self.expects = base.chunked, base.keep_alive, base.expects
        self.options, self.traced = base.options, base.traced
        self.length = length
        self.sized = True

    def with_length(self, length: int) -> RequestHead:
        """The same head with a Content-Length; ProtocolError where it has framing of its own."""
        return RequestHead(b"", self.names, self, length)

    @property
    def base(self) -> RequestHead:
        """The head that this one differs from in its length alone, or itself."""
        return self if self._base is None else self._base

    def get(self, name: bytes) -> bytes | None:
        """The value of the first field of that (lower-case) name.

        LookupError if it is none that `names` reads: such a field's lines may be held elsewhere.
        """
        self._require(name)
        for field, value in self.fields:
            if field == name:
                return value
        return None

    def values(self, name: bytes) -> list[bytes]:
        """The values of all fields of that (lower-case) name; LookupError as of `get`."""
        self._require(name)
        return [value for field, value in self.fields if field == name]

    def _require(self, name: bytes) -> None:
        if not self.names.reads(name):
            raise LookupError(f"{name.decode()} is not among the names that are read")

    def __repr__(self) -> str:
        return f"<RequestHead {self.method.decode()} {self.path.decode()}>"


ANSWERED: Final = Names(
    b"content-encoding content-type mcp-session-id mcpace-answers mcpace-epoch mcpace-verdict".split()
)
"""The fields of answers that are read here."""


class ResponseHead:
    """One response head. `onward` is what goes to the client, before the framing fields."""

    __slots__ = (
        "_framing",
        "_kept",
        "_promised",
        "chunked",
        "content_type",
        "fields",
        "keep_alive",
        "keep_for",
        "length",
        "onward",
        "options",
        "plain",
        "session_line",
        "status",
    )

    def __init__(
        self, raw: bytes, base: ResponseHead | None = None, lines: bytes = b"", length: int = -1
    ) -> None:
        """`base`: the same head without these lines and this length, parsed before."""
        if base is not None:
            self._vary(base, lines, length)
            return
        line = _STATUS_LINE.match(raw)
        if line is None:
            raise ProtocolError(502, "status_line", "The server's status line is not HTTP/1.1.")
        fields, texts = _parse(raw, line.end(), httptools.HttpResponseParser)
        self.fields: Fields = fields
        self.status: int = int(line[0][9:12])
        self.options: frozenset[bytes] = _options(fields) - _OF_THE_CONNECTION
        """The fields that are for the next hop alone, as this head says."""
        self.content_type: bytes = (self.get(b"content-type") or b"").partition(b";")[0].strip().lower()
        self.plain: bool = self.get(b"content-encoding") is None
        """Whether the body is readable as it is."""
        self.onward: bytes = (
            b"HTTP/1.1"
            + line[0][8:]
            + b"".join(text for name, text in _end_to_end(fields, texts) if name != b"content-length")
        )
        self.session_line: bytes = b"".join(
            text for name, text in _end_to_end(fields, texts) if name == b"mcp-session-id"
        )
        """The line of `onward` that names the session; empty where none does."""
        self._kept: bool = _keep_alive(fields, line[0][:8])
        self._promised: float = _keep_for(fields)
        self._frame(_framing(fields))

    def _vary(self, base: ResponseHead, lines: bytes, length: int) -> None:
        if length >= 0 and base._framing != (None, False):
            raise ProtocolError(400, "framing", "The message is ambiguous about its length.")
        self.fields, self.status, self.options = base.fields, base.status, base.options
        self.content_type, self.plain, self.onward = base.content_type, base.plain, base.onward + lines
        self.session_line = base.session_line
        self._kept, self._promised = base._kept, base._promised
        self._frame((length, False) if length >= 0 else base._framing)

    def _frame(self, framing: tuple[int | None, bool]) -> None:
        self._framing: tuple[int | None, bool] = framing
        """As the head says it, whatever its status makes of it."""
        self.length, self.chunked = framing
        if self.status < 200 or self.status in (204, 304):
            self.length, self.chunked = 0, False
        self.keep_alive: bool = self._kept and (self.length is not None or self.chunked)
        """Whether the connection stays; else the body may end with it."""
        self.keep_for: float = self._promised if self.keep_alive else 0.0
        """Seconds for which the connection may be kept idle, as far as this head says."""

    def with_lines(self, lines: bytes, length: int) -> ResponseHead:
        """The same head with further lines, and a Content-Length unless it is -1; ProtocolError."""
        return ResponseHead(b"", self, lines, length)

    def get(self, name: bytes) -> bytes | None:
        """The value of the first field of that (lower-case) name; LookupError as of a request's head."""
        if not ANSWERED.reads(name):
            raise LookupError(f"{name.decode()} is not among the names that are read")
        for field, value in self.fields:
            if field == name:
                return value
        return None


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
            or NAME.fullmatch(name) is None
            or not line.endswith(b"\r\n")
            or value[:-2].translate(None, VISIBLE)
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


def _options(fields: Fields) -> frozenset[bytes]:
    """What the Connection fields name; most heads have none."""
    values = [value for name, value in fields if name == b"connection"]
    return frozenset(o.strip(b" \t").lower() for o in b",".join(values).split(b",")) if values else _NONE


_NONE: Final[frozenset[bytes]] = frozenset()
_OF_THE_CONNECTION: Final = HOP_BY_HOP | {b"", b"close"}


def _keep_alive(fields: Fields, version: bytes) -> bool:
    options = _options(fields)
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
    dropped = HOP_BY_HOP | _options(fields)
    return [(f[0], line) for f, line in zip(fields, lines, strict=True) if f[0] not in dropped]


def _refuse_misread(fields: Fields, options: frozenset[bytes], names: Names) -> None:
    """Refuse fields that others may take for one that decides here, and options that would remove one."""
    for option in options:
        if names.reads(option) or option in names.apart:
            words = f"Connection: {option.decode('latin-1')} names a header that is not of this connection."
            raise ProtocolError(400, "header", words)
    for name, _ in fields:
        other = names.taken_for(name)
        if other is not None:
            words = f"{name.decode()} may be taken for {other.decode()}: write that, or leave it out."
            raise ProtocolError(400, "header", words)


def _apart(fields: Fields, names: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The values of these fields, those of one name joined by a line's end; nothing if there are none."""
    if not names:
        return ()
    values = tuple(b"\n".join(v for field, v in fields if field == name and v) for name in names)
    return values if any(values) else ()
