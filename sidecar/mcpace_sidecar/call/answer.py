"""A call's answer: how it is given, once, and what is let go of when it has been.

Whole, or begun and then ended or cut. Where the client is a connection, bytes go out; where the answer
stays in this process (a part of a batch, a message of 2024-11-05), whoever gathers it is told what its head
says, and reads none. Every way ends in `settle`: the whole answer's, the streamed one's, the refusal's, the
failure's.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Final

from mcpace_sidecar.cache.entry import Entry
from mcpace_sidecar.cache.lookup import Lookup
from mcpace_sidecar.call import refusals
from mcpace_sidecar.call.admission import Admission
from mcpace_sidecar.call.awaited import Awaited
from mcpace_sidecar.call.call import Call
from mcpace_sidecar.call.plane import Plane
from mcpace_sidecar.call.recording import Recording
from mcpace_sidecar.call.refusals import NOBODY, Refusal
from mcpace_sidecar.call.stages import END, ENDED, FORWARD, PARTS, PURGE
from mcpace_sidecar.call.stream import Stream
from mcpace_sidecar.call.waiting import Releasing, Waiting
from mcpace_sidecar.clock import monotonic
from mcpace_sidecar.http import sse
from mcpace_sidecar.http.downstream import Downstream, Gatherer, Nobody
from mcpace_sidecar.http.server import ClientConnection
from mcpace_sidecar.mcp import responses
from mcpace_sidecar.telemetry.events import Status
from mcpace_sidecar.telemetry.faults import Site

LOST_AFTER: Final = 3.0
"""Seconds after which a call that waits for nothing known is given up."""
_HELD: Final = 10
"""More than a call may hold."""


class Answer:
    """The answer to one call, and all that the call holds."""

    # Defaults of the class, not set for each instance: most of them stay so.
    begun = False
    """Whether a streamed answer has begun, and can still be ended."""
    admission: Admission | None = None
    """That of a call that is counted: limits, breakers, its slot."""
    lookup: Lookup | None = None
    within: Releasing | None = None
    """What leads it on in a session that outlives the server's process."""
    awaited: Awaited | None = None
    """What of it waits for the stream of 2024-11-05."""
    endless = False
    """Whether it is an open event stream, and counted as one."""
    recording: Recording | None = None
    """What is said on its stream, held for a client that comes back."""
    reader: Call | None = None
    """Who has come back for its stream where that was relayed: pages of its result are theirs."""
    deserted = False
    """Whether it goes on for others who wait for its result, without its client."""
    _kept: Entry | None = None
    """The kept result that is the answer, as it is."""
    _idle = 0.0
    """Since when nothing is known that would lead it on."""

    def __init__(self, plane: Plane, call: Call, downstream: Downstream) -> None:
        self.plane = plane
        self.call = call
        self.downstream = downstream
        self.relayed: bool = call.context.relayed
        """Whether that is another sidecar's: its client may come back here itself, or through one."""
        self.gatherer: Gatherer | None = None
        """Its downstream, where that is in this process."""
        self.waiting: Waiting | None = None
        """What will lead the call on."""
        self.stream: Stream | None = None
        """How an answer that comes in pieces is passed on."""

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be said."""
        return self.call.stage >= END

    @property
    def limit_lines(self) -> bytes:
        """The header lines that say what is left of its limits."""
        return self.admission.lines if self.admission is not None else b""

    # -- begun, and said piece by piece

    def begin(self, head: bytes, length: int | None, http: int, *, events: bool) -> None:
        """Begin a streamed answer: status line and header lines, and its length where that is known."""
        self.begun = True
        if self.gatherer is not None:
            self.gatherer.told(http, events=events)
        self.downstream.start(head, length)

    def send(self, piece: bytes) -> None:
        """Send the next bytes of what has begun."""
        self.downstream.send(piece)

    # -- how it ends

    def settle(
        self, status: Status, head: bytes = b"", body: bytes | None = b"", http: int = 200, *,
        events: bool = False, plain: bool = True, sent: int = 0,
    ) -> None:  # fmt: skip
        """End the call. Every way leads here, whatever became of it, and only the first counts.

        What it has made old goes first, so that its caller does not meet it again. Then it is
        answered, judged and recorded, and whatever it held is free.

        `head`, `body`: its answer; None for a body that there cannot be. `http`, `events`, `plain`: its
        status, and whether its body is events, and in no coding yet. Without a head, what was begun is
        finished, and `sent` says how many bytes that was.
        """
        call = self.call
        policy = call.policy
        if policy is not None and policy.invalidates and FORWARD <= call.stage < PURGE:
            call.stage = PURGE
            end = functools.partial(self.end, status, head, body, http, events, plain, sent)
            self._purge(policy.invalidates, end)
        else:
            self.end(status, head, body, http, events, plain, sent)

    def _purge(self, tags: tuple[bytes, ...], end: Callable[[], None]) -> None:
        """Make old what the call has changed, then end it. Apart, so that no other call makes a closure."""

        def purged() -> None:
            try:
                end()
            except Exception as error:  # noqa: BLE001 - because whatever it is, it is this call's end alone
                self.broke("purge", error)

        self.plane.results.purge(tags, purged)

    def end(
        self, status: Status, head: bytes, body: bytes | None, http: int, events: bool, plain: bool,
        sent: int,
    ) -> None:  # fmt: skip
        """End it now: what it has made old is gone."""
        call, plane = self.call, self.plane
        if call.stage >= END:
            return
        asked = call.stage >= FORWARD
        call.stage = END
        if not head:
            if self.begun:
                self.downstream.finish()
        elif self.begun and (self.gatherer is None or not self.gatherer.goes_elsewhere()):
            # A head has been written: what came instead of the rest is said after it, or nothing is.
            if self._say(body or b""):
                self.downstream.finish()
            else:
                self._cut()
        elif body is None:
            self.downstream.answer_empty(head)
        else:
            sent = len(body)
            self._give(head, body, http, events=events, plain=plain)
        call.stage = ENDED
        message, admission = call.message, self.admission
        if asked and message is not None and message.id is not None:
            plane.spent.add(message.id, message.value)
        if admission is not None:
            admission.judge(status, asked=asked)
            if call.is_tool_call and not call.refreshing and not call.context.relayed:
                plane.record(call, status, sent, self.awaited.accepted if self.awaited is not None else 0)
        self.free(status)

    def _give(self, head: bytes, body: bytes, http: int, *, events: bool, plain: bool) -> None:
        context = self.call.context
        if self.gatherer is not None:
            self.gatherer.told(http, events=events)
        elif plain and not events and context.coding and len(body) > context.settings.compress_over:
            small = self.plane.compressed(self._kept, self.call.message_id, context.coding, body)
            if small is not None:
                head += b"Content-Encoding: %b\r\nVary: Accept-Encoding\r\n" % context.coding
                body = small
        self.downstream.answer(head, body)

    def give(self, status: Status, entry: Entry, shaped: bytes | None) -> None:
        """Answer with a kept result, or with what was made of it."""
        if shaped is None:
            self._kept = entry
        head = refusals.OK_JSON + self.limit_lines
        self.settle(status, head, responses.result_body(self.call.message_id, shaped or entry.result))

    def note(self, refusal: Refusal) -> None:
        """Count it, and hold it against whom it is to be held against."""
        reason = refusal.reason
        if reason.metric:
            self.plane.metrics.count(reason.metric, *refusal.labels)
        if self.admission is not None:
            self.admission.blame = reason.blames

    def refuse(self, refusal: Refusal) -> None:
        """Say no."""
        call, record = self.call, refusal.reason.record
        if self.begun:
            if not self._say(refusal.body(call.message_id)):
                self._cut()
            self.settle(record)
            return
        form = call.context.settings.reply if refusal.reason is refusals.LIMITED else ""
        if form == "toolError" and call.is_tool_call:  # only a tool's result can say so itself
            self.settle(record, *refusal.result(call.message_id))
        else:
            survivable = call.survivable and form != "http429"
            self.settle(record, *refusal.reply(call.message_id, survivable=survivable))

    def _say(self, body: bytes) -> bool:
        """Say an error in the stream that has begun; False if there is no way to."""
        if self.stream is not None:
            return self.stream.fail(body)
        if self.call.stage != PARTS:
            return False
        self.downstream.send(sse.event_of(body))
        return True

    def _cut(self) -> None:
        """Break off what has begun: it cannot be completed."""
        self.begun = False
        self.downstream.abort()

    # -- what is let go of

    def free(self, status: Status) -> None:
        """Let go of all the call holds: what it waits for, who waits for it, and its slot."""
        plane = self.plane
        plane.in_flight.discard(self)
        if self.call.refreshing:
            plane.refreshing.discard(self)
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting.cancel()
        if self.endless:
            self.endless = False
            plane.audience.leave(self)
        stream, self.stream = self.stream, None  # it and what is waited for know the answer: no cycle stays
        if stream is not None:
            stream.release()
        within, self.within = self.within, None
        if within is not None:
            within.release()
        recording, self.recording = self.recording, None
        if recording is not None:
            plane.recordings.close(recording, monotonic())
        awaited, self.awaited = self.awaited, None
        if awaited is not None:
            awaited.forget()
            plane.connections.release(awaited.held)
        self.responded(status)

    def responded(self, status: Status) -> None:
        """Its response has been passed on: nobody waits for what may follow it, and no slot is held."""
        lookup, self.lookup = self.lookup, None
        if lookup is not None:
            lookup.end(status)
        if self.admission is not None:
            self.admission.leave()

    # -- what the client does (http.downstream.Responder)

    def client_gone(self) -> None:
        """Its client waits no more: give the call up, unless it may come back, or others wait for it."""
        stream = self.stream
        try:
            if stream is not None and stream.outcome is not None:
                stream.conclude()  # it did not wait for the end of the stream
            elif not self._outlives_client():
                self.abandon()
        except Exception as error:  # noqa: BLE001 - because of the same
            self.broke("client", error)

    def _outlives_client(self) -> bool:
        """Whether its stream goes on until its client comes back."""
        recording, plane = self.recording, self.plane
        ends = not self.begun or (self.endless and plane.draining)
        if ends or recording is None or not plane.recordings.leave(recording, monotonic()):
            return False
        self.downstream = Nobody()
        self.call.forget_body()
        if self.waiting is not None:
            self.waiting.pause(False)
        return True

    def abandon(self) -> None:
        """Its client does not come back (recording.Holder)."""
        if self._is_awaited and not self.call.opened:
            self.deserted = True
        else:
            self.settle("cancelled")

    def client_paused(self, paused: bool) -> None:
        """Read only as fast as the client reads from us."""
        try:
            if paused and self.lookup is not None and not self.ended:
                self.lookup.step_down()  # at its client's pace nobody else should wait
            if self.waiting is not None:
                self.waiting.pause(paused)
        except Exception as error:  # noqa: BLE001 - because of the same
            self.broke("client", error)

    def close_stream(self) -> None:
        """End an open event stream in order, to make room or because the sidecar ends."""
        try:
            if self.begun:
                self.settle("success")
            else:
                self.refuse(Refusal(refusals.UNOPENED, "The stream has not opened.", message_id=b"null"))
        except Exception as error:  # noqa: BLE001 - because of the same
            self.broke("drain", error)

    @property
    def passed_on(self) -> bool:
        """Whether it is an open event stream that another replica passes on to its client."""
        return self.endless and self.begun and self.relayed

    def cut(self) -> None:
        """Break off such a stream: who passes it on asks for it again, where its session is by then."""
        try:
            self._cut()
            self.settle("success")
        except Exception as error:  # noqa: BLE001 - because of the same
            self.broke("drain", error)

    def stranded(self) -> None:
        """The stream of 2024-11-05 that would have brought it has ended."""
        try:
            words = "The event stream that its answer belongs to has ended."
            self.refuse(Refusal(refusals.STRANDED, words))
        except Exception as error:  # noqa: BLE001 - because of the same
            self.broke("pair", error)

    # -- looked at twice a second

    @property
    def _is_awaited(self) -> bool:
        """Whether others wait for its result."""
        return self.lookup is not None and self.lookup.is_awaited

    def give_up(self) -> None:
        """End it once those are gone, too, for whom it went on without its client."""
        if self.deserted and not self._is_awaited:
            self.settle("cancelled")

    def lost(self, now: float) -> bool:
        """Whether nothing has been known for a while that would lead it on."""
        comes = self.awaited is not None and self.awaited.comes
        if comes or (self.waiting is not None and self.waiting.leads_on()):
            self._idle = 0.0
        elif self._idle == 0.0:
            self._idle = now
        return self._idle > 0.0 and now - self._idle > LOST_AFTER

    def beat(self, now: float, every: float) -> None:
        """Say that an open stream is open, where nothing was said on it for so many seconds."""
        stream, connection = self.stream, self.downstream
        opened = self.begun and isinstance(connection, ClientConnection) and not connection.is_slow
        if opened and stream is not None:
            stream.beat(now, every)

    def __repr__(self) -> str:
        return f"<Exchange {self.call!r}{f', {self.lookup!r}' if self.lookup is not None else ''}>"

    # -- what nobody expected

    def broke(self, site: Site, error: Exception) -> None:
        """Where a call is led on, whatever raises ends here: this call is answered, no other is harmed."""
        faults = self.plane.faults
        faults.tell(site, error)
        try:
            self._end_broken()
        except Exception as again:  # noqa: BLE001 - because of the same
            faults.tell("settle", again)
            self.call.stage = max(self.call.stage, END)
            with contextlib.suppress(Exception):
                self.downstream.abort()
        for _ in range(_HELD):  # whatever raises on being let go of is not held any more
            try:
                self.free("failed")
            except Exception as again:  # noqa: BLE001 - because of the same
                faults.tell("settle", again)
            else:
                break

    def _end_broken(self) -> None:
        call = self.call
        if call.stage == ENDED:
            return
        call.stage = min(call.stage, PURGE)  # if it had ended, then without an answer
        self._kept = None
        if self.admission is not None:
            self.admission.blame = NOBODY
        self.refuse(refusals.broken())
