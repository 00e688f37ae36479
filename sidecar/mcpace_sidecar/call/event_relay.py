"""Streaming events: each is read before it passes, so that the response among them is kept and counted."""

from __future__ import annotations

from typing import Final

from mcpace_sidecar.call.flow import Flow, Flowing
from mcpace_sidecar.call.opaque import Opaque
from mcpace_sidecar.call.stream import Streamed
from mcpace_sidecar.http import sse
from mcpace_sidecar.http.head import ResponseHead
from mcpace_sidecar.http.ledger import Holding, Ledger
from mcpace_sidecar.mcp import answers, responses
from mcpace_sidecar.mcp.answers import Outcome

_UNREAD: Final = Outcome(ok=True, result=b"", complete=False)
"""What is taken for the response that passes unread."""


class EventRelay(Flowing):
    """Events, each read before it passes; those that come at once pass at once."""

    def __init__(self, call: Streamed, flow: Flow, head: ResponseHead, gathered: Ledger) -> None:
        super().__init__(flow)
        self._call = call
        self._head = head
        self._events = sse.Events()
        self._holding = Holding(gathered)
        """Bytes of an event that is not whole."""
        self._conversed = False
        self._resumable = False
        """Whether the server may end the stream to be asked for the rest (MCP 2025-11-25, transports)."""
        self._recording = flow.answer.recording
        self._said: list[bytes] = []
        """What passes when all that came with it has been read."""

    def piece(self, piece: bytes) -> None:
        """Read the events that it completes."""
        self._flow.come += len(piece)
        for event in self._events.feed(piece):
            self._said.append(self._read(event))
            if self._flow.answer.ended:
                return
        outcome = self.outcome
        if self._events.overfull or not self._holding.resize(self._events.held):
            # Longer than any client reads: it passes unread.
            self._said.append(self._events.rest())
            self.release()
            self._say_all()
            self._flow.unrecord()
            self._flow.answer.stream = Opaque(self._flow, self._head, outcome or _UNREAD)
        else:
            self._say_all()
        if outcome is not None:
            self._flow.answer.responded("success" if outcome.ok else "error")

    def end(self) -> None:
        """The last event may lack its empty line. Without a response it is no success."""
        rest = self._events.rest()
        if rest:
            self._said.append(self._read(rest))
            if self._flow.answer.ended:
                return
            self._say_all()
        outcome = self.outcome
        if outcome is None and not self._resumable and self._call.unanswered():
            return
        self._flow.settle("success" if outcome is not None and outcome.ok else "error")

    def fail(self, words: bytes) -> bool:
        """As an event."""
        if self.outcome is None:
            event = sse.event_of(words)
            if self._recording is None:
                self._said.append(self._call.concluding(event))
            else:
                self._said.append(self._numbered(event, last=True))
        self._say_all()
        return True

    def release(self) -> None:
        """Hold no event that is not whole."""
        self._holding.resize(0)

    def _say_all(self) -> None:
        """Pass on what has been read, in one write."""
        said, self._said = b"".join(self._said), []
        if said:
            self._flow.say(said)

    def _read(self, event: bytes) -> bytes:
        data = sse.data_of(event)
        if not data:
            if sse.id_of(event) is None:
                return event
            self._resumable = True
            return self._numbered(event)
        what = answers.kind(data)
        if what in ("request", "notification"):
            told = self._call.told(data)
            if told is not data:
                data, event = told, sse.with_data(event, told)
        if what == "request":
            self._conversed = True
            self._call.asked(answers.id_of(data))
        elif what == "response" and self._call.is_stray(data):
            self._say_all()
            if self.outcome is None:
                self._call.strayed()
            else:
                self.conclude()
            return b""
        elif what == "response" and self.outcome is None:
            outcome = answers.read_answer(data)
            if self._conversed:
                outcome = Outcome(ok=outcome.ok, result=outcome.result, complete=False, state=outcome.state)
            self.outcome = outcome
            shaped = self._call.take(outcome)
            if shaped is not None:
                event = sse.with_data(event, responses.result_body(answers.id_of(data), shaped))
            return self._numbered(event, last=True)
        return self._numbered(event)

    def _numbered(self, event: bytes, *, last: bool = False) -> bytes:
        """The event, under an id of ours where it is held; its line passes before it."""
        if self._recording is None:
            return event
        line, event = self._recording.add(event, last=last)
        self._said.append(line)
        return event
