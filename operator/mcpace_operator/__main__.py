"""`mcpace operator`: the control plane, top to bottom."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

import uvloop

from mcpace_operator.cluster.client import Cluster
from mcpace_operator.cluster.kopf.watcher import Watcher
from mcpace_operator.cluster.leader import Leadership
from mcpace_operator.cluster.observed import Observed
from mcpace_operator.cluster.resync import Resync
from mcpace_operator.health import LEADING, SERVERS, Health
from mcpace_operator.polling.pods import Pods
from mcpace_operator.queue import Queue
from mcpace_operator.reconcile.reconciler import Reconciler
from mcpace_operator.settings import OperatorSettings
from mcpace_operator.stores.keysecret import make_key
from mcpace_operator.stores.redis import Stores
from mcpace_sidecar.errors import ConfigError, McpaceError

log = logging.getLogger(__name__)

WORKERS: Final = 16
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class LeadershipLostError(McpaceError):
    """Another operator may work by now."""


def run() -> None:
    """Run until SIGTERM or SIGINT. ConfigError for what a person must mend."""
    logging.basicConfig(level=logging.INFO, handlers=[_said()])
    logging.getLogger("kopf").setLevel(logging.ERROR)
    uvloop.run(operate(OperatorSettings.from_environment()))


class _Lines(logging.Formatter):
    """A line a record: what others wrote into an object, and is quoted, can forge none."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class calls it so
        return _CONTROL.sub(lambda found: repr(found[0])[1:-1], super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the same
        return "\n".join(f"  {line}" for line in super().formatException(ei).splitlines())


def _said() -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines("%(asctime)s %(levelname)s %(message)s"))
    return handler


async def operate(settings: OperatorSettings) -> None:
    """Run the operator until a signal says otherwise."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    cluster = await Cluster.connect()
    if settings.key_secret is not None:
        try:
            settings = replace(settings, master_key=await make_key(cluster, *settings.key_secret))
        except McpaceError:
            await cluster.close()
            raise
    operator = Operator(settings, cluster)
    leadership = Leadership(cluster, *settings.election) if settings.election else None

    def problems() -> Iterator[str]:
        yield from operator.problems()
        if leadership is not None and leadership.problem is not None:
            yield leadership.problem

    health = Health(settings.health_port, problems)
    try:
        await health.start()
    except OSError as error:
        raise ConfigError(
            f"Cannot listen on port {settings.health_port}: {error.strerror or error}"
        ) from error
    trying = asyncio.ensure_future(operator.try_out())
    try:
        if leadership is None or await _unless(stop, leadership.acquire()):
            LEADING.set(1)
            parts = [operator.work()] if leadership is None else [operator.work(), _held(leadership)]
            await _unless(stop, *parts)
    finally:
        log.info("Ending")
        trying.cancel()
        await operator.close()
        if leadership is not None:
            await leadership.release()
        await health.close()
        await cluster.close()


async def _held(leadership: Leadership) -> None:
    await leadership.hold()
    raise LeadershipLostError("Another operator may lead now: ending, to wait for the next turn")


async def _unless(stop: asyncio.Event, *parts: Coroutine[Any, Any, None]) -> bool:
    """Run until one part ends, and raise what it raised; False where `stop` came first."""
    ending = asyncio.ensure_future(stop.wait())
    tasks = [asyncio.ensure_future(part) for part in parts]
    done, _ = await asyncio.wait([ending, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in (ending, *tasks):
        task.cancel()
    await asyncio.gather(ending, *tasks, return_exceptions=True)
    for task in done - {ending}:
        task.result()  # a part that failed takes the operator with it, loudly
    return ending not in done


class Operator:
    """All that the leader does."""

    def __init__(self, settings: OperatorSettings, cluster: Cluster) -> None:
        self._observed, self._queue, self._stores = Observed(), Queue(), Stores(settings)
        self._pods = Pods(cluster, settings, self._queue.mark)
        self._resync = Resync(cluster, self._observed, self._queue, settings.namespaces, self._watch_again)
        self._reconciler = Reconciler(cluster, self._observed, self._stores, settings, self._pods)
        self._watcher: Watcher | None = None
        SERVERS.set_function(lambda: len(self._observed.servers))

    async def work(self) -> None:
        """Keep every server as it should be, for ever. ConfigError where the CRD is missing."""
        loop = asyncio.get_running_loop()

        def from_kopf(kind: str, body: Mapping[str, Any], deleted: bool) -> None:
            loop.call_soon_threadsafe(self._see, kind, body, deleted)

        await self._stores.check()
        log.info("Reading the cluster")
        await self._resync.first()
        log.info("Watching %d servers", len(self._observed.servers))
        gap = partial(loop.call_soon_threadsafe, self._resync.soon)
        self._watcher = Watcher(from_kopf, gap, lambda: self._resync.readable)
        self._watcher.start()
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._queue.work(self._reconciler.reconcile))
            servers = self._observed.servers
            group.create_task(self._stores.watch(servers, lambda: self._queue.mark_all(servers)))
            group.create_task(self._pods.keep())
            group.create_task(self._resync.often())
            group.create_task(self._resync.discover())

    async def try_out(self) -> None:
        """Try whether everything that must be read may be."""
        await self._resync.try_out()

    def problems(self) -> Iterator[str]:
        """What keeps the operator from being ready; one that waits for its turn is, if it may read."""
        if self._resync.problem is not None:
            yield self._resync.problem
        if self._watcher is not None and (problem := self._watcher.problem()) is not None:
            yield problem

    async def close(self) -> None:
        """End what is open."""
        if self._watcher is not None:
            self._watcher.end()
        await self._pods.close()
        await self._stores.close()

    def _watch_again(self) -> None:
        if self._watcher is not None:
            self._watcher.again()

    def _see(self, kind: str, body: Mapping[str, Any], deleted: bool) -> None:
        self._queue.mark_all(self._observed.see(kind, body, deleted=deleted))
