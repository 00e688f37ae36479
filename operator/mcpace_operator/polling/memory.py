"""What memory the servers' containers use, of all at once: one question a minute, be they a thousand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
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
                    used |= read(pod)
            except ApiError as error:
                log.debug("No metrics-server: %s", error)
        return used


class _Usage(msgspec.Struct):
    memory: str


class _Container(msgspec.Struct):
    name: str
    usage: _Usage


class _Metadata(msgspec.Struct):
    namespace: str
    name: str


class _PodMetrics(msgspec.Struct):
    metadata: _Metadata
    containers: tuple[_Container, ...] = ()


def read(body: Mapping[str, Any]) -> dict[str, int]:
    """What the server's container of a pod uses, by the pod's name; nothing where nobody can read it."""
    try:
        pod = msgspec.convert(body, _PodMetrics)
        used = [int(parse_quantity(each.usage.memory)) for each in pod.containers if each.name == "server"]
    except (ValueError, ArithmeticError) as error:
        log.info("What metrics-server says of a pod cannot be read: %s", error)
        return {}
    return {f"{pod.metadata.namespace}/{pod.metadata.name}": used[0]} if used else {}
