"""What a POSTed body is: one pure decision over bytes, for every era of MCP.

The body is what the server will read, so the body alone is judged, never the headers
that mirror it. What two JSON readers could understand differently is refused. Names are
compared exactly: with a blank at its end, or in another Unicode form, a name is another.
Source: JSON-RPC 2.0; MCP 2026-07-28, basic and transports.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from itertools import accumulate
from typing import Any, Final

import msgspec

from mcpace_sidecar.errors import McpaceError
from mcpace_sidecar.http import sse
from mcpace_sidecar.mcp.jsonrpc import (
    Answer,
    Call,
    CallParams,
    Enclosed,
    Envelope,
    Params,
    ResultFlags,
    Traced,
    batch_of,
)

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
INVALID_PARAMS: Final = -32602
MODERN: Final = b"2026-07-28"

COUNTED: Final = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
"""The methods that limits count, and the parameter that names what is called."""

SAFE: Final = frozenset(
    {
        "initialize",
        "ping",
        "server/discover",
        "tools/list",
        "prompts/list",
        "prompts/get",
        "resources/list",
        "resources/templates/list",
        "resources/read",
        "completion/complete",
    }
)
"""The methods that may be sent twice."""


MAX_DEPTH: Final = 512
"""Levels of objects and arrays that a message has at most: well below where decoders give up."""
MAX_BATCH: Final = 100
"""Messages of one batch at most."""


class MessageError(McpaceError):
    """A body that is no acceptable message; `code` is the JSON-RPC error code."""

    def __init__(self, code: int, words: str, message_id: bytes = b"null") -> None:
        super().__init__(words)
        self.code = code
        self.message_id = message_id


class Message:
    """One JSON-RPC message, decoded as far as the proxy judges it."""

    __slots__ = ("_body", "_call", "halved", "id", "method", "more", "state", "target")

    def __init__(
        self, body: bytes, method: str | None, message_id: bytes | None, target: str | None,
        call: CallParams | None = None, *, more: bool = False, state: str = "",
    ) -> None:  # fmt: skip
        """`call`: the params, where they are known to hold nothing else."""
        self._body = body
        self._call = call
        self.more = more
        """Whether it holds what `spelling` does not: members that JSON-RPC lacks, or halves (below)."""
        self.halved = False
        """Whether it holds halves of surrogate pairs, which readers take for different things."""
        self.state = state
        """The `requestState` of a call that continues a conversation (MCP 2026-07-28)."""
        self.method = method
        """None for a posted response."""
        self.id = message_id
        """The id as it was written, or None for a notification."""
        self.target = target
        """The tool, prompt or resource of a counted method."""

    @property
    def counted(self) -> bool:
        """Whether limits count it."""
        return self.target is not None

    @property
    def params(self) -> bytes:
        """The params as they were written; empty if there are none."""
        return bytes(_enclosed.decode(self._body).params)

    @property
    def trace(self) -> bytes:
        """The `traceparent` in `_meta`; empty if there is none."""
        try:
            params = _traced.decode(self._body).params
        except (msgspec.DecodeError, RecursionError):
            return b""
        meta = params.meta if params is not None else None
        return meta.traceparent.encode() if meta is not None else b""

    def forget(self) -> None:
        """Hold the body no more: from now on it has no params."""
        self._body, self._call = b"{}", None

    @property
    def trace_at(self) -> int:
        """Where in the body the `traceparent` of its `_meta` stands; -1 where that is not certain.

        It is certain where nothing on the way to it is written with spaces or escapes, or twice.
        """
        at = 0
        document = self._body
        for name in ("params", "_meta", "traceparent"):
            try:
                entries = _object.decode(document)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return -1
            if name not in entries or not _plain(document, entries):
                return -1
            at += 1
            for key, value in entries.items():
                at += len(key) + 3  # quotes and colon
                if key == name:
                    document = bytes(value)
                    break
                at += len(value) + 1
        return at + 1  # after the quote

    @property
    def spelling(self) -> bytes:
        """What tells the params of one target from others, as they were written."""
        call = self._call
        return self.params if call is None else b"\0".join((call.arguments, call.meta))


_call: Final = msgspec.json.Decoder(Call)
_traced: Final = msgspec.json.Decoder(Traced)
_enclosed: Final = msgspec.json.Decoder(Enclosed)
_envelope: Final = msgspec.json.Decoder(Envelope)
_params: Final = msgspec.json.Decoder(Params)
_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_batch: Final = msgspec.json.Decoder(batch_of(MAX_BATCH + 1))
_str: Final = msgspec.json.Decoder(str)
_ID_DIGITS: Final = 20
_ID_TEXT: Final = 1000
_TEXT_ID: Final = rb'"(?:[^"\\]|\\.){0,1000}"'
_ID: Final = re.compile(rb"-?[0-9]{1,20}|" + _TEXT_ID, re.DOTALL)
"""An acceptable id: each has a value, which `id_value` knows."""
_ANY_ID: Final = rb"(-?[0-9]{1,2000}+(?:\.[0-9]{1,20})?(?:[eE][+-]?[0-9]{1,3})?|null|%b)\s*+" % _TEXT_ID
_VERSION: Final = rb'"jsonrpc"\s*+:\s*+"2\.0"\s*+'
_FIRST_ID: Final = re.compile(
    rb'\s*+\{\s*+(?:%b,\s*+)?"id"\s*+:\s*+%b[,}]' % (_VERSION, _ANY_ID), re.DOTALL
)
_LAST_ID: Final = re.compile(rb',\s*+"id"\s*+:\s*+%b(?:,\s*+%b)?\}\s*+\Z' % (_ANY_ID, _VERSION), re.DOTALL)
_LAST: Final = 2048
"""Bytes at the end of a message in which its last members stand."""


def classify(body: bytes) -> Message:
    """Return what the body is; MessageError says why it is nothing acceptable."""
    try:
        if not body.isascii():
            body.decode()
        call = _call.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _classify_any(body)  # which says why, or knows better
    method, params = call.method, call.params
    name = COUNTED.get(method) if method is not None else None
    if params is None or name is None or method is None:
        return _classify_any(body)
    target = params.uri if name == "uri" else params.name
    if not isinstance(target, str):
        return _classify_any(body)
    # A message written without spaces and escapes is exactly as long as its distinct parts. Whatever
    # else it holds, a name that stands twice above all, makes it longer.
    raw_id = bytes(call.id)
    length = _FRAME + len(method) + len(raw_id) + len(name) + len(target)
    written = len(params.arguments)
    if written:
        length += _ARGUMENTS + written
    written = len(params.meta)
    if written:
        length += _META + written
    plain = length == len(body) and call.jsonrpc == "2.0"
    if not plain or not _is_id(raw_id):
        return _classify_any(body)
    if len(body) > 2 * MAX_DEPTH:
        _refuse_deep(body, raw_id)
    return Message(body, method, raw_id, target, params)


_FRAME: Final = len('{"jsonrpc":"2.0","id":,"method":"","params":{"":""}}')
_ARGUMENTS: Final = len(',"arguments":')
_META: Final = len(',"_meta":')


def _classify_any(body: bytes) -> Message:
    try:
        return _classify(body)
    except MessageError as error:
        whole = _without_halves(body) if error.code == PARSE_ERROR else None
        if whole is None:
            raise
    message = _classify(whole)
    if _STAND_IN in f"{message.method}{message.target}" or b"\\ufffd" in (message.id or b"").lower():
        words = "Half of a surrogate pair in an id or a name: readers differ about what it is."
        raise MessageError(INVALID_REQUEST, words, message.id or b"null")
    message.halved = message.more = True
    return message


_STAND_IN: Final = "\ufffd"
_MAX_MENDED: Final = 1024 * 1024
_HALF: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
"""Half of a pair, in JSON without escaped backslashes."""


def _without_halves(body: bytes) -> bytes | None:
    """The body, as long as before, with U+FFFD for halves of surrogate pairs; None if it holds none.

    They are valid JSON, and what a JavaScript client writes of a text cut within an emoji, but no
    UTF-8 (RFC 8259, section 8.2): readers refuse, replace or keep them.
    """
    if len(body) > _MAX_MENDED or b"\\u" not in body or b"\0" in body:
        return None
    plain = body.replace(b"\\\\", b"\0\0")  # no JSON holds a NUL
    mended = _HALF.sub(rb"\\ufffd", plain)
    return mended.replace(b"\0\0", b"\\\\") if mended != plain else None


def _classify(body: bytes) -> Message:
    try:
        if not body.isascii():
            body.decode()
        envelope = _envelope.decode(body)
        method = envelope.method
        raw_id = bytes(envelope.id)
        params = envelope.params
        name = COUNTED.get(method) if method is not None else None
        wanted = _params.decode(params) if name is not None and params else None
        _refuse_crowds(body, envelope, wanted)
        judged = [(body, _object.decode(body), _NAMES)]
        if wanted is not None:
            judged.append((bytes(params), _object.decode(params), _PARAM_NAMES))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _why(body, error) from None
    _refuse_deep(body, raw_id)
    # An honest call holds each judged name once; only more than that needs a closer look.
    doubtful = (
        (b"\\" in body and b"\\u" in body)
        or body.count(b'"name"') > 1
        or body.count(b'"params"') > 1
        or body.count(b'"method"') > 1
        or (name == "uri" and body.count(b'"uri"') > 1)
    )
    if doubtful:
        for raw, entries, _ in judged:
            if not _plain(raw, entries):
                _look_closely(raw)
    for _, entries, names in judged:
        _refuse_lookalikes(entries, names)
    if raw_id and not _is_id(raw_id):
        most = f"{_ID_TEXT} characters or {_ID_DIGITS} digits at most"
        words = f"The id must be a string or an integer, of {most}."
        raise MessageError(INVALID_REQUEST, words)
    if envelope.jsonrpc != "2.0":
        raise MessageError(INVALID_REQUEST, 'jsonrpc must be "2.0".', raw_id or b"null")
    target = None
    if name is not None:
        if not raw_id:
            raise MessageError(INVALID_REQUEST, f"{method} needs an id.")
        target = getattr(wanted, name) if wanted is not None else None
        if target is None:
            words = f"{method} needs params.{name}, a string."
            raise MessageError(INVALID_PARAMS, words, raw_id or b"null")
    more = not judged[0][1].keys() <= _NAMES
    state = wanted.state if wanted is not None else msgspec.Raw(b"")
    return Message(body, method, raw_id or None, target, more=more, state=_text(state))


def _refuse_deep(body: bytes, raw_id: bytes) -> None:
    """Refuse valid JSON that has too many levels."""
    if not _crowded(body):
        return  # nearly every body
    if _deepest(body) > MAX_DEPTH:
        raise MessageError(PARSE_ERROR, _TOO_DEEP, raw_id if _is_id(raw_id) else b"null")


def _crowded(body: bytes) -> bool:
    """Whether a body holds more opening brackets than it may have levels."""
    for bracket in (b"[", b"{"):
        at, found = body.find(bracket), 0
        while at >= 0:
            found += 1
            if found > _FEW:
                return body.count(b"[") + body.count(b"{") > MAX_DEPTH
            at = body.find(bracket, at + 1)
    return False


_FEW: Final = 32
"""Brackets that are found faster one by one than counted: a search goes by words, a count by bytes."""
_TOO_DEEP: Final = f"The body is nested too deeply: it may have {MAX_DEPTH} levels."


def _deepest(body: bytes) -> int:
    """The levels of valid JSON, of which only the quotes and brackets are looked at.

    Two quotes side by side change nothing for what stands beside them. So few strings are left.
    """
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    steps = body.translate(STEPS, _NO_STEPS).replace(b'""', b"")
    if b'"' not in steps:
        return max(accumulate(memoryview(steps).cast("b")))
    level = deepest = 0
    quoted = False
    for step in steps:
        if step == QUOTE:
            quoted = not quoted
        elif not quoted:
            level += 1 if step == 1 else -1
            deepest = max(deepest, level)
    return deepest


STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
"""A bracket as the step that it makes, as a signed byte."""
QUOTE: Final = ord('"')
_NO_STEPS: Final = bytes(byte for byte in range(256) if byte not in b'[{]}"')


def _refuse_crowds(body: bytes, envelope: Envelope, wanted: Params | None) -> None:
    """Refuse so much beside what messages are known to hold that reading its names would take long."""
    known = [envelope.params, envelope.result, envelope.error]
    beside = len(body) - sum(map(len, known))
    if wanted is not None:
        known = [wanted.arguments, wanted.meta, wanted.inputs, wanted.state]
        within = len(envelope.params) - sum(map(len, known)) - len(wanted.name or wanted.uri or "")
        beside = max(beside, within)
    if beside > _CROWD:
        words = f"Beside params, arguments and their like, a message holds at most {_CROWD} bytes."
        raise MessageError(INVALID_REQUEST, words, written_id(body) or b"null")


_CROWD: Final = 64 * 1024
_CLOSELY: Final = 256 * 1024
"""Bytes of an object up to which names that are written with escapes are read."""


def _look_closely(raw: bytes) -> None:
    """Refuse an object in which a name stands twice, though it is written with spaces or escapes."""
    compact = msgspec.json.format(raw, indent=-1)
    if _plain(compact, _object.decode(compact)):
        return
    if len(raw) > _CLOSELY:
        words = "A name stands twice in one JSON object, or is written with escapes."
        raise MessageError(PARSE_ERROR, words, written_id(raw) or b"null")
    refuse_duplicates(raw)


def _text(raw: msgspec.Raw) -> str:
    return _str.decode(raw) if bytes(raw).startswith(b'"') else ""


def _is_id(raw: bytes) -> bool:
    return (len(raw) <= _ID_DIGITS and raw.isdigit()) or _ID.fullmatch(raw) is not None


def is_batch(body: bytes) -> bool:
    """Whether a body is an array of messages."""
    return body[:1] == b"[" or (body[:1].isspace() and body.lstrip()[:1] == b"[")


def split(body: bytes) -> list[bytes]:
    """The messages of a batch (MCP 2025-03-26, basic), read no further than it may go; MessageError."""
    try:
        body.decode()
        parts = [bytes(part) for part in msgspec.structs.astuple(_batch.decode(body)) if part]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _why(body, error) from None
    if not 1 <= len(parts) <= MAX_BATCH:
        raise MessageError(INVALID_REQUEST, f"A batch holds 1 to {MAX_BATCH} messages.")
    return parts


def _why(body: bytes, error: Exception) -> MessageError:
    if isinstance(error, UnicodeDecodeError):
        return MessageError(PARSE_ERROR, "The body is not valid UTF-8.")
    if isinstance(error, RecursionError):
        return MessageError(PARSE_ERROR, _TOO_DEEP, written_id(body) or b"null")
    if isinstance(error, msgspec.ValidationError):
        if is_batch(body):
            words = "Batches are of 2025-03-26 alone: send one JSON-RPC message per POST."
            return MessageError(INVALID_REQUEST, words)
        return MessageError(INVALID_REQUEST, f"The body is no JSON-RPC 2.0 message: {error}")
    return MessageError(PARSE_ERROR, f"The body is not valid JSON: {error}")


def _plain(raw: bytes, entries: dict[str, msgspec.Raw]) -> bool:
    """Whether a JSON object surely has no name twice, judged by length alone.

    An object written without spaces and escapes is exactly as long as its distinct
    entries; a repeated name, which decoding drops, makes it longer.
    """
    length = 1 + 4 * len(entries)  # braces, and quotes, colon and comma of each entry
    for key, value in entries.items():
        length += len(key) + len(value)
    return length == len(raw)


def _refuse_lookalikes(entries: dict[str, msgspec.Raw], names: frozenset[str]) -> None:
    """Refuse a name that only its case tells from one of ours: Go's readers take it for that one."""
    for key in entries:
        if key not in names and key.casefold() in names:
            words = f"Write {key.casefold()!r} for {key!r}: some readers take one for the other."
            raise MessageError(INVALID_REQUEST, words)


_NAMES: Final = frozenset({"jsonrpc", "id", "method", "params", "result", "error"})
_PARAM_NAMES: Final = frozenset({"name", "uri", "arguments", "_meta"})


def refuse_duplicates(body: bytes) -> None:
    """Refuse a name that stands twice in one object: readers differ about which one counts."""

    def pairs(items: list[tuple[str, Any]]) -> None:
        if len({key for key, _ in items}) != len(items):
            raise MessageError(PARSE_ERROR, "A name stands twice in one JSON object.")

    try:
        json.loads(body, object_pairs_hook=pairs, parse_int=_unread, parse_float=_unread)
    except RecursionError:
        raise MessageError(PARSE_ERROR, _TOO_DEEP) from None
    except ValueError as error:
        raise MessageError(PARSE_ERROR, f"The body is not valid JSON: {error}") from None


def _unread(number: str) -> None:
    """Numbers are not looked at: Python would refuse those of more than 4,300 digits."""


_answer: Final = msgspec.json.Decoder(Answer)
_result: Final = msgspec.json.Decoder(ResultFlags)
_SUSPECT: Final = re.compile(rb'"isError"\s*:\s*true|"error"\s*:')


class Outcome:
    """What an answer says of its call."""

    __slots__ = ("complete", "ok", "result", "state")

    def __init__(self, ok: bool, result: bytes, complete: bool, state: str = "") -> None:
        self.ok = ok
        self.state = state
        """The `requestState` with which the call goes on, where more is asked for."""
        self.result = result
        """The result object as it was written, if it is one; empty otherwise."""
        self.complete = complete
        """Whether it is a whole and good result, which may be kept and cut into pages."""


ABSENT: Final = (b"", b"null")
"""How a member that there is not may be written: older servers write both of a response's."""
_FAILED: Final = Outcome(ok=False, result=b"", complete=False)


def suspect(body: bytes) -> bool:
    """Whether bytes of an answer look as if it were an error."""
    return _SUSPECT.search(body) is not None


def succeeded(body: bytes) -> bool:
    """Whether an answer, whole or as events, holds a result that is no error."""
    first = body.find(b'"result":{', 0, _TOP)
    if first > 0 and body.count(b"{", 0, first) == 1:  # so it is the response's own
        if body.endswith(_GOOD_ENDS):
            return True
        at = body.find(b'"isError"')
        if at < 0 or (body.startswith(b":false", at + 9) and body.find(b'"isError"', at + 9) < 0):
            return True  # what nearly every answer says
    return (read_answer(body) if body[:1] == b"{" else read_events(body)).ok


def is_plain_result(body: bytes, message_id: bytes, *, events: bool = False) -> bool:
    """Whether an answer is surely this request's, and a whole and good result of a tool.

    Judged by its two ends alone, as Python's servers write them; False: a closer look is needed.
    """
    if not body.endswith(_GOOD_ENDS):
        return False
    begin = _PLAIN_RESULT % message_id
    if not events:
        return body.startswith(begin)
    at = body.find(b"data: ", 0, _TOP) + 6
    return (
        body.startswith(begin, at)
        and (at == 6 or body.startswith(b"\n", at - 7))
        and body.find(b"\n", at) >= len(body) - 3  # one line of data, and nothing behind it
        and not 0 <= body.find(b"\r", at) < len(body) - 4
    )


_PLAIN_RESULT: Final = b'{"jsonrpc":"2.0","id":%b,"result":{"content":['
_GOOD_ENDS: Final = tuple(
    b',"isError":false%b}}%b' % (last, end)
    for last in (b"", b',"resultType":"complete"')
    for end in (b"", b"\r\n\r\n", b"\n\n")
)
"""How a result that is no error may end: its last member, with nothing after the result."""
_TOP: Final = 120
"""Bytes in which the first entries of a response stand, the line of an event included."""


def read_answer(body: bytes) -> Outcome:
    """Read one JSON-RPC response."""
    try:
        answer = _answer.decode(body)
        if not answer.result or bytes(answer.error) not in ABSENT:
            return _FAILED
        raw = bytes(answer.result)
        result = _result.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _FAILED
    if result.is_error:
        return Outcome(ok=False, result=raw, complete=False)
    if result.result_type == "complete":
        return Outcome(ok=True, result=raw, complete=True)
    return Outcome(ok=True, result=raw, complete=False, state=_text(result.request_state))


def kind(data: bytes) -> str:
    """What an event of a server's holds: a `response`, a `request`, a `notification`, or nothing."""
    try:
        answer = _answer.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    if answer.method is None:
        return "response" if answer.result or answer.error else ""
    return "request" if answer.id else "notification"


def holds_response(body: bytes) -> bool:
    """Whether a body, be it of JSON or of events, holds a response."""
    if body[:1] == b"{":
        return kind(body) == "response"
    return any(kind(data) == "response" for data in _data(body))


def id_of(data: bytes) -> bytes:
    """The id of a response, as it was written; empty if it has none."""
    try:
        return bytes(_answer.decode(data).id)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return b""


def read_events(events: bytes) -> Outcome:
    """Read the answer at the end of a POST's event stream.

    A stream that held a request of the server's is no result to keep.
    """
    outcome = _FAILED
    conversed = False
    for event in sse.Events().feed(events + b"\n\n"):
        data = sse.data_of(event)
        if not data:
            continue
        what = kind(data)
        if what == "response":
            outcome = read_answer(data)
        conversed = conversed or what == "request"
    if conversed:
        return Outcome(ok=outcome.ok, result=outcome.result, complete=False, state=outcome.state)
    return outcome


class Stray:
    """A response that is not to the request it arrived for."""

    __slots__ = ("id", "is_error")

    def __init__(self, message_id: bytes, is_error: bool) -> None:
        self.id = message_id
        self.is_error = is_error


def stray(body: bytes, message_id: bytes, *, events: bool = False) -> Stray | None:
    """What is wrong where an answer, whole or as events, holds a response to another request.

    A result bears its request's id, an error may bear none (JSON-RPC 2.0, section 5).
    """
    if _shows(body, message_id, events=events):
        return None
    for data in _data(body) if events else (body,):
        found = _stray(data, message_id)
        if found is not None:
            return found
    return None


def bears(body: bytes, message_id: bytes, *, events: bool = False) -> bool:
    """Whether an answer, whole or as events, surely holds the response to this request."""
    if _shows(body, message_id, events=events):
        return True
    return any(
        kind(data) == "response" and same_id(id_of(data), message_id)
        for data in (_data(body) if events else (body,))
    )


def _shows(body: bytes, message_id: bytes, *, events: bool) -> bool:
    """Whether an answer bears an id where servers write it; False: a closer look is needed."""
    at = body.find(b'"id":', 0, _TOP)
    if at > 0 and body.startswith(message_id, at + 5) and body.count(b"{", 0, at) == 1:
        end = at + 5 + len(message_id)
        if body.startswith((b",", b"}"), end) and not (events and not _only_data(body, end)):
            return True  # Python's servers
    written = body.rstrip()
    if not written.endswith(b',"id":%b}' % message_id):
        return False
    return not (events and not _only_data(body, len(written)))  # TypeScript's


def _data(events: bytes) -> list[bytes]:
    """The data of events that have any."""
    return [data for event in sse.Events().feed(events + b"\n\n") if (data := sse.data_of(event))]


def _only_data(events: bytes, end: int) -> bool:
    """Whether what stands before `end` is of one line of data, and there is no other such line."""
    at = events.find(b"data:")
    return (
        0 <= at < end
        and events[:at].endswith((b"\n", b"\r") if at else b"")
        and events.find(b"\n", at, end) < 0
        and events.find(b"\r", at, end) < 0
        and events.find(b"data:", at + 5) < 0
    )


def _stray(body: bytes, message_id: bytes) -> Stray | None:
    try:
        answer = _answer.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        written = written_id(body)  # of what only a closer reader understands
        return None if not written or same_id(written, message_id) else Stray(written, is_error=False)
    written = bytes(answer.id)
    if answer.method is not None or not (answer.result or answer.error) or same_id(written, message_id):
        return None
    is_error = bytes(answer.result) in ABSENT and bytes(answer.error) not in ABSENT
    if is_error and written in ABSENT:
        return None
    return Stray(written, is_error=is_error)


def written_id(body: bytes) -> bytes:
    """The id of a message by its first or last members alone; empty where they do not hold it."""
    return first_id(body) or last_id(body)


def first_id(body: bytes) -> bytes:
    """The id that a message begins with, though it may not be whole; empty where it does not."""
    found = _FIRST_ID.match(body)
    return found[1] if found is not None else b""


def last_id(body: bytes) -> bytes:
    """The id that a message ends with; empty where it does not."""
    found = _LAST_ID.search(body[-_LAST:])
    return found[1] if found is not None else b""


def same_id(one: bytes, other: bytes) -> bool:
    """Whether two ids are the same JSON value, however they are written; what has no value is no id."""
    value = id_value(one)
    return value is not None and value == id_value(other)


def id_value(message_id: bytes) -> str | int | Decimal | float | None:
    """What an id is: a text, or a number; None for anything else.

    A number is known exactly, and one beyond 2^53 as the double that JavaScript's servers make of it,
    or else a client would choose which of their answers are taken for another's.
    """
    try:
        value = _any_id.decode(message_id)
        if isinstance(value, str):
            return value
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            return None
        return value if -_EXACT <= value <= _EXACT else float(value)
    except (ValueError, ArithmeticError, RecursionError):
        return None


_EXACT: Final = 2**53
"""The largest number up to which every integer is a double (RFC 8259, section 6)."""


_any_id: Final = msgspec.json.Decoder(Any, float_hook=Decimal)


def error_body(message_id: bytes, code: int, words: str, data: dict[str, Any] | None = None) -> bytes:
    """A JSON-RPC error response (JSON-RPC 2.0, section 5.1)."""
    error: dict[str, Any] = {"code": code, "message": words}
    if data:
        error["data"] = data
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (message_id, msgspec.json.encode(error))


def result_body(message_id: bytes, result: bytes) -> bytes:
    """A JSON-RPC result response with a kept result (JSON-RPC 2.0, section 5)."""
    return b"".join((b'{"jsonrpc":"2.0","id":', message_id, b',"result":', result, b"}"))


RESULT: Final = b'{"jsonrpc":"2.0","result":'


def result_end(message_id: bytes) -> bytes:
    """What ends such a response where its result comes first, after `RESULT`."""
    return b',"id":%b}' % message_id
