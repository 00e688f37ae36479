"""What the server's answer shows of the request it arrived for. Pure."""

from __future__ import annotations

import re
from typing import Final

from mcpace_sidecar.call.call import EVENT_STREAM
from mcpace_sidecar.call.stream import Stream
from mcpace_sidecar.http.head import ResponseHead
from mcpace_sidecar.mcp import answers
from mcpace_sidecar.mcp.request import Message

NOTHING: Final = 0
READ: Final = 1
"""That the server has read the request: by its status alone."""
BORNE: Final = 2
"""That besides the answer bears the request's id."""
PLAIN: Final = 3
"""That besides it is a whole and good result."""

_UNKNOWN: Final = re.compile(
    rb"(?i)no valid session|(?:invalid|expired|unknown) (?:or \w+ )?session"
    rb"|session[^\"]{0,64}(?:not found|expired|unknown)"
)
"""How servers word an HTTP 400 that says it is the session's."""
_FIRST_LINES: Final = 120
"""Bytes in which all lines stand but for the data of a plain result (mcp.answers)."""


def shows(
    message: Message | None,
    head: ResponseHead,
    body: bytes | None,
    stream: Stream | None,
    *,
    elsewhere: bool,
) -> int:
    """What an answer shows of the request. `elsewhere`: its response may come on another stream.

    A refusal shows nothing, nor does a 200 without the response that was asked for. `body`: None where it
    was streamed.
    """
    good = READ if head.status < 300 else NOTHING
    if message is None or message.id is None or message.method is None or not head.plain:
        return good
    if body is None and stream is not None:
        if stream.bears(message.id):
            return BORNE
    elif body:
        events = head.content_type == EVENT_STREAM
        if answers.is_plain_result(body, message.id, events=events):
            return PLAIN
        if answers.bears(body, message.id, events=events):
            return BORNE
    return good if head.status != 200 or elsewhere else NOTHING


def knows_no_session(status: int, body: bytes) -> bool:
    """Whether the server says that it does not know the session."""
    return status == 404 or (status == 400 and _UNKNOWN.search(body) is not None)


def needs_reading(body: bytes, shown: int, mark: str) -> bool:
    """Whether whole events are read one by one: for ids and questions, or for want of the response."""
    if shown == PLAIN:
        return body.startswith(b"id:") or body.find(b"\nid:", 0, _FIRST_LINES) >= 0
    if shown == NOTHING or body.startswith(b"id:") or b"\nid:" in body:
        return True
    return mark != "" and b'"method"' in body


def stray(
    message: Message | None, body: bytes, shown: int, *, events: bool, refused: bool
) -> answers.Stray | None:
    """The response to another request that an answer holds, if it does.

    An error may bear an id that nobody has asked with: what a server says who could not read it.
    `refused`: by its HTTP status, so that an error may bear any: what counts is that.
    """
    if message is None or message.id is None or shown >= BORNE:
        return None
    found = answers.stray(body, message.id, events=events)
    return None if found is None or (refused and found.is_error) else found
