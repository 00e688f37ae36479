"""`mcpace operator`: the control plane, top to bottom."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import kopf
import uvloop

from mcpace_operator import handlers
from mcpace_operator.cluster import ApiError, Cluster
from mcpace_operator.models import KIND
from mcpace_operator.observed import Observed
from mcpace_operator.queue import Queue
from mcpace_operator.reconcile import Reconciler
from mcpace_operator.redis import Stores
from mcpace_operator.settings import OperatorSettings
from mcpace_operator.sidecars import Sidecars
from mcpace_sidecar.errors import ConfigError

log = logging.getLogger(__name__)

WORKERS: Final = 16
RESYNC: Final = 600.0
"""Seconds between two complete looks at the cluster: a deletion missed by a broken watch is seen then."""
DISCOVERY: Final = 15.0
"""Seconds between two questions for the optional kinds."""
_RESTART_DELAYS: Final = (1.0, 2.0, 5.0, 10.0, 30.0)
_LONG: Final = 60.0
"""Seconds of watching after which a failure is the first one again."""


def run() -> None:
    """Run until SIGTERM or SIGINT. ConfigError for what a person must mend."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("kopf").setLevel(logging.ERROR)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)  # probes
    uvloop.run(operate(OperatorSettings.from_environment()))


async def operate(settings: OperatorSettings) -> None:
    """Run the operator until a signal says otherwise."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    cluster = await Cluster.connect()
    observed, queue, stores = Observed(), Queue(), Stores(settings)
    sidecars = Sidecars(cluster, settings, queue.mark)
    reconciler = Reconciler(cluster, observed, stores, settings, sidecars)

    def see(kind: str, body: Mapping[str, Any], deleted: bool) -> None:
        key = observed.see(kind, body, deleted=deleted)
        if key is not None:
            queue.mark(key)

    def from_kopf(kind: str, body: Mapping[str, Any], deleted: bool) -> None:
        loop.call_soon_threadsafe(see, kind, body, deleted)

    def mark_all() -> None:
        for key in observed.servers:
            queue.mark(key)

    await stores.check()
    log.info("Reading the cluster")
    observed.kinds = await cluster.kinds()
    reading = Reading(cluster, observed, queue, settings.namespaces)
    try:
        await reading.once()
    except ApiError as error:
        if error.status != 404:
            raise
        raise ConfigError(
            "The McpServer CRD is not installed: kubectl apply -f crds/mcpservers.yaml"
        ) from error
    log.info("Watching %d servers", len(observed.servers))
    watching = Watching(from_kopf, settings, observed.kinds)
    watching.start()
    tasks = [asyncio.create_task(queue.work(reconciler.reconcile)) for _ in range(WORKERS)]
    tasks += [
        asyncio.create_task(stores.watch(mark_all)),
        asyncio.create_task(reading.often()),
        asyncio.create_task(reading.discover(watching.change)),
    ]
    ending = asyncio.create_task(_until(stop))
    done, _ = await asyncio.wait([ending, *tasks], return_when="FIRST_COMPLETED")
    log.info("Ending")
    watching.end()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await sidecars.close()
    await stores.close()
    await cluster.close()
    for task in done - {ending}:
        task.result()  # a part that failed takes the operator with it, loudly


async def _until(stop: asyncio.Event) -> None:
    await stop.wait()


class Watching(threading.Thread):
    """kopf in a thread and loop of its own.

    In ours it would take the signals, and cancel every task at its end. Some failures of the
    API server make it end, so it is started again.
    """

    def __init__(self, see: handlers.See, settings: OperatorSettings, kinds: Iterable[str]) -> None:
        # A daemon: told to end in the midst of its start, kopf does not, and nothing needs it to.
        super().__init__(name="kopf", daemon=True)
        self._see = see
        self._settings = settings
        self._kinds = frozenset(kinds)
        self._ending = threading.Event()
        self._round = threading.Event()
        """Ends what is watched now."""

    def change(self, kinds: frozenset[str]) -> None:
        """Watch these optional kinds from now on."""
        self._kinds = kinds
        self._round.set()

    def end(self) -> None:
        """Stop watching, for good."""
        self._ending.set()
        self._round.set()

    def run(self) -> None:
        """Watch until told to stop."""
        failures = 0
        while not self._ending.is_set():
            self._round.clear()
            began = time.monotonic()
            try:
                asyncio.run(self._watch())
            except Exception:
                log.exception("Watching failed")
            if self._round.is_set():
                continue
            failures = 0 if time.monotonic() - began > _LONG else failures
            delay = _RESTART_DELAYS[min(failures, len(_RESTART_DELAYS) - 1)]
            failures += 1
            log.warning("Watching again in %g s", delay)
            self._ending.wait(delay)

    async def _watch(self) -> None:
        await kopf.operator(
            registry=handlers.registry(self._see, (*handlers.WATCHED, *sorted(self._kinds))),
            settings=handlers.settings(),
            clusterwide=not self._settings.namespaces,
            namespaces=self._settings.namespaces,
            standalone=True,
            # kopf would ask the system who we are, and the image has no such user.
            identity="mcpace",  # type: ignore[arg-type]  # because kopf keeps this type to itself
            stop_flag=self._round,
            liveness_endpoint=f"http://0.0.0.0:{self._settings.health_port}/healthz",
        )


class Reading:
    """Reads the whole cluster: at the start, every ten minutes, and when what it knows has changed."""

    def __init__(
        self, cluster: Cluster, observed: Observed, queue: Queue, namespaces: tuple[str, ...]
    ) -> None:
        self._cluster = cluster
        self._observed = observed
        self._queue = queue
        self._namespaces: tuple[str | None, ...] = namespaces or (None,)

    async def often(self) -> None:
        """Read it every ten minutes."""
        while True:
            await asyncio.sleep(RESYNC)
            try:
                await self.once()
            except (ApiError, OSError, TimeoutError) as error:
                log.warning("The cluster could not be read again: %s", error)

    async def discover(self, changed: Callable[[frozenset[str]], None]) -> None:
        """See which of the optional kinds come and go."""
        while True:
            await asyncio.sleep(DISCOVERY)
            try:
                kinds = await self._cluster.kinds()
                if kinds == self._observed.kinds:
                    continue
                log.info("The cluster now knows %s", ", ".join(sorted(kinds)) or "no optional kinds")
                self._observed.kinds = kinds
                await self.once()
            except (ApiError, OSError, TimeoutError) as error:
                log.warning("The cluster could not be asked for its kinds: %s", error)
            else:
                changed(kinds)

    async def once(self) -> None:
        """Read everything, page by page: what is there, and what is there no more."""
        observed = self._observed
        before = list(observed.servers)
        children = [(key, child_id) for key, own in observed.children.items() for child_id in own]
        found: set[tuple[str, str, str]] = set()
        for kind in (KIND, *handlers.WATCHED, *sorted(observed.kinds)):
            selector = "" if kind == KIND else handlers.SELECTOR
            for namespace in self._namespaces:
                async for body in self._cluster.items(kind, namespace=namespace, selector=selector):
                    found.add((kind, body["metadata"]["namespace"], body["metadata"]["name"]))
                    observed.see(kind, body, deleted=False)
        for key in before:
            if (KIND, *key) not in found:
                observed.forget(key)
                self._queue.mark(key)
        for key, child_id in children:
            if (child_id.kind, key.namespace, child_id.name) not in found:
                observed.lose(key, child_id)
        for key in observed.servers:
            self._queue.mark(key)
