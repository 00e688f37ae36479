"""What memory the servers' containers use, of all at once: one question a minute, be they a thousand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from kubernetes.utils.quantity import parse_quantity

from mcpace_operator.cluster.client import ApiError, Cluster
from mcpace_operator.resource.server import SERVER_LABEL
from mcpace_operator.settings import OperatorSettings

log = logging.getLogger(__name__)

FRESH: Final = 60.0
"""Seconds for which an answer holds; metrics-server itself looks every fifteen."""


class Memory:
    """The memory of server containers, as metrics-server saw it; nothing where there is none."""

    def __init__(self, cluster: Cluster, settings: OperatorSettings) -> None:
        self._cluster = cluster
        self._namespaces = settings.namespaces or (None,)
        self._used: dict[str, int] = {}
        self._until = 0.0
        self._asking = asyncio.Lock()

    async def largest(self, namespace: str, pods: Iterable[str]) -> int | None:
        """The bytes of the largest server container among these pods, or None."""
        async with self._asking:
            now = asyncio.get_running_loop().time()
            if now >= self._until:
                self._used, self._until = await self._ask(), now + FRESH
        return max(
            (self._used[name] for pod in pods if (name := f"{namespace}/{pod}") in self._used), default=None
        )

    async def _ask(self) -> dict[str, int]:
        used: dict[str, int] = {}
        for namespace in self._namespaces:
            try:
                async for pod in self._cluster.items(
                    "PodMetrics", namespace=namespace, selector=SERVER_LABEL
                ):
                    name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
                    for container in pod.get("containers") or []:
                        if container.get("name") == "server":
                            used[name] = int(parse_quantity(container["usage"]["memory"]))
            except ApiError as error:
                log.debug("No metrics-server: %s", error)
        return used
