"""The door of the relay port: calls of sessions that are held here, which other sidecars pass on.

They are judged, counted and looked up where they came in; slots, breakers and the session are here. What
is relayed goes no further: who is not the owner says so. Messages of 2024-11-05 are judged here, where
their stream is, as if they had come here.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from mcpace_sidecar.call import refusals, resuming, stages
from mcpace_sidecar.call.admission import Admission
from mcpace_sidecar.call.answer import Answer
from mcpace_sidecar.call.call import Call
from mcpace_sidecar.call.context import Context
from mcpace_sidecar.call.exchange import Exchange
from mcpace_sidecar.call.plane import Plane
from mcpace_sidecar.call.settings import Settings
from mcpace_sidecar.errors import ProtocolError
from mcpace_sidecar.http.head import RequestHead
from mcpace_sidecar.http.known import RequestHeads
from mcpace_sidecar.http.server import ClientConnection
from mcpace_sidecar.mcp import request
from mcpace_sidecar.mcp.strictness import MessageError
from mcpace_sidecar.relay import peer
from mcpace_sidecar.sessions.revival import Loss
from mcpace_sidecar.sessions.session import Revived, Session


class PeerPort:
    """The `Application` of the relay port."""

    def __init__(self, plane: Plane, is_ready: Callable[[], bool]) -> None:
        """`is_ready`: whether sessions can be taken over."""
        self.plane = plane
        self._is_ready = is_ready
        self._since = monotonic()
        self.heads = RequestHeads(plane.settings.relayed)
        self.max_request_bytes: int = plane.settings.max_request_bytes
        self.idle_timeout = 60.0
        self.leaving = False
        """Whether sessions are held no more: this replica is gone in a moment."""

    @property
    def draining(self) -> bool:
        """Peers are told by verdicts."""
        return False

    def adopt(self, settings: Settings) -> None:
        """Use these settings from the next call on."""
        self.heads.adopt(settings.relayed)
        self.max_request_bytes = settings.max_request_bytes

    def judge_head(self, connection: ClientConnection, head: RequestHead) -> bool:
        """Nothing is refused before its body has come: it was judged."""
        del connection, head
        return False

    def on_request(
        self, connection: ClientConnection, head: RequestHead, body: bytes
    ) -> Answer | Adoption | None:
        """Answer a request, or return the answer that will come."""
        plane, base = self.plane, head.base
        context: Context | None = base.notes
        paired = plane.settings.pair
        if context is None or context.settings is not plane.settings:
            context = base.notes = Context(
                plane.settings, plane.pool.address, base, loopback=plane.loopback, believed=True,
                paired=paired, sessions=None if paired else plane.table, relayed=True,
            )  # fmt: skip
        connection.rewriter = None
        if paired:
            exchange = self._exchange(connection, context, head, body)
            exchange.start()
            return None if exchange.answer.ended else exchange.answer
        if self.leaving:
            connection.answer(peer.verdict(peer.GONE), b"")
            return None
        session = context.session_now()
        if session is None:
            ended = plane.table.has_ended(context.session)
            connection.answer(peer.verdict(peer.ENDED if ended else peer.UNREADY), b"")
            return None
        asked = base.get(peer.ADOPT)
        if asked is not None:
            return self._adopt(connection, context, session, asked, base)
        said = self._verdict(session, *peer.epoch_of(base.get(peer.EPOCH)))
        if said and not resuming.is_held(plane, head):
            connection.answer(said, b"")
            return None
        exchange = self._exchange(connection, context, head, body)
        try:
            _begin(exchange)
        except Exception as error:  # noqa: BLE001 - because whatever it is, it is this call's end alone
            exchange.broke("request", error)
        return None if exchange.answer.ended else exchange.answer

    def _exchange(
        self, connection: ClientConnection, context: Context, head: RequestHead, body: bytes
    ) -> Exchange:
        plane, read = self.plane, connection.request
        via = plane.settings.identities.via("127.0.0.1", ())
        exchange = Exchange(plane, connection, Call(context, via, head, body, read.trace, read.lines))
        plane.in_flight.add(exchange.answer)
        return exchange

    def _verdict(self, session: Session, boot: int, epoch: int) -> bytes:
        """What is said of a session instead of asking the server; empty: the server is asked."""
        if session.reviving is not None:  # the call waits for that
            return b""
        if not session.here and session.epoch > epoch:
            return peer.verdict(peer.MOVED, session.owner, session.epoch)
        # Who was started anew at the same place may find the session at its server as it was.
        anew = boot != self.plane.table.owner.boot
        if session.here and epoch <= session.epoch and not (anew and epoch != session.epoch):
            return b""
        return peer.verdict(peer.AGAIN if anew and not session.recorded else peer.GONE)

    def _adopt(
        self, connection: ClientConnection, context: Context, session: Session, asked: bytes,
        head: RequestHead,
    ) -> Adoption | None:  # fmt: skip
        seen, plane, claims = peer.whose(asked), self.plane, self.plane.revival.claims
        said = head.get(peer.REASON) or b""
        reason = said.partition(b" ")[0].decode("latin-1")
        if seen is not None and session.reviving is None:
            holds = session.here and session.inner != b"" and session.epoch == seen[1]
            if session.epoch > seen[1] or (holds and reason == peer.ASKS):
                connection.answer(peer.verdict(peer.MOVED, session.owner, session.epoch), b"")
                return None
        unable = plane.draining or not self._is_ready()
        if seen is None or claims is None or reason == peer.ASKS or unable or claims.is_asking(session):
            connection.answer(peer.verdict(peer.UNREADY), b"")
            return None
        if peer.is_elder(said, monotonic() - self._since):
            connection.answer(peer.verdict(peer.ELDER), b"")
            return None
        claims.take(session)
        plane.table.move(session, *seen)
        adoption = Adoption(connection, session)
        client = context.caller.client if context.caller is not None else None
        assert client is not None
        loss = Loss(
            head.target, context.sender + connection.request.lines, context.binding(client),
            seen[0].place, seen[1], reason if reason in ("owner_lost", "drained") else "owner_lost",
            adopts=True,
        )  # fmt: skip
        plane.revival.revive(session, loss, adoption.revived)
        return None if adoption.answered else adoption

    def on_bad_request(self, error: ProtocolError) -> tuple[bytes, bytes]:
        """A peer says no such thing."""
        del error
        return refusals.JSON, b""

    def on_broken(self, error: Exception) -> tuple[bytes, bytes]:
        """Count and log what was raised where a request was gathered, and say so."""
        self.plane.faults.tell("connection", error)
        return refusals.JSON, refusals.broken().body(b"null")


def _begin(exchange: Exchange) -> None:
    """Begin where another sidecar has left it: it is identified, counted and looked up there."""
    call, plane, caller = exchange.call, exchange.plane, exchange.call.context.caller
    call.client = caller.client if caller is not None else None
    exchange.admitted = True
    if call.head.method != b"POST":
        exchange.pass_on()
        return
    call.stage = stages.CLASSIFY
    try:
        message = call.message = request.classify(call.body)
    except MessageError as error:
        exchange.refuse(refusals.of_message(error, error.message_id))
        return
    if message.target is not None:
        call.label = plane.label(message)
        exchange.answer.admission = Admission(plane, call.label)
    exchange.enter()


class Adoption:
    """A sidecar that waits until a session has been taken over."""

    def __init__(self, connection: ClientConnection, session: Session) -> None:
        self._connection: ClientConnection | None = connection
        self._session = session

    @property
    def answered(self) -> bool:
        """Whether it waits no more."""
        return self._connection is None

    def revived(self, revived: Revived) -> None:
        """It has been begun again, or cannot be."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        session = self._session
        if revived.again:
            said = peer.verdict(peer.MOVED, session.owner, session.epoch)
        else:
            lives = revived.error or revived.head or revived.denied
            said = peer.verdict(peer.UNREADY if lives else peer.ENDED)
        connection.answer(said, b"")

    def client_gone(self) -> None:
        """It waits no more, and goes on with the session itself: nobody is to take that from it."""
        self._connection = None
        waiting = self._session.reviving
        if waiting is not None and self.revived in waiting:
            waiting.remove(self.revived)

    def client_paused(self, paused: bool) -> None:
        """What it is told is short."""
