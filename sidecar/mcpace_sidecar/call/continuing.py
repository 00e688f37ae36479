"""A call of a session under an id of ours, which outlives the server's process.

The server does not know the session, or is not there: then the session is begun again in its new process,
once for all calls, and each is sent again if it cannot have been run before, or may run twice. Else it is
told so: no call is just left without an answer.
"""

from __future__ import annotations

from time import monotonic
from typing import Final

from mcpace_sidecar.call import evidence, handover, refusals, refusing, resuming, room
from mcpace_sidecar.call.admission import Admission
from mcpace_sidecar.call.answer import Answer
from mcpace_sidecar.call.arriving import Arriving
from mcpace_sidecar.call.attaching import AGAIN, Attaching
from mcpace_sidecar.call.listening import Listening
from mcpace_sidecar.call.refusals import Refusal
from mcpace_sidecar.call.sent import Asker
from mcpace_sidecar.errors import UpstreamError
from mcpace_sidecar.http.downstream import status_line
from mcpace_sidecar.http.head import ResponseHead
from mcpace_sidecar.mcp import request
from mcpace_sidecar.mcp.methods import CANCELLED
from mcpace_sidecar.mcp.request import Message
from mcpace_sidecar.relay import peer
from mcpace_sidecar.sessions import epochs
from mcpace_sidecar.sessions.revival import RETURNS_WITHIN, Loss
from mcpace_sidecar.sessions.sealing import UNBOUND
from mcpace_sidecar.sessions.session import Revived, Session

_REPEATS: Final = 3
"""How often a call may be sent again because of what became of the server."""
_OTHERS: Final = 20
"""How often because of what was said to another call."""
_LEARNS: Final = 0.1
"""Seconds within which a sidecar that was started anew learns of its sessions."""
_NAMING: Final = frozenset({None, epochs.PROGRESS, CANCELLED})
"""The methods of messages that name others; None: an answer."""
_LOOKS: Final[tuple[float, ...]] = (0.05, 0.1, 0.2, 0.4, 0.5)
"""Seconds between two looks whether a server that has ended listens again; the last ones stay so."""


class Continuing(Attaching):
    """What leads one call on, whatever becomes of the server's process. Once per call."""

    def __init__(self, asker: Asker, answer: Answer) -> None:
        super().__init__(asker, answer)
        self._others = 0
        self._waited = False
        self._joined = False
        """Whether it waits for what another call, or replica, has begun."""
        self._of_holder = False
        """Whether who is asked holds what the call's stream has said, and not the session."""
        self._given_up = False
        """Whether what the server says is passed on, whatever it is."""

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
            self._joined = True
            session.reviving.append(self.revived)
            return False
        if self._answer.relayed and not session.here:  # what is relayed goes no further
            if self._answer.begun:
                self._answer.cut()
                return False
            if self._answer.admission is not None:
                self._answer.admission.elsewhere = True
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
        if resuming.is_of_call(self._answer):
            asked = self._asks_for_rest(session)
            if asked is not None:
                return asked
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

    def _asks_for_rest(self, session: Session) -> bool | None:
        """Of a call's stream: whether its holder is asked, or nobody can be; None: as any other."""
        call, peers = self._call, self._plane.peers
        holder = resuming.holder_of(self._answer, session)
        self._of_holder = holder is not None
        if holder is not None and peers is not None:
            self._elsewhere, self.inner, self.mark = True, b"", ""
            self._plane.metrics.count("mcpace_relayed_calls")
            self.pool, self.onward = peers.pool(holder.place), call.context.onward_to(session, call.client)
            return True
        if session.here and resuming.is_lost(self._answer, self.inner):
            resuming.tell_lost(self._answer)
            return False
        return None

    def _hands_over(self, session: Session) -> bool:
        """Whether another replica takes the session over first, because this one ends."""
        now = monotonic()
        bound = session.binding not in (UNBOUND, self._binding)
        if bound or not handover.is_due(self._plane, self._call, session, now):
            return False
        self._begin_again(session, session.owner.place, session.epoch, "drained", down=True)
        return True

    # -- the session has gone over to this replica, or from it (bulkhead.slots.Queued)

    def _goes_over(self, admission: Admission) -> bool:
        """Whether it may be sent where the session is now: slots and breakers are there."""
        if not admission.elsewhere:
            admission.leave()
            admission.elsewhere = True
            return True
        admission.elsewhere = False
        self._asking.drop()
        return room.found(self._answer, admission, Arriving(self._asking, self._answer))

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
            wanted = request.cancelled(message)
            self._plane.recordings.cancel(session.key, wanted, self._binding, session.binding)
            return True
        body = epochs.to_server(self.mark, call.body, message.id)
        if body is not None:
            call.body = body
        return body is not None

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
            told = peer.answered(head.get(peer.ANSWERS))
            if told is not None:
                self._call.answers = Message.named(*told)
        unknown = not self._elsewhere and evidence.knows_no_session(status, body)
        if unknown and not self._given_up and self._lost():
            return True
        stream = self._answer.stream
        if isinstance(stream, Listening):
            self._attach(stream, head, body)
            return True
        if status == 409 and self._call.lasts and self.inner and resuming.take_over(self._answer):
            return True
        session = self._call.context.live
        if session is not None and status < 300 and not resuming.is_of_call(self._answer):
            if self._call.head.method == b"DELETE":
                self._plane.table.end(session)
                self._plane.recordings.end(session.key)
            elif self._call.client is not None and session.accepted(self._binding, self._holder):
                self._plane.table.keep(session)
        return False

    def _obey(self, verdict: bytes) -> None:
        """The sidecar that was asked says itself what there is to do: it has not asked its server."""
        session, table = self._call.context.session_now(), self._plane.table
        self._asking.drop()
        if self._of_holder:
            resuming.tell_lost(self._answer)
            return
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
            reason = "server_lost" if session.here else "owner_lost"
            owner = self._owner or session.owner
            self._begin_again(session, owner.place, self._epoch, reason, down=down)

    def _begin_again(self, session: Session, place: str, epoch: int, reason: str, *, down: bool) -> None:
        """Have it begun again for this call's sake. `place`, `epoch`: who held it, as far as is known."""
        self._await_revival()
        call = self._call
        lines = call.context.sender + call.lines
        loss = Loss(call.head.target, lines, self._binding, place, epoch, reason, down=down)
        self._plane.revival.revive(session, loss, self.revived)

    def revived(self, revived: Revived) -> None:
        """It has been begun again, or cannot be."""
        if self._call.ended:
            return
        try:
            if self._overdue is not None:
                self._overdue.cancel()
            self._answer.waiting = None
            joined, self._joined = self._joined, False
            others = (revived.error is not None and joined) or revived.denied not in (b"", self._binding)
            self._others += others
            self._given_up = not revived.again and not (others and self._others <= _OTHERS)
            if not self._given_up:
                self._asking.ask()
            elif revived.error is not None:
                self._asking.fail(revived.error)
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
        if self._of_holder:
            if not answer.begun and error.reason != "busy":
                resuming.tell_lost(answer)
            return answer.ended  # else its client comes back
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
            self._again_in(AGAIN)
        else:
            self._plane.metrics.count("mcpace_calls_lost")
            goes_on = " The session goes on." if self._plane.table.revives else ""
            words = f"{error} Whether the call took effect is unknown.{goes_on}"
            refusing.refuse(answer, Refusal(refusals.OF_SERVER[error.reason], words))
        return True

    def _waits(self) -> bool:
        """Whether the server, which is not there, is waited for."""
        now, looks = monotonic(), self._looks
        if looks == 0:
            self._plane.on_upstream_down()
        self._looks += 1
        if self._plane.peers is not None:  # others are there
            return self._lost(down=True)
        self._since = self._since or now
        if now - self._since > min(RETURNS_WITHIN, self._call.context.settings.patience):
            return False
        self._again_in(_LOOKS[min(looks, len(_LOOKS) - 1)])
        return True
