"""Asking running sidecars: who their server is and what tools it has. Never in a reconcile's way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import aiohttp

from mcpace_operator.children.meta import SERVER_LABEL
from mcpace_operator.cluster import ApiError, Cluster
from mcpace_operator.server import Key, Server
from mcpace_operator.settings import OperatorSettings
from mcpace_operator.status import ServerFacts

log = logging.getLogger(__name__)

TIMEOUT: Final = 1.0
AGAIN: Final = 2.0
_MOST_TOOLS: Final = 500


class Sidecars:
    """What sidecars told, by server; asked for once per generation of the pods."""

    def __init__(self, cluster: Cluster, settings: OperatorSettings, told: Callable[[Key], None]) -> None:
        self.facts: dict[Key, ServerFacts] = {}
        self._asked: dict[Key, int] = {}
        self._cluster = cluster
        self._settings = settings
        self._told = told
        self._slots = asyncio.Semaphore(32)
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None

    def want(self, server: Server, generation: int, admin_port: int) -> None:
        """Ask in the background, unless this generation of the Deployment was asked already."""
        if self._asked.get(server.key) != generation:
            self._asked[server.key] = generation
            task = asyncio.get_running_loop().create_task(self._ask(server, generation, admin_port))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def forget(self, key: Key) -> None:
        """The server is gone."""
        self.facts.pop(key, None)
        self._asked.pop(key, None)

    async def _ask(self, server: Server, generation: int, admin_port: int) -> None:
        while self._asked.get(server.key) == generation:
            try:
                async with self._slots:
                    facts = await self._ask_any(server, admin_port)
            except (ApiError, OSError, TimeoutError, aiohttp.ClientError, ValueError) as error:
                log.info("%s: its sidecars cannot be asked: %s", server.key, error)
                facts = None
            if facts is not None:
                if facts != self.facts.get(server.key):
                    self.facts[server.key] = facts
                    self._told(server.key)
                return
            await asyncio.sleep(AGAIN)

    async def _ask_any(self, server: Server, admin_port: int) -> ServerFacts | None:
        token = self._settings.derive("admin", server.uid)
        selector = f"{SERVER_LABEL}={server.key.name}"
        async for pod in self._cluster.items("Pod", namespace=server.key.namespace, selector=selector):
            conditions = (pod.get("status") or {}).get("conditions") or []
            ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
            address = (pod.get("status") or {}).get("podIP")
            if not ready or not address or pod["metadata"].get("deletionTimestamp"):
                continue
            host = f"[{address}]" if ":" in address else address
            if self._session is None:
                self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT))
            async with self._session.get(
                f"http://{host}:{admin_port}/stats", headers={"Authorization": f"Bearer {token}"}
            ) as answer:
                answer.raise_for_status()
                told = await answer.json()
            if isinstance(told, dict) and told.get("server"):
                info = {name: str(value) for name, value in told["server"].items()}
                return ServerFacts(info, tuple(map(str, told.get("tools") or ()))[:_MOST_TOOLS])
        return None

    async def close(self) -> None:
        """Stop asking."""
        for task in self._tasks:
            task.cancel()
        if self._session is not None:
            await self._session.close()
