"""A message of 2024-11-05 whose stream another replica holds: it is passed on, and judged there.

Here it is known whose it is, and no more: its answer comes on the stream, so limits, cache, slots and
metrics are where that is.
"""

from __future__ import annotations

from mcpace_sidecar.call import endpoint, refusals, refusing, stages
from mcpace_sidecar.call.answer import Answer
from mcpace_sidecar.call.legacy_sse import binding_of, is_posted
from mcpace_sidecar.call.refusals import Refusal
from mcpace_sidecar.errors import UpstreamError
from mcpace_sidecar.http.downstream import length_line
from mcpace_sidecar.http.head import ResponseHead
from mcpace_sidecar.http.receiver import Ticket
from mcpace_sidecar.relay import peer
from mcpace_sidecar.sessions.sealing import UNBOUND
from mcpace_sidecar.telemetry.events import Status

NO_STREAM = "No stream of this server's has this endpoint: open one first."


def finds_stream(answer: Answer) -> bool:
    """Whether there is the stream to whose endpoint a message was posted: here, or at another replica."""
    call, plane = answer.call, answer.plane
    if is_posted(answer):
        return True
    name = endpoint.name_of(call.head.target)
    found = plane.table.holder(name) if name and plane.peers is not None else None
    if found is None or found[0].place == plane.table.owner.place:
        return False
    call.elsewhere = found[0].place, found[1]
    return True


def is_anothers(answer: Answer) -> bool:
    """Whether the stream is a known client's, and the message another's."""
    pair, elsewhere = answer.call.pair, answer.call.elsewhere
    binding = elsewhere[1] if elsewhere is not None else pair.binding if pair is not None else UNBOUND
    return binding != UNBOUND and binding_of(answer) != binding


class PassingOn:
    """The asking of that replica (http.receiver.Receiver, waiting.Waiting)."""

    def __init__(self, answer: Answer, place: str) -> None:
        self._answer = answer
        self._place = place
        self._ticket: Ticket | None = None

    def ask(self) -> None:
        """Send the message."""
        answer, plane = self._answer, self._answer.plane
        call, peers = answer.call, answer.plane.peers
        assert peers is not None
        assert call.client is not None
        if peers.is_shunned(self._place):
            self._gone()
            return
        plane.metrics.count("mcpace_relayed_calls")
        lines = peer.without(call.context.onward.partition(b"\r\n")[2])
        onward = b"POST %b HTTP/1.1\r\n%bMcpace-Client: %b\r\n" % (
            call.head.target, lines, peer.told(call.client),
        )  # fmt: skip
        call.stage = stages.FORWARD
        answer.waiting = self
        request = onward, call.lines, call.trace, length_line(len(call.body)), call.body
        pool = peers.pool(self._place)
        self._ticket = pool.request(request, self, call.context.settings.patience)

    def _gone(self) -> None:
        """Its streams have ended with it."""
        refusing.refuse(self._answer, Refusal(refusals.PATH, NO_STREAM))

    # -- while it waits

    def leads_on(self) -> bool:
        """Whether the replica is still to answer."""
        return self._ticket is not None and self._ticket.serves(self)

    def cancel(self) -> None:
        """Give it up."""
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            ticket.cancel()

    def pause(self, paused: bool) -> None:
        """Read from it only as fast as the client reads from us."""
        if self._ticket is not None:
            self._ticket.pause(paused)

    # -- what it says

    def on_answer(self, head: ResponseHead, body: bytes) -> None:
        """The whole answer."""
        self._answer.waiting = None
        try:
            if not self._answer.ended:
                self._take(head, body)
        except Exception as error:  # noqa: BLE001 - because whatever it is, it is this call's end alone
            self._answer.broke("answer", error)

    def _take(self, head: ResponseHead, body: bytes) -> None:
        if head.get(peer.VERDICT) is not None:  # it knows no pairs
            self._gone()
            return
        status: Status = "failed" if head.status >= 500 else "success" if head.status < 300 else "error"
        lines = peer.without(head.onward)
        self._answer.settle(status, lines, body, head.status, plain=head.plain)

    def on_head(self, head: ResponseHead) -> None:
        """A streamed answer begins."""
        try:
            if not self._answer.ended:
                self._answer.begin(peer.without(head.onward), head.length, head.status, events=False)
        except Exception as error:  # noqa: BLE001 - because of the same
            self._answer.broke("head", error)

    def on_piece(self, piece: bytes) -> None:
        """Its next bytes."""
        try:
            if not self._answer.ended:
                self._answer.send(piece)
        except Exception as error:  # noqa: BLE001 - because of the same
            self._answer.broke("piece", error)

    def on_end(self) -> None:
        """It is whole."""
        self._answer.waiting = None
        try:
            self._answer.settle("success")
        except Exception as error:  # noqa: BLE001 - because of the same
            self._answer.broke("end", error)

    def on_failure(self, error: UpstreamError) -> None:
        """No answer, or a part of one."""
        self._answer.waiting = None
        try:
            if self._answer.ended:
                return
            self._answer.plane.metrics.count("mcpace_relay_failures", error.reason)
            if error.reason == "connect":
                self._gone()
            else:
                refusing.refuse(self._answer, Refusal(refusals.OF_SERVER[error.reason], str(error)))
        except Exception as broken:  # noqa: BLE001 - because of the same
            self._answer.broke("failure", broken)

    def was_read(self, head: ResponseHead, body: bytes | None) -> bool:
        """A sidecar has read what it answers."""
        del head, body
        return True

    def excuses(self) -> bool:
        """Its silence is its own."""
        return False
