"""`mcpace operator`: the control plane, top to bottom."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Mapping
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
_RESTART_DELAYS: Final = (1.0, 2.0, 5.0, 10.0, 30.0)


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
    try:
        await _resync(cluster, observed, queue)
    except ApiError as error:
        if error.status != 404:
            raise
        raise ConfigError(
            "The McpServer CRD is not installed: kubectl apply -f crds/mcpservers.yaml"
        ) from error
    log.info("Watching %d servers", len(observed.servers))
    tasks = [asyncio.create_task(queue.work(reconciler.reconcile)) for _ in range(WORKERS)]
    tasks += [
        asyncio.create_task(stores.watch(mark_all)),
        asyncio.create_task(_resync_often(cluster, observed, queue)),
    ]
    watching = Watching(handlers.registry(from_kopf), settings)
    watching.start()
    ending = asyncio.create_task(_until(stop))
    done, _ = await asyncio.wait([ending, *tasks], return_when="FIRST_COMPLETED")
    log.info("Ending")
    watching.stop.set()
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

    def __init__(self, registry: kopf.OperatorRegistry, settings: OperatorSettings) -> None:
        # A daemon: told to end in the midst of its start, kopf does not, and nothing needs it to.
        super().__init__(name="kopf", daemon=True)
        self.stop = threading.Event()
        self._registry = registry
        self._settings = settings

    def run(self) -> None:
        """Watch until told to stop."""
        failures = 0
        while not self.stop.is_set():
            try:
                asyncio.run(self._watch())
            except Exception:
                log.exception("Watching failed")
            delay = _RESTART_DELAYS[min(failures, len(_RESTART_DELAYS) - 1)]
            failures += 1
            if not self.stop.wait(delay):
                log.warning("Watching again, after %g s", delay)

    async def _watch(self) -> None:
        await kopf.operator(
            registry=self._registry,
            settings=handlers.settings(),
            clusterwide=True,
            standalone=True,
            # kopf would ask the system who we are, and the image has no such user.
            identity="mcpace",  # type: ignore[arg-type]  # because kopf keeps this type to itself
            stop_flag=self.stop,
            liveness_endpoint=f"http://0.0.0.0:{self._settings.health_port}/healthz",
        )


async def _resync_often(cluster: Cluster, observed: Observed, queue: Queue) -> None:
    while True:
        await asyncio.sleep(RESYNC)
        try:
            await _resync(cluster, observed, queue)
        except (ApiError, OSError, TimeoutError) as error:
            log.warning("The cluster could not be read again: %s", error)


async def _resync(cluster: Cluster, observed: Observed, queue: Queue) -> None:
    """Read everything, page by page: what is there, and what is there no more."""
    before = list(observed.servers)
    children = [(key, child_id) for key, own in observed.children.items() for child_id in own]
    found: set[tuple[str, str, str]] = set()
    for kind in (KIND, *handlers.WATCHED):
        selector = "" if kind == KIND else handlers.SELECTOR
        async for body in cluster.items(kind, selector=selector):
            found.add((kind, body["metadata"]["namespace"], body["metadata"]["name"]))
            observed.see(kind, body, deleted=False)
    for key in before:
        if (KIND, *key) not in found:
            observed.forget(key)
            queue.mark(key)
    for key, child_id in children:
        if (child_id.kind, key.namespace, child_id.name) not in found:
            observed.lose(key, child_id)
    for key in observed.servers:
        queue.mark(key)
