"""The stream on which a session's client hears the server: it outlives the server's own."""

from __future__ import annotations

from mcpace_sidecar.call import keeping
from mcpace_sidecar.call.flow import Flow, Flowing
from mcpace_sidecar.http import sse
from mcpace_sidecar.http.ledger import Holding, Ledger
from mcpace_sidecar.mcp import answers
from mcpace_sidecar.sessions import epochs, event_ids
from mcpace_sidecar.sessions.session import Listener, Session


class Listening(Flowing):
    """Whole events, from one process of the server after another; an outcome only where a call goes on."""

    def __init__(self, flow: Flow, gathered: Ledger) -> None:
        super().__init__(flow)
        self._events = sse.Events()
        self._holding = Holding(gathered)
        """Bytes of an event that is not whole."""
        self._recording = flow.answer.recording
        after = flow.answer.call.after
        self.is_of_call: bool = after is not None and after.kind == event_ids.MESSAGE
        """Whether it goes on with a call's stream, and is not the session's own."""
        self.last = b""
        """The last id that came with an event."""
        self._whole = True
        """Whether only whole events have passed."""
        self._session: Session | None = None
        self._listener: Listener | None = None
        self._mark = ""
        """What the ids of the server's questions begin with."""

    def piece(self, piece: bytes) -> None:
        """Pass on the events that it completes."""
        flow = self._flow
        flow.come += len(piece)
        if not self._whole:
            flow.say(piece)
            return
        said = b"".join(map(self._said, self._events.feed(piece)))
        if self._events.overfull or not self._holding.resize(self._events.held):
            self._whole = False  # longer than is held: from here on it passes as it comes
            flow.unrecord()
            self._recording = None
            self._holding.resize(0)
            said += self._events.rest()
        if said:
            flow.say(said)

    @property
    def may_go_on(self) -> bool:
        """Whether other events may follow those that have passed."""
        return self._whole

    def _said(self, event: bytes) -> bytes:
        """An event as the client sees it."""
        data, recording = sse.data_of(event), self._recording
        if data and self._mark:
            marked = epochs.to_client(self._mark, data)
            event = event if marked is data else sse.with_data(event, marked)
        theirs = sse.id_of(event)
        self.last = theirs or self.last
        last = self.is_of_call and data != b"" and answers.kind(data) == "response"
        if last:
            self.outcome = outcome = answers.read_answer(data)
            answer = self._flow.answer
            if not (recording.raw if recording is not None else answer.relayed):
                event = keeping.resumed_event(
                    answer.plane, answer.reader or answer.call, event, data, outcome
                )
        if recording is None or (not data and theirs is None):
            return event
        return b"".join(recording.add(event, last=last))

    def tell(self, events: bytes, session: Session | None, listener: Listener, mark: str) -> None:
        """Hear another process, after some events of ours. What the last one's event began with is gone.

        `session`: whose stream this is now; None: nobody's. `mark`: what the ids of its questions begin
        with.
        """
        self._session, self._listener, self._mark = session, listener, mark
        if session is not None:
            session.listener = listener
        self._events = sse.Events()
        self._holding.resize(0)
        if events:
            self._flow.say(b"".join(map(self._said, sse.Events().feed(events))))

    def end(self) -> None:
        """The server has ended it: its client opens another."""
        rest = self._events.rest()
        if rest:
            self._flow.say(self._said(rest) if self._whole else rest)
        self.conclude()

    def fail(self, words: bytes) -> bool:
        """It has no response, so no error: it ends, and its client opens another."""
        del words
        return self._whole

    def release(self) -> None:
        """Hold no event that is not whole."""
        self._holding.resize(0)
        session, self._session = self._session, None
        if session is not None and session.listener is self._listener:
            session.listener = None
        self._listener = None
