"""Saying what holds: a server's status, where it says anything new, and the Events that follow from it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from mcpace_operator.cluster.client import ApiError, Cluster
from mcpace_operator.cluster.observed import Observed
from mcpace_operator.comparison.additions import ELSEWHERE, MANAGER
from mcpace_operator.comparison.drift import covers
from mcpace_operator.resource.models import API_VERSION, KIND
from mcpace_operator.resource.server import Server
from mcpace_operator.status.conditions import elsewhere, stamped
from mcpace_operator.status.news import Events, news
from mcpace_operator.status.reasons import Type
from mcpace_operator.status.stored import stored

log = logging.getLogger(__name__)


class Publisher:
    """Writes statuses, and tells of what has changed in them."""

    def __init__(self, cluster: Cluster, observed: Observed, events: Events) -> None:
        self._cluster = cluster
        self._observed = observed
        self._events = events
        self._settled: set[str] = set()
        """Servers, by uid, about which another mcpace's word was taken back."""

    async def leave(self, server: Server) -> None:
        """Say that another mcpace looks after it: under a name of our own, because it writes the rest."""
        condition = elsewhere(server)
        known = stored(server.status).get(condition.type.name)
        if known is None or known.message != condition.message:
            log.info("%s: left alone: %s looks after it", server.key, server.manager)
            said = [each.document() for each in stamped(server, [condition], datetime.now(UTC))]
            await self._write(server, {"conditions": said}, manager=ELSEWHERE)

    async def _settle(self, server: Server) -> None:
        """Take back what another mcpace may have said before it went; one that is there says it again."""
        if Type.Managed.name in stored(server.status) and server.uid not in self._settled:
            self._settled.add(server.uid)
            await self._write(server, {}, manager=ELSEWHERE)

    async def _write(
        self, server: Server, status: dict[str, Any], *, manager: str = MANAGER
    ) -> dict[str, Any] | None:
        """Write a status; None where the server is gone."""
        metadata = {"name": server.key.name, "namespace": server.key.namespace}
        body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "status": status}
        try:
            return await self._cluster.apply(body, "/status", manager=manager)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def say(self, server: Server, wanted: dict[str, Any]) -> None:
        """Write the status if it says anything new."""
        await self._settle(server)
        if covers(wanted, server.status) and covers(_names(server.status), _names(wanted)):
            return
        answer = await self._write(server, wanted)
        if answer is None:
            return
        for told in news(server.status, wanted):
            await self._events.tell(server, told)
        current = self._observed.servers.get(server.key)
        if current is not None and current.uid == server.uid and current.generation == server.generation:
            self._observed.servers[server.key] = Server.from_body(answer)


def _names(document: Mapping[str, Any]) -> dict[str, Any]:
    """The names that a status holds, and its conditions' types: what must not be left over."""
    return {"names": sorted(document), "types": sorted(stored(document).keys() - {Type.Managed.name})}
