"""One running sidecar: the parts put together, kept up to date, and ended in order."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Final

from mcpace_sidecar.admin.port import Admin
from mcpace_sidecar.cache.memory import MemoryResults
from mcpace_sidecar.cache.policy import list_tag
from mcpace_sidecar.call import leaving
from mcpace_sidecar.call.plane import Plane
from mcpace_sidecar.call.port import DataPort
from mcpace_sidecar.contract.budget import SHARES, Budget
from mcpace_sidecar.contract.config.document import changes
from mcpace_sidecar.contract.environment import SESSION_KEY
from mcpace_sidecar.egress.doors import Doors
from mcpace_sidecar.errors import ConfigError, ListenError, words_of
from mcpace_sidecar.http.address import Address
from mcpace_sidecar.http.connections import Connections, Guest
from mcpace_sidecar.http.downstream import Application
from mcpace_sidecar.http.listener import listen
from mcpace_sidecar.http.server import ClientConnection
from mcpace_sidecar.mcp.catalog import Catalog
from mcpace_sidecar.process.backends import Backends
from mcpace_sidecar.process.configuration import Configuration
from mcpace_sidecar.process.heap import Heap
from mcpace_sidecar.process.options import Options, Usage
from mcpace_sidecar.process.stores import Stores
from mcpace_sidecar.server.findings import REASONS, Findings
from mcpace_sidecar.server.handshake import Handshake
from mcpace_sidecar.sessions.revival import Revival
from mcpace_sidecar.sessions.sealing import Owner, Sealer
from mcpace_sidecar.sessions.table import Table
from mcpace_sidecar.stdio.processes import Processes
from mcpace_sidecar.telemetry.faults import Faults
from mcpace_sidecar.telemetry.metrics import Metrics
from mcpace_sidecar.telemetry.tally import Tallies

if TYPE_CHECKING:
    from mcpace_sidecar.process.relay import Relay

log = logging.getLogger(__name__)
reloads = logging.getLogger("mcpace_sidecar.reloads")

BACKLOG: Final = 1024
"""Connections that wait to be taken."""
WATCH_INTERVAL: Final = 0.5
"""Seconds between two looks at the configuration and the keys."""
SWEEP_INTERVAL: Final = 0.5
LINGER: Final = 0.5
"""Seconds that idle connections get to bring a request that was on its way."""
LAST_WORDS: Final = 2.0
"""Seconds that calls in flight get in any case: clients are told what a server has cut by ending."""

ADMIN: Final = (128, 1 << 20, 8 << 20)
"""The admin port's bounds: connections, bytes of bodies, bytes of answers."""
COLLECTING: Final = (20_000, 20, 50)
"""When to look for cycles: seldom, for a call makes none, and what is remembered is much to look at."""

OUTLIVED: Final = 5.0
"""Seconds after a reload from which hardly a call is left that began under the configuration before: it is
full of cycles, and would wait long to be looked for."""


_NOWHERE: Final = Address("127.0.0.1", 0)
"""The place of a sidecar that no other reaches."""


def _own_address(options: Options) -> Address:
    """Where other sidecars reach this one; ConfigError."""
    if options.relay_listen is None:
        return _NOWHERE
    from mcpace_sidecar.process.relay import own_address  # noqa: PLC0415 - because of its libraries

    return own_address(options.relay_listen)


class Sidecar:
    """Start it, `wait` for its end."""

    def __init__(self, options: Options) -> None:
        """Raises ConfigError."""
        self._options = options
        self._heap = Heap(options.memory)
        configuration = self.configuration = Configuration(options)
        settings = configuration.settings
        self.server_usage: Usage = options.server_usage
        """What the server uses; whoever starts the server as a child says it later."""
        self.tallies = Tallies()
        self.metrics = Metrics(self.tallies, self._gauges)
        faults = self._faults = Faults(self.metrics)
        self.catalog = Catalog()
        self.memory = MemoryResults(settings.cache_bytes, settings.cache_entries)
        stores = self.stores = Stores(options, configuration, self.memory, faults)
        shed = functools.partial(self.metrics.count, "mcpace_shed_connections")
        self.connections = Connections(shed)
        self._admin_connections = Connections(shed, *ADMIN)
        self._door_connections = Connections(shed)
        raised = functools.partial(faults.tell, "upstream")
        self._backends = Backends(options, settings.config, raised)
        pool = self._backends.calls
        handshake = self.handshake = Handshake(
            self._backends.own,
            pool,
            lambda: configuration.settings,
            self.catalog,
            lambda kind: stores.results.purge((list_tag(kind),)),
            frozenset({options.listen.port, options.admin_listen.port}) if options.in_pod else None,
        )
        place = _own_address(options)
        owner = Owner(place.host, place.port, int.from_bytes(os.urandom(4)))
        self.table = Table(Sealer(options.name, options.session_keys), owner)
        revived = functools.partial(self.metrics.count, "mcpace_session_revived")
        broke = functools.partial(faults.tell, "session")
        self._revival = Revival(self._backends.reviving, self.table, revived, broke)
        self.plane = Plane(
            settings, pool, stores.limits, stores.results, stores.conversations, self.metrics, self.tallies,
            faults, self.catalog, self.connections, self.table, self._revival,
            lambda: handshake.ready, handshake.doubt,
            loopback=options.listen.is_loopback,
        )  # fmt: skip
        self.data_port = DataPort(self.plane)
        self._relay: Relay | None = None
        if options.relay_listen is not None:
            if not options.session_keys:
                raise ConfigError(
                    f"--relay-listen needs a key by which replicas know each other: set {SESSION_KEY}"
                )
            # Imported here because a sidecar without peers should not hold what speaks to them in memory.
            from mcpace_sidecar.process.relay import Relay  # noqa: PLC0415 - because of that

            self._relay = Relay(
                options.relay_listen, options.peers, options.session_keys, self.plane, stores.records,
                stores.links[0] if options.limits_url is not None else None,
                lambda: handshake.ready, raised,
            )  # fmt: skip
        self._doors = Doors(self._door_connections, faults)
        self.findings = Findings(lambda: configuration.settings, self.catalog, self.tallies.looked_up)
        self._admin = Admin(
            self.plane, handshake, self.metrics, self.tallies, self.memory, self._doors, self.findings,
            options.admin_token, stores.links, options.judge, options.lines, self.drain,
            loopback=options.admin_listen.is_loopback,
        )  # fmt: skip
        self._sweeps: tuple[Callable[[float], None], ...] = (
            self.connections.sweep,
            self._admin_connections.sweep,
            self.plane.sweep,
            self._backends.sweep,
            self._doors.sweep,
            self._admin.drained.sweep,
            self._heap.sweep,
            self._let_go,
            self._rotate,
            *stores.sweeps(),
            lambda _: self.plane.refunds.sweep(),
            self._collect,
        )
        self._divide()
        self._lag = 0.0
        self._reloaded_at = 0.0
        self._servers: list[asyncio.Server] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._ending = asyncio.Event()
        self.listening: list[Address] = []

    def _divide(self) -> None:
        """Bound everything by its share of the memory."""
        options, settings = self._options, self.configuration.settings
        budget = self.budget = Budget(options.memory, settings.cache_bytes, options.files)
        self.connections.bound(budget.connections, budget.bodies, budget.answers)
        self._door_connections.bound(budget.connections, budget.egress, budget.egress)
        self.plane.audience.most = budget.streams
        self.plane.pool.gathered.most = budget.gathered
        self.plane.recordings.ledger.most = budget.replays
        self.plane.recordings.away.most = budget.streams // 4

    async def start(self) -> None:
        """Listen on both ports, then begin to look after everything; ListenError if a port is taken."""
        options = self._options
        await self._listen(self._admin, self._admin_connections, options.admin_listen)
        await self.stores.connect()
        await self._listen(self.data_port, self.connections, options.listen)
        if self._relay is not None:
            await self._relay.open()
            self._look_after(self._relay.peers.stay_present())
        await self._doors.adopt(self.configuration.settings.config.egress)
        self._look_after(self.handshake.keep())
        self._look_after(self.handshake.subscribe())
        self._look_after(self._sweep())
        self._look_after(self._watch())
        for work in self.stores.kept():
            self._look_after(work)
        gc.collect()
        self._heap.begin()
        gc.freeze()  # what start-up made stays; collections need not look at it
        gc.set_threshold(*COLLECTING)

    def drain(self) -> None:
        """Turn unready and ask clients, answer by answer, to go elsewhere."""
        if not self.plane.draining:
            log.info("Draining: unready, connections close with their next answer")
        self.plane.drain()
        # Open streams would keep the server from ending; their clients go elsewhere.
        self.handshake.unsubscribe()
        if not self.plane.opens_streams:
            leaving.close_streams(self.plane)

    @property
    def _clients(self) -> list[Guest]:
        """The connections of clients: peers' count with them, and stay until all has ended."""
        return self.connections.of(self.data_port)

    @property
    def processes(self) -> Processes | None:
        """Those of a server of stdio."""
        return self._backends.processes

    def kill(self) -> None:
        """End a server of stdio at once."""
        if self.processes is not None:
            self.processes.hurry()

    def end(self) -> None:
        """Ask `wait` to return once the calls in flight are answered."""
        self._ending.set()

    async def wait(self) -> None:
        """Serve until `end`; then finish the calls in flight, for a while, and close."""
        await self._ending.wait()
        self.drain()
        for server in self._servers[1:]:
            server.close()
        # A request may be on its way to a connection that looks idle: it is answered, and then closed.
        for connection in self._clients:
            connection.close_after_answer()
        lingering = time.monotonic() + LINGER
        while self._clients and time.monotonic() < lingering:
            await asyncio.sleep(0.02)
        for connection in self._clients:
            connection.close_if_idle()
        patience = self.configuration.settings.drain_timeout
        deadline = max(self.plane.draining_since + patience, time.monotonic() + LAST_WORDS)
        while not leaving.is_done(self.plane) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        if self._relay is not None:
            self._relay.leave()
        told = leaving.tell(self.plane)
        if told:
            log.warning("%d calls did not end within %g s", told, patience)
        await self.stores.leave()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for server in self._servers:
            server.close()
        for connection in [*self._clients, *self._admin_connections.open]:
            connection.close_if_idle()
        await self._revival.close()
        if self._relay is not None:
            await self._relay.close()
        await self._backends.close()
        await self._doors.close()
        await self.stores.close()
        spans = self.configuration.settings.spans
        if spans is not None:
            await asyncio.get_running_loop().run_in_executor(None, spans.close)
        log.info("Ended")

    async def _listen(
        self, app: Application[ClientConnection], connections: Connections, address: Address
    ) -> None:
        try:
            server = await listen(app, connections, address, BACKLOG)
        except OSError as error:
            if address not in self._options.movable:
                raise ListenError(address, words_of(error)) from error
            server = await listen(app, connections, Address(address.host, 0), BACKLOG)
        self._servers.append(server)
        self.listening.append(Address(address.host, server.sockets[0].getsockname()[1]))

    def _look_after(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._lost)
        self._tasks.append(task)

    def _lost(self, task: asyncio.Task[None]) -> None:
        """A task of the sidecar's own never ends by itself: if one does, end in order and loudly."""
        if not task.cancelled() and task.exception() is not None:
            log.critical("The sidecar ends: a part of it failed", exc_info=task.exception())
            self.end()

    async def _sweep(self) -> None:
        """Timeouts, by one look at everything instead of a timer for each."""
        while True:
            due = time.monotonic() + SWEEP_INTERVAL
            await asyncio.sleep(SWEEP_INTERVAL)
            now = time.monotonic()
            self._lag = max(now - due, self._lag * 0.9)
            for sweep in (*self._sweeps, *(self._relay.sweeps if self._relay is not None else ())):
                try:
                    sweep(now)
                except Exception as error:  # noqa: BLE001 - because the others are swept all the same
                    self._faults.tell("sweep", error)

    def _let_go(self, now: float) -> None:
        if self.plane.draining:
            leaving.let_go(self.plane, now)

    def _rotate(self, now: float) -> None:
        del now
        self.tallies.rotate()
        if self.handshake.ready:
            self.findings.tell()

    def _collect(self, now: float) -> None:
        """Collect what a reload has left, once hardly a call is left that began before it."""
        if self._reloaded_at and now - self._reloaded_at > OUTLIVED:
            self._reloaded_at = 0.0
            gc.collect()

    async def _watch(self) -> None:
        """Take a changed configuration, or changed keys; keep the old one if the new is bad."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            if self.configuration.has_changed():
                try:
                    self.reload()
                    await self._doors.adopt(self.configuration.settings.config.egress)
                except Exception as error:  # noqa: BLE001 - because what was taken before still serves
                    self.metrics.count("mcpace_config_reloads", "error")
                    self._faults.tell("reload", error)

    def reload(self) -> None:
        """Read the configuration and the keys again."""
        try:
            before = self.configuration.read()
        except ConfigError as error:
            self.metrics.count("mcpace_config_reloads", "error")
            log.error("The new configuration is refused, the old one stays:\n%s", error)  # noqa: TRY400 - because the words are for a person
            return
        settings = self.configuration.settings
        self.data_port.adopt(settings)
        self._backends.adopt(settings.config)
        if self._relay is not None:
            self._relay.port.adopt(settings)
        self._reloaded_at = self._reloaded_at or time.monotonic()
        if before.spans is not None and before.spans is not settings.spans:
            asyncio.get_running_loop().run_in_executor(None, before.spans.close)
        self.memory.resize(settings.cache_bytes, settings.cache_entries)
        self._divide()
        self.metrics.count("mcpace_config_reloads", "ok")
        for change in changes(before.config, settings.config) or ("nothing that concerns the sidecar",):
            reloads.info("The configuration was reloaded: %s", change)

    def _gauges(self) -> Iterator[tuple[str, dict[str, str], float]]:
        yield "mcp_active_connections", {}, len(self._clients)
        yield "mcpace_open_streams", {}, len(self.plane.audience)
        yield "mcpace_sessions", {}, len(self.table)
        if self.plane.peers is not None:
            yield "mcpace_peers", {}, len(self.plane.peers.known)
        yield "mcpace_held_bytes", {"what": "bodies"}, self.connections.held
        yield "mcpace_held_bytes", {"what": "answers"}, self.connections.owed
        yield "mcpace_held_bytes", {"what": "gathered"}, self.plane.pool.gathered.held
        yield "mcpace_held_bytes", {"what": "replays"}, self.plane.recordings.ledger.held
        yield "mcpace_streams_away", {}, len(self.plane.recordings.away)
        for what in SHARES:
            yield "mcpace_bound", {"what": what}, getattr(self.budget, what)
        yield "mcpace_calls_in_flight", {}, len(self.plane.in_flight)
        for tool, count in self.plane.tools_in_flight().items():
            yield "mcp_tool_calls_in_flight", {"tool": tool}, count
        yield "mcpace_slots_taken", {}, self.plane.bulkhead.in_flight
        yield "mcpace_full", {}, float(self.plane.bulkhead.full)
        yield "mcpace_calls_queued", {}, len(self.plane.bulkhead.queue)
        for tool in self.plane.breakers.open():
            yield "mcpace_circuit_open", {"tool": tool}, 1.0
        yield from self._doors.gauges()
        yield from self._backends.gauges()
        yield "mcpace_event_loop_lag_seconds", {}, self._lag
        yield "mcpace_server_ready", {}, float(self.handshake.ready)
        for name, value in self.server_usage():
            yield name, {}, value
        yield "mcpace_config_unknown_fields", {}, len(self.configuration.settings.ignored)
        yield "mcpace_missing_secrets", {}, len(self.configuration.settings.missing_secrets)
        reasons = Counter(finding.reason for finding in self.findings.now())
        for reason in REASONS:
            yield "mcpace_rules_without_effect", {"reason": reason}, reasons[reason]
        yield from self.stores.gauges()
