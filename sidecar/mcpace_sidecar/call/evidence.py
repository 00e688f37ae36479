"""What the server's answer shows of the request it arrived for. Pure."""

from __future__ import annotations

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
