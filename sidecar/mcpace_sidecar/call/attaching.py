"""A call whose stream is what the server says in a session: it goes on in one process after another."""

from __future__ import annotations

from time import monotonic
from typing import Final

from mcpace_sidecar.call.answer import Answer
from mcpace_sidecar.call.call import EVENT_STREAM
from mcpace_sidecar.call.listening import Listening
from mcpace_sidecar.call.sent import Asker, Sent
from mcpace_sidecar.contract.backoff import Backoff
from mcpace_sidecar.errors import UpstreamError
from mcpace_sidecar.http.head import ResponseHead
from mcpace_sidecar.sessions import event_ids

AGAIN: Final = 0.05
"""Seconds until a stream is asked for again that the server still holds for another listener."""
_LIVES: Final = 5.0
"""Seconds after which a stream was not in vain, and at most until one is asked for again."""
_ATTACHES: Final = 100
"""How often that is done."""


class Attaching(Sent):
    """What asks for its stream again."""

    def __init__(self, asker: Asker, answer: Answer) -> None:
        super().__init__(asker, answer)
        self._repeats = 0
        """How often the call was sent again because of what became of the server."""
        self._looks = 0
        self._since = 0.0
        """Since when the server is not there; 0: it is."""
        self._listened = 0.0
        """Since when the server speaks on the session's stream."""
        self._pauses: Backoff | None = None
        """Before it is asked for that again."""

    def _listens_again(self, error: UpstreamError) -> bool:
        """Whether its stream is asked for again: it has been heard, or whoever holds it is only busy."""
        stream = self._answer.stream
        if isinstance(stream, Listening):
            goes_on = stream.may_go_on and not stream.answered()
            if error.reason not in ("closed", "truncated", "busy") or not goes_on:
                return False
        elif not self._elsewhere or error.reason != "busy" or self._looks >= _ATTACHES:
            return False
        else:
            self._looks += 1
        pauses = self._pauses = self._pauses or Backoff(AGAIN, _LIVES)
        if monotonic() - self._listened > _LIVES and self._listened:
            pauses.reset()
        self._again_in(pauses.next())
        return True

    def listen(self) -> None:
        """The server speaks on the session's stream now: say first what was lost before."""
        session, stream = self._call.context.live, self._answer.stream
        if session is not None and isinstance(stream, Listening):
            self._repeats, self._looks, self._since = 0, 0, 0.0
            self._listened = monotonic()
            if self._answer.recording is not None:
                self._answer.recording.hear(event_ids.process_of(self.inner))
            own = not stream.is_of_call
            news, session.news = (session.news, b"") if own else (b"", session.news)
            stream.tell(news, session if own else None, self, self.mark)

    def _attach(self, stream: Listening, head: ResponseHead, body: bytes) -> None:
        """The server answers for the stream that another process of it had begun."""
        if head.status == 200 and head.content_type == EVENT_STREAM:
            self.listen()
            if body:
                stream.piece(body)
                stream.end()
        elif head.status == 409 and self._looks < _ATTACHES:
            self._looks += 1
            self._again_in(AGAIN)
        else:
            self._asking.drop()
            stream.conclude()

    def moved(self) -> None:
        """The session goes on in another process: listen to that (table.Listener)."""
        session = self._call.context.live
        elsewhere = session is not None and (session.epoch != self._epoch or session.owner != self._owner)
        if elsewhere and not self._call.ended and self._answer.waiting is not self:
            self._again_in(0.0)
