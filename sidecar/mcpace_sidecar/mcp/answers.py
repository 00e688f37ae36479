"""What an answer says of its call: whose it is, whether it is good, whether it asks for more. Pure.

Source: JSON-RPC 2.0, section 5; MCP 2026-07-28, basic and tools.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from mcpace_sidecar.http import sse
from mcpace_sidecar.mcp.ids import same_id, written_id
from mcpace_sidecar.mcp.jsonrpc import Response, ResultFlags
from mcpace_sidecar.mcp.responses import result_body

_str: Final = msgspec.json.Decoder(str)


def text(raw: msgspec.Raw) -> str:
    """A member that is a text; empty for any other."""
    return _str.decode(raw) if bytes(raw).startswith(b'"') else ""


_answer: Final = msgspec.json.Decoder(Response)
_result: Final = msgspec.json.Decoder(ResultFlags)
_SUSPECT: Final = re.compile(rb'"isError"\s*:\s*true|"error"\s*:')
_SIGN: Final = b'rror"'
"""What is in both."""


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
    at = body.find(_SIGN)  # many times faster than the pattern, and in nearly every answer there is none
    return at >= 0 and _SUSPECT.search(body, max(0, at - len(_SIGN))) is not None


def succeeded(body: bytes) -> bool:
    """Whether an answer, whole or as events, holds a result that is no error."""
    first = body.find(b'"result":{', 0, _TOP)
    if first > 0 and body.count(b"{", 0, first) == 1:  # so it is the response's own
        if _ends_well(body):
            return True
        at = body.find(b'"isError"')
        if at < 0 or (body.startswith(b":false", at + 9) and body.find(b'"isError"', at + 9) < 0):
            return True  # what nearly every answer says
    return read(body, events=body[:1] != b"{").ok


def is_plain_result(body: bytes, message_id: bytes, *, events: bool = False) -> bool:
    """Whether an answer is surely this request's, and a whole and good result of a tool.

    Judged by its two ends alone, as Python's servers write them; False: a closer look is needed.
    """
    if not _ends_well(body):
        return False
    begin = b'{"jsonrpc":"2.0","id":%b,"result":{"content":[' % message_id
    if not events:
        return body.startswith(begin)
    field = body.find(b"data: ", 0, _TOP)
    at = field + 6
    return (
        field >= 0
        and body[at : at + len(begin)] == begin
        and (field == 0 or body[field - 1] == _LINE_FEED)
        and body.find(b"\n", at) >= len(body) - 3  # one line of data, and nothing behind it
        and not 0 <= body.find(b"\r", at) < len(body) - 4
    )


def _ends_well(body: bytes) -> bool:
    return any(body.endswith(end) for end in _GOOD_ENDS)


_LINE_FEED: Final = 10
_GOOD_ENDS: Final = tuple(
    b',"isError":false%b}}%b' % (last, end)
    for end in (b"", b"\n\n", b"\r\n\r\n")
    for last in (b',"resultType":"complete"', b"")
)
"""How a result that is no error may end: its last member, with nothing after the result."""
_TOP: Final = 120
"""Bytes in which the first entries of a response stand, the line of an event included."""


def read(body: bytes, *, events: bool) -> Outcome:
    """Read an answer, whole or as events."""
    return read_events(body) if events else read_answer(body)


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
    return Outcome(ok=True, result=raw, complete=False, state=text(result.request_state))


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
    return any(kind(data) == "response" for data in texts(body, events=True))


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
    for data in texts(events, events=True):
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
    for data in texts(body, events=events):
        found = _stray(data, message_id)
        if found is not None:
            return found
    return None


def bears(body: bytes, message_id: bytes, *, events: bool = False) -> bool:
    """Whether an answer, whole or as events, surely holds the response to this request."""
    if _shows(body, message_id, events=events):
        return True
    return any(
        kind(data) == "response" and same_id(id_of(data), message_id) for data in texts(body, events=events)
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


def texts(body: bytes, *, events: bool) -> list[bytes]:
    """The JSON texts of an answer: all of it, or the data of its events; the last may lack its end."""
    if not events:
        return [body]
    return [data for event in sse.Events().feed(body + b"\n\n") if (data := sse.data_of(event))]


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


def replaced(body: bytes, result: bytes, *, events: bool) -> bytes:
    """A whole answer with another result in it."""
    if not events:
        return result_body(id_of(body), result)
    pieces = []
    for event in sse.Events().feed(body.rstrip(b"\r\n") + b"\n\n"):
        data = sse.data_of(event)
        if data and kind(data) == "response":
            pieces.append(sse.with_data(event, result_body(id_of(data), result)))
        else:
            pieces.append(event)
    return b"".join(pieces)
