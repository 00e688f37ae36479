"""Every no of the sidecar: one table of reasons, and how each is answered. Pure: bytes out, nothing sent.

What refuses a call is HTTP 200 with a JSON-RPC error wherever that ends only the call: that is the one
form every official client reports as an error of the call and survives.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from mcpace_sidecar.http.downstream import status_line
from mcpace_sidecar.limits.bucket import Verdict
from mcpace_sidecar.mcp import responses
from mcpace_sidecar.mcp.methods import METHODS
from mcpace_sidecar.mcp.responses import INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR
from mcpace_sidecar.mcp.strictness import MessageError
from mcpace_sidecar.telemetry.events import Status

JSON: Final = b"Content-Type: application/json\r\n"
OK_JSON: Final = status_line(200) + JSON
EVENTS: Final = b"Content-Type: text/event-stream\r\nCache-Control: no-cache\r\nX-Accel-Buffering: no\r\n"
OK_EVENTS: Final = status_line(200) + EVENTS

NOBODY: Final = 0
TOOL: Final = 1
SERVER: Final = 2
"""Whom a failure is held against, as the circuit breakers count it."""

BAD: Final = "mcpace_bad_requests"
SHED: Final = "mcpace_shed_calls"
UPSTREAM: Final = "mcpace_upstream_errors"
CONNECTIONS: Final = "mcpace_shed_connections"

INTERNAL: Final = -32603
"""The JSON-RPC code of an error in the sidecar itself (JSON-RPC 2.0, section 5.1)."""


_LIMITS: Final = {
    "minute": "calls per minute",
    "day": "calls per day",
    **{
        row.limited: f"{row.uses} of this {row.limited} per minute"
        for row in METHODS.values()
        if row.limited
    },
}


class Reason:
    """A row of the table: what it means to be refused for this reason."""

    __slots__ = ("blames", "code", "http", "label", "metric", "record", "retry", "spares", "when")

    def __init__(
        self, code: int, http: int, metric: str, label: str, when: str, *,
        record: Status = "error", spares: bool = False, retry: bool = False, blames: int = NOBODY,
    ) -> None:  # fmt: skip
        self.code = code
        """Of JSON-RPC. Ours are HTTP's times a hundred: outside what the specifications reserve."""
        self.http = http
        self.metric = metric
        """The counter, without `_total`."""
        self.label = label
        """Its last label; empty: whoever refuses has them."""
        self.when = when
        """For the reference."""
        self.record: Status = record
        self.spares = spares
        """Whether it is HTTP 200 to a message whose error ends only the call."""
        self.retry = retry
        """Whether it says when to try again."""
        self.blames = blames
        """Whom the circuit breakers hold it against."""


PATH: Final = Reason(40400, 404, BAD, "path", "another path than the MCP endpoint and those of `passPaths`;"
                     " with `sse`, an endpoint of no open stream")  # fmt: skip
METHOD: Final = Reason(40500, 405, BAD, "method", "the endpoint takes POST, GET, DELETE and OPTIONS")
ORIGIN: Final = Reason(
    40300, 403, BAD, "origin",
    "this Host or Origin may not call: see `clients.allowedHosts`, `clients.allowedOrigins`",
)  # fmt: skip
HEADER: Final = Reason(
    40000, 400, BAD, "header",
    "a header that decides stands there more than once, or a gateway's names the client wrongly",
)  # fmt: skip
CODING: Final = Reason(41500, 415, BAD, "content_encoding", "the body of a POST must not be encoded")
TYPE: Final = Reason(
    41500, 415, BAD, "content_type", "the body of a POST must be application/json in UTF-8"
)
CREDENTIAL: Final = Reason(
    40100, 401, "mcpace_unauthorized_requests", "",
    "the X-API-Key is unknown, the token is not valid, or a credential is required",
)  # fmt: skip
TOKENS: Final = Reason(
    50300, 503, "mcpace_unauthorized_requests", "", "tokens cannot be verified now", retry=True
)
NOT_JSON: Final = Reason(
    PARSE_ERROR, 400, BAD, "json",
    "the body is no JSON, no UTF-8, nested over 512 levels deep, or holds a name twice",
)  # fmt: skip
MESSAGE: Final = Reason(
    INVALID_REQUEST, 400, BAD, "message",
    "the body is no JSON-RPC 2.0 message; a batch within a batch; an id that is no string or integer, or of"
    " over 1,000 characters or 20 digits; on a 2024-11-05 stream, an id whose response is still to come",
)  # fmt: skip
PARAMS: Final = Reason(INVALID_PARAMS, 400, BAD, "message", "a counted call does not say what it calls")
LIMITED: Final = Reason(
    42900, 429, "mcpace_limited_calls", "",
    "a limit refused the call, where `reply: http429` asks for that status; `data`: `retryAfterMs`, `tier`,"
    f" `limit` ({', '.join(_LIMITS)}), `remaining`",
    record="limited", spares=True, retry=True,
)  # fmt: skip
QUEUE: Final = Reason(
    50300, 503, SHED, "queue", "no room: the queue is full; `data`: `retryAfterMs`",
    record="shed", spares=True, retry=True,
)  # fmt: skip
OVERDUE: Final = Reason(
    50300, 503, SHED, "overdue", "no room: no slot came free in time; `data`: `retryAfterMs`",
    record="shed", spares=True, retry=True,
)  # fmt: skip
BREAKER: Final = Reason(
    50300, 503, SHED, "breaker", "a circuit breaker is open; `data`: `retryAfterMs`",
    record="shed", spares=True, retry=True,
)  # fmt: skip
AWAITING: Final = Reason(
    50300, 503, CONNECTIONS, "bodies", "no room for a request that waits for its 2024-11-05 stream",
    record="shed", retry=True,
)  # fmt: skip
UNOPENED: Final = Reason(
    50300, 503, "", "", "no room for the stream, or the sidecar is ending", record="shed", retry=True
)
SESSION: Final = Reason(
    40400, 404, BAD, "session",
    "there is no such session: it has ended; it was lost, and is older than `sessions.maxAge`, or"
    " `sessions.onLoss` is `end`; or its id is none of this server's (while the sidecar has seen no session"
    " of the server's, that one says so itself, most by -32001)",
)  # fmt: skip
HEARD: Final = Reason(
    40500, 405, "", "", "a GET with the `Last-Event-ID` of a response: there is nothing after it"
)
UNHEARD: Final = Reason(
    50200, 200, "", "",
    "on the stream of a GET with `Last-Event-ID`: what came after that event is held no more",
    record="failed",
)  # fmt: skip
STRANDED: Final = Reason(
    50200, 502, "", "", "the 2024-11-05 stream that its answer belongs to has ended", record="cancelled"
)
NO_RESPONSE: Final = Reason(
    50200, 200, "", "",
    "in a batch: no response came, or more than is held of all answers together (16 MiB)",
    record="failed",
)  # fmt: skip
BROKEN: Final = Reason(
    INTERNAL, 500, "mcpace_internal_errors", "", "a defect in the sidecar; the log says where",
    record="failed", spares=True,
)  # fmt: skip

OF_HTTP: Final[dict[str, Reason]] = {
    reason.label: reason
    for reason in (
        Reason(INVALID_REQUEST, 400, BAD, "request_line", "the request line is not valid HTTP/1.1"),
        Reason(INVALID_REQUEST, 400, BAD, "target", "the request's target is no path"),
        Reason(
            INVALID_REQUEST, 400, BAD, "host", "there is no Host header, more than one, or it is no host"
        ),
        Reason(INVALID_REQUEST, 400, BAD, "head", "a line of the head is malformed"),
        Reason(
            INVALID_REQUEST,
            400,
            BAD,
            "header",
            "a header may be taken for one that decides, or Connection names one that does",
        ),
        Reason(INVALID_REQUEST, 400, BAD, "framing", "the request is ambiguous about its length"),
        Reason(INVALID_REQUEST, 408, BAD, "slow", "the request took too long to arrive"),
        Reason(
            INVALID_REQUEST,
            413,
            BAD,
            "body_size",
            "the body is longer than `maxRequestBytes`, or than there is ever room for",
        ),
        Reason(INVALID_REQUEST, 431, BAD, "head_size", "the head is longer than 32 KiB"),
        Reason(INVALID_REQUEST, 431, BAD, "head_lines", "the head has more than 200 lines"),
        Reason(50300, 503, CONNECTIONS, "connections", "no room for the connection", retry=True),
        Reason(50300, 503, CONNECTIONS, "bodies", "no room for a request of this length", retry=True),
    )
}
"""What the reasons of a `ProtocolError` mean, where a client's request raised it."""


def _failure(code: int, http: int, label: str, when: str, blames: int = SERVER) -> Reason:
    return Reason(code, http, UPSTREAM, label, when, record="failed", spares=True, blames=blames)


OF_SERVER: Final[dict[str, Reason]] = {
    reason.label: reason
    for reason in (
        _failure(50200, 502, "connect", "the server is down, or no process of stdio can be started"),
        _failure(
            50200,
            502,
            "closed",
            "the server closed the connection without an answer, or its process of stdio ended",
        ),
        _failure(50200, 502, "truncated", "the server's answer broke off"),
        _failure(50200, 502, "malformed", "the server did not answer in HTTP"),
        _failure(50200, 502, "stray", "the server answered with the id of another request"),
        _failure(
            50300,
            503,
            "busy",
            "no connection to the server came free in time; or no process of stdio did"
            " (`stdio.maxProcesses`), or it does not read",
        ),
        _failure(
            50400,
            504,
            "timeout",
            "the server was silent for longer than `upstream.timeout`, or a process of stdio at its start"
            " for longer than `stdio.startTimeout`",
            TOOL,
        ),
        _failure(INTERNAL, 500, "internal", "a defect in the sidecar, where it read the answer", NOBODY),
    )
}
"""What the reasons of an `UpstreamError` mean."""

TABLE: Final = (
    NOT_JSON, MESSAGE, *(row for row in OF_HTTP.values() if row.code == INVALID_REQUEST), PARAMS, BROKEN,
    HEADER, CREDENTIAL, ORIGIN, PATH, SESSION, METHOD, HEARD, CODING, TYPE, LIMITED, STRANDED, NO_RESPONSE,
    UNHEARD,
    QUEUE, OVERDUE, BREAKER, AWAITING, UNOPENED, TOKENS,
    *(row for row in OF_HTTP.values() if row.code != INVALID_REQUEST), *OF_SERVER.values(),
)  # fmt: skip
"""All of them, as the reference lists them."""


class Refusal:
    """One no: for which reason, in which words."""

    __slots__ = ("data", "labels", "lines", "message_id", "reason", "seconds", "words")

    def __init__(
        self, reason: Reason, words: str, *, seconds: float = 1.0, lines: bytes = b"",
        labels: tuple[str, ...] = (), data: dict[str, Any] | None = None, message_id: bytes = b"",
    ) -> None:  # fmt: skip
        """`message_id`: what it is said to, where that is not the call's own."""
        self.reason = reason
        self.words = words
        self.seconds = seconds
        """When to try again, where its reason says so."""
        self.lines = lines
        """Further lines of its head."""
        self.labels: tuple[str, ...] = (reason.label,) if reason.label else labels
        self.data = data
        self.message_id = message_id

    def reply(self, message_id: bytes, *, survivable: bool) -> tuple[bytes, bytes, int]:
        """Status line and header lines, body, HTTP status. `survivable`: an error ends only the call."""
        http = 200 if survivable and self.reason.spares else self.reason.http
        return self._head(http), self.body(message_id), http

    def result(self, message_id: bytes) -> tuple[bytes, bytes]:
        """The same as a tool's result, for the model to read."""
        return self._head(200), tool_error(message_id, self.words, self.data)

    def body(self, message_id: bytes) -> bytes:
        """The JSON-RPC error alone."""
        data = self.data
        if data is None and self.reason.retry and self.reason.spares:
            data = {"retryAfterMs": _milliseconds(self.seconds)}
        return responses.error_body(self.message_id or message_id, self.reason.code, self.words, data)

    def _head(self, http: int) -> bytes:
        reason = self.reason
        head = status_line(http) + JSON + self.lines
        head += _INSTEAD.get(reason.http, b"")
        if reason.retry:
            head += b"Retry-After: %d\r\n" % math.ceil(_milliseconds(self.seconds) / 1000)
        return head


_INSTEAD: Final = {
    405: b"Allow: POST, GET, DELETE, OPTIONS\r\n",
    415: b"Accept: application/json\r\nAccept-Encoding: identity\r\n",
}
"""What would be accepted, by the status of a refusal (RFC 9110, section 15.5)."""


def broken() -> Refusal:
    """Something went wrong in the sidecar itself."""
    return Refusal(BROKEN, "Internal error")


def no_session() -> Refusal:
    """There is no such session (any more): clients begin another (MCP 2025-11-25, session management)."""
    return Refusal(SESSION, "Session not found")


def of_message(error: MessageError, message_id: bytes) -> Refusal:
    """The body is no acceptable message."""
    reason = {PARSE_ERROR: NOT_JSON, INVALID_PARAMS: PARAMS}.get(error.code, MESSAGE)
    return Refusal(reason, str(error), message_id=message_id)


def unauthorized(words: str, status: int, more: bytes = b"") -> Refusal:
    """Nobody we know (RFC 6750, section 3). `more`: further parameters of the challenge."""
    if status != 401:
        return Refusal(TOKENS, words)
    return Refusal(CREDENTIAL, words, lines=b'WWW-Authenticate: Bearer realm="mcp"%b\r\n' % more)


def limited(verdict: Verdict, tier: str, lines: bytes) -> Refusal:
    """The call is over a limit."""
    words = "Limits cannot be checked now: retry shortly."
    milliseconds = _milliseconds(verdict.retry_after)
    if verdict.kind is not None:
        words = (
            f"Rate limit exceeded ({_LIMITS[verdict.kind]}, tier {tier}): retry in {_wait(milliseconds)}."
        )
    data: dict[str, Any] = {"retryAfterMs": milliseconds, "tier": tier, "limit": verdict.kind}
    if verdict.left is not None:
        data["remaining"] = max(0, int(min(verdict.left)))
    labels = tier, verdict.kind or "unavailable"
    return Refusal(LIMITED, words, seconds=verdict.retry_after, lines=lines, labels=labels, data=data)


def tool_error(message_id: bytes, words: str, data: dict[str, Any] | None = None) -> bytes:
    """A tool result that says what went wrong, for the model to read."""
    result: dict[str, Any] = {"content": [{"type": "text", "text": words}], "isError": True}
    if data:
        result["_meta"] = {"mcpace.dev/refusal": data}
    result["resultType"] = "complete"
    return responses.result_body(message_id, msgspec.json.encode(result))


def _milliseconds(seconds: float) -> int:
    return max(1, math.ceil(seconds * 1000))


def _wait(milliseconds: int) -> str:
    seconds = milliseconds / 1000
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
