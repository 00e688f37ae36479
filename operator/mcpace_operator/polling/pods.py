"""Asking pods: why they do not answer, who their server is, how it performs. Never in a reconcile's way.

A server that is not ready is looked at soon and often, a ready one every quarter of a minute, or, where
there are many, every five minutes at the latest: three or four in a second are asked at most.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Final, TypeVar

from mcpace_operator.children.context import Context
from mcpace_operator.cluster.client import ApiError, Cluster
from mcpace_operator.polling.memory import Memory
from mcpace_operator.polling.sidecars import Sidecars
from mcpace_operator.resource.server import SERVER_LABEL, Key
from mcpace_operator.resource.workload import Deployment, Pod
from mcpace_operator.settings import OperatorSettings
from mcpace_operator.status.conditions import cut
from mcpace_operator.status.diagnosis import diagnose, out_of_memory, starting
from mcpace_operator.status.live import Live
from mcpace_operator.status.performance import Sum
from mcpace_operator.status.seen import ServerFacts, Told, Trouble, is_complete
from mcpace_sidecar.contract.backoff import Backoff
from mcpace_sidecar.contract.report import Readiness, Report
from mcpace_sidecar.contract.surface import Path

log = logging.getLogger(__name__)

T = TypeVar("T")

AT_ONCE: Final = 32
"""Servers that are looked at."""
MOST_PODS: Final = 20
"""Pods of one server that are asked in a round."""
ROUND: Final = 300.0
"""Seconds between two rounds of a ready server, among a thousand; fewer are asked more often."""
SHORTEST_ROUND: Final = 15.0
READING: Final = 300.0
"""Seconds between two readings of a server's memory."""
FIRST_LOOK: Final = 3.0
LAST_LOOK: Final = 30.0
"""Seconds between looks at a server that is not ready: from the one to the other."""
FIRST: Final = 1.0
"""Seconds from readiness to the first round."""
LISTED: Final = 1800.0
"""Seconds for which a server's pods are taken as listed, while its Deployment says nothing new."""
PER_SECOND: Final = 10.0
"""Looks and rounds begun in a second, over all servers."""
FULL: Final = 3
"""Rounds in a row with every slot taken from which a server is said to be full."""
READINGS: Final = 12
"""Readings of memory that are remembered."""
MOST_TOOLS: Final = 500
"""Tools of a server that are remembered."""
MOST_DOORS: Final = 64
MOST_RULES: Final = 64
"""Rules without effect that are remembered."""


@dataclass(frozen=True, slots=True)
class _Ready:
    """A server's ready pods, as listed when its Deployment was so."""

    deployment: Deployment
    addresses: Mapping[str, str]
    """Pod -> its IP address."""
    killed_for_memory: str | None
    until: float
    """When they are listed again at the latest."""


@dataclass(slots=True)
class _Watch:
    """One server: what it is now, and when it is its turn again."""

    context: Context
    deployment: Deployment
    complete: bool
    due: float
    looks: Backoff = field(default_factory=lambda: Backoff(FIRST_LOOK, LAST_LOOK, 1.4))
    asked: bool = False
    ready: _Ready | None = None
    memory: deque[int] = field(default_factory=lambda: deque(maxlen=READINGS))
    starts: tuple[float, int] | None = None
    """When processes of stdio were last counted, and how many had been started."""
    started: int | None = None
    """How many were started between the last two counts."""
    full: int = 0
    """Rounds in a row in which every slot was taken."""
    read: float | None = None
    """When its memory was last asked for."""

    def count(self, now: float, starts: int) -> None:
        """Note how many processes of stdio have been started in all; fewer where a replica has gone."""
        if self.starts is None or now - self.starts[0] >= READING:
            if self.starts is not None:
                self.started = max(0, starts - self.starts[1])
            self.starts = now, starts

    def postpone(self, now: float) -> None:
        """Look again a little later each time."""
        self.due = now + self.looks.next()


class Pods:
    """What pods told, by server. `told` is called when it is news."""

    def __init__(self, cluster: Cluster, settings: OperatorSettings, told: Callable[[Key], None]) -> None:
        self.told: dict[Key, Told] = {}
        self._cluster = cluster
        self._settings = settings
        self._tell = told
        self._watches: dict[Key, _Watch] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._sidecars = Sidecars()
        self._memory = Memory(cluster, settings)

    def want(self, context: Context, deployment: Deployment) -> None:
        """Look at this server when its turn comes."""
        key, now = context.server.key, asyncio.get_running_loop().time()
        complete = is_complete(context, deployment)
        watch = self._watches.get(key)
        changed = watch is None or watch.complete != complete
        if watch is None or watch.context.server.uid != context.server.uid:
            watch = self._watches[key] = _Watch(context, deployment, complete, 0.0)
        rolled = watch.deployment.generation != deployment.generation
        watch.context, watch.deployment, watch.complete = context, deployment, complete
        if changed or rolled:
            watch.looks.reset()
            watch.due = now + (FIRST if complete else FIRST_LOOK)
            if complete and (told := self.told.get(key)) is not None:
                self.told[key] = replace(told, trouble=None, waits="")

    def forget(self, key: Key) -> None:
        """The server is gone."""
        self.told.pop(key, None)
        self._watches.pop(key, None)

    async def keep(self) -> None:
        """Look at whoever's turn it is, a few at a time, for as long as the operator runs."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1.0)
            now = loop.time()
            turn = sorted((watch.due, key) for key, watch in self._watches.items() if watch.due <= now)
            for _, key in turn[: int(PER_SECOND)]:
                watch = self._watches[key]
                if watch.complete:
                    # Servers that came together are asked together once, and never again.
                    spread = random.uniform(0.9 if watch.asked else 0.0, 1.1)  # noqa: S311 - no secret
                    watch.due = now + pause(len(self._watches)) * spread
                    watch.asked = True
                else:
                    watch.postpone(now)
                task = loop.create_task(self._look(key, watch))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _look(self, key: Key, watch: _Watch) -> None:
        try:
            async with self._slots:
                told = await (self._round(watch) if watch.complete else self._diagnose(watch))
        except ApiError as error:
            log.info("%s: its pods cannot be asked: %s", key, error)
            return
        if self._watches.get(key) is not watch or told is None:
            return
        before = self.told.get(key)
        if before is None or told.is_news(before, watch.context):
            self.told[key] = told
            self._tell(key)

    async def _list(self, key: Key) -> list[Pod]:
        selector = f"{SERVER_LABEL}={key.name}"
        pods = self._cluster.items("Pod", namespace=key.namespace, selector=selector, near=True)
        found = []
        async for body in pods:
            try:
                found.append(Pod.of(body))
            except (LookupError, ValueError) as error:
                log.warning("%s: one of its pods cannot be read, and is left out: %r", key, error)
        return found

    async def _diagnose(self, watch: _Watch) -> Told:
        key = watch.context.server.key
        pods = await self._list(key)
        said: dict[str, str] = {}

        def hear(name: str, answer: Readiness) -> None:
            said[name] = answer.reason

        await self._ask(watch, _addresses(pods), Path.READYZ, Readiness, hear)
        trouble: Trouble | None = diagnose(key.name, watch.deployment, pods, said, datetime.now(UTC))
        waits = "" if trouble is not None else starting(pods, said)
        return replace(self.told.get(key, Told()), trouble=trouble, waits=waits)

    async def _round(self, watch: _Watch) -> Told | None:
        key, now = watch.context.server.key, asyncio.get_running_loop().time()
        ready, deployment = watch.ready, watch.deployment
        if ready is None or ready.deployment != deployment or now > ready.until:
            pods = await self._list(key)
            addresses = _addresses([pod for pod in pods if pod.is_ready])
            ready = watch.ready = _Ready(deployment, addresses, out_of_memory(pods), now + LISTED)
        heard = Heard()
        token = self._settings.master_key.derive("admin", watch.context.server.uid)
        await self._ask(watch, ready.addresses, Path.STATS, Report, heard.add, token)
        if heard.count < max(len(ready.addresses), 1):
            watch.ready = None  # who is silent may be there no more
        if not heard.count:
            watch.postpone(now)
            return None
        if watch.read is None or now - watch.read >= READING:
            watch.read = now
            used = await self._memory.largest(key.namespace, ready.addresses)
            if used is not None:
                watch.memory.append(used)
        watch.count(now, heard.starts)
        watch.full = watch.full + 1 if heard.full else 0
        live = Live(
            performance=heard.sum.performance(),
            replicas_asked=heard.count,
            read_only=frozenset(heard.read_only),
            scraped=heard.scraped,
            doors=heard.doors,
            started=watch.started,
            killed_for_memory=ready.killed_for_memory,
            memory=tuple(watch.memory),
            rules=heard.rules,
            missing_secrets=tuple(sorted(heard.missing)),
            has_sessions=heard.has_sessions,
            relays=heard.relays,
            full=watch.full >= FULL,
        )
        return Told(heard.facts, live)

    async def _ask(
        self,
        watch: _Watch,
        addresses: Mapping[str, str],
        path: str,
        kind: type[T],
        hear: Callable[[str, T], object],
        token: str | None = None,
    ) -> None:
        """Hand over what sidecars answer, as it comes; of one that is silent, nothing."""
        port = watch.context.spec.sidecar.admin_port

        async def one(name: str, address: str) -> None:
            answer = await self._sidecars.ask(address, port, path, kind, token=token)
            if answer is not None:
                hear(name, answer)

        await asyncio.gather(*(one(*each) for each in addresses.items()))

    async def close(self) -> None:
        """Stop asking."""
        for task in self._tasks:
            task.cancel()
        await self._sidecars.close()


def pause(servers: int) -> float:
    """Seconds between two rounds of one of so many servers: status writes cost the API server."""
    return min(ROUND, max(SHORTEST_ROUND, ROUND * servers / 1000))


class Heard:
    """What the sidecars of one server said in a round. No report is kept."""

    def __init__(self) -> None:
        self.sum = Sum()
        self.count = 0
        self.facts: ServerFacts | None = None
        self.read_only: set[str] = set()
        self.scraped: float | None = None
        self.doors: dict[str, tuple[int, int]] = {}
        self.rules: tuple[tuple[str, str], ...] = ()
        self.missing: set[str] = set()
        self.has_sessions = False
        self.relays = True
        self.starts = 0
        self.full = True

    def add(self, _: str, report: Report) -> None:
        """Take one report."""
        self.count += 1
        self.sum.add(report)
        if self.facts is None and report.server is not None:
            self.facts = ServerFacts.told(report.server, report.tools)
        self.read_only.update(report.read_only_tools[: MOST_TOOLS - len(self.read_only)])
        if report.scraped_seconds_ago is not None:
            before = math.inf if self.scraped is None else self.scraped
            self.scraped = min(before, report.scraped_seconds_ago)
        self.rules = self.rules or tuple(
            (rule.reason, cut(rule.message)) for rule in report.findings[:MOST_RULES]
        )
        self.missing.update(cut(name) for name in report.missing_secrets[: MOST_RULES - len(self.missing)])
        self.starts += report.processes.starts if report.processes is not None else 0
        self.has_sessions |= report.sessions > 0
        self.relays &= report.relays
        self.full &= report.slots.of is not None and report.slots.taken >= report.slots.of
        for name, counted in report.doors.items():
            if name in self.doors or len(self.doors) < MOST_DOORS:
                requests, opened = self.doors.get(name, (0, 0))
                self.doors[name] = (requests + counted.requests, opened + counted.connections)


def _addresses(pods: Iterable[Pod]) -> dict[str, str]:
    """The pods that may be asked, with their addresses."""
    found = ((pod.name, pod.address) for pod in pods if pod.address and not pod.deleting)
    return dict(islice(found, MOST_PODS))
