"""What all exchanges share, and the door they come in by: the application of the data port."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from time import monotonic

from mcpace_sidecar.bulkhead.slots import Breakers, Bulkhead
from mcpace_sidecar.cache.flight import Flights
from mcpace_sidecar.cache.store import ResultStore
from mcpace_sidecar.call import refusals
from mcpace_sidecar.call.audience import Audience
from mcpace_sidecar.call.context import Context
from mcpace_sidecar.call.exchange import Exchange
from mcpace_sidecar.call.legacy_sse import PairStream
from mcpace_sidecar.call.policies import NEXT_PAGE, PARALLEL
from mcpace_sidecar.call.refusals import Refusal
from mcpace_sidecar.call.sessions import Sessions
from mcpace_sidecar.call.settings import Settings
from mcpace_sidecar.call.spent import Spent
from mcpace_sidecar.call.turns import Turns
from mcpace_sidecar.conversations.questions import Questions
from mcpace_sidecar.conversations.store import ConversationStore
from mcpace_sidecar.errors import LostError, ProtocolError
from mcpace_sidecar.http.connections import Connections
from mcpace_sidecar.http.downstream import Nobody, length_line, status_line
from mcpace_sidecar.http.head import RequestHead
from mcpace_sidecar.http.known import RequestHeads
from mcpace_sidecar.http.pool import Pool
from mcpace_sidecar.http.receiver import Unheard
from mcpace_sidecar.http.server import ClientConnection
from mcpace_sidecar.identity.callers import Via
from mcpace_sidecar.limits.bucket import Charges
from mcpace_sidecar.limits.memory import MemoryLimits
from mcpace_sidecar.limits.store import LimitStore
from mcpace_sidecar.mcp import ids
from mcpace_sidecar.mcp.catalog import Catalog
from mcpace_sidecar.mcp.methods import TOOLS_CALL
from mcpace_sidecar.mcp.request import Message
from mcpace_sidecar.telemetry import accesslog
from mcpace_sidecar.telemetry.events import CallEnded, Listener
from mcpace_sidecar.telemetry.faults import Faults
from mcpace_sidecar.telemetry.metrics import Metrics
from mcpace_sidecar.telemetry.tally import Tallies

MOST_STREAMS = 1024
"""Open event streams, until the budget is known."""
_CANCEL_PATIENCE = 5.0


class Plane:
    """Answers the data port. `loopback`: only local pages may call."""

    def __init__(
        self, settings: Settings, pool: Pool, limits: LimitStore, results: ResultStore,
        conversations: ConversationStore, metrics: Metrics, tallies: Tallies, faults: Faults,
        catalog: Catalog, connections: Connections, is_ready: Callable[[], bool],
        on_upstream_down: Callable[[], None], *, loopback: bool,
    ) -> None:  # fmt: skip
        self.settings = settings
        self.heads = RequestHeads(settings.names)
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
        self.is_ready = is_ready
        self.on_upstream_down = on_upstream_down
        self.faults = faults
        self.in_flight: set[Exchange] = set()
        self.refreshing: set[Exchange] = set()
        """Those that fetch a result anew, for nobody who waits."""
        self.flights = Flights()
        self.bulkhead = Bulkhead(settings.config.concurrency, monotonic)
        self.breakers = Breakers(monotonic)
        self.sessions = Sessions()
        self.conversations = conversations
        self.turns = Turns()
        self.refunds = MemoryLimits()
        """What was given back lately: whoever makes sessions up is limited all the same."""
        self.audience = Audience(MOST_STREAMS)
        self.questions = Questions()
        self.spent = Spent()
        self.pairs: dict[bytes, PairStream] = {}
        """The open streams of 2024-11-05, by where their messages are posted."""
        self.hinting: set[str] = set()
        """The methods whose last result said that it may be kept."""
        self.adopt(settings)

    def adopt(self, settings: Settings) -> None:
        """Use these settings from the next call on."""
        self.settings = settings
        self.heads.adopt(settings.names)
        self.max_request_bytes = settings.max_request_bytes
        self.idle_timeout = settings.idle_timeout
        self.pool.adopt(settings.config.upstream)
        concurrency = settings.config.concurrency
        self.bulkhead.adopt(concurrency)
        self.breakers.adopt(concurrency.circuit_breaker if concurrency is not None else None)
        self.catalog.configured = frozenset(settings.policies.tools)
        self.offers = settings.paging or settings.parallel
        self.listeners = (accesslog.write,) if settings.access_log else ()
        if settings.spans is not None:
            self.listeners = (*self.listeners, settings.spans.on_call)

    def judge_head(self, connection: ClientConnection, head: RequestHead) -> bool:
        """Answer a request whose body is still to come, if its head alone says how."""
        return self._exchange(connection, head, b"").refused()

    def on_request(self, connection: ClientConnection, head: RequestHead, body: bytes) -> Exchange | None:
        """Answer a request, or return the exchange that will."""
        exchange = self._exchange(connection, head, body)
        self.in_flight.add(exchange)
        exchange.start()
        return None if exchange.ended else exchange

    def _exchange(self, connection: ClientConnection, head: RequestHead, body: bytes) -> Exchange:
        settings, read = self.settings, connection.request
        apart = read.apart if settings.all_apart else _together(settings, read.apart, head)
        via: Via | None = connection.via
        if via is None or via.identities is not settings.identities or via.apart != apart:
            via = connection.via = settings.identities.via(connection.peer, apart)
        # What is posted to an open stream's endpoint is the stream's, whatever the path, the GET's own too.
        paired = settings.pair and head.target in self.pairs and head.method == b"POST"
        context: Context | None = head.base.notes
        if (
            context is None
            or context.settings is not settings
            or context.believed != via.believed
            or context.paired != paired
        ):
            context = Context(
                settings, self.pool.address, head.base, loopback=self.loopback, believed=via.believed,
                paired=paired,
            )  # fmt: skip
            head.base.notes = context
        connection.rewriter = context.grant
        lines = via.lines + read.lines if read.lines else via.lines
        exchange = Exchange(self, connection, head, context, body, read.trace, lines)
        exchange.via = via
        return exchange

    def tell(self, call: CallEnded) -> None:
        """Tell everyone who wants to know of an ended tool call."""
        for listener in self.listeners:
            try:
                listener(call)
            except Exception as error:  # noqa: BLE001 - because the call has ended well
                self.faults.tell("record", error)

    def on_bad_request(self, error: ProtocolError) -> tuple[bytes, bytes]:
        """Count what is no HTTP, and say so, or that there is no room."""
        refusal = Refusal(refusals.OF_HTTP[error.reason], str(error))
        if error.status != 503:  # which is counted where there was no room
            self.metrics.count(refusal.reason.metric, *refusal.labels)
        return refusals.JSON, refusal.body(b"null")

    def on_broken(self, error: Exception) -> tuple[bytes, bytes]:
        """Count and log what was raised where a request was gathered, and say so."""
        self.faults.tell("connection", error)
        return refusals.JSON, refusals.broken().body(b"null")

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

    def learn_hint(self, message: Message, ttl: float) -> None:
        """Remember whether results of a method say that they may be kept, in seconds."""
        assert message.method is not None
        if ttl > 0:
            self.hinting.add(message.method)
        else:
            self.hinting.discard(message.method)

    def refresh(self, stale: Exchange) -> None:
        """Fetch a new result for one that was answered stale; nobody waits for it."""
        again = Exchange(self, Nobody(), stale.head, stale.context, stale.body, stale.trace, stale.lines)
        self.refreshing.add(again)
        again.refresh(stale)

    def tell_cancelled(self, exchange: Exchange) -> None:
        """Tell a server of the handshake era that nobody waits (MCP 2025-11-25, basic/utilities)."""
        body = (
            b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%b,"reason":"timeout"}}'
            % exchange.message_id
        )
        request = exchange.context.onward, exchange.lines, length_line(len(body)), body
        self.pool.request(request, Unheard(), _CANCEL_PATIENCE)

    def knows(self, message_id: bytes) -> bool:
        """Whether a request of this id is on its way, or has lately ended."""
        return message_id in self.spent or any(
            ids.same_id(exchange.message_id, message_id) for exchange in self.in_flight
        )

    def tools_in_flight(self) -> Counter[str]:
        """How many calls of each tool are being answered."""
        return Counter(exchange.label for exchange in self.in_flight if exchange.is_tool_call)

    def sweep(self, now: float) -> None:
        """Timeouts of what waits here, and what waits for nothing; about twice a second."""
        for each in (self.pool.sweep, self.bulkhead.sweep, *(pair.sweep for pair in self.pairs.values())):
            try:
                each(now)
            except Exception as error:  # noqa: BLE001 - because the next sweep tries again
                self.faults.tell("sweep", error)
        every = self.settings.heartbeat
        for exchange in [*self.in_flight, *self.refreshing]:
            try:
                exchange.give_up()
                if exchange.lost(now):
                    exchange.broke("lost", LostError())
                elif every > 0.0:
                    exchange.beat(now, every)
            except Exception as error:  # noqa: BLE001 - because it is this one's end alone
                exchange.broke("sweep", error)
        for seat in [seat for seat in self.bulkhead.seats if seat.ended]:
            self.faults.tell("lost", LostError())
            self.bulkhead.leave(seat)


def _together(settings: Settings, apart: tuple[bytes, ...], head: RequestHead) -> tuple[bytes, ...]:
    """All that identities want to know apart, some of which `varyOn` keeps in the head."""
    given = dict(zip(settings.names.apart, apart, strict=False))
    names = settings.identities.apart
    values = tuple(
        given.get(name, b"")
        if name in settings.names.apart
        else b"\n".join(filter(None, head.values(name)))
        for name in names
    )
    return values if any(values) else ()
