"""An answer that arrives in pieces: passed on as it comes, and read on the way.

Events are read one by one, so that the response among them can be kept, counted and cut into
pages; those that come at once pass at once. JSON is held back until it is whole, up to a bound;
of more than that its top level is read, a piece ahead of what passes. Everything else just passes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mcpace_sidecar.http import sse
from mcpace_sidecar.http.head import ResponseHead
from mcpace_sidecar.http.ledger import Holding
from mcpace_sidecar.mcp import answers, ids, responses
from mcpace_sidecar.mcp.answers import Outcome
from mcpace_sidecar.mcp.outline import Outline

if TYPE_CHECKING:
    from mcpace_sidecar.call.exchange import Exchange

EVENT_STREAM: Final = b"text/event-stream"
_READ: Final = 8 * 1024 * 1024
"""Bytes of JSON that are held until they are whole, to be kept or cut into pages."""
_JUDGED: Final = 1024 * 1024
"""Bytes of JSON that are held until they are whole, to be judged alone."""
_SHORT: Final = 64 * 1024
"""Bytes of JSON up to which it is likely to come whole: nothing of it is looked at before."""
_SIGN: Final = 16


class Streamed:
    """One streamed answer. `sent` counts its bytes."""

    def __init__(self, exchange: Exchange, head: ResponseHead) -> None:
        self.head = head
        self.sent = 0
        self._exchange = exchange
        self._downstream = exchange.downstream
        plain = head.status == 200 and head.get(b"content-encoding") is None
        self.is_events = head.content_type == EVENT_STREAM
        message = exchange.message
        asked = message is not None and message.id is not None
        read = self._reads = plain and (exchange.judged or exchange.reads or asked)
        self._events = sse.Events() if read and self.is_events else None
        self._held: list[bytes] | None = [] if read and not self.is_events else None
        self._holding = Holding(exchange.plane.pool.gathered)
        """Bytes that are held back here."""
        self._most = _READ if exchange.reads else _JUDGED
        self.outcome: Outcome | None = None
        """What the response said, once it has been passed on."""
        self._conversed = False
        self._pulse = sse.Pulse() if self.is_events and plain and head.length is None else None
        self._said: list[bytes] = []
        """What passes when all that came with it has been read."""
        self._outline = Outline()
        self._suspect = False
        self._tail = b""
        self._last = b""
        """Of JSON too large to be held: what is passed on when the next piece, or the end, has come."""
        if self._held is None:
            # Events that are read may be given another shape, and another length.
            length = head.length if self._events is None else None
            exchange.begin(head.onward + exchange.limit_lines, length)

    def piece(self, piece: bytes) -> None:
        """Take the next bytes."""
        self.sent += len(piece)
        if self._held is not None:
            self._held.append(piece)
            if self.sent > _SHORT:
                if self.sent - len(piece) <= _SHORT:
                    self._held = [piece := b"".join(self._held)]
                self._look_at(piece)
            if self.sent > self._most or not self._holding.resize(self.sent):
                self._let_go(b"".join(self._held))
        elif self._events is not None:
            for event in self._events.feed(piece):
                self._said.append(self._read(event))
                if self._exchange.ended:
                    return
            outcome = self.outcome
            if self._events.overfull or not self._holding.resize(self._events.held):
                self._said.append(self._events.rest())
                self._events = None  # longer than any client reads; it passes unread
                self.outcome = Outcome(ok=True, result=b"", complete=False)
            self._say_all()
            if outcome is not None:
                self._exchange.responded("success" if outcome.ok else "error")
        elif self._last:
            self._look_at(piece)
            if self._is_anothers():
                self._exchange.strayed()
                return
            self._last, piece = piece, self._last
            self._say(piece)
        else:
            self._say(piece)

    def release(self) -> None:
        """Hold nothing more: it has ended."""
        self._holding.resize(0)

    def beat(self, now: float, every: float) -> None:
        """Say that the stream is open, where nothing has been said for so many seconds."""
        if self._pulse is not None and self._pulse.due(now, every):
            self._downstream.send(sse.PING)

    def _say(self, piece: bytes) -> None:
        if self._pulse is not None:
            self._pulse.spoke(piece)
        self._downstream.send(piece)

    def _say_all(self) -> None:
        """Pass on what has been read, in one write."""
        said, self._said = b"".join(self._said), []
        if said:
            self._say(said)

    def _let_go(self, whole: bytes) -> None:
        """Pass on JSON that is too large to be held, unless it is known to answer another request."""
        self._held = None
        self.release()
        if self.sent <= _SHORT:
            self._look_at(whole)
        self._outline.flush()
        if self._is_anothers():
            self._exchange.strayed()
            return
        self._exchange.begin(self.head.onward + self._exchange.limit_lines, self.head.length)
        self._last = whole

    def _is_anothers(self) -> bool:
        outline = self._outline
        return (
            outline.done
            and outline.is_response
            and self._exchange.is_anothers(outline.id, is_error=outline.is_error)
        )

    def bears(self, message_id: bytes) -> bool:
        """Whether what has come surely holds the response to this request."""
        if self._held is not None:
            self._held = [b"".join(self._held)]
            return answers.bears(self._held[0], message_id)
        self._outline.flush()
        return self.outcome is not None or ids.same_id(self._outline.id, message_id)

    def end(self) -> None:
        """The answer is whole."""
        if self._held is not None:
            self._exchange.take_answer(self.head, b"".join(self._held))
            return
        if self._events is not None:
            rest = self._events.rest()
            if rest:
                said = self._read(rest)
                if self._exchange.ended:
                    return
                self._downstream.send(said)
        elif self._last:
            self._outline.flush()
            if self._is_anothers():
                self._exchange.strayed()
                return
            self._downstream.send(self._last)
        ok = self.head.status == 200
        if self.outcome is not None:
            ok = self.outcome.ok
        elif self._suspect or (self.is_events and self._reads):
            # A stream of ours to judge that ended without a response is no success.
            ok = False
        failed = self.head.status >= 500
        self._exchange.settle("failed" if failed else "success" if ok else "error", sent=self.sent)

    def conclude(self) -> None:
        """End with the response that has been passed on, whatever becomes of the rest of the stream."""
        outcome = self.outcome
        self._exchange.settle("success" if outcome is None or outcome.ok else "error", sent=self.sent)

    def fail(self, words: bytes) -> bool:
        """Say in the stream that it ends here, unless it has its response; False if there is no way to."""
        if self._events is None:
            return False
        self._say_all()
        if self.outcome is None:
            self._downstream.send(sse.event_of(words))
        return True

    @property
    def answered(self) -> bool:
        """Whether its response has been passed on, whole."""
        return self.outcome is not None and self._events is not None

    def _read(self, event: bytes) -> bytes:
        data = sse.data_of(event)
        if not data:
            return event
        what = answers.kind(data)
        if what == "request":
            self._conversed = True
            self._exchange.asked(answers.id_of(data))
        elif what == "response" and self._exchange.is_stray(data):
            self._say_all()
            if self.outcome is None:
                self._exchange.strayed()
            else:
                self.conclude()
            return b""
        elif what == "response" and self.outcome is None:
            outcome = answers.read_answer(data)
            if self._conversed:
                outcome = Outcome(ok=outcome.ok, result=outcome.result, complete=False, state=outcome.state)
            self.outcome = outcome
            shaped = self._exchange.take(outcome)
            if shaped is not None:
                return sse.with_data(event, responses.result_body(answers.id_of(data), shaped))
        return event

    def _look_at(self, piece: bytes) -> None:
        """Read the top level of what is too large to be read, and scan it for signs of an error."""
        self._outline.feed(piece)
        seen = self._tail + piece
        self._suspect = self._suspect or answers.suspect(seen)
        self._tail = seen[-_SIGN:]
