"""One running sidecar: the parts put together, kept up to date, and ended in order."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import ipaddress
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mcpace_sidecar.admin.port import Admin
from mcpace_sidecar.cache.memory import MemoryResults
from mcpace_sidecar.call.plane import Plane
from mcpace_sidecar.call.settings import Settings
from mcpace_sidecar.contract.budget import SHARES, UNLIMITED, Budget
from mcpace_sidecar.contract.config import SidecarConfig
from mcpace_sidecar.contract.config.document import changes
from mcpace_sidecar.egress.doors import Doors
from mcpace_sidecar.errors import ConfigError, ListenError, words_of
from mcpace_sidecar.heap import Heap
from mcpace_sidecar.http.address import Address
from mcpace_sidecar.http.connections import Connections
from mcpace_sidecar.http.downstream import Application
from mcpace_sidecar.http.pool import Pool
from mcpace_sidecar.http.server import ClientConnection
from mcpace_sidecar.http.tcp import serve_modestly
from mcpace_sidecar.limits.memory import MemoryLimits
from mcpace_sidecar.mcp.catalog import Catalog
from mcpace_sidecar.server.findings import REASONS, Findings
from mcpace_sidecar.server.handshake import Handshake
from mcpace_sidecar.server.usage import unseen
from mcpace_sidecar.telemetry.metrics import Metrics
from mcpace_sidecar.telemetry.tally import Tallies

if TYPE_CHECKING:
    from mcpace_sidecar.cache.redis import RedisResults
    from mcpace_sidecar.limits.redis import RedisLimits
    from mcpace_sidecar.redis.link import Link

log = logging.getLogger(__name__)
reloads = logging.getLogger("mcpace_sidecar.reloads")

WATCH_INTERVAL: Final = 0.5
"""Seconds between two looks at the configuration and the keys."""
SWEEP_INTERVAL: Final = 0.5
LINGER: Final = 0.5
"""Seconds that idle connections get to bring a request that was on its way."""
GRACE: Final = 25.0
"""Seconds that calls in flight get to end."""

ADMIN: Final = (128, 1 << 20, 8 << 20)
"""The admin port's bounds: connections, bytes of bodies, bytes of answers."""
COLLECTING: Final = (20_000, 20, 50)
"""When to look for cycles: seldom, for a call makes none, and what is remembered is much to look at."""

OUTLIVED: Final = 5.0
"""Seconds after a reload from which hardly a call is left that began under the configuration before: it is
full of cycles, and would wait long to be looked for."""

Load = Callable[[], tuple[SidecarConfig, tuple[str, ...]]]


Usage = Callable[[], Iterator[tuple[str, float]]]
"""Gives (metric, value) of what the server itself uses."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line and the environment say; the configuration says the rest.

    `watched` are the files whose change makes `load` worth calling again. The URLs and the
    token are secrets from the environment or from files; `repr` leaves them out.
    """

    load: Load
    watched: tuple[Path, ...]
    listen: Address
    admin_listen: Address
    upstream: Address
    movable: tuple[Address, ...] = ()
    """Which of both nobody asked for: where one is taken, any free port is listened on instead."""
    name: str = "default/server"
    keys: Path | None = None
    limits_url: str | None = field(default=None, repr=False)
    cache_url: str | None = field(default=None, repr=False)
    redis_authority: str | None = None
    """Certificates in PEM by which a Redis over TLS is verified; None is the system's."""
    admin_token: str | None = field(default=None, repr=False)
    memory: int = UNLIMITED
    """Bytes that this process may use."""
    files: int = 1024
    """Files and sockets that it may open."""
    server_usage: Usage = unseen
    in_pod: bool = False
    """Whether nothing but this server shares the loopback."""
    leasing: bool = True
    """Whether tokens of busy clients are taken from Redis ahead of their use."""


class Sidecar:
    """Start it, `wait` for its end."""

    def __init__(self, options: Options) -> None:
        """Raises ConfigError."""
        self._options = options
        self._heap = Heap(options.memory)
        # Before the first reading, so that no change between it and the first look is missed.
        self._seen = _fingerprint(options.watched, options.keys)
        config, ignored = options.load()
        settings = Settings(config, ignored, options.keys, name=options.name)
        _warn(settings)
        self._links: list[Link] = []
        self.memory = MemoryResults(settings.cache_bytes, settings.cache_entries)
        self.tallies = Tallies()
        self.metrics = Metrics(self.tallies, self._gauges)
        self.catalog = Catalog()
        loopback = is_loopback(options.listen.host)
        shed = functools.partial(self.metrics.count, "mcpace_shed_connections")
        self._connections = Connections(shed)
        self._admin_connections = Connections(shed, *ADMIN)
        self._door_connections = Connections(shed)
        pool = Pool(options.upstream)
        self._local_limits = MemoryLimits()
        self._redis_limits: RedisLimits | None = None
        self._redis_results: RedisResults | None = None
        self.plane = Plane(
            settings, pool, self._local_limits, self.memory, self.metrics, self.tallies, self.catalog,
            self._connections, loopback=loopback,
        )  # fmt: skip
        self._connect_stores()
        self._own_pool = Pool(options.upstream)
        pool.on_error = self._own_pool.on_error = self._raised
        self._own_pool.max_idle = 0  # a server that serves one connection at a time is left to calls
        self.handshake = Handshake(
            self._own_pool,
            pool,
            lambda: self.plane.settings,
            self.catalog,
            self.plane.on_list_changed,
            frozenset({options.listen.port, options.admin_listen.port}) if options.in_pod else None,
        )
        self.plane.on_upstream_down = self.handshake.doubt
        self.plane.is_ready = lambda: self.handshake.ready
        self._doors = Doors(self._door_connections, self.plane.faults)
        self.findings = Findings(lambda: self.plane.settings, self.catalog, self.tallies.looked_up)
        self._admin = Admin(
            self.plane, self.handshake, self.metrics, self.tallies, self.memory, self._doors, self.findings,
            options.admin_token, self.drain, loopback=is_loopback(options.admin_listen.host),
        )  # fmt: skip
        self._divide()
        self._lag = 0.0
        self._reloaded_at = 0.0
        self.server_usage: Usage = options.server_usage
        """What the server uses; whoever starts the server as a child says it later."""
        self._servers: list[asyncio.Server] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._ending = asyncio.Event()
        self.listening: list[Address] = []

    def _connect_stores(self) -> None:
        """Take Redis where there is one; imported only then."""
        options = self._options
        prefix = f"mcpace:{{{options.name}}}:"
        if options.limits_url is None and options.cache_url is None:
            return
        # Imported here because a sidecar without Redis should not hold its client in memory.
        from mcpace_sidecar.cache.redis import RedisResults  # noqa: PLC0415 - because of that
        from mcpace_sidecar.contract.addresses import RedisAddress  # noqa: PLC0415 - because of that
        from mcpace_sidecar.conversations.redis import (  # noqa: PLC0415 - because of that
            RedisConversations,
        )
        from mcpace_sidecar.limits.redis import RedisLimits  # noqa: PLC0415 - because of that
        from mcpace_sidecar.redis.link import Link  # noqa: PLC0415 - because of that

        authority = options.redis_authority
        if options.limits_url is not None:
            link = Link("limits", RedisAddress(options.limits_url, authority), prefix)
            self._redis_limits = RedisLimits(
                link, lambda: self.plane.settings.when_redis_is_down, leasing=options.leasing
            )
            self.plane.limits = self._redis_limits
            self.plane.conversations = RedisConversations(link)
            self._links.append(link)
        if options.cache_url is not None:
            link = Link("cache", RedisAddress(options.cache_url, authority), prefix)
            self._redis_results = self.plane.results = RedisResults(link, self.memory)
            self._links.append(link)
        for link in self._links:
            link.on_error = lambda error: self.plane.faults.tell("store", error)

    def _divide(self) -> None:
        """Bound everything by its share of the memory."""
        options = self._options
        budget = self.budget = Budget(options.memory, self.plane.settings.cache_bytes, options.files)
        self._connections.bound(budget.connections, budget.bodies, budget.answers)
        self._door_connections.bound(budget.connections, budget.egress, budget.egress)
        self.plane.audience.most = budget.streams
        self.plane.pool.gathered.most = budget.gathered

    async def start(self) -> None:
        """Listen on both ports, then begin to look after everything; ListenError if a port is taken."""
        options = self._options
        await self._listen(self._admin, options.admin_listen)
        for link in self._links:
            await link.connect()
        await self._listen(self.plane, options.listen)
        await self._doors.adopt(self.plane.settings.config.egress)
        self._look_after(self.handshake.keep())
        self._look_after(self.handshake.subscribe())
        self._look_after(self._sweep())
        self._look_after(self._watch())
        if self._redis_limits is not None:
            self._look_after(self._redis_limits.stay_present())
        if self._redis_results is not None:
            self._look_after(self._redis_results.hear_purges())
        gc.collect()
        gc.freeze()  # what start-up made stays; collections need not look at it
        gc.set_threshold(*COLLECTING)

    def drain(self) -> None:
        """Turn unready and ask clients, answer by answer, to go elsewhere."""
        if not self.plane.draining:
            log.info("Draining: unready, connections close with their next answer")
        self.plane.draining = True
        # Open streams would keep the server from ending; their clients go elsewhere now.
        self.handshake.unsubscribe()
        for exchange in list(self.plane.in_flight):
            if exchange.endless:
                exchange.close_stream()

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
        for connection in self._connections.open:
            connection.close_after_answer()
        lingering = time.monotonic() + LINGER
        while self._connections.open and time.monotonic() < lingering:
            await asyncio.sleep(0.02)
        for connection in list(self._connections.open):
            connection.close_if_idle()
        deadline = time.monotonic() + GRACE
        while self.plane.in_flight and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        if self.plane.in_flight:
            log.warning("%d calls did not end within %g s", len(self.plane.in_flight), GRACE)
        if self._redis_limits is not None:
            await self._redis_limits.leave()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for server in self._servers:
            server.close()
        for connection in [*self._connections.open, *self._admin_connections.open]:
            connection.close_if_idle()
        await self.plane.pool.close()
        await self._own_pool.close()
        await self._doors.close()
        for link in self._links:
            await link.close()
        spans = self.plane.settings.spans
        if spans is not None:
            await asyncio.get_running_loop().run_in_executor(None, spans.close)
        log.info("Ended")

    async def _listen(self, app: Application[ClientConnection], address: Address) -> None:
        connections = self._connections if app is self.plane else self._admin_connections

        def accept() -> ClientConnection:
            return ClientConnection(app, app.heads, connections)

        loop = asyncio.get_running_loop()
        # Every address of every family the host has: a cluster may be IPv4, IPv6 or both.
        host = None if address.host == "*" else address.host
        try:
            server = await loop.create_server(accept, host, address.port, backlog=1024)
        except OSError as error:
            if address in self._options.movable:
                await self._listen(app, Address(address.host, 0))
                return
            raise ListenError(address, words_of(error)) from error
        for listening in server.sockets:
            serve_modestly(listening)
        self._servers.append(server)
        port = server.sockets[0].getsockname()[1]
        self.listening.append(Address(address.host, port))

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
            self._swept(self._connections.sweep, now)
            self._swept(self._admin_connections.sweep, now)
            self._swept(self.plane.sweep, now)
            self._swept(self._own_pool.sweep, now)
            self._swept(self._doors.sweep, now)
            self._swept(self._heap.sweep, now)
            self._swept(self.tallies.turn)
            if self.handshake.ready:
                self._swept(self.findings.tell)
            if self._redis_limits is not None:
                self._swept(self._redis_limits.sweep, now)
                self._swept(self._redis_limits.local.sweep)
            if self._redis_results is not None:
                self._swept(self._redis_results.sweep)
            self._swept(self._local_limits.sweep)
            self._swept(self.plane.refunds.sweep)
            self._swept(self.memory.sweep)
            if self._reloaded_at and now - self._reloaded_at > OUTLIVED:
                self._reloaded_at = 0.0
                gc.collect()

    def _swept(self, sweep: Callable[..., None], *now: float) -> None:
        try:
            sweep(*now)
        except Exception as error:  # noqa: BLE001 - because the others are swept all the same
            self.plane.faults.tell("sweep", error)

    def _raised(self, error: Exception) -> None:
        self.plane.faults.tell("upstream", error)

    async def _watch(self) -> None:
        """Take a changed configuration, or changed keys; keep the old one if the new is bad."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            now = _fingerprint(self._options.watched, self._options.keys)
            if now != self._seen:
                self._seen = now
                try:
                    self.reload()
                    await self._doors.adopt(self.plane.settings.config.egress)
                except Exception as error:  # noqa: BLE001 - because what was taken before still serves
                    self.metrics.count("mcpace_config_reloads", "error")
                    self.plane.faults.tell("reload", error)

    def reload(self) -> None:
        """Read the configuration and the keys again."""
        try:
            config, ignored = self._options.load()
            before = self.plane.settings
            settings = Settings(config, ignored, self._options.keys, before, self._options.name)
        except ConfigError as error:
            self.metrics.count("mcpace_config_reloads", "error")
            log.error("The new configuration is refused, the old one stays:\n%s", error)  # noqa: TRY400 - because the words are for a person
            return
        self.plane.adopt(settings)
        self._reloaded_at = self._reloaded_at or time.monotonic()
        if before.spans is not None and before.spans is not settings.spans:
            asyncio.get_running_loop().run_in_executor(None, before.spans.close)
        self.memory.resize(settings.cache_bytes, settings.cache_entries)
        self._divide()
        self.metrics.count("mcpace_config_reloads", "ok")
        _warn(settings)
        changed = ", ".join(changes(before.config, config)) or "nothing that concerns the sidecar"
        reloads.info("The configuration was reloaded: %s", changed)

    def _gauges(self) -> Iterator[tuple[str, dict[str, str], float]]:
        yield "mcp_active_connections", {}, len(self._connections.open)
        yield "mcpace_open_streams", {}, len(self.plane.audience)
        yield "mcpace_held_bytes", {"what": "bodies"}, self._connections.held
        yield "mcpace_held_bytes", {"what": "answers"}, self._connections.owed
        yield "mcpace_held_bytes", {"what": "gathered"}, self.plane.pool.gathered.held
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
        yield "mcpace_event_loop_lag_seconds", {}, self._lag
        yield "mcpace_cache_bytes", {}, self.memory.bytes
        yield "mcpace_cache_entries", {}, len(self.memory)
        yield "mcpace_limit_levels", {}, len(self.plane.limits)
        yield "mcpace_server_ready", {}, float(self.handshake.ready)
        for name, value in self.server_usage():
            yield name, {}, value
        yield "mcpace_config_unknown_fields", {}, len(self.plane.settings.ignored)
        yield "mcpace_missing_secrets", {}, len(self.plane.settings.missing_secrets)
        reasons = Counter(finding.reason for finding in self.findings.now())
        for reason in REASONS:
            yield "mcpace_rules_without_effect", {"reason": reason}, reasons[reason]
        for link in self._links:
            yield "mcpace_redis_up", {"store": link.name}, float(link.up)
            yield "mcpace_redis_failures", {"store": link.name}, link.failures
        if self._redis_limits is not None:
            yield "mcpace_limit_replicas", {}, self._redis_limits.replicas
            for mode, count in self._redis_limits.decided_without.items():
                yield "mcpace_decided_without_redis", {"mode": mode}, count


def _warn(settings: Settings) -> None:
    for path in settings.ignored:
        log.warning("The configuration's field %s is unknown to this version and ignored", path)
    for secret in settings.missing_secrets:
        log.warning("The Secret %s with API keys is not there: its clients are unknown", secret)


def _fingerprint(paths: tuple[Path, ...], keys: Path | None) -> tuple[Any, ...]:
    """What changes whenever a file does: a kubelet swaps links, an editor writes anew."""
    # What goes while it is looked at is left out: a kubelet removes a folder when it has swapped it.
    held = os.walk(keys) if keys is not None else ()
    entries = sorted(Path(folder, name) for folder, *names in held for name in chain(*names))
    marks: list[Any] = []
    for path in [*paths, *entries]:
        with contextlib.suppress(OSError):
            stat = path.stat()
            marks.append((str(path), stat.st_mtime_ns, stat.st_ino, stat.st_size))
    return tuple(marks)


def is_loopback(host: str) -> bool:
    """Whether nobody else reaches what listens there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
