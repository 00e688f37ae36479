"""The operator's own port: `/healthz`, `/readyz`, and `/metrics` for Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Final

from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

registry: Final = CollectorRegistry()
ProcessCollector(registry=registry)

RECONCILES: Final = Counter(
    "mcpace_operator_reconciles", "Looks at one server, by how they ended.", ["result"], registry=registry
)
SECONDS: Final = Histogram(
    "mcpace_operator_reconcile_seconds", "How long a look at one server took.", registry=registry
)
REQUESTS: Final = Counter(
    "mcpace_operator_api_requests", "Requests to the API server.", ["verb", "code"], registry=registry
)
RESTARTS: Final = Counter(
    "mcpace_operator_watch_restarts", "Times that watching ended and began anew.", registry=registry
)
QUEUED: Final = Gauge("mcpace_operator_queue", "Servers that wait to be looked at.", registry=registry)
SERVERS: Final = Gauge("mcpace_operator_servers", "Servers that are known.", registry=registry)
LEADING: Final = Gauge("mcpace_operator_leading", "Whether this operator works.", registry=registry)

UNREAD: Final = Gauge(
    "mcpace_operator_unread_namespaces",
    "Namespaces of watchNamespaces that the operator may not read.",
    registry=registry,
)

CONNECTIONS: Final = 64
"""Connections to the port, which any pod of the cluster may reach. The oldest one goes before a new one."""

METRICS: Final = (RECONCILES, SECONDS, REQUESTS, RESTARTS, QUEUED, SERVERS, LEADING, UNREAD)


class Health:
    """Serves the port. `problems` gives what keeps the operator from being ready."""

    def __init__(self, port: int, problems: Callable[[], Iterator[str]]) -> None:
        self._port = port
        self._problems = problems
        self._runner: web.AppRunner | None = None
        self._listening: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; OSError where the port is taken."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        server = self._runner.server
        assert server is not None  # because it was set up

        def accept() -> asyncio.Protocol:
            # Whoever holds many connections open keeps no kubelet out, and takes no memory.
            taken = [each for each in server.connections if each.transport is not None]
            if len(taken) >= CONNECTIONS:
                taken[0].force_close()
            return server()

        self._listening = await asyncio.get_running_loop().create_server(accept, None, self._port)

    async def close(self) -> None:
        """Stop listening."""
        if self._listening is not None:
            self._listening.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "healthy"})

    async def _readyz(self, _: web.Request) -> web.Response:
        problems = list(self._problems())
        return web.json_response(
            {"ready": not problems, "problems": problems}, status=503 if problems else 200
        )

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), content_type="text/plain", charset="utf-8")
