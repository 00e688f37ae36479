"""What is known of a call on its way, and how it ends: once, by `settle`, whatever became of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from decimal import Decimal
from time import monotonic
from typing import TYPE_CHECKING, Final

from mcpace_sidecar.cache.entry import Entry, Place
from mcpace_sidecar.cache.lookup import Lookup
from mcpace_sidecar.cache.policy import Private, variant
from mcpace_sidecar.call import refusals
from mcpace_sidecar.call.context import Context
from mcpace_sidecar.call.legacy_sse import PairStream, Posted
from mcpace_sidecar.call.policies import Policy
from mcpace_sidecar.call.refusals import NOBODY, SERVER, TOOL, Refusal
from mcpace_sidecar.call.settings import Settings
from mcpace_sidecar.call.streaming import Streamed
from mcpace_sidecar.http import compression, sse
from mcpace_sidecar.http.downstream import Downstream
from mcpace_sidecar.http.head import RequestHead
from mcpace_sidecar.http.receiver import Ticket
from mcpace_sidecar.identity.callers import Via
from mcpace_sidecar.identity.client import Client
from mcpace_sidecar.limits.bucket import Charges
from mcpace_sidecar.mcp import responses
from mcpace_sidecar.mcp.methods import TOOLS_CALL, UNSURVIVABLE
from mcpace_sidecar.mcp.request import Message
from mcpace_sidecar.telemetry.events import CacheUse, CallEnded, Status
from mcpace_sidecar.telemetry.faults import Stage

if TYPE_CHECKING:
    from mcpace_sidecar.call.fanout import Fanout
    from mcpace_sidecar.call.plane import Plane


_HELD: Final = 10
"""More than a call may hold."""


class Call:
    """One message, as far as it has come. `Exchange` leads it on; here it is answered and ended."""

    # Defaults of the class, not set for each instance: most of them stay so.
    client: Client | None = None
    via: Via | None = None
    """By which way it came: a part of another call, and a refresh, by that one's."""
    message: Message | None = None
    reads = False
    """Whether the result is wanted, to be kept or shaped."""
    limit_lines = b""
    mirrors = b""
    """The header lines that mirror its body, of a part whose head is shared by others."""
    ended = False
    listening = False
    """Whether it is an open event stream, and counted as one."""
    begun = False
    """Whether a streamed answer has begun."""
    deadline = 0.0
    judged = False
    """Whether limits, slots and breakers count it."""
    span = b""
    """The `traceparent` of its own span, where traces are made."""
    label = ""
    """The name under which metrics and breakers know it."""
    _charges: Charges | None = None
    _policy: Policy | None = None
    _places: tuple[Place, ...] = ()
    """Where its result may be kept."""
    _lookup: Lookup | None = None
    _kept: Entry | None = None
    """The kept result that is its answer, as it is."""
    _refreshing = False
    _cache_use: CacheUse = ""
    _parent = b""
    """The `traceparent` it came with, where its own span has taken that one's place."""
    _admitted = False
    _tried = False
    """Whether the circuit breakers let it through, and may wait for what it says of the server."""
    _blame = NOBODY
    """Whom its failure is held against."""
    _queued = False
    _seated = False
    accepted = -1
    """Bytes of its body that the server of 2024-11-05 has accepted, and that are held no more; -1: none."""
    _borne = False
    """Whether the server's answer is known to bear its id."""
    _plain = False
    """Whether it is known besides to be a whole and good result."""
    awaiting = 0
    """Bytes that are held of all requests for this one, which waits for the stream of 2024-11-05."""
    forwarded = False
    """Whether the server has been asked, and may have done what it was asked."""
    _purging = False
    _answered = False
    deserted = False
    """Whether its client has left, and it goes on for others who wait for its result."""
    _rounds = 0
    """How often the server has asked before this call went on, of those that one counted call covers."""
    _idle = 0.0
    """Since when nothing is known that would lead it on."""
    _retried = False
    _shape: Callable[[bytes], bytes | None] | None = None
    _parked: asyncio.Task[None] | None = None
    _streamed: Streamed | None = None
    _pair_stream: PairStream | None = None
    pair: PairStream | None = None
    """The stream of 2024-11-05 that the answer goes to."""
    pair_key: str | int | Decimal | float | None = None
    """What tells its id from others there."""
    fanout: Fanout | None = None

    def __init__(
        self, plane: Plane, downstream: Downstream, head: RequestHead, context: Context, body: bytes,
        trace: bytes = b"", lines: bytes = b"",
    ) -> None:  # fmt: skip
        """`trace`: the line of the request's `traceparent`, where its head is held without it.

        `lines`: the header lines that its head is held without, and those of the way here.
        """
        self.plane = plane
        self._settings: Settings = context.settings
        self.downstream = downstream
        self.head = head
        self.context = context
        self.body = body
        self.trace = trace
        self.lines = lines
        self.started = monotonic()
        self._ticket: Ticket | None = None
        self._served: Ticket | None = None
        """The ticket of an answer that has come: its connection may be another's now."""

    # -- how it ends

    def settle(
        self, status: Status, head: bytes = b"", body: bytes | None = b"", *,
        compressible: bool = True, sent: int = 0,
    ) -> None:  # fmt: skip
        """End the call. Every way leads here, whatever became of it, and only the first counts.

        What it has made old goes first, so that its caller does not meet it again. Then it is
        answered, judged and recorded, and whatever it held is free.

        `head`, `body`: its answer; None for a body that there cannot be. Without a head, what was
        begun is finished, and `sent` says how many bytes that was.
        """
        policy = self._policy
        if policy is not None and policy.invalidates and self.forwarded and not self._purging:
            self._purging = True
            self.plane.results.purge(
                policy.invalidates,
                lambda: self._end_purged(status, head, body, compressible, sent),
            )
        else:
            self._end(status, head, body, compressible, sent)

    def _end_purged(
        self, status: Status, head: bytes, body: bytes | None, compressible: bool, sent: int
    ) -> None:
        try:
            self._end(status, head, body, compressible, sent)
        except Exception as error:  # noqa: BLE001 - because of the same
            self.broke("purge", error)

    def _end(self, status: Status, head: bytes, body: bytes | None, compressible: bool, sent: int) -> None:
        if self.ended:
            return
        self.ended = True
        if not head:
            if self.begun:
                self.downstream.finish()
        elif self.begun and not isinstance(self.downstream, Posted):
            # A head has been written: what came instead of the rest is said after it, or nothing is.
            if self._say(body or b""):
                self.downstream.finish()
            else:
                self._cut()
        elif body is None:
            self.downstream.answer_empty(head)
        else:
            sent = len(body)
            self._answer(head, body, compressible)
        self._answered = True
        message = self.message
        if message is not None and message.id is not None and self.forwarded:
            self.plane.spent.add(message.id)
        if self.judged:
            self._judge(status)
            if self.is_tool_call and not self._refreshing:
                self._record(status, sent)
        self._free(status)

    def _answer(self, head: bytes, body: bytes, compressible: bool) -> None:
        if len(body) > self._settings.compress_over and self.context.coding and compressible:
            small = self._compressed(self.context.coding, body) if self.pair is None else None
            if small is not None:
                head += b"Content-Encoding: %b\r\nVary: Accept-Encoding\r\n" % self.context.coding
                body = small
        self.downstream.answer(head, body)

    def _compressed(self, coding: bytes, body: bytes) -> bytes | None:
        """The same in that coding; None where that is not worth it. A kept result is compressed once."""
        kept, end = self._kept, responses.result_end(self.message_id)
        if kept is None or len(end) > compression.LONGEST_END:
            return compression.compress(coding, body)
        stem = self.plane.results.compressed(kept, coding)
        return stem.ended(end) if stem is not None else None

    def _judge(self, status: Status) -> None:
        """Tell the circuit breakers what this call says of the server."""
        breakers = self.plane.breakers
        if self._blame:
            breakers.judged(self.label, failed=True, server=self._blame == SERVER)
        elif breakers.known:
            if self.forwarded and status in ("success", "error"):
                breakers.judged(self.label, failed=False, server=False)
            elif self._tried:
                breakers.forgotten(self.label)

    def _record(self, status: Status, sent: int) -> None:
        plane, seconds = self.plane, monotonic() - self.started
        received = max(self.accepted, len(self.body))
        plane.tallies.count(self.label, status, seconds, self._cache_use, received, sent)
        if plane.listeners:
            client = self.client
            call = CallEnded(
                self.label,
                status,
                seconds,
                self._cache_use,
                received,
                sent,
                client.name if client is not None else "",
                self._settings.tier(client) if client is not None else None,
                self._parent if self.span else self.trace[13:-2] or self.context.trace,
                self.span,
            )
            plane.tell(call)

    def _free(self, status: Status) -> None:
        """Let go of all it holds: what it waits for, who waits for it, and its slot."""
        plane = self.plane
        plane.in_flight.discard(self)
        plane.refreshing.discard(self)
        self._shape = None  # which knows the exchange: no cycle stays
        ticket, self._ticket, self._served = self._ticket, None, None
        if ticket is not None:
            ticket.cancel()
        parked, self._parked = self._parked, None
        if parked is not None:
            parked.cancel()
        fanout, self.fanout = self.fanout, None
        if fanout is not None:
            fanout.cancel()
        if self.listening:
            self.listening = False
            plane.audience.leave(self)
        streamed, self._streamed = self._streamed, None  # it too knows the exchange
        if streamed is not None:
            streamed.release()
        pair_stream, self._pair_stream = self._pair_stream, None
        if pair_stream is not None:
            pair_stream.closed()
        if self.pair is not None:
            self.pair.forget(self)
        if self.awaiting:
            plane.connections.release(self.awaiting)
            self.awaiting = 0
        if self._queued:
            self._queued = False
            plane.bulkhead.withdraw(self)
        self.responded(status)

    def responded(self, status: Status) -> None:
        """Its response has been passed on: nobody waits for what may follow it, and no slot is held."""
        lookup, self._lookup = self._lookup, None
        if lookup is not None:
            lookup.end(status)
        if self._seated:
            self._seated = False
            self.plane.bulkhead.leave(self)

    def broke(self, stage: Stage, error: Exception) -> None:
        """Where a call is led on, whatever raises ends here: this call is answered, no other is harmed."""
        faults = self.plane.faults
        faults.tell(stage, error)
        try:
            self._end_broken()
        except Exception as again:  # noqa: BLE001 - because of the same
            faults.tell("settle", again)
            self.ended = True
            with contextlib.suppress(Exception):
                self.downstream.abort()
        for _ in range(_HELD):  # whatever raises on being let go of is not held any more
            try:
                self._free("failed")
            except Exception as again:  # noqa: BLE001 - because of the same
                faults.tell("settle", again)
            else:
                break

    def _end_broken(self) -> None:
        if self._answered:
            return
        self.ended = False  # if it had ended, then without an answer
        self._blame, self._kept = NOBODY, None
        refusal = refusals.broken()
        if not self.begun:
            self.settle("failed", *refusal.reply(self.message_id, survivable=self.survivable))
            return
        if not self._say(refusal.body(self.message_id)):
            self._cut()
        self.settle("failed")

    # -- answers that are not the server's own words

    def begin(self, head: bytes, length: int | None) -> None:
        """Begin a streamed answer."""
        self.begun = True
        self.downstream.start(head, length)

    def _say(self, body: bytes) -> bool:
        """Say an error in the stream that has begun; False if there is no way to."""
        if self._streamed is not None:
            return self._streamed.fail(body)
        if self.fanout is None:
            return False
        self.downstream.send(sse.event_of(body))
        return True

    def _cut(self) -> None:
        """Break off the answer that has begun: it cannot be completed."""
        self.begun = False
        self.downstream.abort()

    def _give(self, status: Status, entry: Entry) -> None:
        """Answer with a kept result."""
        shaped = self._shape(entry.result) if self._shape is not None else None
        if shaped is None:
            self._kept = entry
        head = refusals.OK_JSON + self.limit_lines if self.limit_lines else refusals.OK_JSON
        self.settle(status, head, responses.result_body(self.message_id, shaped or entry.result))

    def _stand_in(self, status: Status) -> bool:
        """Answer with a result that is not fresh any more, where its tool's rule allows that."""
        if self._lookup is None or self._lookup.fallback is None:
            return False
        self._cache_use = "stale"
        self._give(status, self._lookup.fallback)
        return True

    def _heed(self, status: int) -> bool:
        """What an HTTP error of the server's changes; True: a kept result was answered instead of it."""
        plane, client = self.plane, self.client
        if status in (401, 403) and client is not None:
            private = self.private
            if private is not None:
                plane.results.purge((private.credential,))
        elif status == 404 and self.context.session and self._charges is not None:
            plane.give_back(self._charges, self.started)  # the session is lost: nothing was called
            self.limit_lines = b""
        elif status >= 500 and self.judged:
            self._blame = TOOL
            return self._stand_in("failed")
        return False

    def refuse(self, refusal: Refusal) -> None:
        """Say no: count it, and answer it, or a kept result in its place where there is one."""
        reason = refusal.reason
        if reason.metric:
            self.plane.metrics.count(reason.metric, *refusal.labels)
        if self.judged:
            self._blame = reason.blames
        if self.begun:
            if not self._say(refusal.body(self.message_id)):
                self._cut()
            self.settle(reason.record)
        elif reason.record not in ("shed", "failed") or not self._stand_in(reason.record):
            head, body = self._refused(refusal)
            self.settle(reason.record, head, body)

    def _refused(self, refusal: Refusal) -> tuple[bytes, bytes]:
        if refusal.reason is refusals.LIMITED:
            form = self._settings.reply
            if form == "toolError" and self.is_tool_call:  # only a tool's result can say so itself
                return refusal.result(self.message_id)
            return refusal.reply(self.message_id, survivable=form != "http429")
        return refusal.reply(self.message_id, survivable=self.survivable)

    @property
    def patience(self) -> float:
        """Seconds that the server's answer may take to come."""
        return self._settings.patience

    @property
    def variant(self) -> bytes:
        """What tells apart the answers even of those who share them."""
        public = self.via.public if self.via is not None else b""
        if self.pair is None and not public:
            return self.context.variant
        # POSTs of a pair have targets of their own.
        target = self.pair.opened if self.pair is not None else self.head.target
        return variant(self.context.version, target, self.context.public, public)

    @property
    def survivable(self) -> bool:
        """Whether an error in place of the result ends only this call, and nobody's session."""
        message = self.message
        return message is not None and message.method is not None and message.method not in UNSURVIVABLE

    @property
    def who(self) -> bytes:
        """What tells apart those whose pages and conversations are their own."""
        assert self.client is not None
        private = self.private
        return private.who if private is not None else self.client.name.encode()

    @property
    def private(self) -> Private | None:
        """What tells its user's results from all others'; None: nothing does."""
        assert self.client is not None
        return self.context.private(self.client, self.via.named if self.via is not None else ())

    @property
    def is_tool_call(self) -> bool:
        """Whether a tool is called."""
        return self.message is not None and self.message.method == TOOLS_CALL

    @property
    def message_id(self) -> bytes:
        """The id to answer with."""
        return (self.message.id if self.message is not None else None) or b"null"
