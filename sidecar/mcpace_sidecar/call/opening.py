"""How a session begins: the answer to `initialize` names it by an id of ours.

The id carries the version that was negotiated. So of an answer that is streamed as events the response is
waited for before its head is passed on.
"""

from __future__ import annotations

from typing import Final

import msgspec

from mcpace_sidecar.call.answer import Answer
from mcpace_sidecar.call.call import Call
from mcpace_sidecar.call.event_relay import EventRelay
from mcpace_sidecar.call.flow import Flow
from mcpace_sidecar.call.plane import Plane
from mcpace_sidecar.call.stream import Stream, Streamed
from mcpace_sidecar.http import sse
from mcpace_sidecar.http.head import ResponseHead
from mcpace_sidecar.http.ledger import Ledger
from mcpace_sidecar.mcp import answers
from mcpace_sidecar.mcp.answers import Outcome
from mcpace_sidecar.mcp.jsonrpc import Negotiated
from mcpace_sidecar.mcp.methods import INITIALIZE
from mcpace_sidecar.sessions.sealing import UNBOUND

_negotiated: Final = msgspec.json.Decoder(Negotiated)
_MOST: Final = 64 * 1024
"""Bytes before the end of the response, beyond which nobody waits for it."""


def may_open(call: Call) -> bool:
    """Whether a call may begin a session under an id of ours."""
    message, context = call.message, call.context
    if message is None or message.method != INITIALIZE or message.id is None:
        return False
    return context.settings.continues and context.route == "mcp"


def version_of(outcome: Outcome) -> bytes:
    """The version that an answer to `initialize` has negotiated; empty where it is no result."""
    try:
        return _negotiated.decode(outcome.result).protocol_version.encode() or b"-"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return b""


def lines(plane: Plane, call: Call, head: ResponseHead, version: bytes) -> bytes:
    """The lines of an answer's head, with our id of the session in the place of the server's.

    `version`: what `initialize` has negotiated; where it begins no session, and is in none, no id is given.
    """
    context, line = call.context, b""
    if not context.settings.continues or context.route != "mcp":
        return head.onward
    if version and head.status < 300 and may_open(call):
        message = call.message
        assert message is not None
        binding = context.binding(call.client) if call.client is not None else UNBOUND
        inner = head.get(b"mcp-session-id") or b""
        line = b"mcp-session-id: %b\r\n" % plane.table.mint(inner, version, message.params, binding)
    elif context.live is not None:
        return context.heads.renamed(head, context.live.id)
    return head.onward.replace(head.session_line, line, 1)


class Opening(Stream):
    """Events up to the response; then they are relayed as any."""

    def __init__(self, call: Streamed, answer: Answer, head: ResponseHead, gathered: Ledger) -> None:
        super().__init__()
        self._call = call
        self._answer = answer
        self._head = head
        self._gathered = gathered
        self._held = b""
        self._events = sse.Events()

    def piece(self, piece: bytes) -> None:
        """Hold it, or begin where the response is among what has come."""
        self._held += piece
        for event in self._events.feed(piece):
            data = sse.data_of(event)
            if data and answers.kind(data) == "response":
                self._call.version = version_of(answers.read_answer(data))
                self._begin()
                return
        if len(self._held) > _MOST:
            self._begin()

    def _begin(self) -> EventRelay:
        head, answer = self._head, self._answer
        answer.begin(self._call.lines(head) + answer.limit_lines, None, head.status, events=True)
        relay = EventRelay(self._call, Flow(answer, pulse=True), head, self._gathered)
        answer.stream = relay
        held, self._held = self._held, b""
        relay.piece(held)
        return relay

    def end(self) -> None:
        """There is no response, unless its event lacks its empty line."""
        data = sse.data_of(self._held)
        if data and answers.kind(data) == "response":
            self._call.version = version_of(answers.read_answer(data))
        self._begin().end()

    def release(self) -> None:
        """What is held is short."""
        self._held = b""

    def bears(self, message_id: bytes) -> bool:
        """Whether what is held does."""
        return answers.bears(self._held, message_id, events=True)
