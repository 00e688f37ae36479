"""The words of every answer that is the sidecar's own. Pure: bytes out, nothing sent.

What refuses a judged call is HTTP 200 with a JSON-RPC error: that is the one form every
official client reports as an error of the call and survives.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from mcpace_sidecar.http.server import status_line
from mcpace_sidecar.limits.bucket import Verdict
from mcpace_sidecar.mcp import responses

LIMITED: Final = 42900
"""The JSON-RPC code of a refused call: outside the ranges that the specifications reserve.
The sidecar's other codes are HTTP's, times a hundred, too."""

SHED: Final = 50300
"""The JSON-RPC code of what there is no room for."""

INTERNAL: Final = -32603
"""The JSON-RPC code of an error in the sidecar itself."""

JSON: Final = b"Content-Type: application/json\r\n"
SOON: Final = b"Retry-After: 1\r\n"
OK_JSON: Final = status_line(200) + JSON
EVENTS: Final = b"Content-Type: text/event-stream\r\nCache-Control: no-cache\r\nX-Accel-Buffering: no\r\n"

Reply = tuple[bytes, bytes]
"""(status line and header lines, body)."""


_INSTEAD: Final = {
    405: b"Allow: POST, GET, DELETE, OPTIONS\r\n",
    415: b"Accept: application/json\r\nAccept-Encoding: identity\r\n",
}
"""What would be accepted, by the status of a refusal (RFC 9110, section 15.5)."""


def rejected(status: int, words: str, more: bytes = b"") -> Reply:
    """What is no acceptable request at all."""
    more += _INSTEAD.get(status, b"")
    return status_line(status) + more + JSON, responses.error_body(b"null", status * 100, words)


def unauthorized(words: str, status: int, more: bytes = b"") -> Reply:
    """Nobody we know (RFC 6750, section 3). `more`: further parameters of the challenge."""
    if status != 401:
        return rejected(status, words, SOON)
    return rejected(status, words, b'WWW-Authenticate: Bearer realm="mcp"%b\r\n' % more)


def failed(message_id: bytes, status: int, words: str, *, survivable: bool) -> Reply:
    """The server did not answer. `survivable`: a JSON-RPC error, which ends only the call."""
    head = status_line(200 if survivable else status) + JSON
    return head, responses.error_body(message_id, status * 100, words)


def broken(message_id: bytes, *, survivable: bool) -> Reply:
    """Something went wrong in the sidecar itself (JSON-RPC 2.0, section 5.1)."""
    head = status_line(200 if survivable else 500) + JSON
    return head, responses.error_body(message_id, INTERNAL, "Internal error")


def shed(message_id: bytes, words: str, seconds: float) -> Reply:
    """There is no room for the call now."""
    milliseconds = max(1, math.ceil(seconds * 1000))
    head = OK_JSON + b"Retry-After: %d\r\n" % math.ceil(milliseconds / 1000)
    return head, responses.error_body(message_id, SHED, words, {"retryAfterMs": milliseconds})


def limited(message_id: bytes, verdict: Verdict, tier: str, form: str, lines: bytes) -> Reply:
    """The call is over a limit. `form` is the manifest's `reply`."""
    retry_ms = max(1, math.ceil(verdict.retry_after * 1000))
    words = "Limits cannot be checked now: retry shortly."
    if verdict.kind is not None:
        which, when = _LIMIT_WORDS[verdict.kind], _wait(retry_ms)
        words = f"Rate limit exceeded ({which}, tier {tier}): retry in {when}."
    status = 429 if form == "http429" else 200
    head = status_line(status) + JSON + lines + b"Retry-After: %d\r\n" % math.ceil(retry_ms / 1000)
    data: dict[str, Any] = {"retryAfterMs": retry_ms, "tier": tier, "limit": verdict.kind}
    if verdict.left is not None:
        data["remaining"] = max(0, int(min(verdict.left)))
    if form == "toolError":
        return head, tool_error(message_id, words, data)
    return head, responses.error_body(message_id, LIMITED, words, data)


def tool_error(message_id: bytes, words: str, data: dict[str, Any] | None = None) -> bytes:
    """A tool result that says what went wrong, for the model to read."""
    result: dict[str, Any] = {"content": [{"type": "text", "text": words}], "isError": True}
    if data:
        result["_meta"] = {"mcpace.dev/refusal": data}
    result["resultType"] = "complete"
    return responses.result_body(message_id, msgspec.json.encode(result))


_LIMIT_WORDS: Final = {
    "minute": "calls per minute",
    "day": "calls per day",
    "tool": "calls of this tool per minute",
    "prompt": "uses of this prompt per minute",
    "resource": "reads of this resource per minute",
}


def _wait(milliseconds: int) -> str:
    seconds = milliseconds / 1000
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
