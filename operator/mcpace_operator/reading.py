"""Reading the whole cluster: what watching has missed, and which kinds there are."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from mcpace_operator import handlers
from mcpace_operator.cluster import ApiError, Cluster
from mcpace_operator.models import KIND
from mcpace_operator.observed import Observed
from mcpace_operator.queue import Queue
from mcpace_sidecar.errors import ConfigError

log = logging.getLogger(__name__)

RESYNC: Final = 600.0
"""Seconds between two complete looks at the cluster: a deletion missed by a broken watch is seen then."""
DISCOVERY: Final = 15.0
"""Seconds between two questions for the optional kinds."""
_PAUSE: Final = 3.0
"""Seconds from a gap to the reading, and so at least between two readings."""
_AGAIN: Final = (1.0, 2.0, 5.0, 10.0)
"""Seconds until the first reading is tried again."""


class Reading:
    """Reads the whole cluster: at the start, every ten minutes, and when what it knows has changed."""

    def __init__(
        self, cluster: Cluster, observed: Observed, queue: Queue, namespaces: tuple[str, ...]
    ) -> None:
        self._cluster = cluster
        self._observed = observed
        self._queue = queue
        self._namespaces: tuple[str | None, ...] = namespaces or (None,)
        self._wanted = asyncio.Event()

    def soon(self) -> None:
        """Something may have been missed."""
        self._wanted.set()

    async def often(self) -> None:
        """Read it every ten minutes, and soon after something may have been missed."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), RESYNC)
                await asyncio.sleep(_PAUSE)  # a gap in one watch is seldom alone
            self._wanted.clear()
            try:
                await self.once()
            except ApiError as error:
                log.warning("The cluster could not be read again: %s", error)
                self.soon()

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
            except ApiError as error:
                log.warning("The cluster could not be asked for its kinds: %s", error)
            else:
                changed(kinds)

    async def first(self) -> None:
        """Read it until that succeeds. ConfigError where the CRD is missing."""
        failures = 0
        while True:
            try:
                self._observed.kinds = await self._cluster.kinds()
                await self.once()
            except ApiError as error:
                if error.status == 404:
                    words = "The McpServer CRD is not installed: kubectl apply -f crds/mcpservers.yaml"
                    raise ConfigError(words) from error
                log.warning("The cluster cannot be read yet: %s", error)
                await asyncio.sleep(_AGAIN[min(failures, len(_AGAIN) - 1)])
                failures += 1
            else:
                return

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
