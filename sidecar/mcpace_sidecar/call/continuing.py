"""A call of a session under an id of ours, which outlives the server's process.

The server does not know the session, or is not there: then the session is begun again in its new process,
once for all calls, and each is sent again if it cannot have been run before, or may run twice. Else it is
told so: no call is just left without an answer.
"""

from __future__ import annotations

import asyncio
import re
from time import monotonic
from typing import Final, Protocol

from mcpace_sidecar.call import evidence, refusals, refusing, room
from mcpace_sidecar.call.admission import Admission
from mcpace_sidecar.call.answer import Answer
from mcpace_sidecar.call.call import EVENT_STREAM
from mcpace_sidecar.call.listening import Listening
from mcpace_sidecar.call.refusals import Refusal
from mcpace_sidecar.call.waiting import Releasing
from mcpace_sidecar.contract.backoff import Backoff
from mcpace_sidecar.errors import UpstreamError
from mcpace_sidecar.http.backend import Backend
from mcpace_sidecar.http.downstream import status_line
from mcpace_sidecar.http.head import ResponseHead
from mcpace_sidecar.mcp import request
from mcpace_sidecar.mcp.methods import CANCELLED, TOLD
from mcpace_sidecar.mcp.request import Message
from mcpace_sidecar.relay import peer
from mcpace_sidecar.sessions import epochs, event_ids
from mcpace_sidecar.sessions.revival import RETURNS_WITHIN, Loss
from mcpace_sidecar.sessions.sealing import UNBOUND, Owner
from mcpace_sidecar.sessions.table import Revived, Session

_REPEATS: Final = 3
"""How often a call may be sent again because of what became of the server."""
_DENIALS: Final = 20
"""How often because another's credential was refused."""
_LEARNS: Final = 0.1
"""Seconds within which a sidecar that was started anew learns of its sessions."""
_NAMING: Final = frozenset({None, epochs.PROGRESS, CANCELLED})
"""The methods of messages that name others; None: an answer."""
_LOOKS: Final[tuple[float, ...]] = (0.05, 0.1, 0.2, 0.4, 0.5)
"""Seconds between two looks whether a server that has ended listens again; the last ones stay so."""
_FIRST_LINES: Final = 120
"""Bytes in which all lines stand but for the data of a plain result (mcp.answers)."""
_AGAIN: Final = 0.05
"""Seconds until a stream is asked for again that the server still holds for another listener."""
_LIVES: Final = 5.0
"""Seconds after which a stream was not in vain, and at most until one is asked for again."""
_ATTACHES: Final = 100
"""How often that is done."""
_UNDISTURBED: Final = 0.5
"""The part of a drain in which a session with a call in flight stays where that is."""
_STAYS: Final = 2.0
"""Seconds until others are asked again to take a session of a replica that ends."""
_UNKNOWN: Final = re.compile(
    rb"(?i)no valid session|(?:invalid|expired|unknown) (?:or \w+ )?session"
    rb"|session[^\"]{0,64}(?:not found|expired|unknown)"
)
"""How servers word an HTTP 400 that says it is the session's."""


class Asker(Protocol):
    """The asking of the server."""

    def ask(self, left: float | None = None) -> None:
        """Send the request."""

    def drop(self) -> None:
        """What comes of the answer is not wanted."""

    def fail(self, error: UpstreamError) -> None:
        """End without the server's answer."""

    def take_answer(self, head: ResponseHead, body: bytes) -> None:
        """Give this answer."""


class Continuing(Releasing):
    """What leads one call on, whatever becomes of the server's process. Once per call."""

    def __init__(self, asker: Asker, answer: Answer) -> None:
        self._asker: Asker | None = asker
        self._answer = answer
        answer.within = self
        self._call = answer.call
        self._plane = answer.plane
        self.pool: Backend = answer.plane.pool
        """Whom it was last sent to: the server, or the sidecar that holds the session."""
        self._epoch = -1
        self._owner: Owner | None = None
        """Those of the session as it was last sent."""
        self._elsewhere = False
        """Whether another sidecar was asked."""
        self._asked = False
        """Whether anybody was."""
        self.deadline = 0.0
        """When a slot must have come free for it, where the session has come over to this replica."""
        self.inner = b""
        """The server's id of the session in which it was last sent; empty: another sidecar was asked."""
        self.onward = b""
        """The head with which it was last sent."""
        self.mark = ""
        """What the ids of the server's questions begin with, where it is this sidecar that asks it."""
        self._repeats = 0
        self._denials = 0
        self._waited = False
        self._looks = 0
        self._since = 0.0
        """Since when the server is not there; 0: it is."""
        self._overdue: asyncio.TimerHandle | None = None
        """Ends the wait for the session."""
        self._listened = 0.0
        """Since when the server speaks on the session's stream."""
        self._pauses: Backoff | None = None
        """Before it is asked for that again."""
        self._given_up = False
        """Whether what the server says is passed on, whatever it is."""

    @property
    def _asking(self) -> Asker:
        assert self._asker is not None
        return self._asker

    def release(self) -> None:
        """The call has ended: no cycle stays, and nobody keeps it who would have led it on."""
        self._asker = None
        if self._overdue is not None:
            self._overdue.cancel()
        session = self._call.context.live
        if session is not None and session.reviving is not None and self.revived in session.reviving:
            session.reviving.remove(self.revived)

    def enter(self) -> bool:
        """Whether it can be sent now: not where its session has ended, or is being begun again."""
        call = self._call
        session = call.context.session_now()
        if session is None:
            refusing.refuse(self._answer, refusals.no_session())
            return False
        if session.reviving is not None:
            message = call.message
            if message is not None and message.method is None:
                self._answer.settle("success", status_line(202), b"", 202)  # whoever asked that has ended
                return False
            self._await_revival()
            session.reviving.append(self.revived)
            return False
        if call.context.relayed and not session.here:  # what is relayed goes no further
            if self._answer.begun:
                self._answer.cut()
                return False
            said = peer.verdict(peer.MOVED, session.owner, session.epoch)
            self._answer.settle("success", said, b"", 421)
            return False
        admission = self._answer.admission
        if admission is not None and admission.elsewhere is session.here and not self._goes_over(admission):
            return False
        self._epoch, self._owner = session.epoch, session.owner
        self._elsewhere = not session.here
        self.inner = session.inner if session.here else b""
        self.mark = epochs.mark_of(session.epoch, session.inner) if session.here else ""
        peers = self._plane.peers
        if session.here and not session.inner:  # nobody could begin it again when it was lost
            if not self._lost():
                refusing.refuse(self._answer, refusals.no_session())
            return False
        if self._plane.draining and peers is not None and session.here and self._hands_over(session):
            return False
        if session.here or peers is None:
            self.pool, self.onward = self._plane.pool, call.context.onward_now
        elif peers.is_shunned(session.owner.place):
            self._alone()
            return False
        else:
            self._plane.metrics.count("mcpace_relayed_calls")
            self.pool = peers.pool(session.owner.place)
            self.onward = call.context.onward_to(session, call.client)
        message = call.message
        here = session.here and message is not None and message.method in _NAMING
        if here and message is not None and not self._heed(session, message):
            self._answer.settle("success", status_line(202), b"", 202)  # whoever asked that has ended
            return False
        session.used = call.started
        if not session.client and call.client is not None:
            session.client = call.client.name
        self._asked = True
        return True

    def _hands_over(self, session: Session) -> bool:
        """Whether another replica takes the session over first, because this one ends.

        What is in flight ends here.
        """
        call, now = self._call, monotonic()
        message = call.message
        if message is not None:
            asks = message.method is not None and message.id is not None
        else:
            asks = call.head.method == b"GET"
        if not asks or now < session.stays or session.binding not in (UNBOUND, self._binding):
            return False
        patience = self._plane.settings.drain_timeout
        if now - self._plane.draining_since < patience * _UNDISTURBED and self._is_busy(session):
            return False
        session.stays = now + _STAYS
        self._await_revival()
        lines = call.context.sender + call.lines
        place = session.owner.place
        loss = Loss(call.head.target, lines, self._binding, place, session.epoch, "drained", down=True)
        self._plane.revival.revive(session, loss, self.revived)
        return True

    def _is_busy(self, session: Session) -> bool:
        """Whether the server is asked something in the session: it may ask back, and is to be answered."""
        return any(
            isinstance(other, Answer)
            and isinstance(other.within, Continuing)
            and other.within.is_asking(session)
            for other in self._plane.in_flight
        )

    def is_asking(self, session: Session) -> bool:
        """Whether this call of the session is at the server of this replica."""
        answer = self._answer
        asked = self.pool is self._plane.pool and self._asked and answer.waiting is not self
        return asked and not answer.endless and answer.call.context.live is session

    # -- the session has gone over to this replica, or from it (bulkhead.slots.Queued)

    def _goes_over(self, admission: Admission) -> bool:
        """Whether it may be sent where the session is now: slots and breakers are there."""
        if not admission.elsewhere:
            admission.leave()
            admission.elsewhere = True
            return True
        admission.elsewhere = False
        self._asking.drop()
        self.deadline = self._call.started + self._call.context.settings.patience
        return room.found(self._answer, admission, self)

    @property
    def ended(self) -> bool:
        """Whether it waits no more."""
        return self._call.ended

    def seated(self, left: float) -> None:
        """A slot has come free."""
        answer = self._answer
        answer.waiting = None
        try:
            if answer.admission is not None:
                answer.admission.seated(self)
            self._asking.ask(left)
        except Exception as error:  # noqa: BLE001 - because whatever it is, it is this call's end alone
            answer.broke("seat", error)

    def overdue(self) -> None:
        """No slot came free in time."""
        self._answer.waiting = None
        try:
            room.overdue(self._answer)
        except Exception as error:  # noqa: BLE001 - because of the same
            self._answer.broke("overdue", error)

    def _alone(self) -> None:
        """Whoever holds the session does not answer."""
        if not self._lost():
            error = UpstreamError("connect", "The replica that holds the session does not answer.")
            self._given_up = True
            self._asking.fail(error)

    def _heed(self, session: Session, message: Message) -> bool:
        """A message that names another; whether it is for the process that the session is in now."""
        call = self._call
        if message.method == CANCELLED:
            self._plane.recordings.cancel(session.key, request.cancelled(message))
            return True
        body = epochs.to_server(self.mark, call.body, message.id)
        if body is not None:
            call.body = body
        return body is not None

    # -- while it waits for something else than the server's answer (waiting.Waiting)

    def leads_on(self) -> bool:
        """The session is begun again, or cannot be, in bounded time."""
        return True

    def cancel(self) -> None:
        """Nobody waits any more: what comes finds that it has ended."""

    def pause(self, paused: bool) -> None:
        """Nothing is read."""

    def _park(self) -> None:
        self._asking.drop()
        self._answer.waiting = self

    def _await_revival(self) -> None:
        """Wait for as long as for any answer of the server's."""
        self._park()
        patience = self._call.context.settings.patience
        self._overdue = asyncio.get_running_loop().call_later(patience, self._give_up_waiting)

    def _give_up_waiting(self) -> None:
        if not self._call.ended and self._asker is not None and self._answer.waiting is self:
            words = "The server did not take the session again in time."
            self._asking.fail(UpstreamError("timeout", words))

    def _again_in(self, seconds: float) -> None:
        self._park()
        asyncio.get_running_loop().call_later(seconds, self._again)

    def _again(self) -> None:
        if self._call.ended:
            return
        try:
            self._answer.waiting = None
            self._asking.ask()
        except Exception as error:  # noqa: BLE001 - because whatever it is, it is this call's end alone
            self._answer.broke("session", error)

    # -- what the server says

    def heeds(self, head: ResponseHead, body: bytes) -> bool:
        """Look at an answer; whether it is not the call's: the session is lost, or its stream goes on."""
        status = head.status
        if self._elsewhere:
            verdict = head.get(peer.VERDICT)
            if verdict is not None:
                self._obey(verdict)
                return True
            self._hear(head.get(peer.EPOCH))
        unknown = not self._elsewhere and self._is_unknown(status, body)
        if unknown and not self._given_up and self._lost():
            return True
        stream = self._answer.stream
        if isinstance(stream, Listening):
            self._attach(stream, head, body)
            return True
        session = self._call.context.live
        if session is not None and status < 300:
            if self._call.head.method == b"DELETE":
                self._plane.table.end(session)
                self._plane.recordings.end(session.key)
            elif self._call.client is not None and session.accepted(self._binding, self._holder):
                self._plane.table.keep(session)
        return False

    def streams(self, body: bytes, shown: int) -> bool:
        """Whether whole events are read one by one: for ids and questions, or for want of the response."""
        if shown == evidence.PLAIN:
            return body.startswith(b"id:") or body.find(b"\nid:", 0, _FIRST_LINES) >= 0
        if shown == evidence.NOTHING or body.startswith(b"id:") or b"\nid:" in body:
            return True
        return self.mark != "" and b'"method"' in body

    @staticmethod
    def _is_unknown(status: int, body: bytes) -> bool:
        """Whether the server says that it does not know the session."""
        return status == 404 or (status == 400 and _UNKNOWN.search(body) is not None)

    def _hear(self, told: bytes | None) -> None:
        """The owner has begun the session again since it was last asked."""
        session = self._call.context.live
        if told and session is not None and not session.here and told.isdigit():
            session.epoch = max(session.epoch, int(told))

    def _obey(self, verdict: bytes) -> None:
        """The sidecar that was asked says itself what there is to do: it has not asked its server."""
        session, table = self._call.context.session_now(), self._plane.table
        self._asking.drop()
        if verdict == peer.ENDED and session is not None:
            table.end(session)
        if session is None or session.ended:
            refusing.refuse(self._answer, refusals.no_session())
            return
        if verdict == peer.AGAIN and not self._waited:
            self._waited = True
            self._again_in(_LEARNS)
            return
        moved = peer.whose(verdict)
        if moved is not None and self._repeats < _REPEATS and table.move(session, *moved):
            self._repeats += 1
            self._again_in(0.0)
        else:
            self._alone()

    def learn(self) -> None:
        """The server has taken what it was told."""
        session, message = self._call.context.live, self._call.message
        if session is not None and message is not None and message.method in TOLD:
            self._plane.table.learn(session, message.method or "", message.params)
            self._plane.table.keep(session)

    def told(self, lines: bytes) -> bytes:
        """The lines of an answer's head without what sidecars tell each other; with it, to another one."""
        lines = peer.without(lines)
        session = self._call.context.live
        if self._call.context.relayed and session is not None and session.here:
            known = peer.epoch_of(self._call.head.get(peer.EPOCH))[1]
            if session.epoch != known:
                lines += b"Mcpace-Epoch: %d\r\n" % session.epoch
        return lines

    # -- the session is lost

    def _lost(self, *, down: bool = False) -> bool:
        """The server does not know the session: whether the call goes on, or has ended, because of that.

        `down`: because it is not there.
        """
        call, plane, answer = self._call, self._plane, self._answer
        session = call.context.session_now()
        if session is None or self._repeats >= _REPEATS:
            return False
        moved = session.epoch != self._epoch or session.owner != self._owner
        others = moved or session.reviving is not None  # have seen it before
        if not others:
            if call.client is None or (session.here and session.binding not in (UNBOUND, self._binding)):
                return False
            if call.head.method == b"DELETE" and session.here:
                plane.table.end(session)
                self._asking.drop()
                answer.settle("success", refusals.OK_JSON, b"")
                return True
            if not plane.table.revives or plane.table.is_old(session):
                if session.here:  # else its owner may be only out of reach
                    plane.table.end(session)
                self._asking.drop()
                refusing.refuse(answer, refusals.no_session())
                return True
        if call.message is not None and call.message.method is None:
            self._asking.drop()
            answer.settle("success", status_line(202), b"", 202)  # whoever asked that has ended
            return True
        self._repeats += 1
        plane.sessions.heard(call.context.heard_as, b"", 404)
        self._revive(session, moved=moved, down=down)
        return True

    def _revive(self, session: Session, *, moved: bool, down: bool) -> None:
        """Have it begun again, unless it has been, and be sent in it."""
        if moved and session.reviving is None:
            self._park()
            self._again()
        else:
            self._await_revival()
            lines = self._call.context.sender + self._call.lines
            reason = "server_lost" if session.here else "owner_lost"
            owner = self._owner or session.owner
            loss = Loss(
                self._call.head.target, lines, self._binding, owner.place, self._epoch, reason, down=down
            )
            self._plane.revival.revive(session, loss, self.revived)

    @property
    def _holder(self) -> str:
        """The client, where it is known."""
        client = self._call.client
        return "" if client is None or client.anonymous else client.name

    @property
    def _binding(self) -> bytes:
        client = self._call.client
        return self._call.context.binding(client) if client is not None else UNBOUND

    def revived(self, revived: Revived) -> None:
        """It has been begun again, or cannot be."""
        if self._call.ended:
            return
        try:
            if self._overdue is not None:
                self._overdue.cancel()
            self._answer.waiting = None
            self._given_up = not revived.again
            if revived.again:
                self._asking.ask()
            elif revived.error is not None:
                self._asking.fail(revived.error)
            elif revived.denied and revived.denied != self._binding and self._denials < _DENIALS:
                self._denials += 1  # that was said to somebody else
                self._given_up = False
                self._asking.ask()
            elif revived.head is not None and revived.head.status >= 300:
                self._asking.take_answer(revived.head, revived.body)
            else:
                refusing.refuse(self._answer, refusals.no_session())
        except Exception as error:  # noqa: BLE001 - because of the same
            self._answer.broke("session", error)

    # -- the server does not answer

    def outlives(self, error: UpstreamError) -> bool:
        """Whether the call goes on, or has been answered, though the server did not answer."""
        call, answer = self._call, self._answer
        if self._given_up:
            return False
        if self._elsewhere:
            self._plane.metrics.count("mcpace_relay_failures", error.reason)
            if error.reason == "connect":  # the owner is gone, so it was not sent
                return self._lost()
        elif error.refused:  # the same of the server
            return self._waits()
        if call.lasts and self._listens_again(error):
            return True
        if error.reason not in ("closed", "truncated") or (
            answer.stream is not None and answer.stream.answered()
        ):
            return False
        message = call.message
        if message is None:
            return False
        if message.method is None or message.id is None:  # nobody waits for a response
            answer.settle("success", status_line(202), b"", 202)
        elif self._may_run_twice and not answer.begun and self._repeats < _REPEATS:
            self._repeats += 1
            if answer.stream is not None:
                answer.stream.release()
                answer.stream = None
            self._again_in(_AGAIN)
        else:
            self._plane.metrics.count("mcpace_calls_lost")
            goes_on = " The session goes on." if self._plane.table.revives else ""
            words = f"{error} Whether the call took effect is unknown.{goes_on}"
            refusing.refuse(answer, Refusal(refusals.OF_SERVER[error.reason], words))
        return True

    def _listens_again(self, error: UpstreamError) -> bool:
        """Whether its stream is asked for again: it has been heard, or whoever holds it is only busy."""
        stream = self._answer.stream
        if isinstance(stream, Listening):
            if error.reason not in ("closed", "truncated", "busy") or not stream.may_go_on:
                return False
        elif not self._elsewhere or error.reason != "busy" or self._looks >= _ATTACHES:
            return False
        else:
            self._looks += 1
        pauses = self._pauses = self._pauses or Backoff(_AGAIN, _LIVES)
        if monotonic() - self._listened > _LIVES and self._listened:
            pauses.reset()
        self._again_in(pauses.next())
        return True

    def _waits(self) -> bool:
        """Whether the server, which is not there, is waited for."""
        now = monotonic()
        if self._plane.peers is not None:  # others are there
            if self._looks == 0:
                self._plane.on_upstream_down()
            self._looks += 1
            return self._lost(down=True)
        self._since = self._since or now
        if now - self._since > min(RETURNS_WITHIN, self._call.context.settings.patience):
            return False
        if self._looks == 0:
            self._plane.on_upstream_down()
        self._again_in(_LOOKS[min(self._looks, len(_LOOKS) - 1)])
        self._looks += 1
        return True

    @property
    def _may_run_twice(self) -> bool:
        """Whether the server may be sent it again, though it may have run it."""
        call = self._call
        message = call.message
        named = message is not None and message.target in call.context.settings.repeatable
        return call.repeatable or (named and call.is_tool_call)

    # -- its stream is what the server says on its own

    def listen(self) -> None:
        """The server speaks on the session's stream now: say first what was lost before."""
        session, stream = self._call.context.live, self._answer.stream
        if session is not None and isinstance(stream, Listening):
            self._repeats, self._looks, self._since = 0, 0, 0.0
            self._listened = monotonic()
            if self._answer.recording is not None:
                self._answer.recording.hear(event_ids.process_of(self.inner))
            news, session.news = session.news, b""
            stream.tell(news, session, self, self.mark)

    def _attach(self, stream: Listening, head: ResponseHead, body: bytes) -> None:
        """The server answers for the stream that another process of it had begun."""
        if head.status == 200 and head.content_type == EVENT_STREAM and not body:
            self.listen()
        elif head.status == 409 and self._looks < _ATTACHES:
            self._looks += 1
            self._again_in(_AGAIN)
        else:
            self._asking.drop()
            stream.conclude()

    def moved(self) -> None:
        """The session goes on in another process: listen to that (table.Listener)."""
        session = self._call.context.live
        elsewhere = session is not None and (session.epoch != self._epoch or session.owner != self._owner)
        if elsewhere and not self._call.ended and self._answer.waiting is not self:
            self._again_in(0.0)
