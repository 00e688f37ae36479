"""What dashboards show: a real Prometheus that scrapes real sidecars, an operator, and what Redis is told."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tests.kit.dashboards import Asked
from tests.kit.operator import Operator
from tests.kit.processes import serving_lines, session
from tests.kit.prometheus import Prometheus
from tests.kit.redis import RedisServer
from tests.kit.rules import of_a_release, of_a_server
from tests.kit.sidecars import Running, sidecars
from tests.kit.upstream import Heard, Scripted, json_answer
from tools.ports import free_port

from mcpace_sidecar.server import usage

POD = "weather-5d4f8c7b9-x2k4p"
RECORDED = {
    "kube-state-metrics": (
        "it watches the pods of a whole cluster, of which there are none here; written as its documentation lists it",
        f"""\
# TYPE kube_pod_container_status_restarts_total counter
kube_pod_container_status_restarts_total{{namespace="ns",pod="{POD}",uid="1",container="server"}} 2
kube_pod_container_status_restarts_total{{namespace="ns",pod="{POD}",uid="1",container="mcpace"}} 0
# TYPE kube_horizontalpodautoscaler_spec_max_replicas gauge
kube_horizontalpodautoscaler_spec_max_replicas{{namespace="ns",horizontalpodautoscaler="weather"}} 20
# TYPE kube_horizontalpodautoscaler_spec_min_replicas gauge
kube_horizontalpodautoscaler_spec_min_replicas{{namespace="ns",horizontalpodautoscaler="weather"}} 2
# TYPE kube_horizontalpodautoscaler_status_current_replicas gauge
kube_horizontalpodautoscaler_status_current_replicas{{namespace="ns",horizontalpodautoscaler="weather"}} 2
# TYPE kube_horizontalpodautoscaler_status_desired_replicas gauge
kube_horizontalpodautoscaler_status_desired_replicas{{namespace="ns",horizontalpodautoscaler="weather"}} 3
""",
    ),
    "redis_exporter": (
        "it is a program of others, that mcpace does not bring; made of what the test's Redis says in INFO",
        """\
# TYPE redis_commands_processed_total counter
redis_commands_processed_total {total_commands_processed}
# TYPE redis_connected_clients gauge
redis_connected_clients {connected_clients}
# TYPE redis_evicted_keys_total counter
redis_evicted_keys_total {evicted_keys}
# TYPE redis_memory_max_bytes gauge
redis_memory_max_bytes {maxmemory}
# TYPE redis_memory_used_bytes gauge
redis_memory_used_bytes {used_memory}
""",
    ),
}
"""What is not to be had here -> why not, and what it would say of the metrics that panels read.

The files of the server's cgroup are written by the test too: a container would have them.
"""
CONFIG: dict[str, Any] = {
    "cache": {
        "tools": [
            {"name": "get-weather", "ttl": "1h", "scope": "shared"},
            {"name": "my-places", "ttl": "1h"},
        ]
    },
    "rateLimits": {
        "tiers": [{"name": "free", "requestsPerMinute": 10_000}],
        "tools": [
            {"name": "history", "requestsPerMinute": 1},
            *({"name": name} for name in ("station", "radar", "report-storm")),
        ],
    },
    "concurrency": {"circuitBreaker": {"failures": 3, "openFor": "1h"}},
}
ANSWER = b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"snow"}],"isError":false}}'
WRONG = b'{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":true}}'


class Traffic:
    """Calls of every kind, of which some fail, some are refused, and one is in flight as long as wanted."""

    def __init__(self, server: Scripted, sidecar: Running, door: int) -> None:
        self.latency: Callable[[], float] = lambda: 0
        """Seconds that the server takes for an answer."""
        self._sidecar = sidecar
        self._door = door
        self._go = asyncio.Event()
        server.answer = self._answer
        self._held = asyncio.ensure_future(sidecar.begin("radar"))

    def _answer(self, heard: Heard) -> AsyncIterator[bytes] | bytes:
        if b'"radar"' in heard.body:
            return self._hold()
        if b'"satellite"' in heard.body:
            heard.writer.close()
            return b""
        if b'"station"' in heard.body:
            return json_answer(b'"oops"', b"500 Oops")
        return self._late(json_answer(WRONG if b'"report-storm"' in heard.body else ANSWER))

    async def _late(self, answer: bytes) -> AsyncIterator[bytes]:
        await asyncio.sleep(self.latency())
        yield answer

    async def _hold(self) -> AsyncIterator[bytes]:
        await self._go.wait()
        yield json_answer(ANSWER)

    async def flow(self, number: int) -> None:
        """Thirty calls whose result is new, ninety whose result is known, and some of each other kind."""
        for each in (*range(30), *[0] * 90):
            await self._sidecar.call("get-weather", {"flow": number, "number": each})
        for _ in range(4):
            await self.others()
        await self._sidecar.call("satellite")
        await self._sidecar.raw(b"NONSENSE\r\n\r\n", end=False)
        await self._sidecar.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", port=self._door)

    async def others(self) -> None:
        """A call of each tool whose result is not shared."""
        for tool in ("station", "report-storm", "history", "my-places"):
            await self._sidecar.call(tool)

    async def weather(self, city: str, day: int) -> None:
        """A call whose result is shared, with those of the same arguments."""
        await self._sidecar.call("get-weather", {"city": city, "day": day})

    async def end(self) -> None:
        self._go.set()
        reader, writer = await self._held
        await reader.readuntil(b"\r\n\r\n")
        writer.close()


async def told(text: Callable[[], str]) -> asyncio.Server:
    """A server that says this to whoever asks."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = text().encode()
        head = (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: %d\r\n"
            % len(body)
        )
        writer.write(head + b"Connection: close\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    return await asyncio.start_server(say, "127.0.0.1", 0)


def scrape(job: str, port: int, **labels: str) -> dict[str, Any]:
    """A target, with the labels that its ServiceMonitor would give it."""
    target = {"targets": [f"127.0.0.1:{port}"], "labels": labels}
    return {"job_name": job, "honor_labels": True, "static_configs": [target]}


def variables(each: Asked) -> dict[str, str]:
    """What is chosen at the top of its dashboard."""
    if each.dashboard == "mcpace-operator":
        return {"namespace": "sys"}
    if each.dashboard != "mcpace-server":
        return {"namespace": ".*", "server": ".*"}
    return {"namespace": "ns", "server": "lines" if "mcpace_stdio" in each.query else "weather"}


def shown(each: Asked, prometheus: Prometheus) -> list[tuple[dict[str, str], float]]:
    """The series of a query that a panel would draw now."""
    found = prometheus.result(each.filled(**variables(each)))
    series = [(one["metric"], float(one["value"][1])) for one in found]
    return [(labels, value) for labels, value in series if math.isfinite(value)]


class Scene(NamedTuple):
    """Everything that a dashboard looks at."""

    prometheus: Prometheus
    targets: int
    """How many it scrapes."""
    sidecar: Running
    lines: Running
    """The sidecar of a server of stdio."""
    client: dict[str, str]
    """The headers of a session of it."""
    traffic: Traffic

    async def ask(self, query: str) -> float | None:
        """The first value that a query finds."""
        return await asyncio.to_thread(self.prometheus.value, query)

    async def is_scraped(self) -> bool:
        """Whether all of it is seen."""
        return await self.ask("count(up == 1)") == self.targets


@asynccontextmanager
async def scene(folder: Path, operator: Operator, redis_server: RedisServer) -> AsyncIterator[Scene]:
    """A server of HTTP, one of stdio, an operator, and a Prometheus, which has seen the first calls."""
    door, scripted = free_port(), Scripted()
    scripted.answer = lambda _: json_answer(ANSWER)
    await scripted.start()
    egress = {"egress": [{"name": "api", "url": f"https://localhost:{free_port()}", "port": door}]}
    seen = partial(usage.of_cgroup, _container(folder))
    async with sidecars() as start, _others(redis_server) as others:
        sidecar = await start(
            scripted.port, CONFIG | egress, server_usage=seen,
            limits_url=redis_server.url, cache_url=redis_server.url,
        )  # fmt: skip
        await sidecar.ready()
        lines = await serving_lines(start)()
        health = int(operator._environment["MCPACE_HEALTH_PORT"])
        targets = [
            scrape("weather", sidecar.admin, namespace="ns", service="weather-metrics", pod=POD),
            scrape("lines", lines.admin, namespace="ns", service="lines-metrics", pod="lines-0"),
            scrape("operator", health, namespace="sys", service="mcpace-metrics", pod="mcpace-0"),
            scrape("kube-state-metrics", others["kube-state-metrics"]),
            scrape(
                "redis_exporter", others["redis_exporter"], namespace="sys", instance="mcpace-redis-cache"
            ),
        ]
        traffic = Traffic(scripted, sidecar, door)
        await traffic.flow(1)
        prometheus = Prometheus(folder, targets, of_a_server(rateLimits={}) + of_a_release())
        try:
            yield Scene(prometheus, len(targets), sidecar, lines, await session(lines), traffic)
        finally:
            prometheus.stop()
            await traffic.end()
    await scripted.stop()


@asynccontextmanager
async def _others(redis_server: RedisServer) -> AsyncIterator[dict[str, int]]:
    """The ports of what is recorded."""
    (_, kubernetes), (_, exporter) = RECORDED.values()
    with redis_server.client() as redis:
        servers = [
            await told(lambda: kubernetes),
            await told(lambda: exporter.format_map(redis.info())),
        ]
        yield {job: each.sockets[0].getsockname()[1] for job, each in zip(RECORDED, servers, strict=True)}
        for each in servers:
            each.close()


def _container(folder: Path) -> Path:
    """The cgroup of a server's container."""
    cgroup = folder / "cgroup"
    cgroup.mkdir()
    (cgroup / "cpu.stat").write_text("usage_usec 1500000\n")
    (cgroup / "memory.current").write_text("52428800\n")
    (cgroup / "memory.max").write_text("104857600\n")
    return cgroup
