"""The batches of 2025-03-26: messages in one request, and their responses in one answer."""

from __future__ import annotations

from mcpace_sidecar.call import refusals
from mcpace_sidecar.call.answer import Answer
from mcpace_sidecar.call.fanout import Fanout, Parent, Part
from mcpace_sidecar.http import sse
from mcpace_sidecar.http.downstream import status_line
from mcpace_sidecar.mcp import request
from mcpace_sidecar.mcp.responses import INVALID_REQUEST
from mcpace_sidecar.mcp.strictness import MessageError


def start(parent: Parent, answer: Answer) -> None:
    """Start the messages of a batch (MCP 2025-03-26, basic/transports); MessageError."""
    call = answer.call
    if isinstance(answer.downstream, Part):
        raise MessageError(INVALID_REQUEST, "A batch holds messages, and no other batch.")
    bodies = request.split(call.body)
    call.body = b""  # its parts have it

    def compose(fanout: Fanout) -> None:
        responses = [part.response for part in fanout.parts if part.response]
        if fanout.streaming:
            for response in responses:
                answer.send(sse.event_of(response))
            answer.settle("success")
        elif responses:
            answer.settle("success", refusals.OK_JSON, b"[" + b",".join(responses) + b"]")
        else:
            answer.settle("success", status_line(202), b"", 202)

    context = call.context.uncompressed(call.head)
    made = ((context, call.lines, call.mirrors, body) for body in bodies)
    Fanout(parent, answer, compose).start(len(bodies), made)
