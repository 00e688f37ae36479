"""What all calls share: settings, stores, the pool, slots, what is counted, and which are on their way."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from mcpace_sidecar.bulkhead.slots import Breakers, Bulkhead
from mcpace_sidecar.cache.entry import Entry
from mcpace_sidecar.cache.flight import Flights
from mcpace_sidecar.cache.store import ResultStore
from mcpace_sidecar.call import refusals
from mcpace_sidecar.call.audience import Audience
from mcpace_sidecar.call.awaited import OpenStream
from mcpace_sidecar.call.call import Call
from mcpace_sidecar.call.page_rate import PageRate
from mcpace_sidecar.call.policies import NEXT_PAGE, PARALLEL
from mcpace_sidecar.call.recording import Recordings
from mcpace_sidecar.call.sessions import Sessions
from mcpace_sidecar.call.settings import Settings
from mcpace_sidecar.call.spent import Spent
from mcpace_sidecar.conversations.questions import Questions
from mcpace_sidecar.conversations.store import ConversationStore
from mcpace_sidecar.errors import LostError
from mcpace_sidecar.http import compression
from mcpace_sidecar.http.backend import Backend
from mcpace_sidecar.http.connections import Connections
from mcpace_sidecar.http.downstream import length_line, status_line
from mcpace_sidecar.http.receiver import Unheard
from mcpace_sidecar.limits.bucket import Charges
from mcpace_sidecar.limits.memory import MemoryLimits
from mcpace_sidecar.limits.store import LimitStore
from mcpace_sidecar.mcp import ids, responses
from mcpace_sidecar.mcp.catalog import Catalog
from mcpace_sidecar.mcp.methods import TOOLS_CALL
from mcpace_sidecar.mcp.request import Message
from mcpace_sidecar.relay.peers import Peers
from mcpace_sidecar.sessions.revival import Revival
from mcpace_sidecar.sessions.table import Table
from mcpace_sidecar.telemetry import accesslog
from mcpace_sidecar.telemetry.events import CallEnded, Listener, Status
from mcpace_sidecar.telemetry.faults import Faults, Site
from mcpace_sidecar.telemetry.metrics import Metrics
from mcpace_sidecar.telemetry.tally import Tallies

MOST_STREAMS = 1024
"""Open event streams, until the budget is known."""
_CANCEL_PATIENCE = 5.0
FORGETTING = 3.0
"""Seconds from a drain's beginning in which Services still send clients here: where there are other
replicas, streams stay open so long, and may be opened again."""


class InFlight(Protocol):
    """The answer to a call on its way, as far as all of them are looked at together."""

    call: Call
    endless: bool
    """Whether it would never end by itself: an open event stream."""

    def close_stream(self) -> None:
        """End an open event stream in order."""

    def give_up(self) -> None:
        """End it if nobody is left whom its result is for."""

    def lost(self, now: float) -> bool:
        """Whether nothing has been known for a while that would lead it on; asked twice a second."""

    def beat(self, now: float, every: float) -> None:
        """Say that an open stream is open, where nothing was said on it for so many seconds."""

    def broke(self, site: Site, error: Exception) -> None:
        """End: something went wrong that nobody expected."""


class Plane:
    """What the stages of a call need. `loopback`: only local pages may call."""

    def __init__(
        self, settings: Settings, pool: Backend, limits: LimitStore, results: ResultStore,
        conversations: ConversationStore, metrics: Metrics, tallies: Tallies, faults: Faults,
        catalog: Catalog, connections: Connections, table: Table, revival: Revival,
        is_ready: Callable[[], bool], on_upstream_down: Callable[[], None], *, loopback: bool,
    ) -> None:  # fmt: skip
        self.settings = settings
        self.pool = pool
        self.limits = limits
        self.results = results
        self.metrics = metrics
        self.tallies = tallies
        self.catalog = catalog
        self.connections = connections
        self.listeners: tuple[Listener, ...] = ()
        """Who hears of every ended tool call, beside the tallies."""
        self.loopback = loopback
        self._elsewhere = re.compile(
            rb"(?im)^(Location:[ \t]*)http://%b(?=/)" % re.escape(str(pool.address).encode())
        )
        self.draining = False
        self.draining_since = math.inf
        """Seconds of the monotonic clock."""
        self.is_ready = is_ready
        self.on_upstream_down = on_upstream_down
        self.faults = faults
        self.in_flight: set[InFlight] = set()
        self.refreshing: set[InFlight] = set()
        """Those that fetch a result anew, for nobody who waits."""
        self.flights = Flights()
        self.bulkhead = Bulkhead(settings.config.concurrency, monotonic)
        self.breakers = Breakers(monotonic)
        self.sessions = Sessions()
        self.table = table
        self.revival = revival
        self.peers: Peers | None = None
        """The other sidecars of this server, where there may be any."""
        self.conversations = conversations
        self.page_rate = PageRate()
        self.refunds = MemoryLimits()
        """What was given back lately: whoever makes sessions up is limited all the same."""
        self.audience = Audience(MOST_STREAMS)
        self.recordings = Recordings()
        self.questions = Questions()
        self.spent = Spent()
        self.pairs: dict[bytes, OpenStream] = {}
        """The open streams of 2024-11-05, by where their messages are posted."""
        self.hinting: set[str] = set()
        """The methods whose last result said that it may be kept."""
        self.adopt(settings)

    def adopt(self, settings: Settings) -> None:
        """Use these settings from the next call on."""
        self.settings = settings
        self.pool.adopt(settings.config)
        self.table.adopt(settings.config.sessions)
        concurrency = settings.config.concurrency
        self.bulkhead.adopt(concurrency)
        self.breakers.adopt(concurrency.circuit_breaker if concurrency is not None else None)
        self.catalog.configured = frozenset(settings.policies.tools)
        self.offers = settings.paging or settings.parallel
        self.listeners = (accesslog.write,) if settings.access_log else ()
        if settings.spans is not None:
            self.listeners = (*self.listeners, settings.spans.on_call)

    def drain(self) -> None:
        """Be unready from now on, and ask clients, answer by answer, to go elsewhere."""
        if not self.draining:
            self.draining, self.draining_since = True, monotonic()

    @property
    def opens_streams(self) -> bool:
        """Whether a client's event stream may stay open: it would keep the sidecar from ending."""
        if not self.draining:
            return True
        return self.peers is not None and monotonic() - self.draining_since < FORGETTING

    def tell(self, call: CallEnded) -> None:
        """Tell everyone who wants to know of an ended tool call."""
        for listener in self.listeners:
            try:
                listener(call)
            except Exception as error:  # noqa: BLE001 - because the call has ended well
                self.faults.tell("record", error)

    def health(self) -> tuple[bytes, bytes]:
        """What balancers are told on the data port: whether to send calls here."""
        if self.is_ready() and not self.draining:
            return refusals.OK_JSON, b'{"status":"ok"}'
        return status_line(503) + b"Retry-After: 1\r\n" + refusals.JSON, b'{"status":"unavailable"}'

    @property
    def offers_parallel(self) -> bool:
        """Whether the tool `parallel` is ours: it gives way to a tool of the server's."""
        return self.settings.parallel and PARALLEL not in self.catalog.tools

    @property
    def next_page_name(self) -> str:
        """What the tool that reads pages is called; a tool of the server's keeps its name."""
        return NEXT_PAGE if NEXT_PAGE not in self.catalog.tools else f"mcpace_{NEXT_PAGE}"

    def label(self, message: Message) -> str:
        """The name under which metrics and breakers know a counted message: never an unbounded one."""
        if message.method == TOOLS_CALL:
            return self.catalog.label(message.target or "")
        return message.method or ""

    def here(self, lines: bytes) -> bytes:
        """The lines of an answer that leads to the server's own address, leading to the same path here."""
        return self._elsewhere.sub(rb"\1", lines)

    def give_back(self, charges: Charges, since: float) -> None:
        """Give back what a call took that was none; to one client no oftener than it may call.

        `since`: when the call began, in seconds of the monotonic clock.
        """
        if self.refunds.take(charges).allowed:
            self.limits.give(charges, since)

    def compressed(self, kept: Entry | None, message_id: bytes, coding: bytes, body: bytes) -> bytes | None:
        """A body in that coding; None where that is not worth it. `kept`: it is this result's, so once."""
        end = responses.result_end(message_id)
        if kept is None or len(end) > compression.LONGEST_END:
            return compression.compress(coding, body)
        stem = self.results.compressed(kept, coding)
        return stem.ended(end) if stem is not None else None

    def learn_hint(self, message: Message, ttl: float) -> None:
        """Remember whether results of a method say that they may be kept, in seconds."""
        assert message.method is not None
        if ttl > 0:
            self.hinting.add(message.method)
        else:
            self.hinting.discard(message.method)

    def tell_cancelled(self, asked: Backend, onward: bytes, lines: bytes, message_id: bytes) -> None:
        """Tell a server of the handshake era that nobody waits (MCP 2025-11-25, basic/utilities).

        `asked`: who was asked; `onward`, `lines`: the head of the call.
        """
        body = (
            b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%b,"reason":"timeout"}}'
            % message_id
        )
        request = onward, lines, length_line(len(body)), body
        asked.request(request, Unheard(), _CANCEL_PATIENCE)

    def record(self, call: Call, status: Status, sent: int, accepted: int) -> None:
        """Count a tool's call that has ended, and tell who listens. `sent`, `accepted`: bytes."""
        seconds, received = monotonic() - call.started, max(len(call.body), call.received, accepted)
        self.tallies.count(call.label, status, seconds, call.cache_use, received, sent)
        if self.listeners:
            self.tell(call.record(status, seconds, received, sent))

    def knows(self, message_id: bytes) -> bool:
        """Whether a request of this id is on its way, or has lately ended."""
        return message_id in self.spent or any(
            ids.same_id(each.call.message_id, message_id) for each in self.in_flight
        )

    def tools_in_flight(self) -> Counter[str]:
        """How many calls of each tool are being answered."""
        return Counter(each.call.label for each in self.in_flight if each.call.is_tool_call)

    def sweep(self, now: float) -> None:
        """Timeouts of what waits here, and what waits for nothing; about twice a second."""
        for each in (
            self.pool.sweep,
            self.table.sweep,
            self.recordings.sweep,
            self.bulkhead.sweep,
            *(pair.sweep for pair in self.pairs.values()),
        ):
            try:
                each(now)
            except Exception as error:  # noqa: BLE001 - because the next sweep tries again
                self.faults.tell("sweep", error)
        every = self.settings.heartbeat
        for answer in [*self.in_flight, *self.refreshing]:
            try:
                answer.give_up()
                if answer.lost(now):
                    answer.broke("lost", LostError())
                elif every > 0.0:
                    answer.beat(now, every)
            except Exception as error:  # noqa: BLE001 - because it is this one's end alone
                answer.broke("sweep", error)
        for seat in [seat for seat in self.bulkhead.seats if seat.ended]:
            self.faults.tell("lost", LostError())
            self.bulkhead.leave(seat)
