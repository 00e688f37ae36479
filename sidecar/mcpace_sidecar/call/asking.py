"""Asking the server for one call: what is sent, and what comes back, whole, in pieces or not at all.

Called back by the pool (`http.client.Receiver`), by a stream of 2024-11-05 that brings the response
(`awaited.Posting`), and by the way in which an answer is streamed (`stream.Streamed`).
"""

from __future__ import annotations

from time import monotonic
from typing import Final

from mcpace_sidecar.call import evidence, keeping, opening, refusals, refusing, resuming, stages, streaming
from mcpace_sidecar.call.answer import Answer
from mcpace_sidecar.call.call import EVENT_STREAM
from mcpace_sidecar.call.continuing import Continuing
from mcpace_sidecar.call.legacy_sse import PairStream, Posted
from mcpace_sidecar.call.refusals import Refusal
from mcpace_sidecar.errors import UpstreamError
from mcpace_sidecar.http.downstream import length_line
from mcpace_sidecar.http.head import ResponseHead
from mcpace_sidecar.http.receiver import Ticket
from mcpace_sidecar.mcp import answers, ids, responses
from mcpace_sidecar.mcp.answers import Outcome
from mcpace_sidecar.sessions import epochs
from mcpace_sidecar.telemetry.events import Status

_LEADING: Final = frozenset({201, 301, 302, 303, 307, 308})
"""The statuses whose answers name another place (RFC 9110, section 10.2.2)."""


class Asking:
    """One call's request to the server."""

    # Defaults of the class, not set for each instance: most of them stay so.
    _retried = False
    _within: Continuing | None = None
    """What leads it on in a session that outlives the server's process."""
    version = b""
    """What `initialize` has negotiated."""
    _shown = evidence.NOTHING
    """What the answer shows of the request."""

    def __init__(self, answer: Answer, rounds: int) -> None:
        """`rounds`: how often the server had asked before the call went on."""
        self._answer = answer
        self._call = answer.call
        self._plane = answer.plane
        self._rounds = rounds
        self._ticket: Ticket | None = None
        """Of an answer that has come, too: its connection may be another's then."""

    def ask(self, left: float | None = None) -> None:
        """Send the request. `left`: seconds the answer may take, where some have passed already."""
        call, answer, plane = self._call, self._answer, self._plane
        onward, pool = call.context.onward, plane.pool
        if call.context.live is not None:
            self._within = self._within or Continuing(self, answer)
            if not self._within.enter():
                return
            onward, pool = self._within.onward, self._within.pool
        patience = None if call.lasts else left or call.context.settings.patience
        if patience is None and not answer.endless:
            if not plane.opens_streams and not answer.relayed:
                answer.close_stream()
                return
            self._join_audience()
        body, head = call.body, call.head
        has_body = len(body) > 0 or bool(head.length) or head.method == b"POST"
        framing = length_line(len(body)) if has_body else b"\r\n"
        if answer.awaited is not None:
            answer.awaited.expect(self)
        call.stage = stages.FORWARD
        answer.waiting = self
        lines = call.lines
        if self._within is not None and call.message is None:
            lines += resuming.last_event(answer, self._within.inner)
        request = onward, lines, call.trace, call.mirrors, framing, body
        self._ticket = pool.request(request, self, patience)

    def _join_audience(self) -> None:
        answer, client = self._answer, self._call.client
        answer.endless = True
        for other in self._plane.audience.enter(answer, client.name if client is not None else ""):
            self._plane.metrics.count("mcpace_shed_connections", "streams")
            other.close_stream()

    # -- while it waits (waiting.Waiting)

    def leads_on(self) -> bool:
        """Whether the server is still to answer."""
        return self._ticket is not None and self._ticket.serves(self)

    def cancel(self) -> None:
        """Give it up, which tells a server of the modern era to stop."""
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            ticket.cancel()

    def pause(self, paused: bool) -> None:
        """Read from the server only as fast as the client reads from us."""
        if self._ticket is not None:
            self._ticket.pause(paused)

    # -- what the server says (http.client.Receiver)

    def on_answer(self, head: ResponseHead, body: bytes) -> None:
        """The whole answer."""
        self._answer.waiting = None
        if self._call.stage >= stages.END:
            return
        try:
            self.take_answer(head, body)
        except Exception as error:  # noqa: BLE001 - because whatever it is, it is this call's end alone
            self._answer.broke("answer", error)

    def take_answer(self, head: ResponseHead, body: bytes) -> None:
        """Read the server's whole answer, and give it."""
        call, answer, plane = self._call, self._answer, self._plane
        context = call.context
        if call.opened and self._accepts(head, body):
            return
        if self._within is not None and self._within.heeds(head, body):
            return
        call.stage = stages.TAKE
        ok = head.status == 200
        events = head.content_type == EVENT_STREAM
        if context.session:
            plane.sessions.heard(context.heard_as, call.head.method, head.status)
        if head.plain and self._strays(body, events=events, refused=not ok):
            self.strayed()
            return
        within = self._within
        if within is not None and ok and events and evidence.needs_reading(body, self._shown, within.mark):
            self.on_head(head)
            self.on_piece(body)
            self.on_end()
            return
        if not ok:
            if refusing.heeds(answer, head.status):
                return
        elif not head.plain:
            pass  # compressed by the server: what it says is not read
        elif keeping.is_read(plane, call):
            outcome = answers.read(body, events=events)
            ok = outcome.ok
            shaped = self.take(outcome)
            if shaped is not None:
                body = answers.replaced(body, shaped, events=events)
        elif answer.admission is not None and self._shown != evidence.PLAIN:
            ok = answers.succeeded(body)
            if context.modern and context.settings.limits is not None and b'"requestState"' in body:
                self.take(answers.read(body, events=events))
        lines = self.lines(head) + answer.limit_lines
        if head.status in _LEADING:
            lines = plane.here(lines)
        status: Status = "failed" if head.status >= 500 else "success" if ok else "error"
        bodiless = not body and head.status in (204, 304)
        answer.settle(
            status, lines, None if bodiless else body, head.status, events=events, plain=head.plain
        )

    def on_head(self, head: ResponseHead) -> None:
        """A streamed answer begins."""
        if self._call.ended:
            return
        try:
            self._take_head(head)
        except Exception as error:  # noqa: BLE001 - because of the same
            self._answer.broke("head", error)

    def _take_head(self, head: ResponseHead) -> None:
        call, answer, plane = self._call, self._answer, self._plane
        if call.opened and self._accepts(head):
            return  # whatever stands in its body
        if self._within is not None and self._within.heeds(head, b""):
            return
        call.stage = stages.TAKE
        if call.context.session:
            plane.sessions.heard(call.context.heard_as, call.head.method, head.status)
        if head.status != 200 and refusing.heeds(answer, head.status):
            return
        if call.context.settings.pair and call.head.method == b"GET" and head.content_type == EVENT_STREAM:
            answer.stream = PairStream(answer, head)
            return
        asked = call.message is not None and call.message.id is not None
        read = keeping.is_read(plane, call)
        listens = self._within is not None and call.lasts
        answer.stream = streaming.of(
            self, answer, head, plane.pool.gathered, judged=asked or read, kept=read,
            opens=opening.may_open(call), listens=listens,
        )  # fmt: skip
        if self._within is not None and listens:
            self._within.listen()

    def on_piece(self, piece: bytes) -> None:
        """Its next bytes."""
        answer = self._answer
        if self._call.ended or answer.stream is None:
            return
        try:
            if answer.endless:
                self._plane.audience.heard(answer)
            answer.stream.piece(piece)
        except Exception as error:  # noqa: BLE001 - because of the same
            answer.broke("piece", error)

    def on_end(self) -> None:
        """A streamed answer is whole."""
        answer = self._answer
        answer.waiting = None
        if self._call.ended or answer.stream is None:
            return
        try:
            answer.stream.end()
        except Exception as error:  # noqa: BLE001 - because of the same
            answer.broke("end", error)

    def on_failure(self, error: UpstreamError) -> None:
        """No answer, or a part of one."""
        awaited = self._answer.awaited
        if awaited is not None and awaited.accepted >= 0:
            self._answer.waiting = None  # it was accepted all the same: the stream brings its response
        else:
            self.fail(error)

    def was_read(self, head: ResponseHead, body: bytes | None) -> bool:
        """Whether the server has read the request: it knows its id, or says that it has taken it."""
        call = self._call
        self._shown = evidence.shows(
            call.message, head, body, self._answer.stream, elsewhere=call.opened != b""
        )
        return self._shown >= evidence.READ

    def excuses(self) -> bool:
        """Whether the server is silent because it waits for the client."""
        return self._plane.questions.wait(self._call.whom, monotonic())

    # -- its session, where ids are ours

    def lines(self, head: ResponseHead) -> bytes:
        """The lines of the answer's head, with our id of the session in the place of the server's."""
        call = self._call
        lines = opening.lines(self._plane, call, head, self.version) if head.session_line else head.onward
        if self._within is not None and self._plane.peers is not None:
            return self._within.told(lines)
        return lines

    def drop(self) -> None:
        """What comes of the answer is not wanted."""
        ticket, self._ticket, self._answer.waiting = self._ticket, None, None
        if ticket is not None and ticket.serves(self):
            ticket.cancel()

    def unanswered(self) -> bool:
        """Its stream has ended without its response."""
        if self._within is None or self._call.message_id == b"null":
            return False
        self.fail(UpstreamError("truncated", "The server ended its stream without an answer."))
        return True

    # -- what a stream of 2024-11-05 brings (awaited.Posting)

    def _accepts(self, head: ResponseHead, body: bytes | None = None) -> bool:
        """Whether the server has only accepted a message of 2024-11-05: the stream brings its response.

        By 202, as the specification has it, or by another success that is not the response itself.
        """
        call, awaited, status = self._call, self._answer.awaited, head.status
        if awaited is None or call.message is None or not 200 <= status < 300:
            return False
        if status != 202 and (body is None or answers.holds_response(body)):
            return False
        self._answer_post()
        awaited.accepted = len(call.body)
        call.body = b""  # it may be long until the stream brings the response
        call.message.forget()
        return True

    def _answer_post(self) -> None:
        posted = self._answer.downstream
        if isinstance(posted, Posted):
            posted.accept()

    def answered(self, event: bytes, body: bytes) -> None:
        """The response came as an event."""
        try:
            self._take_event(event, body)
        except Exception as error:  # noqa: BLE001 - because of the same
            self._answer.broke("pair", error)

    def _take_event(self, event: bytes, body: bytes) -> None:
        outcome = answers.read_answer(body)
        shaped = self.take(outcome) if keeping.is_read(self._plane, self._call) else None
        if shaped is not None:
            body = responses.result_body(self._call.message_id, shaped)
        posted = self._answer.downstream
        if isinstance(posted, Posted):
            posted.event = event
        self._answer.settle("success" if outcome.ok else "error", refusals.OK_JSON, body)

    def passed(self) -> None:
        """The response passes on the stream as it comes, unread."""
        try:
            self._answer_post()
            self._answer.settle("success")
        except Exception as error:  # noqa: BLE001 - because of the same
            self._answer.broke("pair", error)

    # -- what goes wrong

    def fail(self, error: UpstreamError) -> None:
        """End without the server's answer."""
        if self._call.ended:
            return
        try:
            self._take_failure(error)
        except Exception as broken:  # noqa: BLE001 - because of the same
            self._answer.broke("failure", broken)

    def _take_failure(self, error: UpstreamError) -> None:
        call, answer, plane = self._call, self._answer, self._plane
        if error.stale and not self._retried and call.repeatable:
            self._retried = True
            self.ask()
            return
        if self._within is not None and self._within.outlives(error):
            return
        stream = answer.stream
        if stream is not None and stream.answered():
            stream.conclude()  # that the stream was not ended harms nobody
            return
        asked = self._within.pool if self._within is not None else plane.pool
        if error.reason == "connect" and asked is plane.pool:
            plane.on_upstream_down()
        elif error.reason == "timeout" and answer.admission is not None and not call.context.modern:
            onward = self._within.onward if self._within is not None else call.context.onward
            if onward:  # else it was not sent
                plane.tell_cancelled(asked, onward, call.lines, call.message_id)
        refusing.refuse(answer, Refusal(refusals.OF_SERVER[error.reason], str(error)))

    def strayed(self) -> None:
        """End without the answer to another request, and with the connection that brought it."""
        error = UpstreamError("stray", "The server answered with the id of another request.")
        ticket, self._ticket, self._answer.waiting = self._ticket, None, None
        if ticket is not None:
            ticket.distrust(error)
        self.fail(error)

    # -- how it is read (stream.Streamed)

    def _strays(self, body: bytes, *, events: bool = False, refused: bool = False) -> bool:
        """Whether an answer holds the response to another request. `refused`: by its HTTP status."""
        found = evidence.stray(self._call.message, body, self._shown, events=events, refused=refused)
        return found is not None and self.is_anothers(found.id, is_error=found.is_error)

    def is_stray(self, body: bytes) -> bool:
        """Whether these bytes are the response to another request."""
        return self._strays(body)

    def is_anothers(self, written: bytes, *, is_error: bool) -> bool:
        """Whether a response with this id, empty if it has none, is to another request."""
        message = self._call.message
        if message is None or message.id is None or ids.same_id(written, message.id):
            return False
        return not (is_error and (written in answers.ABSENT or not self._plane.knows(written)))

    def record(self) -> None:
        """Hold the events of its stream, where its client may come back."""
        if self._within is not None and self._within.inner:
            resuming.record(self._answer, self._within.inner)

    def concluding(self, event: bytes) -> bytes:
        """An error of ours as an event, under an id that says that it is the last one."""
        return resuming.concluding(self._answer, event) if self._within is not None else event

    def told(self, data: bytes) -> bytes:
        """A request or notification of the server's, as the client is to see it."""
        within = self._within
        return data if within is None or not within.mark else epochs.to_client(within.mark, data)

    def asked(self, question: bytes) -> None:
        """The server has asked the client something, and waits for that."""
        self._plane.questions.asked(self._call.whom, question, monotonic())

    def take(self, outcome: Outcome) -> bytes | None:
        """Keep a result where its rule says so; return it in another shape, or None: as it is."""
        if self._within is not None and outcome.ok:
            self._within.learn()
        elif opening.may_open(self._call):
            self.version = opening.version_of(outcome)
        if self._call.context.relayed:
            reader = self._answer.reader
            return keeping.resumed(self._plane, reader, outcome) if reader is not None else None
        keeping.keep(self._plane, self._call, outcome, self._answer.lookup, self._rounds)
        if not outcome.complete:
            return None
        return keeping.shaped(self._plane, self._call, outcome.result)

    def __repr__(self) -> str:
        return f"<Asking for {self._call}>"
