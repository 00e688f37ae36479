"""Asking pods: why they do not answer, who their server is, how it performs. Never in a reconcile's way.

A server that is not ready is looked at soon and often, a ready one every five minutes.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final

import aiohttp

from mcpace_operator.checklist import Live
from mcpace_operator.children.meta import SERVER_LABEL, Context
from mcpace_operator.cluster import ApiError, Cluster
from mcpace_operator.conditions import Trouble, is_complete
from mcpace_operator.diagnosis import diagnose, is_ready, out_of_memory
from mcpace_operator.performance import merged
from mcpace_operator.server import Key
from mcpace_operator.settings import OperatorSettings
from mcpace_operator.status import ServerFacts, Told
from mcpace_operator.usage import Usage

log = logging.getLogger(__name__)

TIMEOUT: Final = 1.0
"""Seconds that a sidecar may take."""
AT_ONCE: Final = 32
MOST_PODS: Final = 20
"""Pods of one server that are asked in a round."""
ROUND: Final = 300.0
"""Seconds between two rounds of a ready server."""
LOOKS: Final = (3.0, 3.0, 4.0, 5.0, 10.0, 20.0, 30.0)
"""Seconds between looks at a server that is not ready."""
FIRST: Final = 1.0
"""Seconds from readiness to the first round."""
LISTED: Final = 1800.0
"""Seconds for which a server's pods are taken as listed, while its Deployment says nothing new."""
PER_SECOND: Final = 10.0
"""Looks and rounds begun in a second, over all servers."""
READINGS: Final = 12
"""Readings of memory that are remembered."""
_MOST_TOOLS: Final = 500


@dataclass(frozen=True, slots=True)
class _Ready:
    """A server's ready pods, as listed when its Deployment was so."""

    deployment: Mapping[str, Any]
    addresses: Mapping[str, str]
    """Pod -> its IP address."""
    killed_for_memory: str | None
    until: float
    """When they are listed again at the latest."""


@dataclass(slots=True)
class _Watch:
    """One server: what it is now, and when it is its turn again."""

    context: Context
    deployment: Mapping[str, Any]
    complete: bool
    due: float
    looks: int = 0
    asked: bool = False
    ready: _Ready | None = None
    memory: deque[int] = field(default_factory=lambda: deque(maxlen=READINGS))

    def postpone(self, now: float) -> None:
        """Look again a little later each time."""
        self.due = now + LOOKS[min(self.looks, len(LOOKS) - 1)]
        self.looks += 1


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
        self._session: aiohttp.ClientSession | None = None
        self._usage = Usage(cluster, settings)

    def want(self, context: Context, deployment: Mapping[str, Any]) -> None:
        """Look at this server when its turn comes."""
        key, now = context.server.key, asyncio.get_running_loop().time()
        complete = is_complete(context, deployment)
        watch = self._watches.get(key)
        changed = watch is None or watch.complete != complete
        if watch is None or watch.context.server.uid != context.server.uid:
            watch = self._watches[key] = _Watch(context, deployment, complete, 0.0)
        rolled = watch.deployment.get("generation") != deployment.get("generation")
        watch.context, watch.deployment, watch.complete = context, deployment, complete
        if changed or rolled:
            watch.looks = 0
            watch.due = now + (FIRST if complete else LOOKS[0])
            if complete and (told := self.told.get(key)) is not None:
                self.told[key] = replace(told, trouble=None)

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
                    watch.due = now + ROUND * random.uniform(0.9 if watch.asked else 0.0, 1.1)  # noqa: S311 - no secret
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

    async def _list(self, key: Key) -> list[Mapping[str, Any]]:
        selector = f"{SERVER_LABEL}={key.name}"
        pods = self._cluster.items("Pod", namespace=key.namespace, selector=selector, near=True)
        return [pod async for pod in pods]

    async def _diagnose(self, watch: _Watch) -> Told:
        key = watch.context.server.key
        pods = await self._list(key)
        reasons = await self._ask(watch, _addresses(pods), "/readyz")
        said = {name: str(told.get("reason", "")) for name, told in reasons.items()}
        trouble: Trouble | None = diagnose(key.name, watch.deployment, pods, said)
        return replace(self.told.get(key, Told()), trouble=trouble)

    async def _round(self, watch: _Watch) -> Told | None:
        key, now = watch.context.server.key, asyncio.get_running_loop().time()
        ready, deployment = watch.ready, watch.deployment
        if ready is None or ready.deployment != deployment or now > ready.until:
            pods = await self._list(key)
            addresses = _addresses([pod for pod in pods if is_ready(pod)])
            ready = watch.ready = _Ready(deployment, addresses, out_of_memory(pods), now + LISTED)
        answers = list((await self._ask(watch, ready.addresses, "/stats")).values())
        if len(answers) < max(len(ready.addresses), 1):
            watch.ready = None  # who is silent may be there no more
        if not answers:
            watch.postpone(now)
            return None
        used = await self._usage.memory(key.namespace, ready.addresses)
        if used is not None:
            watch.memory.append(used)
        try:
            performance = merged(answers)
            facts = next((_facts(told) for told in answers if told.get("server")), None)
            live = Live(
                performance=performance,
                replicas_asked=len(answers),
                read_only=frozenset(name for told in answers for name in told.get("readOnlyTools", ())),
                scraped=min(
                    (ago for told in answers if (ago := told.get("scrapedSecondsAgo")) is not None),
                    default=None,
                ),
                doors=_doors(answers),
                killed_for_memory=ready.killed_for_memory,
                memory=tuple(watch.memory),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            log.info(
                "%s: its sidecars say what this version does not understand: %r",
                watch.context.server.key,
                error,
            )
            return None
        return Told(facts, live)

    async def _ask(
        self, watch: _Watch, addresses: Mapping[str, str], path: str
    ) -> dict[str, Mapping[str, Any]]:
        """What sidecars answer, by pod; one that is silent is left out."""
        token = self._settings.derive("admin", watch.context.server.uid)
        port = watch.context.spec.sidecar.admin_port
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT))
        session = self._session

        async def one(name: str, address: str) -> tuple[str, Any]:
            host = f"[{address}]" if ":" in address else address
            headers = {"Authorization": f"Bearer {token}"}
            try:
                async with session.get(f"http://{host}:{port}{path}", headers=headers) as answer:
                    return name, await answer.json()
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
                return name, None

        answers = await asyncio.gather(*(one(*each) for each in addresses.items()))
        return {name: told for name, told in answers if isinstance(told, dict)}

    async def close(self) -> None:
        """Stop asking."""
        for task in self._tasks:
            task.cancel()
        if self._session is not None:
            await self._session.close()


def _facts(told: Mapping[str, Any]) -> ServerFacts:
    info = {name: str(value) for name, value in told["server"].items()}
    return ServerFacts(info, tuple(map(str, told.get("tools") or ()))[:_MOST_TOOLS])


def _doors(answers: Sequence[Mapping[str, Any]]) -> dict[str, tuple[int, int]]:
    doors: dict[str, tuple[int, int]] = {}
    for told in answers:
        for name, counted in (told.get("doors") or {}).items():
            requests, opened = doors.get(name, (0, 0))
            doors[name] = (requests + int(counted["requests"]), opened + int(counted["connections"]))
    return doors


def _addresses(pods: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The pods that may be asked, with their addresses."""
    found = {
        str(pod["metadata"]["name"]): str(address)
        for pod in pods
        if (address := (pod.get("status") or {}).get("podIP"))
        and not pod["metadata"].get("deletionTimestamp")
    }
    return dict(islice(found.items(), MOST_PODS))
