"""What a POSTed body is: one pure decision over bytes, for every era of MCP.

The body is what the server will read, so the body alone is judged, never the headers that mirror it.
Source: JSON-RPC 2.0; MCP 2026-07-28, basic and transports.
"""

from __future__ import annotations

from typing import Final

import msgspec

from mcpace_sidecar.mcp.answers import text
from mcpace_sidecar.mcp.ids import ID_DIGITS, ID_TEXT, is_id, written_id
from mcpace_sidecar.mcp.jsonrpc import (
    CallParams,
    CountedCall,
    Enclosed,
    Envelope,
    OfProgress,
    Params,
    Traced,
    batch_of,
)
from mcpace_sidecar.mcp.methods import COUNTED
from mcpace_sidecar.mcp.responses import INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR
from mcpace_sidecar.mcp.strictness import (
    MAX_DEPTH,
    MEMBERS,
    STAND_IN,
    TOO_DEEP,
    MessageError,
    look_closely,
    plain,
    refuse_crowds,
    refuse_deep,
    refuse_lookalikes,
    without_halves,
)

MAX_BATCH: Final = 100
"""Messages of one batch at most."""


class Message:
    """One JSON-RPC message, decoded as far as the proxy judges it."""

    __slots__ = ("_body", "_call", "halved", "id", "method", "more", "state", "target", "value")

    def __init__(
        self, body: bytes, method: str | None, message_id: bytes | None, target: str | None,
        call: CallParams | None = None, *, more: bool = False, state: str = "",
        value: int | str | None = None,
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
        self.value = value
        """The id decoded, where it has been."""
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

    @classmethod
    def named(cls, method: str | None, target: str | None) -> Message:
        """What is known of one by these alone."""
        return cls(b"{}", method, None, target)

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
                entries = MEMBERS.decode(document)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return -1
            if name not in entries or not plain(document, entries):
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


def cancelled(message: Message) -> bytes:
    """The id of the request that a `notifications/cancelled` names, as it was written; empty if none."""
    try:
        return bytes(_naming.decode(message.params).request_id)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return b""


_naming: Final = msgspec.json.Decoder(OfProgress)
_call: Final = msgspec.json.Decoder(CountedCall)
_traced: Final = msgspec.json.Decoder(Traced)
_enclosed: Final = msgspec.json.Decoder(Enclosed)
_envelope: Final = msgspec.json.Decoder(Envelope)
_params: Final = msgspec.json.Decoder(Params)
_batch: Final = msgspec.json.Decoder(batch_of(MAX_BATCH + 1))


def classify(body: bytes) -> Message:
    """Return what the body is; MessageError says why it is nothing acceptable."""
    try:
        if not body.isascii():
            body.decode()
        call = _call.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _classify_any(body)  # which says why, or knows better
    method, number, params = call.method, call.id, call.params
    name = COUNTED[method]
    target = params.uri if name == "uri" else params.name
    if not isinstance(target, str):
        return _classify_any(body)
    if isinstance(number, int):
        raw_id, most = b"%d" % number, ID_DIGITS
    else:
        raw_id, most = b'"%b"' % number.encode(), ID_TEXT
    # A message written without spaces and escapes is exactly as long as its distinct parts. Whatever
    # else it holds, a name that stands twice above all, makes it longer.
    length = _FRAME + len(method) + len(raw_id) + len(name) + len(target)
    written = len(params.arguments)
    if written:
        length += _ARGUMENTS + written
    written = len(params.meta)
    if written:
        length += _META + written
    if length != len(body) or len(raw_id) > most:
        return _classify_any(body)
    if len(body) > 2 * MAX_DEPTH:
        refuse_deep(body, raw_id)
    return Message(body, method, raw_id, target, params, value=number)


_FRAME: Final = len('{"jsonrpc":"2.0","id":,"method":"","params":{"":""}}')
_ARGUMENTS: Final = len(',"arguments":')
_META: Final = len(',"_meta":')


def _classify_any(body: bytes) -> Message:
    try:
        return _classify(body)
    except MessageError as error:
        whole = without_halves(body) if error.code == PARSE_ERROR else None
        if whole is None:
            raise
    message = _classify(whole)
    if STAND_IN in f"{message.method}{message.target}" or b"\\ufffd" in (message.id or b"").lower():
        words = "Half of a surrogate pair in an id or a name: readers differ about what it is."
        raise MessageError(INVALID_REQUEST, words, message.id or b"null")
    message.halved = message.more = True
    return message


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
        refuse_crowds(body, envelope, wanted)
        judged = [(body, MEMBERS.decode(body), _NAMES)]
        if wanted is not None:
            judged.append((bytes(params), MEMBERS.decode(params), _PARAM_NAMES))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _why(body, error) from None
    refuse_deep(body, raw_id)
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
            if not plain(raw, entries):
                look_closely(raw)
    for _, entries, names in judged:
        refuse_lookalikes(entries, names)
    if raw_id and not is_id(raw_id):
        most = f"{ID_TEXT} characters or {ID_DIGITS} digits at most"
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
    return Message(body, method, raw_id or None, target, more=more, state=text(state))


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
        return MessageError(PARSE_ERROR, TOO_DEEP, written_id(body) or b"null")
    if isinstance(error, msgspec.ValidationError):
        if is_batch(body):
            words = "Batches are of 2025-03-26 alone: send one JSON-RPC message per POST."
            return MessageError(INVALID_REQUEST, words)
        return MessageError(INVALID_REQUEST, f"The body is no JSON-RPC 2.0 message: {error}")
    return MessageError(PARSE_ERROR, f"The body is not valid JSON: {error}")


_NAMES: Final = frozenset({"jsonrpc", "id", "method", "params", "result", "error"})
_PARAM_NAMES: Final = frozenset({"name", "uri", "arguments", "_meta"})
